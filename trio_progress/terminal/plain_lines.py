"""Progress as plain lines, for logs and pipes: what matters at once, the rest at a slow beat."""

from __future__ import annotations

from typing import Final, final

from ..protocol.snapshot import PhaseSnapshot, Snapshot, ran
from . import words
from .owner_clock import OwnerClock
from .printable import printable

REMEMBERED: Final = 20_000
"""Sessions whose last line is remembered; those go first that have had no line for longest."""


@final
class PlainLines:
    """Says which lines are due.

    A line for a session comes at once when its status, its liveness or the status of a top-level phase has
    changed, and otherwise when it has moved and the last one is `interval` seconds old.

    Args:
        interval: Seconds.
        ids: Whether lines say the session's id as well as its title.
    """

    def __init__(self, interval: float, *, ids: bool = False) -> None:
        self._interval = interval
        self._ids = ids
        self._said: dict[str, tuple[float, tuple[object, ...], int]] = {}
        self._time = OwnerClock()

    def due(self, snapshot: Snapshot, now: float) -> str | None:
        """The line for this state, if it is due at `now` (on a monotonic clock)."""
        told_at = self._time.now(snapshot, now, _told_at(snapshot))
        landmarks = (snapshot.epoch, snapshot.status, snapshot.liveness, *(phase.status for phase in snapshot.phases))
        said_at, said, seq = self._said.get(snapshot.id, (float("-inf"), (), -1))
        if landmarks == said and (snapshot.seq == seq or now - said_at < self._interval):
            return None
        self._said.pop(snapshot.id, None)
        if snapshot.ended:
            # The landmarks stay, so that an end is said once; nothing else is kept of what has ended.
            self._said[snapshot.id] = (float("inf"), landmarks, snapshot.seq)
            self._time.forget(snapshot.id)
        else:
            self._said[snapshot.id] = (now, landmarks, snapshot.seq)
        if len(self._said) > REMEMBERED:
            oldest = next(iter(self._said))
            del self._said[oldest]
            self._time.forget(oldest)
        return line(snapshot, ids=self._ids, now=told_at)


def line(snapshot: Snapshot, *, ids: bool = False, now: float | None = None) -> str:
    """One state as one line of text that a terminal can only show.

    Args:
        snapshot: The state.
        ids: Whether to say the session's id as well as its title.
        now: The owner's wall clock, in seconds since 1970; when the owner was last heard of, unless given.
    """
    told_at = _told_at(snapshot)
    now = told_at if now is None else now
    clock = words.clock(told_at)
    title = [snapshot.id, snapshot.title] if ids and snapshot.title != snapshot.id else [snapshot.title]
    said = [clock, *title, words.percent(snapshot.progress)]
    if snapshot.status != "running" or snapshot.liveness != "ok":
        said.append(words.standing(snapshot, now))
    if snapshot.ended:
        said.append(f"after {words.duration(ran(snapshot, now))}")
        said.append(words.error(snapshot))
    else:
        moves = words.moves(snapshot)
        said.extend(_phase(phase, moves) for phase in snapshot.phases if phase.status == "running")
        said += [words.eta(snapshot, moves), snapshot.message or ""]
    said.append(words.counters(snapshot, 4))
    return printable(" | ".join(filter(None, said)))


def _told_at(snapshot: Snapshot) -> float:
    """The newest stamp of a state, in seconds since 1970."""
    at = snapshot.ended_at or snapshot.heartbeat_at or snapshot.queued_at
    told_at = 0.0 if at is None else at.timestamp()
    return told_at if snapshot.progressed_at is None else max(told_at, snapshot.progressed_at.timestamp())


def _phase(phase: PhaseSnapshot, moves: bool) -> str:
    return " ".join(filter(None, (phase.title, words.count(phase), words.rate(phase) if moves else "")))
