"""The connections that one process has to a SQLite file: one that writes, and as many as read at once.

1. A connection is used by one thread at a time. The writing one is behind a lock, and kept.
2. Before each use it is looked whether the path still leads to the file that the connection was made to: one
   that was deleted or replaced would take writes that nobody ever reads.
3. After a fork the child has connections of its own: SQLite forbids using, and even closing, inherited ones.
4. What SQLite raises leaves as `StoreError`, and the connection it came from is closed; but for a lock that
   another process holds, after which there is nothing wrong with it.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, final

from ...errors import StoreError
from .schema import Opened, connect, explained, identity

CLOSING_GRACE: Final = 1.0
"""Seconds that closing waits for threads that still read."""

_INHERITED: Final[list[Opened]] = []
"""Never collected: that would close them."""


@final
class Connections:
    """See above. Safe to be used by several threads."""

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self.path = path
        self._busy_timeout = busy_timeout
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._write_lock = threading.Lock()
        self._idle_changed = threading.Condition()
        self._writing: Opened | None = None
        self._idle: list[Opened] = []
        self._reading = 0

    def _check(self) -> None:
        if self._process != os.getpid():
            _INHERITED.extend(self._idle)
            if self._writing is not None:
                _INHERITED.append(self._writing)
            self._start()
        if self._closed:
            raise StoreError(f"store sqlite:{self.path}: it was closed")

    def is_current(self, opened: Opened) -> bool:
        """Whether the path still leads to the file that this connection was made to."""
        return opened.identity is not None and opened.identity == identity(self.path)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection that writes. What is left open of a transaction is rolled back."""
        self._check()
        if not self._write_lock.acquire(timeout=self._busy_timeout):
            raise StoreError(
                f"store sqlite:{self.path}: another thread of this process has written to it for longer than "
                f"{self._busy_timeout:g} s"
            )
        try:
            self._check()
            if self._writing is not None and not self.is_current(self._writing):
                self._writing.connection.close()
                self._writing = None
            if self._writing is None:
                self._writing = connect(self.path, self._busy_timeout)
            connection = self._writing.connection
            try:
                yield connection
            except sqlite3.Error as error:
                if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                    self._writing = None
                    connection.close()
                raise explained(self.path, error, self._busy_timeout) from error
            finally:
                if self._writing is not None and connection.in_transaction:
                    connection.execute("ROLLBACK")
        finally:
            self._write_lock.release()

    @contextmanager
    def reading(self) -> Iterator[Opened]:
        """A connection to read by. What is left open of a transaction is ended."""
        opened = self._take()
        sound = False
        try:
            yield opened
            sound = True
        except sqlite3.Error as error:
            raise explained(self.path, error, self._busy_timeout) from error
        finally:
            self._give_back(opened, sound=sound)

    def _take(self) -> Opened:
        with self._idle_changed:
            self._check()
            self._reading += 1
            opened = self._idle.pop() if self._idle else None
        try:
            if opened is not None and not self.is_current(opened):
                opened.connection.close()
                opened = None
            return connect(self.path, self._busy_timeout) if opened is None else opened
        except BaseException:
            self._give_back(None, sound=False)
            raise

    def _give_back(self, opened: Opened | None, *, sound: bool) -> None:
        with self._idle_changed:
            if opened is not None:
                # Asked under the lock: who closes does not wait for ever, and nobody would close what comes later.
                if sound and not opened.connection.in_transaction and not self._closed:
                    self._idle.append(opened)
                else:
                    opened.connection.close()
            self._reading -= 1
            self._idle_changed.notify_all()

    def close(self) -> None:
        """Closes all of them. Waits for what writes, and shortly for what reads; those threads close their own."""
        if self._process != os.getpid():
            return
        with self._idle_changed:
            self._closed = True
        with self._write_lock:
            if self._writing is not None:
                self._writing.connection.close()
                self._writing = None
        until = time.monotonic() + CLOSING_GRACE
        with self._idle_changed:
            while self._reading and (left := until - time.monotonic()) > 0:
                self._idle_changed.wait(left)
            while self._idle:
                self._idle.pop().connection.close()
