"""What the store in memory lists its sessions by, and when each is to be looked at again; see `stores.places`."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush, merge
from itertools import product
from typing import Final, TypeAlias, final

Entry: TypeAlias = tuple[float, str]
"""When a session was queued, and its id: lists are sorted by it."""

SPARE: Final = 1000
"""Times out of date that are kept, beside as many as there are sessions."""


@final
class PlaceIndex:
    """For each dimension and place the sessions that stand there, the newest last."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], list[Entry]] = {}
        self._stands: dict[str, tuple[Entry, str, Sequence[str]]] = {}

    def put(self, session_id: str, queued_at: float, place: str, dimensions: Sequence[str]) -> None:
        """The session stands there from now on, and nowhere else."""
        entry = (queued_at, session_id)
        stands = (entry, place, dimensions)
        known = self._stands.get(session_id)
        if known == stands:
            return
        if known is not None:
            self._remove(*known)
        self._stands[session_id] = stands
        for dimension in ("", *dimensions):
            there = self._entries.setdefault((dimension, place), [])
            if not there or there[-1] < entry:
                there.append(entry)
            else:
                insort(there, entry)

    def drop(self, session_id: str) -> None:
        """The session is gone."""
        known = self._stands.pop(session_id, None)
        if known is not None:
            self._remove(*known)

    def _remove(self, entry: Entry, place: str, dimensions: Sequence[str]) -> None:
        for dimension in ("", *dimensions):
            there = self._entries[dimension, place]
            del there[bisect_left(there, entry)]
            if not there:
                del self._entries[dimension, place]

    def rarest(self, dimensions: Sequence[str], places: Iterable[str]) -> str:
        """The dimension with the fewest sessions in these places; without any, the one that has all."""
        return min(dimensions, key=lambda dimension: self.size([dimension], places), default="")

    def size(self, dimensions: Iterable[str], places: Iterable[str]) -> int:
        """How many sessions of these dimensions stand in these places."""
        return sum(len(self._entries.get(each, ())) for each in product(dimensions, places))

    def oldest_first(self, dimensions: Iterable[str], places: Iterable[str]) -> Iterator[Entry]:
        """The sessions of these dimensions that stand in these places; read before anything changes."""
        return merge(*(there for each in product(dimensions, places) if (there := self._entries.get(each))))

    def newest_first(self, dimension: str, places: Iterable[str], before: Entry | None) -> Iterator[Entry]:
        """The sessions of a dimension that stand in these places, behind an entry; read before anything changes."""
        return merge(*(_downwards(self._entries.get((dimension, place), ()), before) for place in places), reverse=True)


def _downwards(entries: Sequence[Entry], before: Entry | None) -> Iterator[Entry]:
    end = len(entries) if before is None else bisect_left(entries, before)
    return (entries[place] for place in range(end - 1, -1, -1))


@final
class DueTimes:
    """When each session is to be looked at again. A time that is out of date is passed over."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []

    def set(self, session_id: str, at: float) -> None:
        """The session is to be looked at then, and not before."""
        if self._due.get(session_id) != at:
            self._due[session_id] = at
            heappush(self._heap, (at, session_id))
            if len(self._heap) > 2 * len(self._due) + SPARE:
                self._heap = [(at, session_id) for session_id, at in self._due.items()]
                heapify(self._heap)

    def at(self, session_id: str) -> float:
        """When the session is to be looked at again."""
        return self._due[session_id]

    def drop(self, session_id: str) -> None:
        """The session is gone."""
        self._due.pop(session_id, None)

    def take(self, now: float) -> list[str]:
        """The sessions that are due, of which each is to be given another time."""
        taken: list[str] = []
        while self._heap and self._heap[0][0] <= now:
            at, session_id = heappop(self._heap)
            if self._due.get(session_id) == at:
                del self._due[session_id]
                taken.append(session_id)
        return taken
