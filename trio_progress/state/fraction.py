"""How far a phase is, 0 to 1, from its own units and from its children; and how long it takes by its rate.

1. It is below 1 as long as the phase's scope has not exited, and exactly 1 once it is completed or skipped. The
   fraction of one that failed stays where it was.
2. With a total and children that weigh something it is the weighted mean of theirs and its own units (which weigh 1).
   An indeterminate part counts as nothing done.
3. A child that weighs nothing is how one of the units is done: what it has done of that is added. So is one that is
   given no weight where there is a total.
4. Without a total nobody knows how many children there will be, unless earlier runs say so: one more than are done is
   taken to come, so that the fraction stays below n/(n+1).
5. What has been reached is not taken back: a child that is done once more still counts as done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .rate import CAP, FARTHEST, Rate

if TYPE_CHECKING:
    from .phase import PhaseNode


def fraction_of(node: PhaseNode) -> tuple[float | None, float]:
    """How far the phase is while it has not completed, and the part of that which needed no work."""
    own, own_free = None, 0.0
    if node.total is not None:
        own, own_free = (node.counted / node.total, node.skipped / node.total) if node.total > 0 else (0.0, 0.0)
    if not node.children and not node.folded:
        return (None if own is None else min(own, CAP)), min(own_free, CAP)
    weight = part = node.folded_weight
    free = node.folded_free
    under_way = 0.0
    for child in node.children.values():
        fraction = 1.0 if child.was_done else child.fraction or 0.0
        weight += child.weight
        part += child.weight * fraction
        free += child.weight * child.free
        if not child.weight and not child.was_done and child.status == "running":
            under_way += fraction
    if own is not None:
        if under_way and node.total:
            own = (node.counted + under_way) / node.total
        weight += 1.0
        part += min(own, 1.0)
        free += min(own_free, 1.0)
    elif weight > 0 and node.parent is not None:
        weight = _weight_in_the_end(node, weight, part)
    return (min(part / weight, CAP), free / weight) if weight > 0 else (None, 0.0)


def _weight_in_the_end(node: PhaseNode, weight: float, part: float) -> float:
    """What the children of a phase without a total are taken to weigh in the end; `part` of it is done.

    One child more than are done, or as many as it usually has; where more are done than that, half a child more. Those
    that are there count in any case.
    """
    child = weight / (len(node.children) + node.folded)
    if node.usual_children is None:
        return max(weight, part + child)
    usual = node.usual_children * child
    return max(weight, usual if part <= usual + 1e-6 * child else part + child / 2)  # A mean of eights may be below 8.


def free_in_the_end(node: PhaseNode) -> float:
    """The part of the whole that needed no work, of a phase that has completed."""
    if node.total is None and not node.children and not node.folded:
        return float(node.skipped / node.done) if node.done else 0.0
    fraction, free = fraction_of(node)
    return min(free / fraction, 1.0) if fraction else 0.0


def refresh(node: PhaseNode, seq: int, now: float) -> bool:
    """Takes a phase, after its children, into the published state `seq`. True where its count has moved."""
    moved = node.marked and node.settle(now)
    node.v, node.at = seq, now
    node.snapshot = None
    if node.status == "running":
        node.fraction, node.free = fraction_of(node)
        worked = max((node.fraction or 0.0) - node.free, 0.0)
        before = worked if node.worked is None else node.worked  # What it begins with was not made by now.
        node.worked = worked
        if node.children or node.folded:
            if node.child_pace is None:
                node.child_pace = Rate(now if node.began is None else node.began)
            if worked > before:
                node.child_pace.sample(worked - before, now)
    elif node.status == "completed":
        node.free = free_in_the_end(node)
        node.fraction = 1.0
    elif node.status == "skipped":
        node.fraction = node.free = 1.0
    return moved


def phase_eta(node: PhaseNode, now: float | None = None) -> float | None:
    """Seconds to the phase's end by its own rate; None where that is not known.

    Args:
        node: The phase.
        now: As of when, on the monotonic clock; when the phase changed last unless given.
    """
    if node.status != "running" or node.open_ended or (node.total is not None and node.counted > node.total):
        return None
    pace = node.child_pace if node.children or node.folded else node.pace
    rate = None if pace is None else pace.value_at(node.at if now is None else now)
    if rate is None:
        return None
    if node.children or node.folded:
        left = None if node.fraction is None else 1.0 - node.fraction
    else:
        left = None if node.total is None else max(node.total - node.counted, 0)
    return None if left is None or left / rate >= FARTHEST else left / rate
