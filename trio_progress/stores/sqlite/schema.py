"""The SQLite file: how it is opened, what is in it, and how an older one is brought up to date.

The file says by its `application_id` whose it is and by its `user_version` which of the versions below it
is at. A file of another program or of a newer version is refused, not touched.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from ...errors import StoreError
from ..decoding import LARGEST_RECORD

APPLICATION_ID: Final = 0x74725067
"""trPg"""

OLDEST_SQLITE: Final = (3, 15, 0)
"""The first that compares rows of values."""

MIGRATIONS: tuple[Sequence[str], ...] = (
    (
        # One row is one session: its newest entry, under the fence. `record` stands last, so that whoever
        # looks at the other columns does not read through it.
        """CREATE TABLE sessions (
            id TEXT NOT NULL PRIMARY KEY,
            epoch INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            heartbeat REAL,
            lease_boot TEXT,
            lease_until REAL,
            lease_wall REAL,
            expires REAL NOT NULL,
            owner TEXT NOT NULL,
            status TEXT NOT NULL,
            pipeline TEXT,
            labels TEXT NOT NULL,
            queued_at REAL NOT NULL,
            record BLOB NOT NULL
        )""",
        # All that a list is filtered by, so that filtering reads this index only.
        "CREATE INDEX sessions_newest ON sessions (queued_at, id, status, labels)",
        "CREATE INDEX sessions_expires ON sessions (expires)",
        # Those of the session's present epoch; a claim removes the ones before.
        """CREATE TABLE events (
            session TEXT NOT NULL,
            n INTEGER NOT NULL,
            data BLOB NOT NULL,
            PRIMARY KEY (session, n)
        ) WITHOUT ROWID""",
        # AUTOINCREMENT: a number is never given out twice, so readers can go on from the last one they saw.
        """CREATE TABLE asks (
            n INTEGER PRIMARY KEY AUTOINCREMENT,
            session TEXT NOT NULL,
            what TEXT NOT NULL,
            reason TEXT,
            at REAL NOT NULL
        )""",
        "CREATE INDEX asks_session ON asks (session)",
        """CREATE TABLE durations (
            pipeline TEXT NOT NULL,
            phase TEXT NOT NULL,
            seconds REAL NOT NULL,
            at REAL NOT NULL,
            PRIMARY KEY (pipeline, phase)
        ) WITHOUT ROWID""",
        # One row: the highest epoch that any session had which is gone from here.
        "CREATE TABLE floor (epoch INTEGER NOT NULL)",
        "INSERT INTO floor VALUES (0)",
    ),
    (
        # What earlier runs of each pipeline have taught; `durations` is what was kept of that before.
        """CREATE TABLE histories (
            pipeline TEXT NOT NULL PRIMARY KEY,
            data BLOB NOT NULL,
            at REAL NOT NULL
        ) WITHOUT ROWID""",
    ),
    (
        # What lists are read from: see `sqlite.listed`, which fills it for the sessions that there are.
        """CREATE TABLE places (
            dimension TEXT NOT NULL,
            place TEXT NOT NULL,
            queued_at REAL NOT NULL,
            session TEXT NOT NULL,
            PRIMARY KEY (dimension, place, queued_at, session)
        ) WITHOUT ROWID""",
        # One row, as long as sessions behind it may have no rows there.
        "CREATE TABLE unlisted (upto INTEGER NOT NULL)",
        "INSERT INTO unlisted SELECT 0 WHERE EXISTS (SELECT 1 FROM sessions)",
        # When a lease is to be looked at: by the clock that dates it, and not later than it ends; see `sqlite.writes`.
        "ALTER TABLE sessions ADD COLUMN lease_due REAL",
        """UPDATE sessions SET lease_due = CASE WHEN lease_boot IS NULL THEN lease_wall ELSE lease_until END
            WHERE status = 'running'""",
        "CREATE INDEX sessions_lease ON sessions (lease_boot, lease_due) WHERE status = 'running'",
    ),
    (
        # How often each was begun; of those that there are it is not known, but that it was.
        "ALTER TABLE sessions ADD COLUMN attempts INTEGER NOT NULL DEFAULT 0",
        "UPDATE sessions SET attempts = 1 WHERE status IN ('running', 'interrupted', 'lost')",
        """INSERT OR IGNORE INTO places (dimension, place, queued_at, session)
            SELECT dimension, 'again1', queued_at, session FROM places WHERE place IN ('interrupted', 'lost')""",
        # What was chosen to be claimed, and by which process; see `sqlite.queue`.
        """CREATE TABLE reserved (
            session TEXT NOT NULL PRIMARY KEY,
            process TEXT NOT NULL,
            boot TEXT,
            until REAL,
            wall REAL
        ) WITHOUT ROWID""",
        # The processes that wait for a session, the one that has waited longest first.
        """CREATE TABLE waiting (
            n INTEGER PRIMARY KEY AUTOINCREMENT,
            process TEXT NOT NULL UNIQUE,
            wanted BLOB NOT NULL,
            boot TEXT,
            until REAL,
            wall REAL
        )""",
    ),
    (
        # What was declared, from the claim that replaced it until the next write: see `sqlite.writes`.
        "ALTER TABLE sessions ADD COLUMN declared_epoch INTEGER",
        "ALTER TABLE sessions ADD COLUMN declared_seq INTEGER",
        "ALTER TABLE sessions ADD COLUMN declared BLOB",
    ),
)
"""What brings a file from each version to the next one; the newest version is their number."""


class Identity(NamedTuple):
    """Which file a path leads to; a connection to another one writes into nothing."""

    device: int
    inode: int


def identity(path: Path) -> Identity | None:
    """The file at `path`; None: there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Identity(found.st_dev, found.st_ino)


def explained(path: Path, error: sqlite3.Error, busy_timeout: float) -> StoreError:
    """What SQLite's error means, and what to do about it."""
    code = getattr(error, "sqlite_errorcode", None)
    reason = {
        sqlite3.SQLITE_BUSY: f"another process has kept it locked for longer than {busy_timeout:g} s",
        sqlite3.SQLITE_READONLY: "it cannot be written: the file, its folder or the file system is read-only",
        sqlite3.SQLITE_IOERR: "the disk failed, or is full",
        sqlite3.SQLITE_CORRUPT: "it is damaged: move it away, or repair it by `sqlite3 FILE .recover`",
        sqlite3.SQLITE_FULL: "the disk is full",
        sqlite3.SQLITE_CANTOPEN: "it cannot be opened: its folder must exist, and both must be readable and writable",
        sqlite3.SQLITE_NOTADB: "it is no SQLite file: move it away, or give another path",
    }.get(code & 0xFF if isinstance(code, int) else -1, "SQLite refuses")
    return StoreError(f"store sqlite:{path}: {reason} ({error})")


class Opened(NamedTuple):
    """A connection, and which file it was made to."""

    connection: sqlite3.Connection
    identity: Identity | None


def connect(path: Path, busy_timeout: float) -> Opened:
    """Opens the file, which is made (mode 0600) where there is none, and brings it up to date.

    Texts come as bytes: what others wrote into the file need not be UTF-8.

    Raises:
        StoreError: It cannot be used; the message says why.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StoreError(f"the sqlite: store needs SQLite 3.15 or newer, this Python has {sqlite3.sqlite_version}")
    _create(path)
    # Asked before: should the file be replaced right now, the connection is taken for an old one, and made anew.
    found = identity(path)
    connection = None
    try:
        connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
        connection.text_factory = bytes
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_RECORD + 1024 * 1024)
        # A file that somebody else has made is data, not a program: its triggers and views get no functions.
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA journal_size_limit = 8388608")
        _prepare(connection, path, busy_timeout)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise explained(path, error, busy_timeout) from error
    except BaseException:
        if connection is not None:
            connection.close()
        raise
    return Opened(connection, found)


def _create(path: Path) -> None:
    """Makes an empty file that nobody else can read; SQLite gives its other files the same mode."""
    try:
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600))
        mode = path.stat().st_mode
    except OSError as error:
        raise StoreError(f"store sqlite:{path}: it cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise StoreError(f"store sqlite:{path}: it is no file; give the path of a file, which is made if need be")


def _prepare(connection: sqlite3.Connection, path: Path, busy_timeout: float) -> None:
    """Checks whose file it is, and makes or migrates the schema; one of several processes does it."""
    until = time.monotonic() + busy_timeout
    while True:
        try:
            # In one transaction: made by another process between two of its reads, the file would look like neither.
            with _transaction(connection, "BEGIN"):
                ready = _is_ready(connection, path)
            if not ready:
                _migrate(connection, path)
            return
        except sqlite3.OperationalError as error:
            # Changing the journal mode does not wait for other processes as everything else does.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.005)


def _is_ready(connection: sqlite3.Connection, path: Path) -> bool:
    version, application = _pragma(connection, "user_version"), _pragma(connection, "application_id")
    if application == APPLICATION_ID:
        if version > len(MIGRATIONS):
            raise StoreError(
                f"store sqlite:{path}: it was written by a newer trio-progress (version {version} of the file, this "
                f"one knows {len(MIGRATIONS)}): install that one, or give another path"
            )
    elif application or version or _one(connection, "SELECT count(*) FROM sqlite_master"):
        raise StoreError(f"store sqlite:{path}: it is another program's SQLite file; give another path")
    return version == len(MIGRATIONS) and bytes(_one(connection, "PRAGMA journal_mode")) == b"wal"


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    # Both stand before the first table, or have no effect; on a file that is in use they change nothing.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    mode = _one(connection, "PRAGMA journal_mode = WAL")
    if bytes(mode) != b"wal":
        raise StoreError(
            f"store sqlite:{path}: its file system has no shared memory, which several processes need (SQLite's WAL "
            "mode); it must be on a local disk"
        )
    with _transaction(connection, "BEGIN IMMEDIATE"):
        _is_ready(connection, path)  # Another process may have been faster.
        for version in range(_pragma(connection, "user_version"), len(MIGRATIONS)):
            for statement in MIGRATIONS[version]:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


@contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[None]:
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def is_current(connection: sqlite3.Connection) -> bool:
    """Whether the file is still at the version that this code writes; a newer program may have migrated it."""
    return _pragma(connection, "user_version") == len(MIGRATIONS)


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(_one(connection, f"PRAGMA {name}"))


def _one(connection: sqlite3.Connection, statement: str) -> Any:
    return connection.execute(statement).fetchone()[0]
