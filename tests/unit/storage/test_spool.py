"""A final state that the store did not take is kept in a file, and brought there when the store is back."""

from __future__ import annotations

import json
import logging
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.support import RecordingStore
from trio_progress import MemoryStore, Pipeline, StoreError, open_tracker
from trio_progress.session.runtime import TrackerRuntime
from trio_progress.storage.folders import state_folder
from trio_progress.storage.spool import FILES, Spool
from trio_progress.stores.base import (
    Append,
    Changes,
    Claim,
    Claimed,
    Index,
    Key,
    Outcome,
    Page,
    Query,
    Seen,
    Stored,
    Write,
)

PIPELINE = Pipeline("p", ["a", "b"])

APPEND = Append(
    id="a",
    key=Key(1000, 7),
    record=b'{"x": "\xc3\xa4"}',
    index=Index("completed", "p", {"user": "u1"}, 5.0),
    lease=None,
    keep=100.0,
    heartbeat=6.0,
    events=[(1, b"{}"), (2, b"\xff")],
    durations={"x": 1.5},
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    return tmp_path / "trio-progress" / "spool"


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []


class Clock:
    """Seconds since 1970 that pass when a test says so."""

    now = 1e9

    def __call__(self) -> float:
        return self.now


# The files


def test_what_is_saved_is_pending_until_it_is_discarded(folder: Path) -> None:
    spool = Spool("sqlite:/x")
    assert list(spool.pending()) == []
    assert not folder.exists(), "looking makes no folder"
    assert spool.save(APPEND, claimed=True)
    assert spool.save(replace(APPEND, id="b"), claimed=False)
    first, second = Spool("sqlite:/x").pending()
    assert (first.append, first.claimed) == (APPEND, True)
    assert (second.append, second.claimed) == (replace(APPEND, id="b"), False)
    assert list(Spool("sqlite:/y").pending()) == [], "each store has its own"
    spool.discard(first)
    spool.discard(first)
    assert [spooled.append.id for spooled in spool.pending()] == ["b"]


def test_files_are_for_their_user_only(folder: Path) -> None:
    before = os.umask(0)
    try:
        assert Spool("sqlite:/x").save(APPEND, claimed=True)
    finally:
        os.umask(before)
    (path,) = files(folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for parent in (path.parent, path.parent.parent):
        assert stat.S_IMODE(parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("hostile", ["../../../etc/passwd", "/etc/passwd", "..", "a" * 128, ":-._"])
def test_nothing_that_a_user_gives_becomes_part_of_a_path(hostile: str, folder: Path, tmp_path: Path) -> None:
    spool = Spool(f"sqlite:{hostile}")
    assert spool.save(replace(APPEND, id=hostile), claimed=True)
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert everything == files(folder)
    assert hostile not in str(everything[0])


def test_the_next_end_of_a_session_is_another_file_and_the_same_end_the_same(folder: Path) -> None:
    spool = Spool("sqlite:/x")
    spool.save(APPEND, claimed=True)
    spool.save(replace(APPEND, record=b"newer"), claimed=True)
    (old,) = spool.pending()
    assert old.append.record == b"newer"
    spool.save(replace(APPEND, key=Key(2000, 1)), claimed=True)
    spool.discard(old)
    assert [spooled.append.key for spooled in spool.pending()] == [Key(2000, 1)]


def test_what_the_store_would_have_forgotten_is_forgotten(folder: Path) -> None:
    clock = Clock()
    spool = Spool("sqlite:/x", wall=clock)
    spool.save(APPEND, claimed=True)
    clock.now += APPEND.keep - 1
    assert len(list(spool.pending())) == 1
    clock.now += 2
    assert list(spool.pending()) == []
    assert files(folder) == []


def test_a_file_that_cannot_be_read_is_logged_and_removed_and_the_others_are_delivered(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool("sqlite:/x")
    spool.save(APPEND, claimed=True)
    (good,) = files(folder)
    data = good.read_bytes()
    file = json.loads(data)
    poison = {
        "truncated": data[:-20],
        "empty": b"",
        "random": b"\x00\xff\xfe" * 50,
        "pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x94.",
        "deep": b"[" * 100_000,
        "future": json.dumps(file | {"format": 2}).encode(),
        "types": json.dumps(file | {"epoch": "1000"}).encode(),
        "negative": json.dumps(file | {"seq": -1}).encode(),
        "huge": json.dumps(file | {"seq": 10**30}).encode(),
        "extra": json.dumps(file | {"more": 1}).encode(),
        "id": json.dumps(file | {"id": "../x"}).encode(),
        "events": json.dumps(file | {"events": [[1]]}).encode(),
        "elsewhere": json.dumps(file | {"store": "sqlite:/other"}).encode(),
    }
    for name, bad in poison.items():
        (good.parent / f"{name}.json").write_bytes(bad)
    (good.parent / "folder.json").mkdir()
    os.mkfifo(good.parent / "fifo.json")
    (good.parent / "link.json").symlink_to("/etc/passwd")
    with caplog.at_level(logging.INFO, logger="trio_progress"):
        (read,) = spool.pending()
    assert read.append == APPEND
    assert len([record for record in caplog.records if "passed over" in record.message]) == len(poison) - 1 + 3
    assert Path("/etc/passwd").exists()
    assert [path.name for path in files(folder)] == [good.name]


def test_a_file_that_vanishes_meanwhile_keeps_back_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool("sqlite:/x")
    for name in ("a", "b"):
        assert spool.save(replace(APPEND, id=name), claimed=True)
    (place,) = {path.parent for path in files(folder)}
    for age, spooled in enumerate(spool.pending()):
        os.utime(spooled.path, (2 * age, 2 * age))
    unfinished = place / "x.part"
    unfinished.touch()
    os.utime(unfinished, (1, 1))
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: iter([self / "gone.json", *iterdir(self)]))
    waiting = spool.pending()
    first = next(waiting)
    unfinished.unlink()
    assert {first.append.id, *(spooled.append.id for spooled in waiting)} == {"a", "b"}


@pytest.mark.parametrize("trouble", ["read-only", "a file in its place", "no home"])
def test_saving_never_raises(
    trouble: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if trouble == "no home":
        monkeypatch.delenv("XDG_STATE_HOME")

        def nobody() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", nobody)
    elif trouble == "a file in its place":
        (tmp_path / "trio-progress").write_text("")
    else:
        # Root may write anywhere, so the disk says no itself.
        def full(*_: object, **__: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "open", full)
    assert not Spool("sqlite:/x").save(APPEND, claimed=True)
    (record,) = caplog.records
    assert (record.levelname, "could not be spooled" in record.message) == ("ERROR", True)
    assert not record.exc_info


def test_a_write_that_fails_leaves_no_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fails)
    assert not Spool("sqlite:/x").save(APPEND, claimed=True)
    assert files(folder) == []


def test_there_is_a_most_of_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_progress.storage.spool.FILES", 3)
    spool = Spool("sqlite:/x")
    assert [spool.save(replace(APPEND, id=f"s{n}"), claimed=True) for n in range(5)] == [True] * 3 + [False] * 2
    assert len(files(folder)) == 3
    assert FILES >= 100


def test_the_place_for_state_is_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/u"))
    assert state_folder() == tmp_path / "trio-progress"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state_folder() == Path("/home/u/.local/state/trio-progress")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert state_folder() == Path("/home/u/.local/state/trio-progress")
    monkeypatch.setattr("sys.platform", "darwin")
    assert state_folder() == Path("/home/u/Library/Application Support/trio-progress")
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert state_folder() == Path("/local/trio-progress")


# The tracker


class Durable:
    """A store with an address, as those have that outlive their process; in memory, so that it has virtual time."""

    address = "test:durable"

    def __init__(self, inner: MemoryStore) -> None:
        self.recording = RecordingStore(inner=inner)

    async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        return await self.recording.commit(batch)

    async def read(self, session_id: str) -> Stored | None:
        return await self.recording.read(session_id)

    async def list(self, query: Query) -> Page:
        return await self.recording.list(query)

    async def changes(self, mark: str | None, seen: Mapping[str, Seen | None]) -> Changes:
        return await self.recording.changes(mark, seen)

    async def aclose(self) -> None:
        pass


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


# The delivery reads files in a thread, which virtual time does not wait for: these run by the real clock, but
# for what is waited for, which is turned by hand.


async def settle(condition: Callable[[], bool]) -> None:
    with trio.fail_after(5):
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
    for log in inner._logs.values():  # Its leases and expiry were dated by the other clock.
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
    inner._logs["a"].lease_until = trio.current_time() + left
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
    record = inner._logs["a"].record
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
            replace(write, proposal=write.proposal + 60_000) if isinstance(write, Claim) else write for write in batch
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
            with trio.move_on_after(2):
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
    inner._logs.clear()
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
    folder: Path,
) -> None:
    inner = MemoryStore()
    await lose(inner, never_claimed=True)
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
            nursery.start_soon(closing, tracker._runtime, resume_from)  # noqa: ASYNC111 - it lets the tracker be left
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
