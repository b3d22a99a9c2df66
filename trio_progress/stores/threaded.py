"""From a store whose calls block to the `Store` of a tracker: every call is made in a worker thread.

A thread cannot be cancelled. What writes is therefore waited for, and must come back by its own timeout;
what reads is left to end by itself, and its answer is dropped. Threads that were left still count against
the limits here, so a store that hangs holds a handful of them, not one for each try.

What a kind of store needs is imported when one is made.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol, final

import trio

if TYPE_CHECKING:
    import redis

    from ..state.history import PipelineHistory
    from .base import Changes, Outcome, Page, Pause, Query, Seen, Stored, Write
    from .decoding import CorruptEntries

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

    def history(self, pipeline: str) -> PipelineHistory | None:
        """What earlier runs of a pipeline have taught."""

    def histories(self) -> Sequence[str]:
        """The pipelines of which there is a history."""

    def close(self) -> None:
        """Lets go of everything; later calls raise `StoreError`."""


class ThreadedStore:
    """A `Store` over a `Backend`."""

    gathers: Final = True
    """A commit costs a thread's turn, however many writes are in it."""

    def __init__(self, backend: Backend) -> None:
        self.backend: Final = backend
        """The same store for code that may block, as `blocking.Client` does."""
        self._writer = trio.CapacityLimiter(1)
        self._readers = trio.CapacityLimiter(READERS)
        self._watchers = trio.CapacityLimiter(WATCHERS)

    @property
    def address(self) -> str:
        """The URL of the store, the same in every process; without secrets."""
        return self.backend.address

    @property
    def hands_out(self) -> bool:
        """Whether sessions that wait can be taken from it."""
        return getattr(self.backend, "hands_out", False) is True

    @property
    def unreadable(self) -> int:
        """How many corrupt entries were passed over, each time that one was come across."""
        return self.backend.corrupt.count

    async def open(self) -> None:
        """Makes sure that the store is there and can be used; otherwise the first call does.

        Cancelled, it returns when the store has answered or its timeout has passed.

        Raises:
            StoreError: It cannot be used; the message says why.
        """
        await trio.to_thread.run_sync(self.backend.open, limiter=self._writer)

    async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        """Makes the writes. Cancelled meanwhile, it still waits until the store has answered."""
        return await trio.to_thread.run_sync(self.backend.commit, batch, limiter=self._writer)

    async def read(self, session_id: str) -> Stored | None:
        """The newest entry of a session, with its events. May be cancelled."""
        return await trio.to_thread.run_sync(
            self.backend.read, session_id, limiter=self._readers, abandon_on_cancel=True
        )

    async def list(self, query: Query) -> Page:
        """The newest entries of the sessions that `query` names. May be cancelled."""
        return await trio.to_thread.run_sync(self.backend.list, query, limiter=self._readers, abandon_on_cancel=True)

    async def changes(self, mark: str | None, seen: Mapping[str, Seen | None]) -> Changes:
        """Waits for news in a thread of its own, which ends when this is cancelled."""
        left = threading.Event()
        try:
            return await trio.to_thread.run_sync(
                self.backend.changes,
                mark,
                seen,
                lambda seconds: not left.wait(seconds),
                limiter=self._watchers,
                abandon_on_cancel=True,
            )
        finally:
            left.set()

    async def history(self, pipeline: str) -> PipelineHistory | None:
        """What earlier runs of a pipeline have taught; what cannot be read is nothing. May be cancelled."""
        return await trio.to_thread.run_sync(
            self.backend.history, pipeline, limiter=self._readers, abandon_on_cancel=True
        )

    async def histories(self) -> Sequence[str]:
        """The pipelines of which there is a history, the one that ran last first. May be cancelled."""
        return await trio.to_thread.run_sync(self.backend.histories, limiter=self._readers, abandon_on_cancel=True)

    async def aclose(self) -> None:
        """Closes the store. Waits for what writes, and shortly for what reads; called last."""
        await trio.to_thread.run_sync(self.backend.close, limiter=self._writer)


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
        from .sqlite.backend import SqliteBackend

        self.sqlite: Final = SqliteBackend(path, event_limit=event_limit, busy_timeout=busy_timeout)
        super().__init__(self.sqlite)

    async def open(self) -> None:
        """Makes the file if need be, and sees that it can be written; otherwise the first call does.

        Cancelled, it returns when that is known, at the latest after `busy_timeout`.

        Raises:
            StoreError: It cannot be used; the message says why.
        """
        await trio.to_thread.run_sync(self.sqlite.open_to_write, limiter=self._writer)


@final
class RedisStore(ThreadedStore):
    """Sessions in Redis, for the trackers of all processes that open it.

    Blocking is done in threads of its own limits: one that writes, and some that read. It is opened by the first
    call, or by `open()`, and closed by `aclose()`, which leaves a client that was given as it is.

    Args:
        store: A URL such as `redis://HOST:6379/0`, `rediss://USER:PASSWORD@HOST:6380/0?prefix=tp`,
            `redis-sentinel://HOST:26379,HOST:26379/0?service=mymaster` or `redis-cluster://HOST:6379,HOST:6379/`, or a
            client that says how to connect: `redis.Redis`, also one of redis-py's `Sentinel.master_for()`, or
            `redis.RedisCluster`.
        prefix: What all keys begin with, 1 to 64 of `A-Z a-z 0-9 . _ : -`; the one of the URL, or `tp`, where it is
            None.
        event_limit: Events kept for each session, at least 1; the oldest go first.
        timeout: Seconds without an answer after which a call gives up, above 0; at most half of the tracker's
            `flush_timeout`, for a call has twice that in all, with a look-up by Sentinel.
        wait_replicas: Replicas that must have a claim or a state before it counts as stored, at least 0; that of the
            URL, or 0, where it is None. Where they lag, it is tried again as if the store had not answered.
        partitions: How many parts a store in a Cluster has, 1 to 128; None: as many as it has, or those of the URL, or
            16. Agreed in the store by whoever opens it first, and never changed.

    Raises:
        ValueError, TypeError: A value is out of range.
    """

    def __init__(
        self,
        store: str | redis.Redis | redis.RedisCluster,
        *,
        prefix: str | None = None,
        event_limit: int = 1000,
        timeout: float = 1.0,
        wait_replicas: int | None = None,
        partitions: int | None = None,
    ) -> None:
        from .redis.backend import RedisBackend

        self.redis: Final = RedisBackend(
            store,
            prefix=prefix,
            event_limit=event_limit,
            timeout=timeout,
            wait_replicas=wait_replicas,
            partitions=partitions,
        )
        super().__init__(self.redis)

    @property
    def unreplicated(self) -> int:
        """How many writes too few replicas had in time (`wait_replicas`); each counts as failed, and is tried again."""
        return self.redis.unreplicated

    @property
    def partitions_down(self) -> Sequence[int]:
        """The numbers of the parts of a store in a Cluster whose node did not answer the last time; else none."""
        return self.redis.partitions_down

    @property
    def looked_at(self) -> float:
        """When it was last known, by `time.monotonic()`, what news there was; long ago where nobody waits for any."""
        return self.redis.looked_at
