"""The custom events of a session: an ordered log beside the state, bounded, with its losses told.

Events are numbered from 1 on. The log keeps the newest `limit`; who asks for what was dropped is told
how many are missing. No subscriber has a queue of its own: each has only the ordinal that it has come to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import msgspec


class LoggedEvent(msgspec.Struct, frozen=True):
    """One event as the log and the store keep it."""

    n: int
    seq: int
    name: str
    data: Any
    at: float


class EventLog:
    """The newest events, and how many there were in all."""

    __slots__ = ("_kept", "_limit", "newest")

    def __init__(self, limit: int, tail: Iterable[LoggedEvent] = ()) -> None:
        self._limit = limit
        tail = tuple(tail)
        # An empty deque takes three quarters of a kilobyte, and most sessions emit nothing.
        self._kept: deque[LoggedEvent] | tuple[()] = deque(tail, maxlen=limit) if tail else ()
        self.newest = self._kept[-1].n if self._kept else 0
        """The ordinal of the newest event ever logged."""

    def append(self, event: LoggedEvent) -> None:
        """Adds the next event; the oldest falls out of a full log."""
        if not isinstance(self._kept, deque):
            self._kept = deque(maxlen=self._limit)
        self._kept.append(event)
        self.newest = event.n

    @property
    def oldest(self) -> int:
        """The ordinal of the oldest event that is still here; one past `newest` in an empty log."""
        return self._kept[0].n if self._kept else self.newest + 1

    def first_after(self, n: int) -> LoggedEvent | None:
        """The oldest kept event above the ordinal `n`."""
        index = max(n + 1 - self.oldest, 0)
        return self._kept[index] if index < len(self._kept) else None

    def after(self, n: int) -> Iterator[LoggedEvent]:
        """The kept events above the ordinal `n`, oldest first."""
        return islice(self._kept, max(n + 1 - self.oldest, 0), None)

    def __len__(self) -> int:
        return len(self._kept)
