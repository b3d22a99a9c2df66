"""A session as a store keeps it, and how a later attempt goes on from that.

A record is the JSON of `{"format": 1, "state": <Snapshot>, "saved": <data>, "folded": 0, "folded_weight": 0.0,
"worked": 0.0, "spent": {}}`, and `trace` where that is known; `folded` and `folded_weight` are of the phases that
folded into the session itself, as a phase says it of its own, `worked` and `spent` of what the attempts before took.
Its `epoch` and `seq` are those of the key that it is stored under, whatever the JSON says: the key is what was fenced.
What is read is decoded strictly; anything else is refused as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import msgspec

from ..errors import CorruptEntryError
from ..protocol.clock import moment, shown_seconds, stamp
from ..protocol.messages import resume_token
from ..protocol.snapshot import ENCODER, Head, PhaseSnapshot, Snapshot, phase_ran, ran
from .events import EventLog, LoggedEvent
from .mirror import Mirror
from .phase import ABSORBING, PhaseNode
from .reading import snapshot_of

if TYPE_CHECKING:
    from .session import SessionState

FORMAT = 1


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of one published state."""

    format: int = FORMAT
    state: Snapshot
    saved: Any = None
    folded: int = 0
    folded_weight: float = 0.0
    worked: float = 0.0
    """Seconds that the attempts before this one were worked on."""
    spent: dict[str, float] = {}
    """Of each phase, the seconds of its attempts before the newest, where there are any."""
    trace: str | msgspec.UnsetType = msgspec.UNSET
    """Where the attempt is found in a system for traces, by W3C's `traceparent`; absent where nobody traces."""


class Unencoded(NamedTuple):
    """What a record is made of: frozen values, for a store that keeps them until somebody reads."""

    head: Head
    phases: tuple[PhaseSnapshot, ...]
    values: dict[str, Any]
    """The other fields of the record."""

    def record(self) -> Record:
        """The record."""
        return Record(state=snapshot_of(self.head, self.phases), **self.values)


class Outline(msgspec.Struct, frozen=True, kw_only=True):
    """The same, whose phases are passed over."""

    format: int = FORMAT
    state: Head


RecordT = TypeVar("RecordT", Record, Outline)

_DECODER = msgspec.json.Decoder(Record)
_OUTLINE_DECODER = msgspec.json.Decoder(Outline)
_EVENT_DECODER = msgspec.json.Decoder(LoggedEvent)


def unencoded_of(state: SessionState) -> Unencoded:
    """The state of now, published, as it is kept. It is not changed again."""
    state.publish()
    return Unencoded(state.head(), state.published_phases(), _values_of(state))


def _values_of(state: SessionState) -> dict[str, Any]:
    """What is stored of a session and is no part of its published state; what has its default is left out."""
    root = state.root
    values: dict[str, Any] = {}
    if state.saved is not None:
        values["saved"] = state.saved
    if root.folded:
        values["folded"] = root.folded
        values["folded_weight"] = float(root.folded_weight)
    if state.worked_before:
        values["worked"] = state.worked_before
    if state.trace is not None:
        values["trace"] = state.trace
    spent = {
        name: spent for name, node in root.children.items() if not node.shared and (spent := _spent_before(node)) > 0
    }
    if spent:
        values["spent"] = spent
    return values


encoded: Final[Callable[[Record], bytes]] = ENCODER.encode
"""A record as it is stored."""


def encode_record(state: SessionState) -> bytes:
    """The state of now, published, as it is stored."""
    state.publish()
    return encoded(Record(state=state.published_state(), **_values_of(state)))


def _spent_before(node: PhaseNode) -> float:
    """Seconds of a phase's attempts before the newest."""
    newest = 0.0 if node.began is not None or node.elapsed is None else node.elapsed
    return round(node.before + max(node.spent - newest, 0.0), 3)


def decode_record(session_id: str, epoch: int, seq: int, data: bytes) -> Record:
    """The record that was stored for `session_id` under `(epoch, seq)`.

    Raises:
        CorruptEntryError: It is not a record of this format, or of another session.
    """
    record = _decoded(_DECODER, session_id, epoch, seq, data)
    resume = resume_token(epoch, seq, record.state.events)
    return msgspec.structs.replace(
        record, state=msgspec.structs.replace(record.state, epoch=epoch, seq=seq, resume=resume)
    )


def decode_head(session_id: str, epoch: int, seq: int, data: bytes) -> Head:
    """What `decode_record()` finds without the phases, at a part of the time; what is wrong in them stays unseen.

    Raises:
        CorruptEntryError: It is not a record of this format, or of another session.
    """
    return msgspec.structs.replace(_decoded(_OUTLINE_DECODER, session_id, epoch, seq, data).state, epoch=epoch, seq=seq)


def _decoded(decoder: msgspec.json.Decoder[RecordT], session_id: str, epoch: int, seq: int, data: bytes) -> RecordT:
    try:
        record = decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise CorruptEntryError(
            f"the stored entry {epoch}-{seq} of session {session_id!r} cannot be read: {error}"
        ) from None
    if record.format != FORMAT or record.state.id != session_id:
        raise CorruptEntryError(
            f"the stored entry {epoch}-{seq} of session {session_id!r} is of format {record.format} "
            f"and session {record.state.id!r:.200}, expected format {FORMAT}"
        )
    return record


def encode_event(event: LoggedEvent) -> bytes:
    """One event as it is stored."""
    return ENCODER.encode(event)


def decode_event(data: bytes) -> LoggedEvent:
    """The event in `data`.

    Raises:
        CorruptEntryError: It is not one.
    """
    try:
        return _EVENT_DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError) as error:
        raise CorruptEntryError(f"a stored event cannot be read: {error}") from None


def readable_events(stored: Iterable[bytes], pass_over: Callable[[CorruptEntryError], None]) -> list[LoggedEvent]:
    """The stored events behind the last corrupt one, for a log of events has no holes.

    Args:
        stored: The encoded events, oldest first.
        pass_over: Called with what is wrong with each that cannot be read.
    """
    events: list[LoggedEvent] = []
    for data in stored:
        try:
            events.append(decode_event(data))
        except CorruptEntryError as error:
            pass_over(error)
            events.clear()
    return events


def encode_lost(record: Record, heard: float | None) -> bytes:
    """The record of a running session as its next state, as `lost_state()` says."""
    return ENCODER.encode(msgspec.structs.replace(record, state=lost_state(record, heard)))


def lost_state(record: Record, heard: float | None) -> Snapshot:
    """The next state of a running session, "lost"; what was open in it is cancelled.

    Args:
        record: The newest record of the session.
        heard: When its owner was heard of last; seconds since 1970.
    """
    state = record.state
    heartbeat = moment(heard) or state.heartbeat_at or state.progressed_at
    # What the owner has stored since its last heartbeat is not younger than its end.
    ended = max(filter(None, (heartbeat, state.progressed_at)), default=None)
    whole = None if ended is None or state.elapsed is None else shown_seconds(ran(state, ended.timestamp()))
    return msgspec.structs.replace(
        state,
        status="lost",
        liveness="lost",
        seq=state.seq + 1,
        eta=None,
        heartbeat_at=heartbeat,
        ended_at=ended,
        elapsed=whole,
        phases=tuple(_closed(phase, ended, whole) for phase in state.phases),
    )


def _closed(phase: PhaseSnapshot, ended: datetime | None, whole: float | None) -> PhaseSnapshot:
    phases = tuple(_closed(child, ended, whole) for child in phase.phases)
    if phase.status != "running":
        return msgspec.structs.replace(phase, phases=phases)
    after = phase.started_after
    took = None if whole is None or after is None else shown_seconds(max(whole - after, 0.0))
    return msgspec.structs.replace(phase, status="cancelled", eta=None, ended_at=ended, elapsed=took, phases=phases)


def resume_from(state: SessionState, record: Record, events: Iterable[LoggedEvent], event_limit: int) -> None:
    """Lets a new attempt go on from what the one before left.

    Completed and skipped phases stay as they are; all others are pending again, with the number of
    their attempts kept. Counters, fields and the retained events go on; message, result and error begin anew.
    A phase that the pipeline no longer declares is left out.
    """
    old = record.state
    state.attempt = old.attempt + 1
    state.queued = stamp(old.queued_at)
    state.counters = dict(old.counters)
    state.fields = dict(old.fields)
    state.saved = record.saved
    state.trace = record.trace or None
    state.event_log = EventLog(event_limit, events)
    state.root.folded = record.folded
    state.root.folded_weight = record.folded_weight
    state.worked_before = record.worked + max(old.elapsed or 0.0, 0.0)
    for phase in old.phases:
        node = state.get(phase.name)
        if node is None and state.pipeline is None:
            node = state.add(state.root, phase.name)
        if node is not None:
            _restore(state, node, phase)
            newest = 0.0 if phase.status in ABSORBING else max(phase.elapsed or 0.0, 0.0)
            node.before = max(record.spent.get(phase.name, 0.0), 0.0) + newest
    state.settle_fractions()


def _restore(state: SessionState, node: PhaseNode, phase: PhaseSnapshot) -> None:
    node.attempt = phase.attempt
    if not node.declared or phase.status in ABSORBING:
        node.title = phase.title
        node.unit = phase.unit
        node.total = phase.total
    if not node.declared:
        node.weight = phase.weight
    node.folded = phase.folded
    node.folded_weight = phase.folded_weight
    if phase.status in ABSORBING:
        node.status = phase.status
        node.fraction = 1.0
        node.done = phase.done
        node.skipped = phase.skipped
        node.message = phase.message
        node.fields = phase.fields
        node.started = stamp(phase.started_at)
        node.ended = stamp(phase.ended_at)
        node.elapsed = phase.elapsed
        node.spent = phase_ran(phase, 0.0, 0.0) if phase.ended_at is not None else 0.0
        if phase.follows is not None:
            node.mirror = Mirror(phase.follows, 1.0)
    for child in phase.phases:
        _restore(state, state.add(node, child.name), child)
    node.units = sum(child.status == "completed" and not child.weight for child in phase.phases)
