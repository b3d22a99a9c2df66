"""What the SQLite store does about files that cannot be used and rows that cannot be read, and how it removes."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import aclosing, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from tests.support import PATIENCE
from trio_progress import Pipeline, StoreError, open_tracker
from trio_progress.stores.base import Append, Claim, Claimed, Delete, Done, Index, Key, Query
from trio_progress.stores.decoding import LARGEST_RECORD
from trio_progress.stores.sqlite.backend import SqliteBackend
from trio_progress.stores.sqlite.machine import MachineClock
from trio_progress.stores.sqlite.schema import MIGRATIONS, Opened, connect, is_current
from trio_progress.stores.sqlite.writes import EXPIRED_AT_ONCE
from trio_progress.stores.threaded import SqliteStore
from trio_progress.tracker import runtime_of

PIPELINE = Pipeline("p", ["search", "analysis"])
INDEX = Index("running", "p", {"user": "u1"}, 5.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "progress.db"


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def made(path: Path) -> None:
    backend = SqliteBackend(path)
    backend.open_to_write()
    backend.close()


# Files


@pytest.mark.parametrize("before", ["PRAGMA application_id", "SELECT count(*) FROM sqlite_master"])
def test_who_opens_a_file_that_another_process_makes_right_now_has_it_too(
    before: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = sqlite3.connect
    came: list[str] = []

    def make(statement: str) -> None:
        if statement == before and not came:
            came.append(statement)
            # It has the file, or is told that it is locked for so short a time as it waits.
            with suppress(StoreError):
                connect(path, 0.01).connection.close()

    def watched(*given: Any, **options: Any) -> sqlite3.Connection:
        monkeypatch.setattr("sqlite3.connect", plain)
        connection: sqlite3.Connection = plain(*given, **options)
        connection.set_trace_callback(make)
        return connection

    monkeypatch.setattr("sqlite3.connect", watched)
    with closing(connect(path, 5.0).connection) as connection:
        assert is_current(connection)
    assert came == [before]
    made(path)


def spoil(path: Path, how: str) -> None:
    made(path)
    if how == "folder missing":
        path.unlink()
        path.parent.rmdir()
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    elif how == "text":
        path.write_text("these are notes, not a database; " * 300)
    elif how == "its head is gone":
        path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])
    elif how == "its middle is gone":
        data = path.read_bytes()
        path.write_bytes(data[:4096] + os.urandom(len(data) - 4096))
    elif how == "cut off":
        path.write_bytes(path.read_bytes()[:5000])
    elif how == "another program's":
        path.unlink()
        with raw(path) as connection:
            connection.execute("CREATE TABLE bookmarks (url)")
    elif how == "newer":
        with raw(path) as connection:
            connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("folder missing", "cannot be opened"),
        ("a folder", "no file"),
        ("text", "no SQLite file"),
        ("its head is gone", "no SQLite file"),
        ("its middle is gone", "damaged"),
        ("cut off", "damaged"),
        ("another program's", "another program's"),
        ("newer", "newer trio-progress"),
    ],
)
async def test_a_file_that_cannot_be_used_is_told_when_it_is_opened(how: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "progress.db"
    path.parent.mkdir()
    spoil(path, how)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError, match=says) as caught:
        async with open_tracker(f"sqlite:{path}") as tracker:
            await tracker.sessions()
    assert str(path) in str(caught.value)
    if before is not None:
        assert path.read_bytes() == before, "what is not ours, or damaged, is not touched"


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no users that may less")
async def test_a_file_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    path = tmp_path / "progress.db"
    made(path)
    path.chmod(0o444)
    nobody = 65534
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    root = os.geteuid() == 0
    if root:
        os.seteuid(nobody)
    try:
        with pytest.raises(StoreError, match=r"read-only|cannot be opened"):
            async with open_tracker(f"sqlite:{path}"):
                pass
    finally:
        if root:
            os.seteuid(0)


async def test_a_file_that_is_locked_is_told_and_the_work_does_not_notice(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made(path)
    with raw(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            async with open_tracker(f"sqlite:{path}", flush_timeout=0.2):
                pass
        other.execute("ROLLBACK")
        store = SqliteStore(path, busy_timeout=0.1)
        async with aclosing(store), open_tracker(store, flush_timeout=PATIENCE, persist_interval=0.01) as tracker:
            async with tracker.session("a", PIPELINE) as session:
                await session.flush()
                other.execute("BEGIN IMMEDIATE")
                with session.phase("search", total=3) as phase:
                    for _ in phase.track(range(3)):
                        await trio.sleep(0.05)
                await logged("locked", caplog)
                other.execute("ROLLBACK")
                await session.flush()
            assert tracker.statistics().final_lost == 0
    with raw(path) as other:
        assert b'"completed"' in other.execute("SELECT record FROM sessions").fetchone()[0]


async def logged(text: str, caplog: pytest.LogCaptureFixture) -> None:
    """Waits for it, however long a busy machine takes to say so."""
    with trio.fail_after(PATIENCE):
        while text not in caplog.text:  # noqa: ASYNC110 - a log has no event
            await trio.sleep(0.05)


async def test_a_full_disk_costs_the_work_nothing_and_the_end_is_delivered_by_the_next_start(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cramped(path: Path, busy_timeout: float) -> Opened:
        opened = connect(path, busy_timeout)
        pages = opened.connection.execute("PRAGMA page_count").fetchone()[0]
        opened.connection.execute(f"PRAGMA max_page_count = {pages}")
        return opened

    async with open_tracker(f"sqlite:{path}", flush_timeout=0.3, persist_interval=0.01) as tracker:
        async with tracker.session("a", PIPELINE) as session:
            await session.flush()
            monkeypatch.setattr("trio_progress.stores.sqlite.pool.connect", cramped)
            store = runtime_of(tracker).store
            assert isinstance(store, SqliteStore)
            with store.sqlite._connections.writing() as connection:
                connection.execute("PRAGMA max_page_count = 1")  # It stays at what there is.
            session.set_result({"report": "x" * 50_000})
            with session.phase("search"):
                await logged("the disk is full", caplog)
        assert session.status == "completed"
        assert tracker.statistics().final_lost == 1
    monkeypatch.undo()
    monkeypatch.setattr("trio_progress.session.shared_tasks.CATCH_UP", PATIENCE)
    async with open_tracker(f"sqlite:{path}") as tracker:
        snapshot = await tracker.snapshot("a")
        assert (snapshot.status, snapshot.result) == ("completed", {"report": "x" * 50_000})


async def test_a_file_that_a_newer_program_takes_over_is_not_written_any_more(path: Path) -> None:
    async with open_tracker(f"sqlite:{path}", flush_timeout=0.2, spool=False) as tracker:
        async with tracker.session("a", PIPELINE) as session:
            await session.flush()
            with raw(path) as other:
                other.execute("UPDATE sessions SET record = x'00'")
                other.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
            session.increment("n")
        assert tracker.statistics().final_lost == 1
    with raw(path) as other:
        assert other.execute("SELECT record FROM sessions").fetchone()[0] == b"\0"


async def test_a_file_that_is_deleted_is_made_anew_and_gets_the_newest_state(path: Path) -> None:
    async with open_tracker(f"sqlite:{path}", persist_interval=0.01) as tracker:
        async with tracker.session("a", PIPELINE) as session:
            session.increment("n")
            await session.flush()
            for name in path.parent.glob("progress.db*"):
                name.unlink()
            session.increment("n")
            await session.flush()
    async with open_tracker(f"sqlite:{path}") as tracker:
        snapshot = await tracker.snapshot("a")
        assert (snapshot.status, snapshot.counters, snapshot.epoch) == ("completed", {"n": 2}, session.epoch)


# Rows

POISON = [
    "record = x'7b22'",
    "record = substr(record, 1, length(record) / 2)",
    "record = 'text'",
    "record = 7",
    f"record = zeroblob({LARGEST_RECORD + 1})",
    "record = CAST(replace(CAST(record AS TEXT), '\"format\":1', '\"format\":99') AS BLOB)",
    "record = CAST(replace(CAST(record AS TEXT), '\"bad\"', '\"other\"') AS BLOB)",
    "epoch = -1",
    "epoch = 'soon'",
    "epoch = 9223372036854775807",
    "seq = x'00'",
    "seq = -5",
    "heartbeat = 'now'",
    "heartbeat = 1e300",
    "heartbeat = -1e300",
    "expires = 'never'",
    "lease_until = 'x'",
    "lease_until = 9e999",
    "lease_boot = 7, lease_until = 1.0, lease_wall = 1.0",
    "lease_boot = x'ff'",
    "queued_at = 'x'",
    "queued_at = NULL",
    "labels = x'ff'",
    "labels = '[]'",
    "status = x'ff00'",
    "owner = NULL",
    "id = x'ff00ff'",
    "id = '../../etc/passwd'",
    "id = ''",
]


@pytest.mark.parametrize("poison", POISON)
async def test_a_poisoned_row_is_passed_over_by_all_and_the_rest_goes_on(
    poison: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with open_tracker(f"sqlite:{path}", persist_interval=0.01) as tracker:
        for name in ("bad", "good"):
            async with tracker.session(name, PIPELINE, labels={"user": "u1"}) as session:
                session.emit("e")
    with raw(path) as other:
        try:
            other.execute(f"UPDATE sessions SET {poison} WHERE id = 'bad'")
        except sqlite3.IntegrityError:
            return  # The schema does not let it in.
    async with open_tracker(f"sqlite:{path}") as tracker:
        listed = [one.id for one in await tracker.sessions()]
        assert "good" in listed
        assert set(listed) <= {"good", "bad"}
        assert "good" in [one.id for one in await tracker.sessions(labels={"user": "u1"})]
        assert (await tracker.snapshot("good")).status == "completed"
        try:
            assert (await tracker.snapshot("bad")).id == "bad"
        except (StoreError, LookupError) as error:
            assert "bad" in str(error)  # noqa: PT017 - either is right
        except Exception as error:
            assert type(error).__name__ == "SessionNotFoundError"  # noqa: PT017 - its id was poisoned
        async with tracker.watch_all() as snapshots:
            with trio.move_on_after(0.05):
                async for _ in snapshots:
                    pass
        async with tracker.session("another", PIPELINE) as session:
            await session.flush()
        # It is the id that counts: whoever begins a new run of it is not held up by what is there.
        async with tracker.session("bad", PIPELINE) as session:
            await session.flush()
        assert (await tracker.snapshot("bad")).status == "completed"
        await tracker.delete("bad")
        assert "bad" not in [one.id for one in await tracker.sessions()]


def test_what_cannot_be_read_is_counted_each_time_and_logged_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backend = SqliteBackend(path)
    backend.commit([Claim(f"s{n}", 1, "me", b"{}", INDEX, None, 100.0) for n in range(3)])
    with raw(path) as other:
        other.execute("UPDATE sessions SET epoch = 'x' WHERE id = 's1'")
    for _ in range(3):
        assert sorted(one.id for one in backend.list(Query()).sessions) == ["s0", "s2"]
    assert backend.corrupt.count == 3
    assert caplog.text.count("'s1'") == 1
    backend.close()


def test_a_poisoned_request_is_passed_over(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    backend = SqliteBackend(path)
    mark = backend.changes(None, {}, lambda seconds: False).mark
    with raw(path) as other:
        for session, what in ((b"\xff", "cancel"), ("ok", "x" * 1000), ("fine", "cancel")):
            other.execute("INSERT INTO asks (session, what, at) VALUES (?, ?, 1.0)", (session, what))
    asked = backend.changes(mark, {}, lambda seconds: False).asked
    assert [(ask.id, ask.what) for ask in asked] == [("fine", "cancel")]
    assert backend.corrupt.count == 2
    backend.close()


# Removing


def found(path: Path, secret: bytes) -> bool:
    return any(secret in name.read_bytes() for name in path.parent.glob("progress.db*"))


def test_what_is_deleted_is_on_no_page_of_the_disk(path: Path) -> None:
    clock = Turned()
    backend = SqliteBackend(path, clock=clock.machine)
    secret = b"4711-secret"
    index = Index("failed", "p", {"user": "4711-secret"}, 5.0)
    (claimed,) = backend.commit([Claim("a", 1, "me", secret, index, None, 100.0)])
    assert isinstance(claimed, Claimed)
    events = [(n, secret * 100) for n in range(1, 50)]
    backend.commit([Append("a", Key(claimed.epoch, 1), secret * 5000, index, None, 100.0, 1.0, events)])
    # These share a page with what stays.
    theirs = {0: (b"{}", INDEX), 1: (secret, index)}
    backend.commit([Claim(f"b{n}", 1, "me", *theirs[n % 2], None, 100.0) for n in range(9)])
    assert found(path, secret)
    assert backend.commit([Delete("a"), *(Delete(f"b{n}") for n in range(1, 9, 2))]) == [Done()] * 5
    clock.now += 5
    backend.commit([Delete("nothing")])  # The log is emptied with whatever is written next.
    assert not found(path, secret)
    backend.close()


class Turned:
    """The clocks of a machine, turned by hand."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.machine = MachineClock("boot", lambda: self.now, lambda: self.now)


def test_what_has_expired_is_removed_and_the_file_becomes_smaller(path: Path) -> None:
    clock = Turned()
    backend = SqliteBackend(path, clock=clock.machine)
    for n in range(300):
        backend.commit([Claim(f"s{n}", 1, "me", b"x" * 10_000, INDEX, None, 60.0)])
    with raw(path) as other:
        before = other.execute("PRAGMA page_count").fetchone()[0]
    clock.now += 61
    assert backend.list(Query()).sessions == []
    for _ in range(10):
        clock.now += 11
        backend.commit([Delete("nothing")])
    with raw(path) as other:
        assert other.execute("SELECT count(*) FROM sessions").fetchone()[0] == 0
        assert other.execute("PRAGMA page_count").fetchone()[0] < before / 10
    backend.close()


def test_expired_rows_with_ids_that_cannot_be_read_hold_up_no_removal(path: Path) -> None:
    clock = Turned()
    backend = SqliteBackend(path, clock=clock.machine)
    backend.commit([Claim(f"s{n}", 1, "me", b"{}", INDEX, None, 60.0) for n in range(10)])
    with raw(path) as other:
        other.execute("BEGIN")
        other.executemany(
            "INSERT INTO sessions (id, epoch, seq, expires, owner, status, labels, queued_at, record)"
            " VALUES (?, 1, 1, 1.0, 'o', 'completed', '{}', 1.0, x'7b7d')",
            [(f"bad id {n}",) for n in range(EXPIRED_AT_ONCE)],
        )
        other.execute("COMMIT")
    clock.now += 61
    for _ in range(3):
        clock.now += 11
        backend.commit([Delete("nothing")])
    with raw(path) as other:
        assert other.execute("SELECT count(*) FROM sessions").fetchone()[0] == 0
    backend.close()


def test_a_lease_of_an_earlier_boot_has_lapsed(path: Path) -> None:
    before, after = Turned(), Turned()
    after.machine = MachineClock("next boot", lambda: 10.0, lambda: after.now)
    backend = SqliteBackend(path, clock=before.machine)
    backend.commit([Claim("a", 1, "me", b"{}", INDEX, 1e6, 1e6)])
    backend.close()
    backend = SqliteBackend(path, clock=after.machine)
    stored = backend.read("a")
    assert stored is not None
    assert not stored.alive
    (claimed,) = backend.commit([Claim("a", 1, "you", b"{}", INDEX, 10.0, 1e6)])
    assert isinstance(claimed, Claimed)
    backend.close()


def test_a_migration_that_fails_leaves_the_file_as_it_was_and_one_that_succeeds_is_made_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(path)
    step = ("ALTER TABLE sessions ADD COLUMN colour TEXT", "INSERT INTO nonsense VALUES (1)")
    monkeypatch.setattr("trio_progress.stores.sqlite.schema.MIGRATIONS", (*MIGRATIONS, step))
    with pytest.raises(StoreError):
        made(path)
    with raw(path) as other:
        assert other.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)
        assert "colour" not in [row[1] for row in other.execute("PRAGMA table_info(sessions)")]
    monkeypatch.setattr("trio_progress.stores.sqlite.schema.MIGRATIONS", (*MIGRATIONS, step[:1]))
    made(path)
    made(path)
    with raw(path) as other:
        assert other.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS) + 1
        assert [row[1] for row in other.execute("PRAGMA table_info(sessions)")].count("colour") == 1


@pytest.mark.parametrize("spoiled", [None, "declared = 7", "declared_epoch = 'soon'", "too long"])
def test_what_was_declared_is_told_again_where_a_row_holds_it_and_it_can_be_read(
    spoiled: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if spoiled == "too long":
        monkeypatch.setattr("trio_progress.stores.sqlite.writes.LARGEST_RECORD", 15)
    path = tmp_path / "store.db"
    with closing(SqliteBackend(path)) as backend:
        queued = msgspec.structs.replace(INDEX, status="queued")
        backend.commit([Claim("a", 1, "front", b"declared", queued, None, 100.0)])
        claim = Claim("a", 1, "me", b"claimed!", INDEX, 10.0, 100.0)
        (first,) = backend.commit([claim])
        if spoiled not in (None, "too long"):
            with closing(sqlite3.connect(path)) as other:
                other.execute(f"UPDATE sessions SET {spoiled}")
                other.commit()
        (again,) = backend.commit([claim])
    assert isinstance(first, Claimed)
    assert first.previous is not None
    assert again == (first if spoiled is None else msgspec.structs.replace(first, previous=None))
