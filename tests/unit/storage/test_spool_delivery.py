"""What was kept in a file is brought to the store when it is back, by this tracker or the next."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from tests.support import PATIENCE, PassingStore, RecordingStore, logs_of
from tests.unit.storage.spooling import APPEND, files
from trio_progress import MemoryStore, Pipeline, StoreError, open_tracker
from trio_progress.session.runtime import TrackerRuntime
from trio_progress.stores.base import (
    Append,
    Claim,
    Claimed,
    Index,
    Key,
    Outcome,
    Stored,
    Write,
)
from trio_progress.tracker import runtime_of

pytestmark = pytest.mark.usefixtures("folder")

PIPELINE = Pipeline("p", ["a", "b"])


class Durable(PassingStore):
    """A store with an address, as those have that outlive their process; in memory, so that it has virtual time."""

    address = "test:durable"

    def __init__(self, inner: MemoryStore) -> None:
        self.recording = RecordingStore(inner=inner)
        super().__init__(self.recording)


async def lose_the_end(inner: MemoryStore, *, never_claimed: bool = False, claim_unanswered: bool = False) -> int:
    """A session whose end does not reach the store; returns its epoch."""
    store = Durable(inner)
    if never_claimed:
        store.recording.mode = "down"
    if claim_unanswered:
        store.recording.mode = "lost"
    async with open_tracker(store, lost_after=20) as tracker:
        async with tracker.session("a", PIPELINE, labels={"user": "u1"}) as session:
            session.emit("e", 1)
            await trio.sleep(3)
            store.recording.mode = "down"
            with session.phase("a"):
                session.set_result({"answer": 42})
        assert tracker.statistics().final_lost == 1
    return session.epoch


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trackers wait for the store, and for what is to be delivered first, on a machine that has much to do as well."""
    monkeypatch.setattr("trio_progress.session.persister.CLAIM_PATIENCE", PATIENCE)
    monkeypatch.setattr("trio_progress.session.shared_tasks.CATCH_UP", PATIENCE)


# The delivery reads files in a thread, which virtual time does not wait for: these run by the real clock, but
# for what is waited for, which is turned by hand.
async def settle(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE):
        while not condition():  # noqa: ASYNC110 - files tell nobody that they are there
            await trio.sleep(0.002)


async def lose(inner: MemoryStore, **given: bool) -> int:
    """The same, in virtual time."""
    epochs: list[int] = []

    def run() -> None:
        async def main() -> None:
            epochs.append(await lose_the_end(inner, **given))

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.02))

    await trio.to_thread.run_sync(run)
    for log in logs_of(inner).values():  # Its leases and expiry were dated by the other clock.
        log.lease_until, log.expires = None, trio.current_time() + 1000
    return epochs[0]


async def test_the_next_tracker_delivers_the_end_before_anything_is_resumed(folder: Path) -> None:
    inner = MemoryStore()
    epoch = await lose(inner)
    assert len(files(folder)) == 1
    stored = await inner.read("a")
    assert stored is not None
    assert b'"running"' in stored.record
    async with open_tracker(Durable(inner)) as tracker:
        snapshot = await tracker.snapshot("a")
        assert (snapshot.status, snapshot.result, snapshot.epoch) == ("completed", {"answer": 42}, epoch)
        assert snapshot.labels == {"user": "u1"}
    assert files(folder) == []
    stored = await inner.read("a")
    assert stored is not None
    assert len(stored.events) == 1


async def test_an_end_that_was_never_claimed_is_delivered_with_its_events(folder: Path) -> None:
    inner = MemoryStore()
    epoch = await lose(inner, never_claimed=True)
    assert await inner.read("a") is None
    async with open_tracker(Durable(inner)) as tracker:
        snapshot = await tracker.snapshot("a")
        assert (snapshot.status, snapshot.epoch) == ("completed", epoch)
    stored = await inner.read("a")
    assert stored is not None
    assert len(stored.events) == 1
    assert files(folder) == []


@pytest.mark.parametrize("left", [-100.0, 100.0], ids=["lapsed", "still standing"])
async def test_an_end_whose_claim_was_taken_and_not_answered_is_delivered(left: float, folder: Path) -> None:
    inner = MemoryStore()
    epoch = await lose(inner, claim_unanswered=True)
    logs_of(inner)["a"].lease_until = trio.current_time() + left
    async with open_tracker(Durable(inner)) as tracker:
        snapshot = await tracker.snapshot("a")
        assert (snapshot.status, snapshot.result, snapshot.epoch) == ("completed", {"answer": 42}, epoch)
    stored = await inner.read("a")
    assert stored is not None
    assert not stored.alive
    assert files(folder) == []


@pytest.mark.parametrize("lease", [None, 100.0])
async def test_an_end_whose_claim_was_not_answered_takes_nothing_from_who_has_claimed_since(
    lease: float | None, folder: Path
) -> None:
    inner = MemoryStore()
    epoch = await lose(inner, claim_unanswered=True)
    record = logs_of(inner)["a"].record
    (outcome,) = await inner.commit([Claim("a", epoch + 1, "another", record, APPEND.index, lease, 100.0)])
    assert isinstance(outcome, Claimed)
    before = await inner.read("a")
    async with open_tracker(Durable(inner)):
        await settle(lambda: not files(folder))
    assert await inner.read("a") == before


class Later(Durable):
    """A store that numbers epochs by a clock of its own, as one in Redis does; the first append after a claim fails."""

    async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        later = [
            msgspec.structs.replace(write, proposal=write.proposal + 60_000) if isinstance(write, Claim) else write
            for write in batch
        ]
        if any(isinstance(write, Append) for write in batch) and not self.failed:
            self.failed = True
            raise StoreError("the connection broke")
        return await super().commit(later)

    failed = False
    """Whether it has."""


async def test_an_end_that_was_never_claimed_is_delivered_under_the_epoch_that_the_store_gives(folder: Path) -> None:
    inner = MemoryStore()
    epoch = await lose(inner, never_claimed=True)
    later = Later(inner)
    for _ in range(2):
        async with open_tracker(later) as tracker:
            await settle(lambda: not files(folder))
            snapshot = await tracker.snapshot("a")
            assert (snapshot.status, snapshot.epoch) == ("completed", epoch + 60_000)
    stored = await inner.read("a")
    assert stored is not None
    assert len(stored.events) == 1
    assert files(folder) == []
    assert later.failed


@pytest.mark.parametrize("never_claimed", [False, True])
async def test_an_end_of_a_session_that_has_a_newer_owner_is_dropped(never_claimed: bool, folder: Path) -> None:
    inner = MemoryStore()
    epoch = await lose(inner, never_claimed=never_claimed)
    (newer,) = await inner.commit(
        [Claim("a", epoch + 5, "you", b"newer", Index("running", "p", {}, 1.0), 1000.0, 1000.0)]
    )
    assert isinstance(newer, Claimed)
    async with open_tracker(Durable(inner)):
        pass
    stored = await inner.read("a")
    assert stored is not None
    assert (stored.record, stored.key) == (b"newer", Key(newer.epoch, 0))
    assert files(folder) == []


async def test_an_end_of_a_session_that_was_deleted_is_not_brought_back(folder: Path) -> None:
    inner = MemoryStore()
    await lose(inner)
    logs_of(inner).clear()
    async with open_tracker(Durable(inner)):
        pass
    assert await inner.read("a") is None
    assert files(folder) == []


async def test_the_same_tracker_delivers_it_when_the_store_is_back(folder: Path) -> None:
    store = Durable(MemoryStore())
    async with open_tracker(store, flush_timeout=0.05) as tracker:
        async with tracker.session("a"):
            store.recording.mode = "down"
        assert len(files(folder)) == 1
        assert (await store.recording.inner.read("a")) is not None
        store.recording.mode = "up"
        await settle(lambda: not files(folder))
        assert (await tracker.snapshot("a")).status == "completed"


async def test_what_cannot_be_delivered_waits_on_and_holds_up_nobody(folder: Path) -> None:
    inner = MemoryStore()
    await lose(inner)
    store = Durable(inner)
    store.recording.mode = "down"
    async with open_tracker(store):
        pass
    assert len(files(folder)) == 1


async def test_a_tracker_that_is_left_in_the_middle_of_a_delivery_ends_quietly_and_leaves_it_to_the_next(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = MemoryStore()
    await lose(inner, never_claimed=True)
    monkeypatch.setattr("trio_progress.session.shared_tasks.CATCH_UP", 0.05)
    reading, resume_from = trio.Event(), trio.Event()

    class Slow(Durable):
        async def read(self, session_id: str) -> Stored | None:
            found = await super().read(session_id)
            with trio.CancelScope(shield=True):  # As a thread.
                reading.set()
                await resume_from.wait()
            return found

    async with trio.open_nursery() as nursery:
        async with open_tracker(Slow(inner)) as tracker:
            await reading.wait()
            nursery.start_soon(closing, runtime_of(tracker), resume_from)  # noqa: ASYNC111 - it lets the tracker be left
    assert len(files(folder)) == 1


async def closing(runtime: TrackerRuntime, then: trio.Event) -> None:
    await settle(lambda: runtime.committer.closing)
    then.set()


async def test_a_folder_that_cannot_be_read_is_tried_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = MemoryStore()
    await lose(inner)
    iterdir = Path.iterdir

    def fails(self: Path) -> Iterator[Path]:
        monkeypatch.setattr(Path, "iterdir", iterdir)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(Path, "iterdir", fails)
    async with open_tracker(Durable(inner)) as tracker:
        await settle(lambda: not files(folder))
        assert (await tracker.snapshot("a")).status == "completed"


@pytest.mark.parametrize("how", ["memory", "off"])
async def test_nothing_is_spooled_for_a_store_that_ends_with_its_process_or_when_told_so(
    how: str, folder: Path
) -> None:
    store = Durable(MemoryStore())
    given = store.recording if how == "memory" else store
    async with open_tracker(given, flush_timeout=0.05, spool=how == "memory") as tracker, tracker.session("a"):
        store.recording.mode = "down"
    assert files(folder) == []
