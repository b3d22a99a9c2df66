"""A job of 500 sessions on a real store: one bar, which only rises, and is right at the end."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path

import pytest
import trio

from trio_progress import ProgressTracker, open_tracker
from trio_progress.stores.threaded import RedisStore, SqliteStore, ThreadedStore

pytestmark = [pytest.mark.integration, pytest.mark.exhaustive]

PARTS = 500
UNITS = 20
PATIENCE = 300.0


@pytest.fixture(params=["sqlite", "redis"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], ThreadedStore]:
    """Opens the store once more; a busy machine is given time to answer."""
    if request.param == "sqlite":
        return lambda: SqliteStore(tmp_path / "p.db", busy_timeout=30.0)
    url = f"{request.getfixturevalue('redis_url')}?prefix=test:{uuid.uuid4().hex[:12]}"
    return lambda: RedisStore(url, timeout=30.0)


async def part(tracker: ProgressTracker, number: int) -> None:
    """Counts to `UNITS`, and takes longer the higher its number is."""
    async with tracker.session(f"part-{number}") as session:
        with session.phase("files", total=UNITS) as phase:
            for _ in range(UNITS):
                await trio.sleep(0.05 + number / 5000)
                phase.advance()


async def test_a_job_that_follows_500_sessions_has_one_bar_and_ends_with_all_of_them(
    make_store: Callable[[], ThreadedStore],
) -> None:
    bars: list[float] = []
    async with (
        aclosing(make_store()) as theirs,
        aclosing(make_store()) as ours,
        open_tracker(theirs, spool=False, flush_timeout=PATIENCE) as workers,
        open_tracker(ours, spool=False, flush_timeout=PATIENCE) as tracker,
        trio.open_nursery() as nursery,
    ):
        async with trio.open_nursery() as inner:
            for number in range(PARTS):
                inner.start_soon(partial(tracker.declare, f"part-{number}", parent="job"))
        with trio.fail_after(PATIENCE):
            async with tracker.session("job") as session:

                async def look() -> None:
                    while True:
                        bars.append(session.snapshot().progress)
                        await trio.sleep(0.1)

                nursery.start_soon(look)
                with session.phase("parts", total=PARTS) as phase:
                    async with trio.open_nursery() as inner:
                        for number in range(PARTS):
                            inner.start_soon(phase.follow, f"part-{number}")
                            inner.start_soon(part, workers, number)
                assert session.snapshot().progress < 1.0
        ended = await workers.snapshot("job")
        parts = await workers.sessions(parent="job", limit=1000)
        nursery.cancel_scope.cancel()
    assert (ended.status, ended.progress) == ("completed", 1.0)
    shown = ended.phase("parts")
    assert (shown.status, shown.fraction, shown.done, shown.total) == ("completed", 1.0, PARTS, PARTS)
    assert len(shown.phases) == PARTS
    for one in shown.phases:
        assert one.follows is not None
        assert (one.status, one.follows.status, one.done, one.total) == ("completed", "completed", UNITS, UNITS)
    assert {one.status for one in parts} == {"completed"}
    assert len(parts.sessions) == PARTS
    assert bars == sorted(bars)
    assert len(set(bars)) > 5
