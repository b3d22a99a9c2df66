"""From a store whose calls block to the `Store` of a tracker: every call is made in a worker thread.

A thread cannot be cancelled. What writes is therefore waited for, and must come back by its own timeout;
what reads is left to end by itself, and its answer is dropped. Threads that were left still count against
the limits here, so a store that hangs holds a handful of them, not one for each try.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import trio

if TYPE_CHECKING:
    from .base import Changes, Outcome, Page, Query, Seen, Stored, Write
    from .decoding import CorruptEntries

Pause: TypeAlias = Callable[[float], bool]
"""Sleeps for at most so many seconds; False: do not wait any longer, and return what there is."""

READERS: Final = 4
"""Threads that read at once; more callers wait for one of them."""

WATCHERS: Final = 2
"""Threads that wait for news: one, and the one before that has not noticed yet that it was left."""


class Backend(Protocol):
    """A store whose calls block. Safe to be called by several threads at once; see `Store` for what each does.

    All methods raise `StoreError` when the store does not answer, within a time of their own, or cannot be used, with
    what to do about it; `read` where the entry is corrupt, `changes` where the mark is another store's.
    `list` raises `ValueError` where `query.after` is not the `next` of a page.
    """

    @property
    def address(self) -> str:
        """The URL of the store, the same in every process; without secrets."""

    @property
    def corrupt(self) -> CorruptEntries:
        """What was passed over."""

    def open(self) -> None:
        """Makes sure that the store is there and can be used."""

    def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        """Makes the writes, with an outcome for each."""

    def read(self, session_id: str) -> Stored | None:
        """The newest entry of a session, with its events."""

    def list(self, query: Query) -> Page:
        """The newest entries of the sessions that `query` names."""

    def changes(self, mark: str | None, seen: Mapping[str, Seen | None], pause: Pause) -> Changes:
        """Waits for news by calling `pause`; once that returns False, it returns what there is."""

    def close(self) -> None:
        """Lets go of everything; later calls raise `StoreError`."""


class ThreadedStore:
    """A `Store` over a `Backend`."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._writer = trio.CapacityLimiter(1)
        self._readers = trio.CapacityLimiter(READERS)
        self._watchers = trio.CapacityLimiter(WATCHERS)

    @property
    def address(self) -> str:
        """The URL of the store, the same in every process; without secrets."""
        return self._backend.address

    @property
    def unreadable(self) -> int:
        """How many corrupt entries were passed over, each time that one was come across."""
        return self._backend.corrupt.count

    async def open(self) -> None:
        """Makes sure that the store is there and can be used; otherwise the first call does.

        Cancelled, it returns when the store has answered or its timeout has passed.

        Raises:
            StoreError: It cannot be used; the message says why.
        """
        await trio.to_thread.run_sync(self._backend.open, limiter=self._writer)

    async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        """Makes the writes. Cancelled meanwhile, it still waits until the store has answered."""
        return await trio.to_thread.run_sync(self._backend.commit, batch, limiter=self._writer)

    async def read(self, session_id: str) -> Stored | None:
        """The newest entry of a session, with its events. May be cancelled."""
        return await trio.to_thread.run_sync(
            self._backend.read, session_id, limiter=self._readers, abandon_on_cancel=True
        )

    async def list(self, query: Query) -> Page:
        """The newest entries of the sessions that `query` names. May be cancelled."""
        return await trio.to_thread.run_sync(self._backend.list, query, limiter=self._readers, abandon_on_cancel=True)

    async def changes(self, mark: str | None, seen: Mapping[str, Seen | None]) -> Changes:
        """Waits for news in a thread of its own, which ends when this is cancelled."""
        left = threading.Event()
        try:
            return await trio.to_thread.run_sync(
                self._backend.changes,
                mark,
                seen,
                lambda seconds: not left.wait(seconds),
                limiter=self._watchers,
                abandon_on_cancel=True,
            )
        finally:
            left.set()

    async def aclose(self) -> None:
        """Closes the store. Waits for what writes, and shortly for what reads; called last."""
        await trio.to_thread.run_sync(self._backend.close, limiter=self._writer)
