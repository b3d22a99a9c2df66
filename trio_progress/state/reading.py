"""What readers are given of a session's state: frozen values of its phases and of the whole, made once for a change."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ..protocol.clock import utc
from ..protocol.snapshot import Liveness, PhaseSnapshot, PhaseUpdate
from .estimate import FARTHEST, Part, remaining
from .phase import OVER, PhaseNode

if TYPE_CHECKING:
    from .tree import PhaseTree


def phase_values(node: PhaseNode) -> dict[str, Any]:
    """What a phase says of itself, without its children: the fields of `PhaseValues`."""
    return {
        "name": node.name,
        "title": node.title,
        "status": node.status,
        "attempt": node.attempt,
        "done": node.done,
        "total": node.total,
        "unit": node.unit,
        "weight": node.weight,
        "fraction": node.fraction,
        "rate": None if node.pace is None else node.pace.value,
        "eta": phase_eta(node),
        "message": node.message,
        "fields": node.fields,
        "started_at": utc(node.started),
        "ended_at": utc(node.ended),
        "skipped": node.skipped,
        "folded": node.folded,
        "folded_weight": node.folded_weight,
        "started_after": node.started_after,
        "elapsed": node.elapsed,
    }


def phase_eta(node: PhaseNode) -> float | None:
    """Seconds to the phase's end by its own rate; None where that is not known."""
    if node.status != "running" or (node.total is not None and node.done > node.total):
        return None
    pace = node.child_pace if node.children or node.folded else node.pace
    rate = None if pace is None else pace.value
    if rate is None:
        return None
    if node.children or node.folded:
        left = None if node.fraction is None else 1.0 - node.fraction
    else:
        left = None if node.total is None else max(node.total - node.done, 0)
    return None if left is None or left / rate >= FARTHEST else left / rate


def phase_snapshot(node: PhaseNode) -> PhaseSnapshot:
    """The phase and all below it as frozen values; made once for each published change."""
    if node.snapshot is None:
        if node.declared and node.status == "pending" and node.attempt == 0 and not node.children:
            node.snapshot = _pending(node.name, node.title, node.weight, node.unit, node.total)
        else:
            below = tuple(phase_snapshot(child) for child in node.children.values())
            node.snapshot = PhaseSnapshot(**phase_values(node), phases=below)
    return node.snapshot


@lru_cache(maxsize=4096, typed=True)
def _pending(name: str, title: str, weight: float, unit: str | None, total: float | None) -> PhaseSnapshot:
    """A declared phase that was never begun: all sessions of its pipeline share one."""
    return PhaseSnapshot(
        name=name,
        title=title,
        status="pending",
        attempt=0,
        done=0,
        total=total,
        unit=unit,
        weight=weight,
        fraction=0.0,
        rate=None,
        eta=None,
        message=None,
        fields={},
        started_at=None,
        ended_at=None,
    )


def phase_changes(node: PhaseNode, since: int, path: tuple[str, ...] = ()) -> Iterator[PhaseUpdate]:
    """What changed below the phase, which is at `path`, after the published state `since`; parents first."""
    for child in node.children.values():
        if child.v > since:
            at = (*path, child.name)
            yield PhaseUpdate(**phase_values(child), path=at)
            yield from phase_changes(child, since, at)


def liveness(state: PhaseTree) -> tuple[Liveness, float | None]:
    """Whether the work advances, by the monotonic clock; a session that is not running is "ok".

    Returns:
        That, and the seconds without progress after which it counts as stalled: the longest that a running phase is
        given. None: it never does.
    """
    allowed: float | None = None
    for node in state.root.children.values():
        if node.status == "running":
            own = state.stall_after if node.stall_after is None else node.stall_after
            if own is None or own == float("inf"):
                return "ok", None
            if allowed is None or own > allowed:
                allowed = own
    allowed = state.stall_after if allowed is None else allowed
    if state.status != "running" or allowed is None or state.clock.monotonic() - state.progressed_mono <= allowed:
        return "ok", allowed
    return "stalled", allowed


def eta(state: PhaseTree) -> float | None:
    """Seconds to the end of the session, as of `seq`; None where nothing supports a figure."""
    if state.status != "running" or state.over or (state.raw == 0 and not state.typical_seconds):
        return None
    nodes = state.root.children.values()
    if state.pipeline is None and all(node.status in OVER for node in nodes):
        return None  # Nobody knows whether there will be another one.
    return remaining(
        Part(
            weight=node.weight,
            fraction=None if node.total is not None and node.done > node.total else node.fraction,
            free=node.free,
            spent=node.spent + (0.0 if node.began is None else state.published - node.began),
            running=node.status == "running",
            finished=node.status in OVER,
            eta=phase_eta(node),
            typical_seconds=state.typical_seconds.get(node.name),
        )
        for node in nodes
    )
