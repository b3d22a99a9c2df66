"""A session that changes between the look at it and its cancellation is looked at anew, whoever cancels it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from tests.support import PassingStore
from trio_progress import MemoryStore, StoreError, open_tracker
from trio_progress.blocking import Client
from trio_progress.storage.part_cancelling import PartCanceller
from trio_progress.stores.base import Store, Stored
from trio_progress.stores.threaded import SqliteStore
from trio_progress.tracker import runtime_of


class Overtaking(PassingStore):
    """A store in which something happens right after each look at a session."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.then: Callable[[], Awaitable[object]] | None = None
        self.looks = 0

    async def read(self, session_id: str) -> Stored | None:
        stored = await super().read(session_id)
        self.looks += 1
        if self.then is not None:
            await self.then()
        return stored


@pytest.mark.parametrize("way", ["tracker", "the end of its job"])
async def test_a_session_that_is_begun_meanwhile_has_its_owner_asked(way: str) -> None:
    inner = MemoryStore()
    store = Overtaking(inner)
    async with open_tracker(inner) as worker, open_tracker(store) as tracker, trio.open_nursery() as nursery:
        await worker.declare("part", parent="job")

        async def work(task_status: trio.TaskStatus[None]) -> None:
            async with worker.session("part") as session:
                await session.flush()
                task_status.started()
                await trio.sleep_forever()

        async def begin() -> None:
            store.then = None
            await nursery.start(work)

        store.then = begin
        with trio.fail_after(30):
            if way == "tracker":
                await tracker.cancel("part", "enough")
            else:
                runtime = runtime_of(tracker)
                part = PartCanceller(store, runtime.committer, runtime.tally, "job", 1, "cancelled", 60.0)
                assert await part.cancel("part", 1e9)
            ended = await worker.wait_ended("part")
        assert ended.status == "cancelled"
        assert store.looks == 2


async def test_a_session_that_is_another_one_at_each_look_is_given_up_with_an_error() -> None:
    inner = MemoryStore()
    store = Overtaking(inner)
    async with open_tracker(inner) as worker, open_tracker(store) as tracker:
        await worker.declare("part", parent="job")
        store.then = lambda: worker.declare("part", parent="job")
        with pytest.raises(StoreError, match="changes faster than it can be cancelled: try again"):
            await tracker.cancel("part")
        runtime = runtime_of(tracker)
        part = PartCanceller(store, runtime.committer, runtime.tally, "job", 1, "cancelled", 60.0)
        with pytest.raises(StoreError, match="changes faster"):
            await part.cancel("part", 1e9)
        store.then = None
        await tracker.cancel("part", "enough")
        ended = await worker.snapshot("part")
        assert (ended.status, ended.error and ended.error.message) == ("cancelled", "enough")


def test_a_client_looks_anew_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(tmp_path / "p.db")
    backend = store.backend
    look = backend.read
    times = [1, 100]  # How often another one is declared in its place: in the first call, in the second.

    def read(session_id: str) -> Stored | None:
        stored = look(session_id)
        if times[0]:
            times[0] -= 1
            other.declare("part")
        return stored

    with Client(f"sqlite:{tmp_path / 'p.db'}") as other, Client(store) as client:
        monkeypatch.setattr(backend, "read", read)
        other.declare("part")
        client.cancel("part", "enough")
        assert other.snapshot("part").status == "cancelled"
        del times[0]
        other.declare("part")
        with pytest.raises(StoreError, match="changes faster"):
            client.cancel("part")
        assert other.snapshot("part").status == "queued"
    backend.close()
