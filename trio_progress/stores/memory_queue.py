"""How the store in memory hands out the sessions that wait; see `stores.taking`.

Who is rung no longer stands among those that wait, and it is kept for which session it was rung.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, final

from .base import Index, Key
from .buckets import begun, bucket_of, buckets_of, labels_of, pipelines_of
from .memory_index import Entry, PlaceIndex
from .places import dimensions
from .taking import LOOKED_FOR, RUNG_FOR, SPENT_SHOWN, Release, Take, Taken, Wanted, choose


class _Stands(NamedTuple):
    """Where a session stands that can be taken, or is reserved."""

    queued_at: float
    bucket: str
    pipeline: str | None
    labels: Mapping[str, str]

    def is_wanted(self, wanted: Wanted) -> bool:
        return self.bucket in buckets_of(wanted) and wanted.fits(self.pipeline, self.labels)


class _Waiting(NamedTuple):
    """What a process waits for, and until when it is reckoned with."""

    wanted: Sequence[Wanted]
    until: float


class _Rung(NamedTuple):
    """For which session a process was rung, and until when that is kept."""

    session_id: str
    until: float


@final
class MemoryQueue:
    """Which sessions can be taken, who has reserved some, and who waits.

    Args:
        ring: Called with the name of a process that is to take.
    """

    def __init__(self, ring: Callable[[str], None]) -> None:
        self._ring_process = ring
        self._takeable = PlaceIndex()
        self._stands: dict[str, _Stands] = {}
        self._reserved: dict[str, tuple[str, float]] = {}
        """By session: the process, and until when."""
        self._waiting: dict[str, _Waiting] = {}
        """By process, the one that has waited longest first."""
        self._rung: dict[str, _Rung] = {}
        """By process, of those that have not looked since; the one that was rung first stands first."""

    def settle(self, session_id: str, place: str, attempts: int, index: Index, now: float) -> float:
        """Makes what is kept of a session equal to where it stands; when time alone changes that, or infinity."""
        bucket = bucket_of(place, attempts)
        if bucket is None:
            self._unlist(session_id)  # A reservation stands also where an owner that had lapsed has come back.
            return float("inf")
        reserved = self._reserved.get(session_id)
        if reserved is not None and reserved[1] <= now:
            del self._reserved[session_id]
        stands = _Stands(index.queued_at, bucket, index.pipeline, index.labels)
        if self._stands.get(session_id) != stands:
            self._stands[session_id] = stands
            self._takeable.put(session_id, index.queued_at, bucket, dimensions(index.pipeline, index.labels))
        elif reserved is None:
            return float("inf")
        if session_id in self._reserved:
            return self._reserved[session_id][1]
        self._ring(session_id, now)
        return float("inf")

    def drop(self, session_id: str) -> None:
        """The session is gone."""
        self._unlist(session_id)
        self._reserved.pop(session_id, None)

    def _unlist(self, session_id: str) -> None:
        if self._stands.pop(session_id, None) is not None:
            self._takeable.drop(session_id)

    def claimed(self, session_id: str) -> None:
        """Somebody has claimed the session, to own it or to write it off: it is not reserved any more."""
        if self._reserved.pop(session_id, None) is not None and session_id in self._stands:
            # Where it can be taken all the same, that is news.
            self._stands[session_id] = self._stands[session_id]._replace(bucket="")

    def _ring(self, session_id: str, now: float) -> None:
        stands = self._stands[session_id]
        for process, waiting in list(self._waiting.items()):
            if waiting.until <= now:
                del self._waiting[process]
            elif any(map(stands.is_wanted, waiting.wanted)):
                del self._waiting[process]
                self._forget_who_is_gone(now)
                self._rung[process] = _Rung(session_id, now + RUNG_FOR)
                self._ring_process(process)
                return

    def _forget_who_is_gone(self, now: float) -> None:
        while self._rung and self._rung[first := next(iter(self._rung))].until <= now:
            del self._rung[first]

    def _ring_next(self, process: str, short: Sequence[Wanted], now: float) -> None:
        """Rings the next for what a process was rung for and leaves, unless it has looked at such a one in vain."""
        rung = self._rung.pop(process, None)
        stands = None if rung is None else self._stands.get(rung.session_id)
        if rung is None or stands is None or rung.session_id in self._reserved:
            return
        if not any(map(stands.is_wanted, short)):
            self._ring(rung.session_id, now)

    def take(self, take: Take, key: Callable[[str], Key], now: float) -> Taken:
        """Chooses and reserves, or enters the process as waiting.

        Args:
            take: What is asked for.
            key: Gives the newest key of a session.
            now: Seconds.
        """

        def takeable(wanted: Wanted) -> Iterator[tuple[str, Key]]:
            for session_id in self._oldest(wanted, buckets_of(wanted), LOOKED_FOR):
                if session_id not in self._reserved and session_id not in take.without:
                    yield session_id, key(session_id)

        def spent(wanted: Wanted) -> Iterator[str]:
            return self._oldest(wanted, [begun(wanted.max_attempts)], SPENT_SHOWN)

        def reserve(session_id: str) -> None:
            self._reserved[session_id] = (take.id, now + take.reserve)

        taken, short = choose(take, takeable, spent, reserve)
        known = self._waiting.get(take.id)
        if not short or (known is not None and known.until <= now):
            self._waiting.pop(take.id, None)
        if short:
            self._waiting[take.id] = _Waiting(short, now + take.heard)  # Where it stood, if it waits already.
        self._ring_next(take.id, short, now)
        return taken

    def _oldest(self, wanted: Wanted, buckets: Sequence[str], most: int) -> Iterator[str]:
        of_labels = labels_of(wanted)
        rarest = self._takeable.rarest(of_labels, buckets)
        goes_by = pipelines_of(wanted)
        if of_labels and self._takeable.size([rarest], buckets) < self._takeable.size(goes_by, buckets):
            goes_by = [rarest]
        entries: Iterator[Entry] = self._takeable.oldest_first(goes_by, buckets)
        for _, (_, session_id) in zip(range(most), entries, strict=False):
            stands = self._stands[session_id]
            if wanted.fits(stands.pipeline, stands.labels):
                yield session_id

    def release(self, release: Release, now: float) -> None:
        """Gives back what a process has reserved, and takes it off those that wait."""
        if release.leaves:
            self._waiting.pop(release.id, None)
            self._ring_next(release.id, (), now)
        for session_id in release.sessions:
            if self._reserved.get(session_id, ("", 0.0))[0] == release.id:
                del self._reserved[session_id]
                if session_id in self._stands:
                    self._ring(session_id, now)
