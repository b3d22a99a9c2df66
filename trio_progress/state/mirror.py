"""What a phase shows of the session that it follows: that session's bar, its ETA, and how it stands.

1. The fraction of such a phase is the session's `progress`, and what is left of it is the session's `eta`, counted down
   since it was said. Both may be wrong where the session's are; nothing is estimated a second time.
2. What the session had when following began needed no work of this run.
3. Of its phases nothing is copied. Where it has one, that one's units are shown.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from ..protocol.outlook import left_after
from ..protocol.snapshot import Followed, Snapshot

AWAITED: Final = frozenset({"interrupted", "lost"})
"""The ends after which somebody may go on with a session: who follows it waits for that."""


class Mirror(NamedTuple):
    """A followed session, as a phase shows it."""

    follows: Followed
    progress: float = 0.0
    free: float = 0.0
    """What `progress` was when following began."""
    eta: float | None = None
    """Seconds to its end as of `at`; None: not known."""
    at: float = 0.0
    """When that was seen, on the monotonic clock."""
    moving: bool = False
    """Whether its work goes on, so that its ETA counts down."""

    def left(self, now: float) -> float | None:
        """Seconds to its end as of `now`, on the monotonic clock; None: not known."""
        if self.eta is None or not self.moving:
            return self.eta
        return left_after(self.eta, max(now - self.at, 0.0))


def mirror_of(snapshot: Snapshot, now: float, before: Mirror | None) -> Mirror:
    """What is shown of a session as it was seen `now`.

    Args:
        snapshot: The session; one whose owner is not heard of says so by its liveness.
        now: The monotonic clock.
        before: What was shown of it before; None: following begins, and what it has needed no work.
    """
    status = "lost" if snapshot.liveness == "lost" else snapshot.status
    follows = Followed(id=snapshot.id, status=status, liveness=snapshot.liveness, attempt=snapshot.attempt)
    moving = status == "running" and snapshot.liveness == "ok"
    free = snapshot.progress if before is None or before.follows.status is None else before.free
    eta = None if status in AWAITED else snapshot.eta
    return Mirror(follows, snapshot.progress, min(free, snapshot.progress), eta, now, moving)


def counts_of(snapshot: Snapshot) -> dict[str, Any]:
    """`done`, `total` and `unit` of a phase that follows a session: those of its only phase, or none."""
    if len(snapshot.phases) == 1 and snapshot.phases[0].total is not None:
        only = snapshot.phases[0]
        return {"done": only.done, "total": only.total, "unit": only.unit}
    return {"done": 0, "total": None, "unit": None}


def message_of(mirror: Mirror, said: str | None) -> str | None:
    """What people are told by the phase: why the session does not go on, or what it says itself."""
    follows = mirror.follows
    if follows.status is None:
        return "waits until it is declared or begun"
    if follows.status == "queued":
        return "queued"
    if follows.status in AWAITED:
        return f"{follows.status}: waits until it is gone on with"
    if follows.liveness == "stalled":
        return "stalled" if said is None else f"stalled: {said}"
    return said
