"""Sessions that nobody runs yet: what a declaration stores, and what cancelling it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Never

import msgspec

from ..protocol.clock import Clock, utc
from ..protocol.snapshot import ErrorInfo, Snapshot
from ..state import checks
from ..state.limits import Limits
from ..state.pipeline import Pipeline
from ..state.record import decode_record, encode_record
from ..state.session import SessionState
from ..stores.base import Claim, Index, Stored


class _Nobody:
    """The host of a state that is declared: nobody runs it."""

    def mark_dirty(self) -> None:
        """Nobody is to be woken."""

    def request_persist(self) -> None:
        """Nobody is to be woken."""

    def drain(self, node: object) -> None:
        """Nobody counts."""

    def timed(self, node: object) -> None:
        """Nobody counts."""

    def late(self, what: str, where: str) -> Never:
        raise AssertionError("nothing ends here")

    def drop(self, error: Exception) -> Never:
        raise error

    def refuse_result(self, error: Exception) -> None:
        """What is declared has no result."""


def checked_pipeline(given: object) -> Pipeline | None:
    """A pipeline, or None.

    Raises:
        TypeError: It is something else.
    """
    if given is not None and not isinstance(given, Pipeline):
        raise TypeError(f"pipeline must be a trio_progress.Pipeline or None, not {given!r:.200}")
    return given


def declared(
    session_id: str,
    pipeline: Pipeline | None,
    title: str | None,
    labels: Mapping[str, str] | None,
    clock: Clock,
    limits: Limits,
) -> SessionState:
    """A session as queued.

    Raises:
        ValueError, TypeError: A value is out of range.
    """
    state = SessionState(
        checks.session_id(session_id),
        host=_Nobody(),
        clock=clock,
        pipeline=checked_pipeline(pipeline),
        title=None if title is None else checks.title("title", title, limits),
        labels=checks.labels(labels, limits),
        limits=limits,
    )
    state.queued = clock.wall()
    state.touch()
    state.publish()
    return state


def declaration(state: SessionState, keep: float) -> Claim:
    """The claim that stores a declared session, without an owner, for `keep` seconds."""
    assert state.queued is not None
    return Claim(
        id=state.id,
        proposal=int(state.queued * 1000),
        owner=checks.new_id(),
        record=encode_record(state),
        index=Index(state.status, state.pipeline_name, state.labels, state.queued),
        lease=None,
        keep=keep,
        seq=state.seq,
    )


def cancellation(stored: Stored, reason: str | None, now: float, keep: float) -> tuple[Claim, Snapshot] | None:
    """The claim that ends a queued session as cancelled, and its state then; None where it is not queued.

    The claim expects what was read: where somebody has begun the session since, it is refused.

    Raises:
        StoreError: The stored entry cannot be read.
    """
    record = decode_record(stored.id, *stored.key, stored.record)
    if record.state.status != "queued":
        return None
    ended = msgspec.structs.replace(
        record.state,
        status="cancelled",
        seq=record.state.seq + 1,
        ended_at=utc(now),
        error=None if reason is None else ErrorInfo(type="Cancelled", message=reason),
    )
    queued_at = 0.0 if ended.queued_at is None else ended.queued_at.timestamp()
    claim = Claim(
        id=stored.id,
        proposal=stored.key.epoch + 1,
        owner=checks.new_id(),
        record=msgspec.json.encode(msgspec.structs.replace(record, state=ended)),
        index=Index(ended.status, ended.pipeline, ended.labels, queued_at),
        lease=None,
        keep=keep,
        expect=stored.key,
        seq=ended.seq,
    )
    return claim, ended
