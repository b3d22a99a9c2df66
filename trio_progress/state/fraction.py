"""How far a phase is, and what is left of it; and how far all of it is by the weights, where no earlier run says more.

Its fraction, 0 to 1, comes from its own units and from its children:

1. It is below 1 as long as the phase's scope has not exited, and exactly 1 once it is completed or skipped. The
   fraction of one that failed stays where it was.
2. With a total and children that weigh something it is the weighted mean of theirs and its own units (which weigh 1).
   An indeterminate part counts as nothing done.
3. A child that weighs nothing is how one of the units is done: what it has done of that is added. So is one that is
   given no weight where there is a total.
4. Without a total nobody knows how many children there will be, unless earlier runs say so: one more than are done is
   taken to come, so that the fraction stays below n/(n+1).
5. What has been reached is not taken back: a child that is done once more still counts as done.
6. A phase that follows a session is as far as that says it is; see `mirror`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, final

from .history import KNOTS
from .limits import MAX_UNITS
from .phase import WARM_UP, PhaseNode, Rate

CAP: Final = 0.9999
"""The largest fraction of what has not ended: people read 100 % as done."""

SEEN: Final = 8
"""How often a phase must have been looked at to say how its count went over its time."""

FARTHEST: Final = 10 * 365 * 24 * 3600.0
"""Seconds: what would take longer is not known. A rate that fades away passes all bounds in the end."""


def fraction_of(node: PhaseNode) -> tuple[float | None, float]:
    """How far the phase is while it has not completed, and the part of that which needed no work."""
    if node.mirror is not None:
        return min(node.mirror.progress, CAP), min(node.mirror.free, CAP)
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
    if node.mirror is not None:
        return node.mirror.free
    if node.total is None and not node.children and not node.folded:
        return float(node.skipped / node.done) if node.done else 0.0
    fraction, free = fraction_of(node)
    return min(free / fraction, 1.0) if fraction else 0.0


def refresh(node: PhaseNode, seq: int, now: float) -> bool:
    """Takes a phase, after its children, into the published state `seq`. True where its count has moved.

    What the hot path has added is bounded here, and measured.
    """
    moved: float = 0
    if node.marked:
        node.marked, node.slow = False, True
        if node.done >= MAX_UNITS:
            node.done = MAX_UNITS - 1
        node.skipped = min(node.skipped, node.done)
        by_work = node.counted - node.skipped
        moved = by_work - node.by_work
        node.by_work = by_work
        if moved > 0 and node.pace is not None and node.status == "running":
            node.pace.sample(moved, now)
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
    return moved != 0


def followed_left(node: PhaseNode, now: float) -> float | None:
    """Seconds that are left of a `mirrored` phase of which nothing is left but followed sessions; None: more is left.

    They run side by side: it is what the longest of them says.
    """
    longest: float | None = None
    parts = 0
    for child in node.children.values():
        if child.status == "pending":
            return None
        if child.status != "running":
            continue
        if child.mirror is not None:
            left = child.mirror.left(now)
        else:
            left = followed_left(child, now) if child.mirrored else None
        if left is None:
            return None
        longest = left if longest is None else max(longest, left)
        parts += not child.weight
    if node.total is not None and node.counted + parts < node.total:
        return None
    usual = node.usual_children
    if node.total is None and usual is not None and len(node.children) + node.folded < usual - 0.5:
        return None
    return longest


def worked_for(node: PhaseNode, now: float) -> float:
    """Seconds worked on a phase in this attempt of the session, until now where it runs."""
    return node.spent + (0.0 if node.began is None else now - node.began)


def open_ended(node: PhaseNode) -> bool:
    """Whether more children may come, and nobody knows how many."""
    return node.total is None and node.usual_children is None and bool(node.children or node.folded)


def rate_and_eta(node: PhaseNode, now: float | None = None) -> tuple[float | None, float | None]:
    """Units a second, smoothed, without the skipped ones, and seconds to the phase's end; each None where not known.

    A phase with children goes at the rate of its fraction; what is left of followed sessions is what those say. The
    rate of one that has ended is as it was then.

    Args:
        node: The phase.
        now: As of when, on the monotonic clock; when the phase changed last unless given.
    """
    at = node.at if now is None else now
    running = node.status == "running"
    rate = None if node.pace is None else node.pace.value_at(at) if running else node.pace.value
    if node.mirror is not None:
        return rate, node.mirror.left(at) if running else None
    if not running or open_ended(node) or (node.total is not None and node.counted > node.total):
        return rate, None
    if node.mirrored and (followed := followed_left(node, at)) is not None:
        return rate, followed
    pace, left = rate, None if node.total is None else max(node.total - node.counted, 0)
    if node.children or node.folded:
        pace = None if node.child_pace is None else node.child_pace.value_at(at)
        left = None if node.fraction is None else 1.0 - node.fraction
    return rate, None if pace is None or left is None or left / pace >= FARTHEST else left / pace


@final
class Course:
    """How the count of one phase has gone over its time, as far as somebody looked."""

    __slots__ = ("first_total", "fraction", "passed", "seen", "spent")

    def __init__(self) -> None:
        self.first_total: float | None = None
        self.passed: list[float] = []
        """Seconds spent on it when it came to each of `KNOTS`."""
        self.seen = 0
        self.fraction = 0.0
        self.spent = 0.0

    def profile(self, spent: float) -> tuple[float, ...]:
        """Which part of its time had passed at each of `KNOTS`; empty where too little was seen of it."""
        if self.seen < SEEN or spent <= 0:
            return ()
        parts = [min(seconds / spent, 1.0) for seconds in self.passed]
        return tuple(round(part, 4) for part in parts + [1.0] * (len(KNOTS) - len(parts)))


@final
class Courses(dict[str, Course]):
    """Those of the phases of a run, by their names."""

    __slots__ = ()

    def see(self, node: PhaseNode, fraction: float, spent: float) -> Course:
        """It has come so far in so many seconds; between two looks it is taken to have gone evenly."""
        course = self.get(node.name)
        if course is None:
            course = self[node.name] = Course()
        if course.first_total is None and node.total:
            course.first_total = node.total
        course.seen += 1
        passed = course.passed
        while len(passed) < len(KNOTS) and fraction >= KNOTS[len(passed)]:
            part = (KNOTS[len(passed)] - course.fraction) / (fraction - course.fraction)
            passed.append(course.spent + (spent - course.spent) * part)
        course.fraction, course.spent = max(fraction, course.fraction), spent
        return course


class Part(NamedTuple):
    """What one top-level phase brings to the estimate of the whole."""

    weight: float
    fraction: float | None
    """0 to 1; None: it is not known how far it is."""
    free: float
    """The part of `fraction` that needed no work."""
    spent: float
    """Seconds worked on it so far."""
    running: bool
    finished: bool
    eta: float | None
    """Its own estimate, from its own rate."""
    open_ended: bool = False
    """Whether more may come of it, nobody knows how much."""


def parts_of(nodes: Iterable[PhaseNode], now: float, courses: Courses) -> list[Part]:
    """What the phases bring to the estimate as of `now`, on the monotonic clock; sees how their counts go."""
    parts: list[Part] = []
    for node in nodes:
        fraction, running, spent = node.fraction, node.status == "running", worked_for(node, now)
        if running and node.total and fraction is not None:
            courses.see(node, fraction, spent)
        parts.append(
            Part(
                weight=node.weight,
                fraction=None if node.total is not None and node.counted > node.total else fraction,
                free=node.free,
                spent=spent,
                running=running,
                finished=node.status not in ("pending", "running"),
                open_ended=open_ended(node),
                eta=rate_and_eta(node, now)[1],
            )
        )
    return parts


def by_weights(parts: Sequence[Part]) -> tuple[float, float | None]:
    """Which part of the work is done, by weight, and seconds to the end of the session; None where nothing says.

    A phase of which nobody knows how far it is comes on by its time. One that is not over takes what its own rate says,
    else what its weight says at the pace of this run; what it takes beyond that is not known: where nothing else is
    left, there is no figure. Phases that run together take as long as the longest of them; what has not begun follows
    one after the other.
    """
    paid = sum(part.weight * max(part.fraction - part.free, 0.0) for part in parts if part.fraction is not None)
    spent = sum(part.spent for part in parts if part.fraction is not None)
    pace = spent / paid if paid > 0 and spent >= WARM_UP else None  # Seconds for one of weight.
    whole = done = 0.0
    for part in parts:
        whole += part.weight
        if part.finished or part.fraction is not None:
            done += part.weight * (part.fraction or 0.0)
        elif pace is not None and part.spent + pace * part.weight > 0:
            done += part.weight * part.spent / (part.spent + pace * part.weight)
    bar = min(done / whole, CAP) if whole > 0 else 0.0
    running = waiting = 0.0
    overdue = False
    for part in parts:
        if part.finished:
            continue
        left = part.eta
        if left is None and pace is not None:
            takes = pace * part.weight
            left = max(takes - part.spent, 0.0) if part.fraction is None else takes * (1.0 - part.fraction)
        if left is None or part.open_ended:
            return bar, None
        if part.running:
            overdue = overdue or (part.eta is None and not left)
            running = max(running, left)
        else:
            waiting += left
    total = running + waiting
    return bar, None if (overdue and not total) or total >= FARTHEST else total
