"""The claims of sessions that nobody owns: as declared, as cancelled before they ran, and as lost."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..protocol.clock import stamp, utc
from ..protocol.labels import listed_labels
from ..protocol.snapshot import ErrorInfo, Head, Snapshot
from ..state import checks
from ..state.events import LoggedEvent
from ..state.record import decode_record, encode_event, encode_lost, encode_record, encoded, lost_state, readable_events
from ..stores.base import Claim, Index, Stored

if TYPE_CHECKING:
    from ..state.session import SessionState
    from ..telemetry.statistics import Tally


def declaration(state: SessionState, keep: float) -> Claim:
    """The claim that stores a queued session, for `keep` seconds."""
    assert state.queued is not None
    return Claim(
        id=state.id,
        proposal=int(state.queued * 1000),
        owner=checks.new_id(),
        record=encode_record(state),
        index=Index(state.status, state.pipeline_name, listed_labels(state.labels, state.parent), state.queued),
        lease=None,
        keep=keep,
        seq=state.seq,
        attempts=0,
    )


QUEUED: Final = frozenset({"queued"})
UNFINISHED: Final = frozenset({"queued", "running", "interrupted", "lost"})
"""The stored statuses of sessions that have no owner, and that somebody may still begin or go on with."""


def cancellation(
    stored: Stored, reason: str | None, now: float, keep: float, tally: Tally, statuses: frozenset[str] = QUEUED
) -> tuple[Claim, Snapshot] | None:
    """The claim that ends a session which nobody owns as cancelled, and its state then; None where it stands otherwise.

    Args:
        stored: The session, with its events.
        reason: Shown to viewers.
        now: Seconds since 1970.
        keep: Seconds that it is kept.
        tally: Counts events that cannot be read.
        statuses: The stored ones of which it is made; one that runs without a lease is lost.

    Raises:
        StoreError: The stored entry cannot be read.
    """
    record = decode_record(stored.id, *stored.key, stored.record)
    if record.state.status not in statuses:
        return None
    state = lost_state(record, stored.heartbeat) if record.state.status == "running" else record.state
    ended = msgspec.structs.replace(
        state,
        status="cancelled",
        liveness="ok",
        seq=record.state.seq + 1,
        ended_at=utc(now),
        error=None if reason is None else ErrorInfo(type="Cancelled", message=reason),
    )
    encoded_record = encoded(msgspec.structs.replace(record, state=ended))
    events = readable_events(stored.events, partial(tally.pass_over, stored.id))
    kept = [(event.n, encode_event(event)) for event in events]
    return _end(stored, ended, encoded_record, keep, kept), ended


def written_off(
    stored: Stored, keep: float, tally: Tally, note: tuple[str, dict[str, Any], float] | None = None
) -> Claim:
    """The claim that ends a session as lost, with what was stored of it until then.

    Args:
        stored: The session, with its events.
        keep: Seconds that it is kept.
        tally: Counts events that cannot be read.
        note: The name, the data and the time of a custom event that is added.

    Raises:
        StoreError: The stored entry cannot be read.
    """
    record = decode_record(stored.id, *stored.key, stored.record)
    events = readable_events(stored.events, partial(tally.pass_over, stored.id))
    if note is not None:
        # Behind those that are there: a log of events has no holes.
        n = (events[-1].n if events else record.state.events) + 1
        events.append(LoggedEvent(n, record.state.seq + 1, *note))
        record = msgspec.structs.replace(record, state=msgspec.structs.replace(record.state, events=n))
    lost = msgspec.structs.replace(record.state, status="lost", seq=record.state.seq + 1)
    kept = [(event.n, encode_event(event)) for event in events]
    return _end(stored, lost, encode_lost(record, stored.heartbeat), keep, kept)


def _end(stored: Stored, ended: Head, record: bytes, keep: float, events: Sequence[tuple[int, bytes]] = ()) -> Claim:
    """It expects the entry that was read: where somebody has claimed the session since, it is refused."""
    return Claim(
        id=stored.id,
        proposal=stored.key.epoch + 1,
        owner=checks.new_id(),
        record=record,
        index=Index(
            ended.status,
            ended.pipeline,
            listed_labels(ended.labels, ended.parent),
            stamp(ended.queued_at) or 0.0,
        ),
        lease=None,
        keep=keep,
        expect=stored.key,
        seq=ended.seq,
        events=events,
    )
