"""Which sessions have changed, found out once for all who are sent the list.

If each of them followed every session by itself, fifty sessions that move ten times a second would wake a hundred open
pages fifty thousand times a second. So one task follows them, as long as anybody is sent the list, and logs the newest
head of each that changed under a number; each subscriber keeps the number up to which it was sent them, and those who
may see the same are sent the same bytes.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

import trio

from ...errors import ProgressError, StoreError
from ...protocol.labels import has_labels
from ...protocol.messages import Listed, Unlisted, Verb
from ...protocol.snapshot import Head, Snapshot, headed
from ...stores.paging import InTurns

if TYPE_CHECKING:
    from ...tracker import ProgressTracker
    from ..auth.grants import Grant
    from ..encoder import Encoder

logger = logging.getLogger("trio_progress")

AT_ONCE: Final = 10_000
"""Changes that are logged before those are woken who wait for any."""

SLOWEST: Final = 0.25
"""Seconds between two rounds, at most: whoever wants fewer waits by itself, and holds up nobody."""

PIECE: Final = 16 * 1024
"""Bytes that are handed to a connection at once, or a change more."""

NOT_FOLLOWED: Final = "the sessions cannot be followed"

LABELS: Final = 20_000
"""Sessions whose labels are remembered, to see that a later run has others."""


@final
@dataclass(slots=True, eq=False)
class Change:
    """The head of one session after one change. It does not change itself."""

    head: Head
    number: int = 0
    labels_before: Mapping[str, str] | None = None
    """The labels that the session had before, where they were others."""
    _encoded: dict[tuple[Encoder, tuple[Verb, ...]], bytes] = field(default_factory=dict, init=False)

    def encoded(self, encode: Encoder, verbs: tuple[Verb, ...]) -> bytes:
        """The message that all are sent who may do the same with the session, made once."""
        data = self._encoded.get((encode, verbs))
        if data is None:
            message = Listed(session=self.head.id, head=self.head, verbs=verbs)
            data = self._encoded[encode, verbs] = encode.once(message)
        return data


@final
@dataclass(frozen=True, slots=True)
class ListView:
    """The part of the list that somebody may see and asked for, and how it is encoded; equal ones get the same bytes.

    Args:
        grant: What may be seen; bare, so that it is the same for many.
        labels: Only sessions that have all of these.
        encode: How it is encoded.
    """

    grant: Grant
    labels: tuple[tuple[str, str], ...]
    encode: Encoder

    def shows(self, session_id: str, labels: Mapping[str, str]) -> bool:
        """Whether a session with these labels is part of it."""
        return has_labels(labels, dict(self.labels)) and self.grant.allows("read", session_id, labels)

    def piece(self, changes: Sequence[Change], start: int) -> tuple[bytes, int]:
        """A piece of these changes, encoded, from `start` on, and where the next one begins."""
        parts: list[bytes] = []
        size = 0
        while start < len(changes) and size < PIECE:
            parts.append(self._encoded(changes[start]))
            size += len(parts[-1])
            start += 1
        return b"".join(parts), start

    def _encoded(self, change: Change) -> bytes:
        """One change, encoded; a session that new labels hide is gone, as far as this view shows."""
        head, before = change.head, change.labels_before
        if self.shows(head.id, head.labels):
            return change.encoded(self.encode, self.grant.verbs_on(head.id, head.labels))
        if before is not None and self.shows(head.id, before):
            return self.encode.once(Unlisted(session=head.id))
        return b""


@final
class ChangeLog:
    """The changes since somebody began to read; each session's newest only, and none that all have read."""

    def __init__(self) -> None:
        self.scope: Final = trio.CancelScope()
        self.opened: Final = trio.Event()
        """Set once what changes from now on is logged; or `closed`."""
        self.published = trio.Event()
        """Set when something was logged; another one takes its place."""
        self.closed = False
        """Whether nothing more will be logged."""
        self.failed = False
        """Whether that is because the store did not answer."""
        self.newest = 0
        """The number of the newest change."""
        self.cursors: dict[ListCursor, None] = {}
        self._changes: dict[str, Change] = {}
        """By id, the oldest change first."""
        self._labels: dict[str, Mapping[str, str]] = {}
        self._in_order: list[Change] = []
        """The same in their order, as far as it is known."""
        self._pieces: dict[tuple[int, ListView], tuple[bytes, int]] = {}
        """What those are sent next who have read up to a number, and up to which they have read then."""

    @property
    def interval(self) -> float:
        """Seconds between two rounds: those of the subscriber in the greatest hurry."""
        return min(SLOWEST, *(cursor.interval for cursor in self.cursors)) if self.cursors else SLOWEST

    @property
    def _read(self) -> int:
        """Up to which number all have read."""
        return min((cursor.number for cursor in self.cursors), default=self.newest)

    def remember_labels(self, head: Head) -> Mapping[str, str] | None:
        """Somebody is sent a session; returns the labels that it had when somebody was sent it before."""
        known = self._labels.pop(head.id, None)
        self._labels[head.id] = head.labels
        if len(self._labels) > LABELS:
            del self._labels[next(iter(self._labels))]
        return known

    def append(self, snapshot: Snapshot) -> None:
        """A session has changed."""
        head = headed(snapshot)
        known = self.remember_labels(head)
        earlier = self._changes.pop(head.id, None)
        before = known if known is not None and known != head.labels else None
        if before is None and earlier is not None and earlier.number > self._read:
            before = earlier.labels_before
        self.newest += 1
        self._changes[head.id] = Change(head, self.newest, before)
        self._invalidate()

    def publish(self) -> None:
        """Wakes those who wait, and drops what all have read."""
        read = self._read
        for change in list(self._changes.values()):
            if change.number > read:
                break
            del self._changes[change.head.id]
        self.published.set()
        self.published = trio.Event()

    def forget(self, session_id: str) -> None:
        """The session was deleted: nobody is to be sent it any more."""
        self._changes.pop(session_id, None)
        self._labels.pop(session_id, None)
        self._invalidate()

    def _invalidate(self) -> None:
        self._in_order = []
        self._pieces.clear()

    def since(self, number: int, view: ListView) -> tuple[bytes, int]:
        """A piece of what has changed after this number, encoded, the oldest change first; and up to which number."""
        piece = self._pieces.get((number, view))
        if piece is None:
            self._in_order = self._in_order or list(self._changes.values())
            first = bisect_right(self._in_order, number, key=lambda change: change.number)
            data, after = view.piece(self._in_order, first)
            read = self._in_order[after - 1].number if after < len(self._in_order) else self.newest
            piece = self._pieces[number, view] = (data, read)
        return piece


@final
class ListCursor:
    """How far one subscriber of the list has read.

    Args:
        log: What it reads.
        view: What it is sent of it.
        interval: Seconds between two rounds, at least.
    """

    __slots__ = ("_log", "_sent", "_view", "interval", "number")

    def __init__(self, log: ChangeLog, view: ListView, interval: float) -> None:
        self._log = log
        self._view = view
        self._sent = False
        """Whether it was sent something since its last pause."""
        self.interval = interval
        self.number = log.newest
        """That of the newest change that it has read."""

    async def next(self) -> bytes | None:
        """A piece of what has changed since the last one, once anything has; None when nothing more will.

        Who reads slowly finds the newest of what has changed since, and has no more kept for it than a piece.

        Raises:
            StoreError: The sessions cannot be followed any more.
        """
        log = self._log
        await trio.lowlevel.checkpoint()
        while True:
            if log.newest == self.number and self._sent:
                self._sent = False
                await trio.sleep(self.interval if self.interval > log.interval else 0.0)  # Else the log's is its own.
            while log.newest == self.number:
                if log.failed:
                    raise StoreError(NOT_FOLLOWED)
                if log.closed:
                    return None
                await log.published.wait()
            self._sent = True
            data, self.number = log.since(self.number, self._view)
            if data:
                return data

    def initial(self, heads: Iterable[Head]) -> Iterator[bytes]:
        """The sessions that the store had when reading began, encoded, piece by piece."""
        changes = [Change(headed(head)) for head in heads]
        for change in changes:
            self._log.remember_labels(change.head)
        start = 0
        while start < len(changes):
            data, start = self._view.piece(changes, start)
            if data:
                yield data


@final
class ListFeed:
    """Follows all sessions of a tracker, and keeps their log, while there is anybody to read it.

    Args:
        tracker: Whose sessions.
    """

    def __init__(self, tracker: ProgressTracker) -> None:
        self._tracker = tracker
        self._log: ChangeLog | None = None
        self._wanted = trio.Event()

    @asynccontextmanager
    async def subscribe(self, view: ListView, interval: float) -> AsyncIterator[ListCursor]:
        """Lets read what changes from now on, as long as the block lasts.

        Raises:
            StoreError: The store did not answer.
        """
        log = self._log
        if log is None or log.closed:
            log = self._log = ChangeLog()
            self._wanted.set()
        cursor = ListCursor(log, view, interval)
        log.cursors[cursor] = None
        try:
            await log.opened.wait()
            if log.failed:
                raise StoreError(NOT_FOLLOWED)
            cursor.number = log.newest
            yield cursor
        finally:
            del log.cursors[cursor]
            if not log.cursors:
                log.closed = True
                log.scope.cancel(reason="nobody reads it any more")

    def forget(self, session_id: str) -> None:
        """The session was deleted."""
        if self._log is not None:
            self._log.forget(session_id)

    async def run(self) -> None:
        """Follows the sessions whenever there is anybody to read of them, until cancelled."""
        while True:
            log = self._log
            if log is None or log.closed:
                self._wanted = trio.Event()
                await self._wanted.wait()
                continue
            try:
                with log.scope:
                    await self._follow(log)
            except ProgressError:
                log.failed = True
            except Exception:
                log.failed = True
                logger.exception("the list of sessions cannot be followed")
            finally:
                log.closed = True
                log.opened.set()
                log.publish()

    async def _follow(self, log: ChangeLog) -> None:
        async with self._tracker.watch_all() as snapshots:
            log.opened.set()
            async for snapshot in snapshots:
                log.append(snapshot)
                async for _ in InTurns(range(AT_ONCE)):
                    try:
                        log.append(snapshots.take_nowait())
                    except (trio.WouldBlock, trio.EndOfChannel):
                        break
                log.publish()
                await trio.sleep(log.interval)
