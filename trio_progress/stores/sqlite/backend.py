"""Sessions in one SQLite file, shared by the processes of one machine.

1. The file is in WAL mode: readers and the one writer at a time do not wait for each other. It must be on a
   local disk, for WAL needs memory that all of its processes share.
2. A commit is one transaction for the whole batch. It has the write lock from its start (BEGIN IMMEDIATE),
   so what it reads of a session's epoch is what it writes under. `synchronous` is NORMAL: a process that is
   killed loses nothing that was acknowledged; a machine that loses power may lose the last moments.
3. News is found by polling `PRAGMA data_version`, which changes when any other connection has committed.
   Reading has connections apart from the writing one, so that holds for what this process writes as well.
4. What is removed is overwritten (`secure_delete`), and the write-ahead log is emptied after it.
5. A row that cannot be read is counted, logged (once, and at a bounded rate), and passed over; see `stores.decoding`.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, final

from ...errors import CorruptEntryError, StoreError
from ...state.history import PipelineHistory
from ...state.quantities import whole
from ...telemetry.logs import log_event
from ..base import Changes, Outcome, Page, Pause, Query, Seen, Stored, Write
from ..decoding import CorruptEntries
from .listed import take_in
from .machine import MachineClock
from .pool import Connections
from .reads import Reads, data_version, history_of, newest_ask
from .schema import Opened, is_current
from .writes import Writer

IDLE_POLL: Final = 0.1
BUSY_POLL: Final = 0.025
"""Seconds between two looks at an idle file, and at one that has changed lately."""

BUSY_FOR: Final = 2.0
"""Seconds for which a file counts as changed lately."""

SWEEP_INTERVAL: Final = 10.0
"""Seconds between removals of what has expired; readers do not see it in the meantime."""

SCRUB_INTERVAL: Final = 1.0
"""Seconds between tries to empty the write-ahead log; a reader that is at it prevents that."""

TAKE_IN: Final = 0.25
"""Seconds for which opening a file of an older version to write fills the index of its lists; the rest comes with what
is written later, a slice each time."""

VACUUMED_AT_ONCE: Final = 1000
"""Free pages given back to the file system in one go, when a quarter of the file is free."""


@final
class SqliteBackend:
    """Sessions in a SQLite file, by calls that block. Safe to be called by several threads, and after a fork.

    Args:
        path, event_limit, busy_timeout: See `SqliteStore`.
        idle_poll: Seconds between two looks at an idle file, above 0.
        clock: The clocks that leases and expiry go by.

    Raises:
        ValueError, TypeError: A value is out of range.
    """

    hands_out: Final = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        event_limit: int = 1000,
        busy_timeout: float = 1.0,
        idle_poll: float = IDLE_POLL,
        clock: MachineClock | None = None,
    ) -> None:
        text = os.fspath(path)
        if not text or "\0" in text or text == ":memory:":
            raise ValueError(f"a store needs the path of a file, not {text!r:.200}; 'memory:' keeps sessions in memory")
        event_limit = whole("event_limit", event_limit)
        for name, seconds in (("busy_timeout", busy_timeout), ("idle_poll", idle_poll)):
            if not 0 < seconds < 3600:
                raise ValueError(f"{name} must be above 0 and below 3600 seconds, not {seconds!r}")
        try:
            expanded = Path(text).expanduser()
        except RuntimeError as error:
            raise ValueError(f"a store needs the path of a file, not {text!r:.200}: {error}") from None
        self.path = Path(os.path.abspath(expanded))  # noqa: PTH100 - resolve() would follow links
        self._event_limit = event_limit
        self._idle_poll = idle_poll
        self._clock = MachineClock() if clock is None else clock
        self._connections = Connections(self.path, busy_timeout)
        self._lock = threading.Lock()
        self.address: Final = f"sqlite:{self.path}"
        """The URL of the file; the same in every process that has the same folder for it."""
        self.corrupt: Final = CorruptEntries(self.address)
        self._first_mark: int | None = None
        self._next_sweep = self._next_scrub = self._clock.monotonic()
        self._to_scrub = False
        self._complete = False
        """Whether the file's lists are read by its index, as far as this process knows."""

    def open(self) -> None:
        """Makes the file if need be, and sees that it can be read; not held up by somebody who writes."""
        with self._connections.reading() as opened:
            self._reads(opened)

    def open_to_write(self) -> None:
        """The same, and sees that it can be written."""
        with self._connections.writing() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            until = self._clock.monotonic() + TAKE_IN
            while take_in(connection) and self._clock.monotonic() < until:
                pass
        self.open()

    def close(self) -> None:
        """Closes all connections; later calls raise `StoreError`."""
        self._connections.close()

    # Writing

    def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        """Makes the writes in one transaction, with an outcome for each; where it raises, none of them was made."""
        with self._connections.writing() as connection:
            writer = Writer(connection, self._clock, self._event_limit, self.corrupt)
            connection.execute("BEGIN IMMEDIATE")
            if not is_current(connection):
                raise StoreError(
                    f"store {self.address}: a newer trio-progress has taken the file over; update and restart this one"
                )
            outcomes = [writer.write(write) for write in batch]
            connection.execute("COMMIT")
            self._to_scrub |= writer.removed
            self._tidy(connection)
        return outcomes

    def _tidy(self, connection: sqlite3.Connection) -> None:
        """What has to be done now and then. The batch is committed: nothing that fails here may be heard of."""
        now = self._clock.monotonic()
        try:
            if not self._complete:
                self._complete = not take_in(connection)
            if now >= self._next_sweep:
                self._next_sweep = now + SWEEP_INTERVAL
                self._sweep(connection)
            if self._to_scrub and now >= self._next_scrub:
                self._next_scrub = now + SCRUB_INTERVAL
                self._to_scrub = not _emptied_log(connection)
        except sqlite3.Error as error:
            what = "store %s: tidying up failed: %s"
            log_event(logging.DEBUG, "store_not_tidied", what, self.address, error, reason=error)
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def _sweep(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        writer = Writer(connection, self._clock, self._event_limit, self.corrupt)
        if writer.sweep():
            self._next_sweep = self._clock.monotonic()
        connection.execute("COMMIT")
        self._to_scrub |= writer.removed
        free, pages = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
        if free * 4 > pages:
            # Each step gives one page back; `execute` makes one of a statement without columns, a script makes all.
            connection.executescript(f"PRAGMA incremental_vacuum({VACUUMED_AT_ONCE})")

    # Reading

    def read(self, session_id: str) -> Stored | None:
        """The newest entry of a session, with its events."""
        with self._connections.reading() as opened:
            try:
                return self._reads(opened).one(session_id)
            except CorruptEntryError as error:
                raise self.corrupt.refuse(session_id, error) from None

    def list(self, query: Query) -> Page:
        """The newest entries of the sessions that `query` names; rows that cannot be read are left out."""
        with self._connections.reading() as opened:
            return self._reads(opened).page(query)

    def history(self, pipeline: str) -> PipelineHistory | None:
        """What earlier runs of a pipeline have taught."""
        with self._connections.reading() as opened:
            return history_of(opened.connection, pipeline, self.corrupt)

    def histories(self) -> Sequence[str]:
        """The pipelines of which there is a history, the one that ran last first."""
        with self._connections.reading() as opened:
            return self._reads(opened).histories()

    def _reads(self, opened: Opened) -> Reads:
        if self._first_mark is None:
            # What is asked of owners from here on is for sessions of this process.
            self._first_mark = newest_ask(opened.connection)
        return Reads(opened.connection, self._clock, self.corrupt)

    def changes(self, mark: str | None, seen: Mapping[str, Seen | None], pause: Pause) -> Changes:
        """Waits for news by polling; see `Store.changes` and `base.Pause`."""
        if mark is not None and not mark.isdecimal():
            raise StoreError(f"{mark!r:.200} is no mark of store {self.address}: begin without one")
        if mark is None:
            # Where this store was opened, not where it is asked: nothing is missed in between.
            with self._connections.reading() as opened:
                self._reads(opened)
            return Changes(str(self._first_mark), (), (), ())
        since = int(mark)
        busy_until = self._clock.monotonic() + BUSY_FOR
        while True:
            with self._connections.reading() as opened:
                reads = self._reads(opened)
                while self._connections.is_current(opened):
                    # Asked for before reading: what is committed in between is then seen as a change once more.
                    version = data_version(opened.connection)
                    found, due = reads.news(since, seen)
                    since = int(found.mark)
                    if found.sessions or found.gone or found.asked:
                        return found
                    if not self._wait(opened, version, due, busy_until, pause):
                        return found
                    busy_until = self._clock.monotonic() + BUSY_FOR

    def _wait(self, opened: Opened, version: int, due: float, busy_until: float, pause: Pause) -> bool:
        """Until a commit, for `due` seconds, or until the file is another; False: `pause` said to stop."""
        until = self._clock.monotonic() + due
        while (left := until - (now := self._clock.monotonic())) > 0:
            if not pause(min(self._idle_poll, left, BUSY_POLL if now < busy_until else left)):
                return False
            if data_version(opened.connection) != version or not self._connections.is_current(opened):
                break
        return True


def _emptied_log(connection: sqlite3.Connection) -> bool:
    """Empties the write-ahead log, which still has what was removed; False while others need it."""
    busy = connection.execute("PRAGMA busy_timeout").fetchone()[0]
    connection.execute("PRAGMA busy_timeout = 20")
    try:
        return bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {busy}")
