"""An owner that is known to be dead is fenced off before its lease has lapsed: it alone, once, and with word of why."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from tests.unit.storage.spooling import files
from trio_progress import (
    FencedError,
    MemoryStore,
    Pipeline,
    SessionActiveError,
    SessionNotFoundError,
    Snapshot,
    StoreError,
    open_tracker,
)
from trio_progress.blocking import Client
from trio_progress.protocol.messages import CustomEvent
from trio_progress.storage.spool import Spool
from trio_progress.stores.base import Append, Claim, Index, Key, Outcome, Write
from trio_progress.stores.threaded import SqliteStore
from trio_progress.testing import FaultyStore

PIPELINE = Pipeline("p", ["search", "analysis"])

INDEX = Index("running", "p", {"user": "u1"}, 5.0)

BY = f"{socket.gethostname()}:{os.getpid()}"


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


class Cut:
    """An owner in a tracker of its own that is cut off from the store, as one that is dead, while its lease stands."""

    def __init__(self, store: MemoryStore, session_id: str = "a") -> None:
        self.store = FaultyStore(store)
        self.id = session_id
        self.epoch = 0
        self.fenced = False

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            async with open_tracker(self.store, lost_after=1000) as tracker:
                async with tracker.session(self.id, PIPELINE, labels={"user": "u1"}) as session:
                    session.save({"page": 7})
                    session.emit("source", {"url": "x"})
                    with session.phase("search"):
                        session.increment("found", 3)
                    session.advance_to("analysis", total=4).advance(2)
                    await session.flush()
                    self.epoch = session.epoch
                    self.store.mode = "down"
                    task_status.started()
                    await trio.sleep(20)
                    self.store.mode = "up"
                    await trio.sleep(2000)
        except FencedError:
            self.fenced = True


async def test_a_dead_owner_is_fenced_off_at_once_and_the_session_goes_on(
    autojump_clock: trio.testing.MockClock, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    cut = Cut(store)
    async with (
        open_tracker(store) as tracker,
        trio.open_nursery() as nursery,
        tracker.subscribe("a", wait=True) as seen,
    ):
        await nursery.start(cut.run)
        begun = trio.current_time()
        with pytest.raises(SessionActiveError):
            async with tracker.session("a", resume="interrupted"):
                pass
        lost = await tracker.fence("a", epoch=cut.epoch, reason="its node is gone")
        assert (lost.status, lost.epoch, lost.counters, lost.labels) == (
            "lost",
            cut.epoch + 1,
            {"found": 3},
            {"user": "u1"},
        )
        assert [(phase.name, phase.status, phase.done) for phase in lost.phases] == [
            ("search", "completed", 0),
            ("analysis", "cancelled", 2),
        ]
        assert lost == await tracker.snapshot("a")
        async with tracker.session("a", PIPELINE, resume="interrupted") as session:
            assert (session.attempt, session.saved) == (2, {"page": 7})
            assert session.phases["search"].status == "completed"
            await session.flush()
            assert trio.current_time() - begun < 1
            await trio.sleep(50)  # The old owner comes back after twenty seconds.
            assert cut.fenced
            assert session.status == "running"
        assert tracker.statistics().sessions_lost == 1
        messages = [message async for message in seen]
    assert [(message.name, message.data) for message in messages if isinstance(message, CustomEvent)] == [
        ("source", {"url": "x"}),
        ("session.fenced", {"epoch": cut.epoch, "by": BY, "reason": "its node is gone"}),
    ]
    (record,) = [record for record in caplog.records if vars(record).get("event") == "session_fenced"]
    assert f"'a': the owner of epoch {cut.epoch} is fenced off by {BY}" in record.getMessage()
    assert "its node is gone" in record.getMessage()


async def test_a_late_fence_of_an_old_owner_changes_nothing(
    autojump_clock: trio.testing.MockClock, store: MemoryStore
) -> None:
    async with open_tracker(store) as tracker, trio.open_nursery() as nursery:
        await nursery.start(Cut(store).run)
        old = (await tracker.snapshot("a")).epoch
        await tracker.fence("a", epoch=old)
        successor = Cut(store)
        await nursery.start(successor.run)
        before = await store.read("a")
        for epoch in (old, old + 1, successor.epoch + 1, 0):
            after = await tracker.fence("a", epoch=epoch, reason="late")
            assert (after.status, after.epoch) == ("running", successor.epoch)
        assert await store.read("a") == before
        assert before is not None
        assert before.alive
        assert not successor.fenced
        assert tracker.statistics().sessions_lost == 1
        nursery.cancel_scope.cancel()


async def test_what_does_not_run_is_returned_as_it_is(
    autojump_clock: trio.testing.MockClock, store: MemoryStore
) -> None:
    async with open_tracker(store) as tracker:
        await tracker.declare("queued", PIPELINE)
        for name, status in (("completed", "completed"), ("interrupted", "interrupted"), ("failed", "failed")):
            async with tracker.session(name) as session:
                if status == "failed":
                    session.fail("no luck")
                elif status == "interrupted":
                    session.cancel()
        for name in ("queued", "completed", "failed", "interrupted"):
            before = await tracker.snapshot(name)
            assert await tracker.fence(name) == before
            assert await tracker.fence(name, epoch=before.epoch) == before
            assert (await tracker.snapshot(name)).epoch == before.epoch
        with pytest.raises(SessionNotFoundError):
            await tracker.fence("missing")
        assert tracker.statistics().sessions_lost == 0


async def test_one_that_is_open_here_is_refused(autojump_clock: trio.testing.MockClock, store: MemoryStore) -> None:
    async with open_tracker(store) as tracker, tracker.session("a") as session:
        await session.flush()
        with pytest.raises(SessionActiveError, match="in this process"):
            await tracker.fence("a")
        assert session.status == "running"


async def test_one_that_is_opened_here_meanwhile_is_refused(
    autojump_clock: trio.testing.MockClock, store: MemoryStore
) -> None:
    slow = FaultyStore(store)
    async with open_tracker(slow) as tracker, trio.open_nursery() as nursery:
        async with tracker.session("a"):
            pass
        slow.delay = 1.0

        async def fence() -> None:
            with pytest.raises(SessionActiveError, match="in this process"):
                await tracker.fence("a")

        nursery.start_soon(fence)
        await trio.sleep(0.5)
        async with tracker.session("a") as session:
            await trio.sleep(10)
            assert session.status == "running"


@pytest.mark.parametrize("answers", [["lost"], ["down", "lost"]])
async def test_repeated_after_a_lost_answer_it_succeeds_and_the_session_was_written_off_once(
    autojump_clock: trio.testing.MockClock, store: MemoryStore, answers: Sequence[str]
) -> None:
    async with trio.open_nursery() as nursery:
        cut = Cut(store)
        await nursery.start(cut.run)
        faulty = FaultyStore(store, script=answers)  # type: ignore[arg-type]
        async with open_tracker(faulty) as tracker:
            for _ in answers:
                with pytest.raises(StoreError):
                    await tracker.fence("a", epoch=cut.epoch)
            lost = await tracker.fence("a", epoch=cut.epoch)
            assert (lost.status, lost.epoch) == ("lost", cut.epoch + 1)
            assert await tracker.fence("a") == lost
        nursery.cancel_scope.cancel()


async def test_an_owner_that_lives_and_writes_is_tried_again_and_fenced(
    autojump_clock: trio.testing.MockClock, store: MemoryStore
) -> None:
    """Each time it has written between the reading and the claim: what is written off is what it wrote last."""

    class Racing:
        def __init__(self, writes: int) -> None:
            self.writes = writes

        async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
            stored = await store.read("a")
            assert stored is not None
            if self.writes > 0:
                self.writes -= 1
                key = stored.key._replace(seq=stored.key.seq + 1)
                index = batch[0].index  # type: ignore[union-attr]
                await store.commit([Append("a", key, stored.record, index, 99.0, 99.0, 1.0)])
            return await store.commit(batch)

    async with trio.open_nursery() as nursery:
        await nursery.start(Cut(store).run)
        racing = FaultyStore(store)
        async with open_tracker(racing) as tracker:
            racing.commit = Racing(3).commit  # type: ignore[method-assign]
            assert (await tracker.fence("a")).status == "lost"
        await nursery.start(Cut(store).run)
        async with open_tracker(racing) as tracker:
            racing.commit = Racing(100).commit  # type: ignore[method-assign]
            with pytest.raises(StoreError, match="not dead"):
                await tracker.fence("a")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"epoch": -1}, ValueError),
        ({"epoch": True}, ValueError),
        ({"epoch": 1.5}, ValueError),
        ({"epoch": "7"}, ValueError),
        ({"reason": 7}, TypeError),
    ],
    ids=["negative", "bool", "fraction", "text", "reason"],
)
async def test_bad_input_is_refused(given: dict[str, object], error: type[Exception]) -> None:
    async with open_tracker() as tracker:
        with pytest.raises(error):
            await tracker.fence("a", **given)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="session id"):
            await tracker.fence("a/b")


# An end that its owner has left on this machine


async def record_of(status: str) -> bytes:
    """What is stored of a session "a" that stands so."""
    store = MemoryStore()
    async with open_tracker(store) as tracker, tracker.session("a", PIPELINE) as session:
        session.set_result(42)
        await session.flush()
        running = await store.read("a")
    ended = await store.read("a")
    assert running is not None
    assert ended is not None
    return ended.record if status == "completed" else running.record


async def fence(url: str, how: str, keep: Callable[[], object]) -> Snapshot:
    """Fences it, once what its owner had to say waits in a file."""
    if how == "tracker":
        async with open_tracker(url) as tracker:
            keep()
            return await tracker.fence("a")
    keep()

    def call() -> Snapshot:
        with Client(url) as client:
            return client.fence("a")

    return await trio.to_thread.run_sync(call)


@pytest.mark.parametrize("how", ["tracker", "client"])
@pytest.mark.parametrize("claimed", [True, False], ids=["claimed", "its claim was not answered"])
async def test_an_end_that_waits_on_this_machine_is_delivered_first_and_counts(
    how: str, claimed: bool, folder: Path, tmp_path: Path
) -> None:
    store = SqliteStore(tmp_path / "s.db")
    claim = Claim("a", 1000, "owner", await record_of("running"), INDEX, 1000.0, 1000.0)
    await store.commit([claim])
    running = await store.read("a")
    assert running is not None
    assert running.alive
    key = Key(running.key.epoch if claimed else 1000, 9)
    end = Append(
        "a", key, await record_of("completed"), msgspec.structs.replace(INDEX, status="completed"), None, 1000.0, 5.0
    )
    spool = Spool(store.address)
    found = await fence(store.address, how, lambda: spool.save(end, claimed=claimed, owner="owner"))
    assert (found.status, found.result, found.epoch) == ("completed", 42, running.key.epoch)
    assert files(folder) == []
    stored = await store.read("a")
    assert stored is not None
    assert not stored.alive
    await store.aclose()


@pytest.mark.parametrize("how", ["tracker", "client"])
async def test_a_folder_of_ends_that_cannot_be_read_is_logged_and_holds_up_no_fence(
    how: str, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = SqliteStore(tmp_path / "s.db")
    await store.commit([Claim("a", 1000, "owner", await record_of("running"), INDEX, 1000.0, 1000.0)])
    put_a_file_for_the_folder(folder, store.address)
    assert (await fence(store.address, how, lambda: None)).status == "lost"
    assert "spooled states cannot be read" in caplog.text
    await store.aclose()


def put_a_file_for_the_folder(folder: Path, address: str) -> None:
    folder.mkdir(parents=True)
    (folder / hashlib.sha256(address.encode()).hexdigest()[:40]).write_text("no folder")
