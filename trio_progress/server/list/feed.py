"""The board: which sessions have changed, found out once for all who are told the list.

If each of them followed every session by itself, fifty sessions that move ten times a second would wake a hundred open
pages fifty thousand times a second. So one task follows them, as long as anybody is told the list, and notes the newest
head of each that changed under a number; whoever is told remembers the number up to which he was, and is given what is
written once for all who may see the same.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, final

import trio

from ...errors import ProgressError, StoreError
from ...protocol.messages import Listed, Unlisted, Verb
from ...protocol.snapshot import Head, Snapshot, headed
from ...stores.paging import InTurns
from ...tracker import ProgressTracker
from ..auth.grants import Grant
from ..encoder import Encoder

logger = logging.getLogger("trio_progress")

AT_ONCE: Final = 10_000
"""Changes that are noted before those are told who wait for any."""

SLOWEST: Final = 0.25
"""Seconds between two rounds, at most: whoever wants to be told more seldom waits by himself, and holds up nobody."""

PIECE: Final = 16 * 1024
"""Bytes that are handed to a connection at once, or a line more."""

NOT_FOLLOWED: Final = "the sessions cannot be followed"

LABELS: Final = 20_000
"""Sessions whose labels are remembered, to see that a later run has others."""


@final
class Line:
    """The head of one session after one change. It does not change itself."""

    __slots__ = ("_told", "head", "number", "was")

    def __init__(self, head: Head, number: int = 0, was: Mapping[str, str] | None = None) -> None:
        self.head = head
        self.number = number
        self.was = was
        """The labels that the session had before, where they were others."""
        self._told: dict[tuple[Encoder, tuple[Verb, ...]], bytes] = {}

    def told(self, encode: Encoder, verbs: tuple[Verb, ...]) -> bytes:
        """What all are told of it who may do the same with it, made once."""
        data = self._told.get((encode, verbs))
        if data is None:
            message = Listed(session=self.head.id, head=self.head, verbs=verbs)
            data = self._told[encode, verbs] = encode.once(message)
        return data


@final
@dataclass(frozen=True, slots=True)
class Sight:
    """What somebody may see of the list and wants to, and how it is written: who has the same is told the same bytes.

    Args:
        grant: What may be seen; bare, so that it is the same for many.
        labels: Only sessions that have all of these.
        encode: How it is written.
    """

    grant: Grant
    labels: tuple[tuple[str, str], ...]
    encode: Encoder

    def sees(self, session_id: str, labels: Mapping[str, str]) -> bool:
        """Whether a session with these labels is among what is seen."""
        wanted = all(labels.get(name) == value for name, value in self.labels)
        return wanted and self.grant.allows("read", session_id, labels)

    def told(self, lines: Sequence[Line], start: int) -> tuple[bytes, int]:
        """A piece of what is told of these changes from `start` on, and where the next one begins."""
        parts: list[bytes] = []
        size = 0
        while start < len(lines) and size < PIECE:
            parts.append(self._of(lines[start]))
            size += len(parts[-1])
            start += 1
        return b"".join(parts), start

    def _of(self, line: Line) -> bytes:
        """What is told of one change: of a session whose new labels hide it, that it is gone."""
        head = line.head
        if self.sees(head.id, head.labels):
            return line.told(self.encode, self.grant.verbs_on(head.id, head.labels))
        if line.was is not None and self.sees(head.id, line.was):
            return self.encode.once(Unlisted(session=head.id))
        return b""


@final
class Board:
    """The changes since somebody began to read; each session's newest only, and none that all have read."""

    def __init__(self) -> None:
        self.scope: Final = trio.CancelScope()
        self.opened: Final = trio.Event()
        """Set once what changes from now on is noted; or `over`."""
        self.news = trio.Event()
        """Set when something was noted; another one takes its place."""
        self.over = False
        """Whether nothing more will be noted."""
        self.failed = False
        """Whether that is because the store did not answer."""
        self.number = 0
        """That of the newest change."""
        self.readers: dict[Reader, None] = {}
        self._lines: dict[str, Line] = {}
        """By id, the oldest change first."""
        self._labels: dict[str, Mapping[str, str]] = {}
        self._order: list[Line] = []
        """The same in their order, as far as it is known."""
        self._told: dict[tuple[int, Sight], tuple[bytes, int]] = {}
        """What those are told now who have read up to a number, and up to which they have read then."""

    @property
    def pause(self) -> float:
        """Seconds between two rounds: those of the reader in the greatest hurry."""
        return min(SLOWEST, *(reader.pause for reader in self.readers)) if self.readers else SLOWEST

    @property
    def _read(self) -> int:
        """Up to which number all have read."""
        return min((reader.at for reader in self.readers), default=self.number)

    def know(self, head: Head) -> Mapping[str, str] | None:
        """Somebody is told of a session; returns the labels that it had when somebody was told of it before."""
        known = self._labels.pop(head.id, None)
        self._labels[head.id] = head.labels
        if len(self._labels) > LABELS:
            del self._labels[next(iter(self._labels))]
        return known

    def put(self, snapshot: Snapshot) -> None:
        """A session has changed."""
        head = headed(snapshot)
        known = self.know(head)
        earlier = self._lines.pop(head.id, None)
        was = known if known is not None and known != head.labels else None
        if was is None and earlier is not None and earlier.was is not None and earlier.number > self._read:
            was = earlier.was
        self.number += 1
        self._lines[head.id] = Line(head, self.number, was)
        self._changed()

    def show(self) -> None:
        """Those who wait are woken; what all have read is taken off."""
        read = self._read
        for line in list(self._lines.values()):
            if line.number > read:
                break
            del self._lines[line.head.id]
        self.news.set()
        self.news = trio.Event()

    def forget(self, session_id: str) -> None:
        """The session was deleted: nobody is to be told of it any more."""
        self._lines.pop(session_id, None)
        self._labels.pop(session_id, None)
        self._changed()

    def _changed(self) -> None:
        self._order = []
        self._told.clear()

    def since(self, number: int, sight: Sight) -> tuple[bytes, int]:
        """A piece of what is told of what has changed after this number, the oldest change first; and up to which."""
        told = self._told.get((number, sight))
        if told is None:
            self._order = self._order or list(self._lines.values())
            first = bisect_right(self._order, number, key=lambda line: line.number)
            data, after = sight.told(self._order, first)
            read = self._order[after - 1].number if after < len(self._order) else self.number
            told = self._told[number, sight] = (data, read)
        return told


@final
class Reader:
    """How far one who is told the list has read.

    Args:
        sight: What is told.
        pause: Seconds between two rounds, at least.
    """

    __slots__ = ("_board", "_sight", "_told", "at", "pause")

    def __init__(self, board: Board, sight: Sight, pause: float) -> None:
        self._board = board
        self._sight = sight
        self._told = False
        """Whether it was told something since its last pause."""
        self.pause = pause
        self.at = board.number

    async def next(self) -> bytes | None:
        """A piece of what there is to tell since the last one, once anything has changed; None when nothing more will.

        Who reads slowly finds the newest of what has changed since, and has no more kept for him than a piece.

        Raises:
            StoreError: The sessions cannot be followed any more.
        """
        board = self._board
        await trio.lowlevel.checkpoint()
        while True:
            if board.number == self.at and self._told:
                self._told = False
                await trio.sleep(self.pause if self.pause > board.pause else 0.0)  # Else the board's pace is its own.
            while board.number == self.at:
                if board.failed:
                    raise StoreError(NOT_FOLLOWED)
                if board.over:
                    return None
                await board.news.wait()
            self._told = True
            data, self.at = board.since(self.at, self._sight)
            if data:
                return data

    def listed(self, heads: Iterable[Head]) -> Iterator[bytes]:
        """What is told of sessions that the store had when reading began, piece by piece."""
        lines = [Line(headed(head)) for head in heads]
        for line in lines:
            self._board.know(line.head)
        start = 0
        while start < len(lines):
            data, start = self._sight.told(lines, start)
            if data:
                yield data


@final
class ListFeed:
    """Keeps a board while there is anybody to read it.

    Args:
        tracker: Whose sessions.
    """

    def __init__(self, tracker: ProgressTracker) -> None:
        self._tracker = tracker
        self._board: Board | None = None
        self._wanted = trio.Event()

    @asynccontextmanager
    async def reading(self, sight: Sight, pause: float) -> AsyncIterator[Reader]:
        """Lets read what changes from now on, as long as the block lasts.

        Raises:
            StoreError: The store did not answer.
        """
        board = self._board
        if board is None or board.over:
            board = self._board = Board()
            self._wanted.set()
        reader = Reader(board, sight, pause)
        board.readers[reader] = None
        try:
            await board.opened.wait()
            if board.failed:
                raise StoreError(NOT_FOLLOWED)
            reader.at = board.number
            yield reader
        finally:
            del board.readers[reader]
            if not board.readers:
                board.over = True
                board.scope.cancel(reason="nobody reads it any more")

    def forget(self, session_id: str) -> None:
        """The session was deleted."""
        if self._board is not None:
            self._board.forget(session_id)

    async def run(self) -> None:
        """Keeps it, until cancelled."""
        while True:
            board = self._board
            if board is None or board.over:
                self._wanted = trio.Event()
                await self._wanted.wait()
                continue
            try:
                with board.scope:
                    await self._follow(board)
            except ProgressError:
                board.failed = True
            except Exception:
                board.failed = True
                logger.exception("the list of sessions cannot be followed")
            finally:
                board.over = True
                board.opened.set()
                board.show()

    async def _follow(self, board: Board) -> None:
        async with self._tracker.watch_all() as snapshots:
            board.opened.set()
            async for snapshot in snapshots:
                board.put(snapshot)
                async for _ in InTurns(range(AT_ONCE)):
                    try:
                        board.put(snapshots.take_nowait())
                    except (trio.WouldBlock, trio.EndOfChannel):
                        break
                board.show()
                await trio.sleep(board.pause)
