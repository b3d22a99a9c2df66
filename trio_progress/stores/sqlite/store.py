"""The SQLite file as a tracker's store."""

from __future__ import annotations

import os
from typing import Final, final

import trio

from ..threaded import ThreadedStore
from .backend import SqliteBackend


@final
class SqliteStore(ThreadedStore):
    """Sessions in a SQLite file on a local disk, for trackers of all processes that open it.

    Blocking is done in threads of its own limits: one that writes, and some that read. It is opened by the first
    call, or by `open()`, and closed by `aclose()`.

    Args:
        path: The file; made, with mode 0600, where there is none. Its folder must exist.
        event_limit: Events kept for each session, at least 1; the oldest go first.
        busy_timeout: Seconds that a call waits while another process writes, above 0; less than the tracker's
            `flush_timeout`.

    Raises:
        ValueError, TypeError: A value is out of range.
    """

    def __init__(self, path: str | os.PathLike[str], *, event_limit: int = 1000, busy_timeout: float = 1.0) -> None:
        self.sqlite: Final = SqliteBackend(path, event_limit=event_limit, busy_timeout=busy_timeout)
        super().__init__(self.sqlite)

    async def open(self) -> None:
        """Makes the file if need be, and sees that it can be written; otherwise the first call does.

        Cancelled, it returns when that is known, at the latest after `busy_timeout`.

        Raises:
            StoreError: It cannot be used; the message says why.
        """
        await trio.to_thread.run_sync(self.sqlite.open_to_write, limiter=self._writer)
