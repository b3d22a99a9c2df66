"""How the SQLite store makes lists: what they read, and a file of the version before, as it is taken in."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.store_contract.rig import append, claim, index
from trio_progress.stores.base import Claimed, Delete, Done, Query, Renew
from trio_progress.stores.decoding import CorruptEntries
from trio_progress.stores.places import LOOKED_AT, place_of, places_of
from trio_progress.stores.sqlite import backend as sqlite_backend
from trio_progress.stores.sqlite.backend import SqliteBackend
from trio_progress.stores.sqlite.listed import SLICE, is_complete
from trio_progress.stores.sqlite.listing import Pages
from trio_progress.stores.sqlite.machine import MachineClock
from trio_progress.stores.sqlite.schema import APPLICATION_ID, MIGRATIONS, connect

BEFORE = 2
"""The version of files that had no index for lists."""

_ROW = """INSERT INTO sessions (id, epoch, seq, heartbeat, lease_boot, lease_until, lease_wall, expires, owner, status,
pipeline, labels, queued_at, record) VALUES (?, 7, 0, NULL, ?, ?, ?, 1e12, 'o', ?, ?, ?, ?, x'7b7d')"""

CLOCK = MachineClock("boot", lambda: 1000.0, lambda: 1e9)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[SqliteBackend]:
    with closing(SqliteBackend(tmp_path / "progress.db", clock=CLOCK)) as backend:
        yield backend


def older(path: Path, sessions: int) -> None:
    """A file as the version before has left it: each third session runs, and of these each other one has no lease."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        for step in MIGRATIONS[:BEFORE]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {BEFORE}")
        connection.execute("BEGIN")
        for n in range(sessions):
            status = "completed" if n % 3 else "running"
            lease = ("boot", 2000.0 if n % 2 else 500.0, 2e9) if status == "running" else (None, None, None)
            labels = f'{{"order":"o{n}","user":"u{n % 5}"}}'
            connection.execute(_ROW, (f"s{n:04}", *lease, status, f"p{n % 2}", labels, float(n)))
        connection.execute("COMMIT")


def ids(backend: SqliteBackend, query: Query) -> list[str]:
    return [stored.id for stored in backend.list(query).sessions]


QUERIES = [
    Query(shown=frozenset({"running"}), limit=50),
    Query(shown=frozenset({"lost"}), limit=50),
    Query(labels={"user": "u3"}, limit=50),
    Query(labels={"user": "u2"}, shown=frozenset({"completed", "lost"}), limit=50),
    Query(labels={"order": "o17", "user": "u2"}),
    Query(pipeline="p0", status=frozenset({"running"}), lapsed=True),
    Query(labels={"user": "moved"}),
]


def expected(path: Path, query: Query) -> list[str]:
    """The first page, by looking at all rows."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT id, status, pipeline, labels, lease_until FROM sessions ORDER BY queued_at DESC"
        )
        fitting = []
        for name, status, pipeline, labels, until in rows:
            alive = until is not None and until > CLOCK.monotonic()
            place = place_of(status, alive=alive)
            fits = place in places_of(query) and not (query.lapsed and alive)
            fits = fits and query.pipeline in (None, pipeline)
            if fits and query.labels.items() <= json.loads(labels).items():
                fitting.append(name)
    return fitting[: query.limit]


def test_a_file_of_the_version_before_is_taken_in_by_slices_and_its_lists_are_right_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_backend, "TAKE_IN", 0.0)
    path = tmp_path / "progress.db"
    older(path, 4 * SLICE)
    with closing(SqliteBackend(path, clock=CLOCK)) as backend, closing(sqlite3.connect(path)) as connection:
        backend.open_to_write()
        stages = 0
        while not is_complete(connection):
            # Of those that are not taken in yet, or are, one moves and one goes.
            moves, goes = f"s{4 * SLICE - 1 - 3 * stages:04}", f"s{3 * stages + 2:04}"
            by = index(status="failed", labels={"user": "moved"}, queued_at=5000.0 + stages)
            (claimed, deleted) = backend.commit([claim(moves, index=by, lease=None), Delete(goes)])
            assert (type(claimed), deleted) == (Claimed, Done())
            assert [ids(backend, query) for query in QUERIES] == [expected(path, query) for query in QUERIES]
            stages += 1
        assert stages == 4
        assert [len(expected(path, query)) for query in QUERIES] == [50, 50, 50, 50, 1, 100, 4]
        rows = connection.execute("SELECT count(*) FROM places WHERE dimension = ''").fetchone()
        assert rows == connection.execute("SELECT count(*) FROM sessions").fetchone() == (4 * SLICE - 4,)


def test_opening_a_file_of_the_version_before_takes_in_what_it_can_at_once(tmp_path: Path) -> None:
    path = tmp_path / "progress.db"
    older(path, 2 * SLICE + 1)
    with closing(SqliteBackend(path, clock=CLOCK)) as backend, closing(sqlite3.connect(path)) as connection:
        backend.open()
        assert not is_complete(connection), "reading changes nothing"
        backend.open_to_write()
        assert is_complete(connection)
        assert [ids(backend, query) for query in QUERIES] == [expected(path, query) for query in QUERIES]


def test_a_row_of_the_index_that_was_left_behind_is_passed_over(backend: SqliteBackend) -> None:
    backend.commit(
        [claim(f"s{n}", index=index(labels={"user": "u1"}, queued_at=float(n)), lease=None) for n in range(3)]
    )
    with closing(sqlite3.connect(backend.path, isolation_level=None)) as connection:
        connection.execute("UPDATE sessions SET status = 'failed' WHERE id = 's0'")
        connection.execute("UPDATE sessions SET labels = '{}' WHERE id = 's1'")
        connection.execute("DELETE FROM sessions WHERE id = 's2'")
        assert ids(backend, Query(labels={"user": "u1"})) == []
        assert ids(backend, Query(status=frozenset({"running"}))) == ["s1"]


def test_a_list_of_two_labels_looks_at_the_rarer_one_and_not_for_long(backend: SqliteBackend) -> None:
    many = 2 * LOOKED_AT + 10
    writes = [
        claim(f"s{n:04}", lease=None, index=index(labels={"app": "a", "kind": f"k{n // many}"}, queued_at=float(n)))
        for n in range(2 * many)
    ]
    backend.commit(writes)
    backend.commit(
        [claim("old", lease=None, index=index(labels={"app": "a", "kind": "k1", "one": "yes"}, queued_at=-1.0))]
    )
    assert ids(backend, Query(labels={"app": "a", "one": "yes"})) == ["old"]
    query = Query(labels={"app": "a", "kind": "k0"}, status=frozenset({"running", "failed"}), limit=5)
    assert ids(backend, query) == [f"s{n:04}" for n in range(many - 1, many - 6, -1)]
    # None has both: that is found out by three calls, none of which looks at more than so many.
    backend.commit(
        [claim(f"b{n:04}", lease=None, index=index(labels={"b": "b"}, queued_at=float(n))) for n in range(many)]
    )
    query, calls = Query(labels={"b": "b", "app": "a"}), 0
    while True:
        page = backend.list(query)
        calls += 1
        assert page.sessions == []
        if page.next is None:
            break
        query = replace(query, after=page.next)
    assert calls == 3


def plans(path: Path, query: Query) -> list[str]:
    """How SQLite answers the statements of a list."""
    statements: list[str] = []
    with closing(connect(path, 1.0).connection) as connection:
        connection.set_trace_callback(statements.append)
        Pages(connection, CLOCK, CorruptEntries("here")).page(query)
        connection.set_trace_callback(None)
        asked = [each for each in statements if each.startswith("SELECT")]
        return [row[3].decode() for each in asked for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")]


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_no_list_sorts_what_it_finds_or_looks_through_all(backend: SqliteBackend, query: Query) -> None:
    backend.commit([claim("a", index=index(labels={"user": "u3"}))])
    steps = plans(backend.path, query)
    assert any("USING" in step for step in steps)
    assert not [step for step in steps if "TEMP B-TREE" in step or step.startswith(("SCAN sessions", "SCAN places"))]


def test_an_append_that_changes_no_list_touches_no_row_of_the_index(backend: SqliteBackend) -> None:
    (claimed,) = backend.commit([claim()])
    assert isinstance(claimed, Claimed)
    with closing(sqlite3.connect(backend.path, isolation_level=None)) as connection:
        connection.execute("DROP TABLE places")
        assert backend.commit([append(claimed.epoch, 1), append(claimed.epoch, 2)]) == [Done(), Done()]


def test_a_lease_that_is_renewed_moves_in_the_index_once_in_its_time(tmp_path: Path) -> None:
    now = 1000.0
    clock = MachineClock("boot", lambda: now, lambda: 1e9 + now)
    due: list[float] = []
    with closing(SqliteBackend(tmp_path / "progress.db", clock=clock)) as backend:
        (claimed,) = backend.commit([claim(lease=30.0)])
        assert isinstance(claimed, Claimed)
        with closing(sqlite3.connect(backend.path)) as connection:
            for seq, at in enumerate((1010.0, 1029.0, 1031.0, 1050.0, 1060.5, 1062.0), 1):
                now = at
                renewed = Renew("a", claimed.epoch, 30.0, 5.0)
                write = renewed if seq % 3 == 0 else append(claimed.epoch, seq, lease=30.0)
                assert backend.commit([write]) == [Done()]
                due.append(connection.execute("SELECT lease_due FROM sessions").fetchone()[0])
                assert ids(backend, Query(shown=frozenset({"running"}))) == ["a"]
                assert ids(backend, Query(shown=frozenset({"lost"}))) == []
            assert due == [1030.0, 1030.0, 1061.0, 1061.0, 1061.0, 1092.0]
            now = 1093.0
            assert ids(backend, Query(shown=frozenset({"lost"}))) == ["a"]
            assert backend.commit([append(claimed.epoch, 7, lease=10.0)]) == [Done()]
            now = 1100.0
            assert backend.commit([append(claimed.epoch, 8, lease=2.0)]) == [Done()], "a shorter one than before"
            now = 1102.5
            assert ids(backend, Query(shown=frozenset({"lost"}))) == ["a"]
