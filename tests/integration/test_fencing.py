"""A shard that is killed is fenced at once and gone on with by another process, on real stores."""

from __future__ import annotations

import signal
import statistics
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from tests.chain import open_farm
from tests.support import Cases
from trio_progress import open_tracker
from trio_progress.state.record import decode_event
from trio_progress.tracker import runtime_of

pytestmark = pytest.mark.integration

SETTINGS = {"pace": 0.04, "lost_after": 300.0, "heartbeat_interval": 10.0}

WITHIN = 30.0
"""Seconds from the kill until another process has begun, which on a free machine takes one and where many processes
start at once takes several; the lease would have stood for five minutes."""


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.exhaustive)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 's.db'}"
    return f"{request.getfixturevalue('redis_url')}?prefix=test:{uuid.uuid4().hex[:12]}"


async def test_a_killed_shard_is_fenced_and_another_process_goes_on_with_it_and_nothing_is_counted_twice(
    store: str, cases: Cases, record_property: Callable[[str, object], None]
) -> None:
    kills = cases(2, exhaustive=20)
    took: list[float] = []
    epochs: list[int] = []
    async with open_farm() as farm, open_tracker(store) as tracker:
        await farm.work(store, "shard", **SETTINGS)
        for kill in range(kills):
            running = await tracker.snapshot("shard")
            epochs.append(running.epoch)
            assert (running.status, running.attempt) == ("running", kill + 1)
            farm.signal("shard", signal.SIGKILL)
            since = trio.current_time()
            assert (await farm.gone("shard")).code == -signal.SIGKILL
            lost = await tracker.fence("shard", epoch=running.epoch, reason="it was killed")
            assert lost.status == "lost"
            await farm.work(store, "shard", **SETTINGS)
            took.append(trio.current_time() - since)
            # One that comes late does not touch the owner of now.
            for epoch in epochs:
                after = await tracker.fence("shard", epoch=epoch, reason="late")
                assert (after.status, after.attempt) == ("running", kill + 2)
            counted = lost.counters.get("steps", 0)
            with trio.fail_after(30):
                while (await tracker.snapshot("shard")).counters.get("steps", 0) <= counted:  # noqa: ASYNC110 - a store is asked
                    await trio.sleep(0.01)
        farm.signal("shard", signal.SIGTERM)
        await farm.gone("shard")
        stored = await runtime_of(tracker).store.read("shard")
        final = await tracker.snapshot("shard")
        assert tracker.statistics().sessions_lost == kills
    assert stored is not None
    names = [decode_event(event).name for event in stored.events]
    assert names.count("session.fenced") == kills
    assert final.status == "interrupted"
    assert final.counters["steps"] == names.count("step.done")
    assert sorted(set(epochs)) == epochs
    record_property("seconds", took)
    # On a machine that does something else as well one of them may take longer.
    assert statistics.median(took) < WITHIN, took
    assert max(took) < SETTINGS["lost_after"], took
