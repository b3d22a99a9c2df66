"""A job that ends without its store has its parts cancelled later, by the next tracker on that store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from tests.support import PATIENCE, PassingStore, logs_of
from tests.unit.storage.spooling import files
from trio_progress import MemoryStore, ProgressTracker, Session, open_tracker
from trio_progress.stores.base import Append, Ask, Outcome, Store, Write
from trio_progress.testing import FaultyStore


async def work(tracker: ProgressTracker, session_id: str) -> None:
    """A part that takes longer than any test."""
    async with tracker.session(session_id):
        await trio.sleep_forever()


async def follow(session: Session, session_id: str) -> None:
    with session.phase("shards") as phase:
        await phase.follow(session_id)


class Durable(PassingStore):
    """A store that outlives its process, so that what it does not take is spooled; in memory for virtual time."""

    address = "test:parts"

    def __init__(self, inner: Store) -> None:
        self.faulty = FaultyStore(inner)
        super().__init__(self.faulty)
        self.refuses_asks = False

    async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        if self.refuses_asks and any(isinstance(write, Ask) and write.what == "cancel" for write in batch):
            self.faulty.mode = "down"
        return await super().commit(batch)


@pytest.mark.parametrize("lost", ["the end", "the request"])
@pytest.mark.parametrize("meanwhile", ["nothing", "gone on with"])
async def test_what_the_store_does_not_take_is_spooled_and_asked_by_the_next_tracker(
    lost: str, meanwhile: str, folder: Path
) -> None:
    inner = MemoryStore()
    settings: dict[str, Any] = {"lost_after": 60.0, "flush_timeout": 0.3}
    async with open_tracker(inner, **settings) as other, trio.open_nursery() as nursery:
        await other.declare("own", parent="job")
        nursery.start_soon(work, other, "own")
        store = Durable(inner)
        async with open_tracker(store, **settings) as tracker:
            try:
                async with tracker.session("job") as session, trio.open_nursery() as inside:
                    inside.start_soon(follow, session, "own")
                    await trio.testing.wait_all_tasks_blocked()
                    await session.flush()
                    if lost == "the end":
                        store.faulty.mode = "down"
                    store.refuses_asks = True
                    raise OSError("no disk")
            except* OSError:
                pass
            assert tracker.statistics().parts_left == 1
        assert (await other.snapshot("own")).status == "running"
        assert len(files(folder)) == 1
        if meanwhile == "gone on with":
            stored = await inner.read("job")
            assert stored is not None
            if stored.alive:  # Its owner is gone.
                logs_of(inner)["job"].lease_until = None
            async with other.session("job", resume="always"):
                async with open_tracker(Durable(inner), **settings):
                    await until(lambda: not files(folder))
                    assert (await other.snapshot("own")).status == "running"
        else:
            async with open_tracker(Durable(inner), **settings):
                await until(lambda: not files(folder))
                with trio.fail_after(PATIENCE):
                    ended = await other.wait_ended("own")
                assert ended.status == "cancelled"
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - files tell nobody that they are gone
            await trio.sleep(0.005)


class Holding(PassingStore):
    """A store that takes a claim, and no state behind it before it is let."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.let = trio.Event()

    async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        if any(isinstance(write, Append) for write in batch):
            await self.let.wait()
        return await super().commit(batch)


@pytest.mark.parametrize("parent", ["job", None])
async def test_a_part_that_has_just_been_claimed_is_cancelled_though_its_parent_is_stored_behind_that(
    parent: str | None,
) -> None:
    inner = MemoryStore()
    holding = Holding(inner)
    async with open_tracker(holding, lost_after=60.0) as other, trio.open_nursery() as nursery:
        await other.declare("part", parent=parent)
        nursery.start_soon(work, other, "part")
        await trio.testing.wait_all_tasks_blocked()
        async with open_tracker(inner, lost_after=60.0) as tracker:
            with pytest.RaisesGroup(OSError):
                async with tracker.session("job") as session, trio.open_nursery() as inside:
                    nursery.start_soon(later, 0.5, holding.let.set)
                    inside.start_soon(follow, session, "part")
                    await trio.testing.wait_all_tasks_blocked()
                    raise OSError("no disk")
            # The job is left when its parts have ended.
            assert (await tracker.snapshot("part")).status == ("running" if parent is None else "cancelled")
        nursery.cancel_scope.cancel()


async def later(seconds: float, do: Callable[[], None]) -> None:
    await trio.sleep(seconds)
    do()
