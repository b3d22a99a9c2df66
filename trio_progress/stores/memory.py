"""The store of one process: nothing outlives it, and nothing can be down."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

import trio

from ..protocol.labels import has_labels
from ..state.history import Lesson, PipelineHistory, forgotten, learned
from ..state.quantities import whole
from ..state.record import Unencoded, encoded
from .base import (
    ASKS_KEPT,
    Append,
    Ask,
    Changes,
    Claim,
    Claimed,
    Delete,
    Done,
    Fenced,
    Index,
    Key,
    Outcome,
    Page,
    Query,
    Refused,
    Renew,
    Seen,
    SetHistory,
    Stored,
    Write,
    claimed_epoch,
    claimed_index,
    is_told_again,
)
from .decoding import decode_cursor, encode_cursor
from .memory_index import DueTimes, PlaceIndex
from .memory_queue import MemoryQueue
from .places import LOOKED_AT, dimensions, place_of, places_of
from .taking import TAKE, Release, Take, Taken


@dataclass(slots=True)
class _Log:
    """One session's entries."""

    key: Key
    owner: str
    record: bytes | Unencoded
    """Encoded once somebody reads it."""
    index: Index
    expires: float
    heartbeat: float | None = None
    lease_until: float | None = None
    attempts: int = 0
    declared: Stored | None = None
    """What the claim has replaced, as long as it may have to be told again."""
    events: deque[tuple[int, bytes]] | tuple[()] = ()
    """A deque once there are any: an empty one is larger than all else here."""

    def alive(self, now: float) -> bool:
        return self.lease_until is not None and self.lease_until > now

    def stored(self, session_id: str, now: float, *, events: bool = False) -> Stored:
        data = tuple(data for _, data in self.events) if events else ()
        if not isinstance(self.record, bytes):
            self.record = encoded(self.record.record())
        return Stored(session_id, self.key, self.record, self.alive(now), self.heartbeat, data)

    def gone(self, now: float) -> bool:
        return self.expires <= now and not self.alive(now)

    def fits(self, query: Query, now: float) -> bool:
        """Whether it is what the list asks for, of those that stand in its places."""
        return (
            not (query.lapsed and self.alive(now))
            and query.pipeline in (None, self.index.pipeline)
            and has_labels(self.index.labels, query.labels)
        )


@final
class MemoryStore:
    """Sessions in the memory of this process.

    Trackers that are given the same object see each other's sessions, as processes do through SQLite
    or Redis. Leases and expiry run on Trio's clock, so tests turn them with a `MockClock`.

    Args:
        event_limit: Events kept for each session, at least 1; the oldest go first.
    """

    takes_records: Final = True
    hands_out: Final = True

    def __init__(self, *, event_limit: int = 1000) -> None:
        event_limit = whole("event_limit", event_limit)
        self._event_limit = event_limit
        self._logs: dict[str, _Log] = {}
        self._histories: dict[str, PipelineHistory] = {}
        self._asked: deque[tuple[int, Ask]] = deque(maxlen=ASKS_KEPT)
        self._asks = 0
        self._places = PlaceIndex()
        self._due = DueTimes()
        self._queue = MemoryQueue(self._ring)
        self._waiting: dict[trio.Event, Collection[str]] = {}

    async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        """Makes the writes at once; then a checkpoint that cannot be cancelled."""
        outcomes = self.commit_nowait(batch)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return outcomes

    def commit_nowait(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        """Makes the writes; what `commit` does without its checkpoint, for who writes to nothing but this process."""
        now = trio.current_time()
        self._settle_due(now)
        outcomes = [self._write(write, now) for write in batch]
        for news, wanted in self._waiting.items():
            if any(isinstance(write, Ask) or write.id in wanted for write in batch):
                news.set()
        return outcomes

    def _write(self, write: Write, now: float) -> Outcome:
        match write:
            case Claim():
                return self._claim(write, now)
            case Append():
                return self._append(write, now)
            case Renew():
                return self._renew(write, now)
            case Delete():
                log = self._logs.get(write.id)
                if log is not None and log.alive(now):
                    return Refused()
                found = self._logs.pop(write.id, None) is not None
                self._settle(write.id, now)
                return Done(found=found)
            case SetHistory():
                return self._set_history(write)
            case Ask():
                self._asks += 1
                self._asked.append((self._asks, write))
                return Done()
            case Take():
                return self._take(write, now)
            case Release():
                self._queue.release(write, now)
                return Done()

    def _take(self, take: Take, now: float) -> Taken:
        taken = self._queue.take(take, lambda session_id: self._logs[session_id].key, now)
        for chosen in taken.sessions:
            self._settle(chosen.id, now)
        return taken

    def _ring(self, process: str) -> None:
        self._asks += 1
        self._asked.append((self._asks, Ask(process, TAKE)))
        for news in self._waiting:
            news.set()

    def _set_history(self, write: SetHistory) -> Outcome:
        found = self._histories.pop(write.id, None) is not None
        if write.history is not None:
            self._histories[write.id] = write.history
        return Done(found=found or write.history is not None)

    def _claim(self, claim: Claim, now: float) -> Outcome:
        log = self._logs.get(claim.id)
        history = self._histories.get(claim.index.pipeline or "")
        if log is not None and log.owner == claim.owner and log.lease_until is not None:
            if claim.lease is not None:
                self._renew_lease(claim.id, log, now + claim.lease, now)
            return Claimed(log.key.epoch, log.declared, history)
        newest = None if log is None else log.key
        epoch = claimed_epoch(claim, newest, alive=log is not None and log.alive(now))
        if not isinstance(epoch, int):
            return epoch
        previous = None if log is None else log.stored(claim.id, now)
        index = claim.index
        declared = None
        if log is not None:
            declared = previous if is_told_again(claim, log.index.status) else None
            index = claimed_index(claim, log.index.status, log.index.queued_at, log.index.labels)
        attempts = (0 if log is None else log.attempts) if claim.attempts is None else claim.attempts
        log = self._logs[claim.id] = _Log(
            Key(epoch, claim.seq), claim.owner, claim.unencoded or claim.record, index, now + claim.keep
        )
        log.attempts = attempts
        log.declared = declared
        if claim.events:
            log.events = deque(claim.events, maxlen=self._event_limit)
        if claim.lease is not None:
            log.lease_until = now + claim.lease
        self._queue.claimed(claim.id)
        self._settle(claim.id, now)
        return Claimed(epoch, previous, history)

    def _renew_lease(self, session_id: str, log: _Log, until: float, now: float) -> None:
        moved = self._moves(session_id, log, until, now)
        log.lease_until = until
        if moved:
            self._settle(session_id, now)

    def _moves(self, session_id: str, log: _Log, until: float | None, now: float) -> bool:
        """Whether a lease until then moves a session in the index; renewing one does not, and costs nothing here."""
        return until is None or not log.alive(now) or until < self._due.at(session_id)

    def _append(self, append: Append, now: float) -> Outcome:
        log = self._logs.get(append.id)
        if log is None or log.key.epoch != append.key.epoch:
            return Fenced(None if log is None else log.key.epoch)
        until = None if append.lease is None else now + append.lease
        moved = self._moves(append.id, log, until, now)
        if append.key > log.key:
            moved = moved or log.index != append.index
            log.key, log.record, log.index = append.key, append.unencoded or append.record, append.index
            log.declared = None
            if append.lesson is not None and append.index.pipeline is not None:
                self._learn(append.index.pipeline, append.lesson)
        if append.key == log.key:  # Not where something newer was stored since, which stands as it is.
            log.heartbeat = append.heartbeat
            log.lease_until = until
            log.expires = now + append.keep
        if append.events:
            if not isinstance(log.events, deque):
                log.events = deque(maxlen=self._event_limit)
            newest = log.events[-1][0] if log.events else 0
            log.events.extend(event for event in append.events if event[0] > newest)
        if moved:
            self._settle(append.id, now)
        return Done()

    def _learn(self, pipeline: str, lesson: Lesson) -> None:
        self._histories[pipeline] = learned(self._histories.get(pipeline), lesson)
        for name in forgotten(self._histories, lesson.at):
            del self._histories[name]

    def _renew(self, renew: Renew, now: float) -> Outcome:
        log = self._logs.get(renew.id)
        if log is None or log.key.epoch != renew.epoch:
            return Fenced(None if log is None else log.key.epoch)
        log.heartbeat = renew.heartbeat
        log.expires = max(log.expires, now + renew.lease)
        self._renew_lease(renew.id, log, now + renew.lease, now)
        return Done()

    def _settle(self, session_id: str, now: float) -> None:
        """Makes the index entries of a session equal to what there is of it now.

        At the end of each write that may have changed where it stands, and when time alone has.
        """
        log = self._logs.get(session_id)
        if log is None or log.gone(now):
            self._logs.pop(session_id, None)
            self._places.drop(session_id)
            self._due.drop(session_id)
            self._queue.drop(session_id)
            return
        alive, index = log.alive(now), log.index
        place = place_of(index.status, alive=alive)
        self._places.put(session_id, index.queued_at, place, dimensions(index.pipeline, index.labels))
        reserved = self._queue.settle(session_id, place, log.attempts, index, now)
        # Later appends move both on: then it is found that nothing is due yet.
        changes = log.lease_until if alive and log.lease_until is not None else log.expires
        self._due.set(session_id, min(changes, reserved))

    def _settle_due(self, now: float) -> None:
        """Leases that have lapsed, and what has expired."""
        for session_id in self._due.take(now):
            self._settle(session_id, now)

    async def read(self, session_id: str) -> Stored | None:
        """The newest entry of a session, with its events."""
        await trio.lowlevel.checkpoint()
        now = trio.current_time()
        self._settle_due(now)
        log = self._logs.get(session_id)
        return None if log is None else log.stored(session_id, now, events=True)

    async def list(self, query: Query) -> Page:
        """The newest entries of the sessions that `query` names."""
        await trio.lowlevel.checkpoint()
        now = trio.current_time()
        self._settle_due(now)
        places = places_of(query)
        rarest = self._places.rarest(dimensions(query.pipeline, query.labels), places)
        before = None if query.after is None else decode_cursor(query.after)
        found: list[str] = []
        looked = 0
        last = None
        for queued_at, session_id in self._places.newest_first(rarest, places, before):
            if len(found) == query.limit or looked == LOOKED_AT:
                break
            if self._logs[session_id].fits(query, now):
                found.append(session_id)
            else:
                looked += 1
            last = encode_cursor(queued_at, session_id)
        else:
            last = None
        known = [session_id for session_id in found if query.known.get(session_id) == self._logs[session_id].key.epoch]
        news = [session_id for session_id in found if session_id not in set(known)]
        return Page([self._logs[session_id].stored(session_id, now) for session_id in news], last, known)

    async def changes(self, mark: str | None, seen: Mapping[str, Seen | None]) -> Changes:
        """Waits for news; a lease that lapses is news as well."""
        await trio.lowlevel.checkpoint()
        if mark is None:
            return Changes(str(self._asks), (), (), ())
        read = int(mark)
        while True:
            news = trio.Event()
            now = trio.current_time()
            self._settle_due(now)
            sessions: list[Stored] = []
            gone: list[str] = []
            lapse = float("inf")
            for session_id, known in seen.items():
                log = self._logs.get(session_id)
                if log is None:
                    if known is not None:
                        gone.append(session_id)
                elif known != Seen(log.key, log.heartbeat, log.alive(now)):
                    sessions.append(log.stored(session_id, now, events=True))
                elif log.lease_until is not None and log.lease_until > now:
                    lapse = min(lapse, log.lease_until)
            asked = [ask for ordinal, ask in self._asked if ordinal > read]
            if sessions or gone or asked:
                return Changes(str(self._asks), sessions, gone, asked)
            self._waiting[news] = seen
            try:
                with trio.move_on_at(lapse):
                    await news.wait()
            finally:
                del self._waiting[news]

    async def history(self, pipeline: str) -> PipelineHistory | None:
        """What earlier runs of a pipeline have taught."""
        await trio.lowlevel.checkpoint()
        return self._histories.get(pipeline)

    async def histories(self) -> Sequence[str]:
        """The pipelines of which there is a history, the one that ran last first."""
        await trio.lowlevel.checkpoint()
        return sorted(self._histories, key=lambda name: self._histories[name].at, reverse=True)

    async def aclose(self) -> None:
        """Keeps everything: another tracker may go on with it."""
        await trio.lowlevel.checkpoint()
