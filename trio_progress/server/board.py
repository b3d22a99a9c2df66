"""The board: which sessions have changed, found out once for all who are told the list.

If each of them followed every session by itself, fifty sessions that move ten times a second would wake a hundred open
pages fifty thousand times a second. So one task follows them, as long as anybody is told the list, and notes the newest
head of each that changed under a number; whoever is told remembers the number up to which he was, and is given what is
written once for all who may see the same.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, final

import trio

from ..errors import ProgressError, StoreError
from ..state.messages import Listed, Unlisted, Verb
from ..state.snapshot import Head, Snapshot
from ..stores.paging import InTurns
from ..tracker import ProgressTracker
from .encoder import Encoder
from .grants import Grant

logger = logging.getLogger("trio_progress")

AT_ONCE: Final = 10_000
"""Changes that are noted before those are told who wait for any."""

PIECE: Final = 16 * 1024
"""Bytes that are handed to a connection at once, or a line more."""

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

    def told(self, lines: Iterable[Line]) -> list[bytes]:
        """What is told of these changes, in pieces: of a session whose new labels hide it, that it is gone."""
        pieces: list[bytes] = []
        parts: list[bytes] = []
        size = 0
        for line in lines:
            head = line.head
            if self.sees(head.id, head.labels):
                data = line.told(self.encode, self.grant.verbs_on(head.id, head.labels))
            elif line.was is not None and self.sees(head.id, line.was):
                data = self.encode.once(Unlisted(session=head.id))
            else:
                continue
            parts.append(data)
            size += len(data)
            if size >= PIECE:
                pieces.append(b"".join(parts))
                parts.clear()
                size = 0
        if parts:
            pieces.append(b"".join(parts))
        return pieces


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
        self._told: dict[tuple[int, Sight], list[bytes]] = {}
        """What those are told now who have read up to a number."""

    @property
    def pause(self) -> float:
        """Seconds between two rounds: those of the reader in the greatest hurry."""
        return min((reader.pause for reader in self.readers), default=0.0)

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
        self._told.clear()
        self._lines[head.id] = Line(head, self.number, was)

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
        self._told.clear()
        self._lines.pop(session_id, None)
        self._labels.pop(session_id, None)

    def since(self, number: int, sight: Sight) -> list[bytes]:
        """What is told of all that has changed after this number, the oldest change first."""
        told = self._told.get((number, sight))
        if told is None:
            told = self._told[number, sight] = sight.told(self._since(number))
        return told

    def _since(self, number: int) -> list[Line]:
        found: list[Line] = []
        for line in reversed(self._lines.values()):
            if line.number <= number:
                break
            found.append(line)
        found.reverse()
        return found


@final
class Reader:
    """How far one who is told the list has read.

    Args:
        sight: What is told.
        pause: Seconds between two rounds, at least.
    """

    __slots__ = ("_board", "_sight", "at", "pause")

    def __init__(self, board: Board, sight: Sight, pause: float) -> None:
        self._board = board
        self._sight = sight
        self.pause = pause
        self.at = board.number

    async def next(self) -> list[bytes] | None:
        """What there is to tell since the last call, once anything has changed; None when nothing more will."""
        board = self._board
        await trio.lowlevel.checkpoint()
        while board.number == self.at:
            if board.over:
                return None
            await board.news.wait()
        told = board.since(self.at, self._sight)
        self.at = board.number
        return told

    def listed(self, heads: Iterable[Head]) -> list[bytes]:
        """What is told of sessions that the store had when reading began."""
        lines: list[Line] = []
        for head in map(headed, heads):
            self._board.know(head)
            lines.append(Line(head))
        return self._sight.told(lines)

    async def rest(self) -> None:
        """Waits until it may be told more, unless the board has the same pace."""
        await trio.sleep(self.pause if self.pause > self._board.pause else 0.0)


@final
class BoardKeeper:
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
                raise StoreError("the sessions cannot be followed")
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


def headed(state: Head) -> Head:
    """The state without its phases."""
    if type(state) is Head:
        return state
    return Head(**{name: getattr(state, name) for name in Head.__struct_fields__})
