"""What a run shows by itself.

Where no earlier ones are known, the declared weights say how far it is and how long it may take. And it is seen how its
counts go over the time, which teaches what to expect of later runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, final

from .fraction import phase_eta
from .history import KNOTS
from .rate import CAP, FARTHEST, WARM_UP

if TYPE_CHECKING:
    from .phase import PhaseNode

SEEN: Final = 8
"""How often a phase must have been looked at to say how its count went over its time."""


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
        fraction, running, spent = node.fraction, node.status == "running", node.worked_for(now)
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
                open_ended=node.open_ended,
                eta=phase_eta(node, now),
            )
        )
    return parts


def by_weights(parts: Sequence[Part]) -> tuple[float, float | None]:
    """Which part of the work is done, by weight, and seconds to the end of the session, as `_remaining()` says.

    A phase of which nobody knows how far it is comes on by its time.
    """
    paid = sum(part.weight * max(part.fraction - part.free, 0.0) for part in parts if part.fraction is not None)
    spent = sum(part.spent for part in parts if part.fraction is not None)
    pace = spent / paid if paid > 0 and spent >= WARM_UP else None  # Seconds for one of weight.
    whole = done = 0.0
    for part in parts:
        whole += part.weight
        if part.finished:
            done += part.weight * (part.fraction or 0.0)
        elif part.fraction is not None:
            done += part.weight * part.fraction
        elif pace is not None and part.spent + pace * part.weight > 0:
            done += part.weight * part.spent / (part.spent + pace * part.weight)
    return min(done / whole, CAP) if whole > 0 else 0.0, _remaining(parts, pace)


def _remaining(parts: Sequence[Part], pace: float | None) -> float | None:
    """Seconds to the end of a session; None where nothing supports a figure.

    A running phase counts by its own rate, else by its weight at the pace of this run, the seconds for one of weight.
    What one takes beyond that is not known; where nothing else is left, there is no figure.
    Phases that run together count as the longest of them; what has not begun follows one after the other.
    """
    running = waiting = 0.0
    overdue = False
    for part in parts:
        if part.finished:
            continue
        if part.open_ended:
            return None
        if part.eta is not None:
            estimate = part.eta
        elif pace is None:
            return None
        elif part.fraction is None:
            estimate = max(pace * part.weight - part.spent, 0.0)
        else:
            estimate = pace * part.weight * (1.0 - part.fraction)
        if part.running:
            overdue = overdue or (part.eta is None and not estimate)
            running = max(running, estimate)
        else:
            waiting += estimate
    total = running + waiting
    return None if (overdue and not total) or total >= FARTHEST else total
