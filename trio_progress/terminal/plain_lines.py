"""Progress as plain lines, for logs and pipes: changes of status at once, figures every few seconds."""

from __future__ import annotations

from typing import Final, final

from ..protocol.snapshot import PhaseSnapshot, Snapshot, ran
from . import words
from .display_model import OwnerClock
from .printable import printable

REMEMBERED: Final = 20_000
"""Sessions whose last line is remembered; those without a line for longest go first."""


@final
class PlainLines:
    """Decides which lines are due.

    A session's line is due at once when its status, its liveness or the status of a top-level phase has changed, and
    otherwise when anything has and the last line is `interval` seconds old. With `ids`, lines have the session's id
    as well as its title.
    """

    def __init__(self, interval: float, *, ids: bool = False) -> None:
        self._interval = interval
        self._ids = ids
        self._last: dict[str, tuple[float, tuple[object, ...], int]] = {}
        """When the last line of a session was due, and for which statuses and `seq`."""
        self._time = OwnerClock()

    def due(self, snapshot: Snapshot, now: float) -> str | None:
        """The line for this state, if it is due at `now` (on a monotonic clock)."""
        owner_now = self._time.now(snapshot, now, _newest_stamp(snapshot))
        statuses = (snapshot.epoch, snapshot.status, snapshot.liveness, *(phase.status for phase in snapshot.phases))
        last_at, last_statuses, seq = self._last.get(snapshot.id, (float("-inf"), (), -1))
        if statuses == last_statuses and (snapshot.seq == seq or now - last_at < self._interval):
            return None
        self._last.pop(snapshot.id, None)
        # Of an ended session the statuses stay, so that its end has one line.
        self._last[snapshot.id] = (float("inf") if snapshot.ended else now, statuses, snapshot.seq)
        if snapshot.ended:
            self._time.forget(snapshot.id)
        if len(self._last) > REMEMBERED:
            oldest = next(iter(self._last))
            del self._last[oldest]
            self._time.forget(oldest)
        return line(snapshot, ids=self._ids, now=owner_now)


def line(snapshot: Snapshot, *, ids: bool = False, now: float | None = None) -> str:
    """One state as one line of text that is safe to show in a terminal.

    Args:
        snapshot: The state.
        ids: Whether the line has the session's id as well as its title.
        now: The owner's wall clock, in seconds since 1970; the newest stamp of the state unless given.
    """
    stamp = _newest_stamp(snapshot)
    now = stamp if now is None else now
    title = [snapshot.id, snapshot.title] if ids and snapshot.title != snapshot.id else [snapshot.title]
    parts = [words.clock(stamp), *title, words.percent(snapshot.progress)]
    if snapshot.status != "running" or snapshot.liveness != "ok":
        parts.append(words.standing(snapshot, now))
    if snapshot.ended:
        parts += [f"after {words.duration(ran(snapshot, now))}", words.error(snapshot)]
    else:
        moves = words.moves(snapshot)
        parts += [_phase(phase, moves) for phase in snapshot.phases if phase.status == "running"]
        parts += [words.labelled(words.session_left(snapshot, now)), snapshot.message or ""]
    parts.append(words.counters(snapshot, 4))
    return printable(" | ".join(filter(None, parts)))


def _newest_stamp(snapshot: Snapshot) -> float:
    """Seconds since 1970."""
    at = snapshot.ended_at or snapshot.heartbeat_at or snapshot.queued_at
    stamp = 0.0 if at is None else at.timestamp()
    return stamp if snapshot.progressed_at is None else max(stamp, snapshot.progressed_at.timestamp())


def _phase(phase: PhaseSnapshot, moves: bool) -> str:
    return " ".join(filter(None, (phase.title, words.count(phase), words.rate(phase) if moves else "")))
