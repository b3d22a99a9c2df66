"""What a session costs Redis while somebody in another process watches it, and while nobody does."""

from __future__ import annotations

import uuid

import pytest
import trio

from trio_progress import Pipeline, open_tracker
from trio_progress.blocking import Client

pytestmark = pytest.mark.integration

PIPELINE = Pipeline("work", {"count": 3, "report": 1})


@pytest.fixture
def store(redis_url: str) -> str:
    return f"{redis_url}?prefix=test:{uuid.uuid4().hex[:12]}"


async def test_a_watched_session_arrives_at_broadcast_pace_and_an_unwatched_one_costs_its_persist_interval(
    store: str,
) -> None:
    interval, times = 5.0, 12
    async with (
        open_tracker(store, persist_interval=interval, broadcast_interval=0.05) as owner,
        open_tracker(store) as gateway,
        owner.session("paced") as session,
        trio.open_nursery() as nursery,
    ):

        async def work() -> None:
            while True:
                session.increment("n")
                await trio.sleep(0.01)

        nursery.start_soon(work)
        await trio.sleep(0.3)
        before = owner.statistics().persists
        await trio.sleep(interval / 3)
        assert owner.statistics().persists - before <= 1
        async with gateway.watch("paced") as snapshots:
            seen = set()
            with trio.fail_after(0.8 * interval * times):  # Were nobody known to watch, it would take longer.
                async for snapshot in snapshots:
                    seen.add(snapshot.counters["n"])
                    if len(seen) > times:
                        break
        nursery.cancel_scope.cancel()


def test_code_that_blocks_uses_the_same_sessions(store: str) -> None:
    with Client(store) as client:
        client.declare("queued", PIPELINE, labels={"user": "u1"})
        assert [snapshot.id for snapshot in client.sessions(labels={"user": "u1"}).sessions] == ["queued"]
        client.cancel("queued", "not needed")
        assert client.wait_ended("queued", timeout=60).status == "cancelled"
        client.delete("queued")
        assert client.sessions().sessions == ()
