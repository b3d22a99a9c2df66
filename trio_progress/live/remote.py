"""A session that another tracker owns, as its stored states show it: a source of news like a live one.

What led to the first state that is found here is not known. An update from any older one is made all the same, by
with all phases whole: that leads to this state from wherever, so that a subscriber who comes from another process
(another gateway, or this one before it was restarted) goes on by its token. Only where phases were folded into their
parents, and nobody here knows which, is it given a snapshot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, final

import msgspec

from ..protocol.clock import Clock, moment
from ..protocol.messages import Update, resume_token
from ..protocol.snapshot import (
    ENDED,
    Head,
    Liveness,
    PhaseSnapshot,
    PhaseUpdate,
    PhaseValues,
    SessionStatus,
    Snapshot,
    headed,
)
from ..state.events import EventLog
from ..state.record import Record, decode_head, decode_record, readable_events
from ..stores.base import Key, Seen, Stored
from ..telemetry.statistics import Tally

TOMBSTONES: Final = 1000
"""Phases gone from the tree that are remembered, so that an update can name them."""

_VALUES: Final = PhaseValues.__struct_fields__
"""The fields of a phase in an update."""

_Paths = dict[tuple[str, ...], PhaseSnapshot]


@final
class RemoteState:
    """What the store has of a session, and what changed between the states that were seen of it.

    Raises:
        StoreError: The stored entry cannot be read.
    """

    def __init__(self, stored: Stored, clock: Clock, event_limit: int, tally: Tally | None = None) -> None:
        self.clock = clock
        self._pass_over = partial((Tally() if tally is None else tally).pass_over, stored.id)
        self._event_limit = event_limit
        self._record: Record = decode_record(stored.id, *stored.key, stored.record)
        self.stored_status: SessionStatus = self._record.state.status
        """The status as it was stored; `snapshot()` says "lost" for one that runs without a lease."""
        self.ended = self.stored_status in ENDED
        """Whether the stored state is an end."""
        self._flat = _flattened(self._record.state.phases)
        self._v = dict.fromkeys(self._flat, stored.key.seq)
        self._tombstones: deque[tuple[int, tuple[str, ...]]] = deque(maxlen=TOMBSTONES)
        self._alive = stored.alive
        self._heartbeat = stored.heartbeat
        self._heard = moment(stored.heartbeat)
        self.id = stored.id
        self.epoch, self.seq = stored.key
        self.published = clock.monotonic()
        """When `seq` was found in the store, on the monotonic clock of this process."""
        self._progressed: float | None = None
        """When it was found, on the same clock, that the work had advanced; None where that has only been read."""
        folded = self._record.folded > 0 or any(phase.folded for phase in self._flat.values())
        self.oldest_delta = self.seq if folded else 1
        self.event_log = EventLog(event_limit, readable_events(stored.events, self._pass_over))
        self._events_end = len(stored.events), stored.events[-1:]

    @property
    def seen(self) -> Seen:
        """What the store compares, to find news."""
        return Seen(Key(self.epoch, self.seq), self._heartbeat, self._alive)

    def take_in(self, stored: Stored) -> bool:
        """Takes in a newer entry of the same epoch; True where the state itself is newer.

        Raises:
            StoreError: The stored entry cannot be read; nothing has changed.
        """
        record = decode_record(stored.id, *stored.key, stored.record)
        assert stored.key.epoch == self.epoch
        events_end = len(stored.events), stored.events[-1:]
        if events_end != self._events_end:  # Those of one epoch only grow at their end, and go at their beginning.
            self.event_log = EventLog(self._event_limit, readable_events(stored.events, self._pass_over))
            self._events_end = events_end
        self._alive = stored.alive
        if stored.heartbeat != self._heartbeat:
            self._heartbeat, self._heard = stored.heartbeat, moment(stored.heartbeat)
        if stored.key.seq <= self.seq:
            return False
        seq = stored.key.seq
        flat = _flattened(record.state.phases)
        for path, phase in flat.items():
            known = self._flat.get(path)
            if known is None or any(getattr(known, name) != getattr(phase, name) for name in _VALUES):
                self._v[path] = seq
        for path in self._flat:
            if path not in flat:
                del self._v[path]
                if len(self._tombstones) == TOMBSTONES:
                    self.oldest_delta = self._tombstones[0][0]
                self._tombstones.append((seq, path))
        self.published = self.clock.monotonic()
        if record.state.progressed_at != self._record.state.progressed_at:
            self._progressed = self.published
        self._record, self._flat, self.seq = record, flat, seq
        self.stored_status = record.state.status
        self.ended = self.stored_status in ENDED
        return True

    def liveness(self) -> Liveness:
        """Says "lost" without a lease; else whether the work advances.

        By the monotonic clock here, once it has been seen to advance; until then by the wall clocks of both sides.
        """
        idle = None if self._progressed is None else self.clock.monotonic() - self._progressed
        return _liveness(self._record.state, self.clock, alive=self._alive, idle=idle)

    @property
    def labels(self) -> Mapping[str, str]:
        """The session's labels."""
        return self._record.state.labels

    def snapshot(self) -> Snapshot:
        """The newest stored state, with the liveness and the heartbeat of this moment; "lost" without a lease."""
        state = self.published_state()
        return msgspec.structs.replace(state, status="lost") if state.liveness == "lost" else state

    def published_state(self) -> Snapshot:
        """The same with the status that was stored, which is part of what `seq` numbers.

        An owner who was taken for lost may be heard of again, with nothing new to send: no update would then take
        back a status that was sent. How alive it is, bookmarks say.
        """
        state = self._record.state
        return msgspec.structs.replace(
            state,
            liveness=self.liveness(),
            heartbeat_at=self._heard or state.heartbeat_at,
            resume=resume_token(self.epoch, self.seq, self.event_log.newest),
        )

    def update_since(self, since: int, resume: str) -> Update:
        """What changed after the stored state `since`, which must not lie before `oldest_delta`."""
        snapshot = self.published_state()
        head = headed(snapshot)
        phases = tuple(
            PhaseUpdate(**_values(phase), path=path) for path, phase in self._flat.items() if self._v[path] > since
        )
        folded = tuple(path for seq, path in self._tombstones if seq > since)
        return Update(
            session=self.id, from_=since, seq=self.seq, resume=resume, head=head, phases=phases, folded=folded
        )


def found_head(stored: Stored, clock: Clock) -> Head:
    """What a `RemoteState` would say of it now, without its phases, which are not looked at.

    Raises:
        StoreError: The stored entry cannot be read.
    """
    head = decode_head(stored.id, *stored.key, stored.record)
    heard = moment(stored.heartbeat) or head.heartbeat_at
    liveness = _liveness(head, clock, alive=stored.alive)
    status = "lost" if liveness == "lost" else head.status
    return msgspec.structs.replace(head, status=status, liveness=liveness, heartbeat_at=heard)


def _liveness(state: Head, clock: Clock, *, alive: bool, idle: float | None = None) -> Liveness:
    if state.status == "lost":
        return "lost"
    if state.status != "running":
        return "ok"
    if not alive:
        return "lost"
    if state.progressed_at is None or state.stall_after is None:
        return "ok"
    if idle is None:
        idle = clock.wall() - state.progressed_at.timestamp()
    return "stalled" if idle > state.stall_after else "ok"


def _flattened(phases: tuple[PhaseSnapshot, ...], above: tuple[str, ...] = (), into: _Paths | None = None) -> _Paths:
    """All phases by path, parents first."""
    into = {} if into is None else into
    for phase in phases:
        path = (*above, phase.name)
        into[path] = phase
        _flattened(phase.phases, path, into)
    return into


def _values(phase: PhaseSnapshot) -> dict[str, Any]:
    return {name: getattr(phase, name) for name in _VALUES}
