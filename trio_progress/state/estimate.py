"""Which part of a run's time has passed, and how long the rest may take, from earlier runs and from this one.

1. A phase that runs is expected to take what its units usually take, times its total; without a total, what it usually
   takes, times what this run is to the usual. The further it has come, the more its own pace counts: with the part `y`
   of its time passed, `(1 - y) * (spent + (1 - y) * expected)` is left. How far it is in *time* follows from how far it
   is in its count by what earlier runs have shown (`PhaseHistory.profile`): the last items may be the slow ones.
2. Where it is not known how far it is, what is left is what was expected less what was spent, and never nothing: what
   is overdue is taken to need a quarter more.
3. What this run is to the usual is the mean of what its phases are to theirs, the longer ones counting more, with a
   quarter of the usual whole on the side of "as usual".
4. A phase that waits counts as it usually takes, times that, times the share of its time in which it runs alone, times
   how often it is worked on at all. What runs together counts by those shares, and is at least the longest of it.
5. The bar is the time that was worked divided by that and the rest. It only rises: at most four times as fast as it
   should, and at a quarter of that where it would have to fall. It stands while the work does.
6. Where nothing is left of a phase but sessions that it follows, what is left is what they say.
7. In a first run the weights say what to expect; see `by_weights()`. What has no history in a later run is expected to
   take what phases took that the pipeline no longer has (it was renamed), else its weight at the pace of the others.

All of it is pure: no clock is read, and what it is given is not changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from math import exp, log
from typing import TYPE_CHECKING, Final, NamedTuple, final

from .fraction import CAP, FARTHEST, Courses, followed_left, worked_for
from .history import KNOTS, LEAST, SPREAD, Lesson, PhaseLesson
from .usual import Usual, passed_part, usual_by_name, usual_of

if TYPE_CHECKING:
    from .history import PipelineHistory
    from .phase import PhaseNode

_SKIPPED: Final = PhaseLesson()
"""What a run teaches of a phase that it has skipped."""

AS_USUAL: Final = 0.25
"""The part of the usual whole that speaks for "this run goes as usual"."""

OVERDUE: Final = 0.25
"""What is overdue is taken to need this part of the time spent on it, once more."""

TAIL: Final = 0.95
"""The part of a phase's time that has passed when all is counted, where earlier runs do not tell."""

MOSTLY: Final = 0.99
"""A phase of which more than this was passed over says nothing of how long it takes."""

ALL_COUNTED: Final = KNOTS[-1]
"""From this fraction on all is counted; where it goes on, only time tells."""

FASTEST: Final = 4.0
SLOWEST: Final = 0.25
"""The paces of the bar, as multiples of the one at which it would reach its end in time."""

NEAR_END: Final = 0.05
"""The part of the whole by which an estimate of little can be off without being a mistake; see `Estimator.range`."""

HELD: Final = 0.85
"""The part of a run's estimates that is to lie in its own range: then the next run's hold four times of five."""

SAMPLES: Final = 32
"""Estimates of one run that are kept to see how far off they were."""

FAR: Final = 7.0
"""The logarithm of the most that a run is taken to differ from the usual."""

COUNTED: Final = 0.9
"""How far a phase without a total can be by its usual count."""


class Estimate(NamedTuple):
    """What is estimated of a run at one moment."""

    progress: float
    """The bar: 0 to `CAP`."""
    eta: float | None
    """Seconds that are left; None: not known."""
    range: tuple[float, float] | None
    """Between which seconds the rest is, four times of five; None: not known."""


class _Running(NamedTuple):
    """One phase that runs."""

    spent: float
    expected: float
    """How long it takes, from what was known before it began, in a run as usual."""
    by_units: bool
    """Whether that is from its total, and so knows of the size of this run."""
    passed: float | None
    """The part of its time that has passed, by its count; None: only its time tells."""
    tail: tuple[float, float] | None
    """Where all is counted: seconds spent until then, and the part of the time that these usually are."""
    alone: float
    followed: float | None = None
    """What is left as the sessions say that it follows, where nothing else is left of it."""

    def left(self, like: float) -> float:
        """Seconds that it still takes, in a run that is `like` times the usual."""
        if self.followed is not None:
            return self.followed
        expected = self.expected * like
        if self.tail is not None:
            spent, part = self.tail
            rest = (1 - part) * (part * (spent / max(part, 0.02)) + (1 - part) * expected)
            return overdue(rest, self.spent - spent)
        if self.passed is None:
            return overdue(expected, self.spent)
        return (1 - self.passed) * (self.spent + (1 - self.passed) * expected)


def overdue(expected: float, spent: float) -> float:
    """What is left of what was expected to take so long; never nothing, however long it takes."""
    left = expected - spent
    if left >= OVERDUE * spent:
        return left
    return max(left, OVERDUE * spent * (exp(-1.0) if left > 0 else 1.0))


@final
class Estimator:
    """The estimate of one run.

    Args:
        history: What earlier runs of the pipeline have taught; None: nothing.
        weights: The phases of the pipeline, and what each weighs; None: they come as they are begun.
        given: Seconds that phases are said to take, by somebody who knows; earlier runs know better.
    """

    __slots__ = ("_at", "_begun", "_next", "_stride", "_trail", "bar", "courses", "spread", "usual", "whole")

    def __init__(
        self,
        history: PipelineHistory | None,
        weights: Mapping[str, float] | None,
        given: Mapping[str, float] | None = None,
    ) -> None:
        self.usual: Final = usual_by_name(history) if weights is None else usual_of(history, weights, given or {})
        """What is expected of each phase; empty: nothing is known of any, and the weights say what to expect."""
        self.whole: Final = sum(usual.seconds for usual in self.usual.values())
        self.spread = SPREAD if history is None else history.spread
        self.courses: Final = Courses()
        self.bar = 0.0
        self._begun: dict[str, float] | None = {} if weights is None else None
        """Where nobody declares which phases there are: those that have begun, and the seconds of the new ones."""
        self._at: float | None = None
        self._trail: list[tuple[float, float, float]] = []
        """Seconds worked, seconds left and the bar, as they were told."""
        self._stride = max(self.whole / SAMPLES, LEAST)
        self._next = 0.0

    def observe(self, nodes: Iterable[PhaseNode], worked: float, now: float, *, moving: bool = True) -> Estimate:
        """What is estimated now; moves the bar.

        Args:
            nodes: The phases of the pipeline.
            worked: Seconds that were worked, in all attempts.
            now: The monotonic clock.
            moving: Whether the work goes on; the bar stands where it does not.
        """
        rest = self._rest(nodes, now)
        whole = worked + rest
        bar = self._move(worked / whole if whole > 0 else 0.0, rest, now, moving)
        if worked >= self._next:
            self._sample(worked, rest, bar)
        # A little may be off by much: a part of the whole is added on both sides of the ratio.
        slack = NEAR_END * whole
        factor = exp(self.spread)
        return Estimate(bar, rest, (max((rest + slack) / factor - slack, 0.0), (rest + slack) * factor - slack))

    def _rest(self, nodes: Iterable[PhaseNode], now: float) -> float:
        """Seconds that are left."""
        known = ratios = sized = waiting = 0.0
        running: list[_Running] = []
        if self._begun is not None:
            waiting = self._to_come(self._begun, nodes, now)
        for node in nodes:
            status = node.status
            usual = self.usual[node.name]
            seconds = usual.seconds
            if status == "pending":
                waiting += usual.waiting
            elif status == "running":
                phase = self._running(node, usual, now)
                running.append(phase)
                if phase.passed is not None or phase.tail is not None:
                    left = phase.left(1.0)
                    certain = seconds * (phase.spent / (phase.spent + left) if phase.passed is None else phase.passed)
                    takes = phase.spent + left
                elif phase.spent > phase.expected:
                    certain, takes = seconds * 0.5, phase.spent * 1.1
                else:
                    continue
                known += certain
                takes = max(takes, LEAST)
                ratios += certain * log(takes / seconds)
                sized += certain * log(takes / phase.expected)
            elif status == "completed" and node.free < MOSTLY:
                took = max((node.before + node.spent) / needed_part(node), LEAST)
                known += seconds
                ratios += seconds * log(took / seconds)
                sized += seconds * log(took / max(usual.expected(node.total)[0], LEAST))
        doubt = known + AS_USUAL * self.whole
        like = exp(max(min(ratios / doubt, FAR), -FAR))
        rest, longest = waiting * like, 0.0
        if running:
            like_sized = exp(max(min(sized / doubt, FAR), -FAR))
            for phase in running:
                left = phase.left(like_sized if phase.by_units else like)
                longest = max(longest, left)
                rest += left * phase.alone
        return min(max(rest, longest), FARTHEST)

    def _to_come(self, begun: dict[str, float], nodes: Iterable[PhaseNode], now: float) -> float:
        """Seconds of what earlier runs had and this one has not begun, where nobody declares which phases there are.

        What is new takes the place of that: the phases of each run may have names of their own.
        """
        for node in nodes:
            usual = self.usual.get(node.name)
            if usual is None:
                mean = self.whole / max(len(self.usual), 1)
                usual = self.usual[node.name] = Usual(max(mean, LEAST), "weight", 0.0, 1.0, None)
            begun[node.name] = 0.0
            if usual.history is None:
                spent = worked_for(node, now)
                begun[node.name] = max(spent, usual.seconds) if node.status == "running" else spent
        coming = sum(usual.waiting for name, usual in self.usual.items() if name not in begun)
        return max(coming - sum(begun.values()), 0.0)

    def _running(self, node: PhaseNode, usual: Usual, now: float) -> _Running:
        spent = worked_for(node, now)
        expected, count = usual.expected(node.total)
        needed = 1.0 - min(node.free, MOSTLY)
        expected = max(expected * needed, LEAST)
        fraction = None if node.fraction is None else max(node.fraction - node.free, 0.0) / needed
        history, tail = usual.history, None
        followed = followed_left(node, now) if node.mirrored else None
        if followed is not None:
            passed = spent / (spent + followed) if spent > 0 else None
            return _Running(spent, expected, count is not None, passed, None, usual.alone, followed)
        if node.total is None:
            if fraction is None and history is not None and history.count and node.done:
                fraction = min(node.done / history.count, COUNTED)
            return _Running(spent, expected, False, fraction or None, None, usual.alone)
        profile = () if history is None else history.profile
        if fraction is not None:
            course = self.courses.see(node, fraction, spent)
            if fraction >= ALL_COUNTED:
                if len(course.passed) == len(KNOTS):
                    tail = (course.passed[-1], profile[-1] if profile else TAIL)
                fraction = None
            elif profile:
                fraction = passed_part(profile, fraction)
        return _Running(spent, expected, count is not None, fraction or None, tail, usual.alone)

    def _move(self, target: float, rest: float, now: float, moving: bool) -> float:
        """Takes the bar towards where it should be."""
        if self._at is None:
            self.bar = max(self.bar, target)
        elif moving:
            step = (1.0 - self.bar) / max(rest, LEAST) * max(now - self._at, 0.0)
            if target > self.bar:
                self.bar = min(target, self.bar + FASTEST * step)
            else:
                self.bar += SLOWEST * step
        self._at = now if self._at is None else max(self._at, now)
        self.bar = min(self.bar, CAP)
        return self.bar

    def _sample(self, worked: float, rest: float, bar: float) -> None:
        self._trail.append((worked, rest, bar))
        if len(self._trail) > SAMPLES:
            del self._trail[1::2]
            self._stride *= 2
        self._next = worked + self._stride

    def lesson(self, nodes: Iterable[PhaseNode], worked: float, at: float, *, completed: bool) -> Lesson:
        """What the run teaches, at its end.

        Args:
            nodes: The phases of the pipeline.
            worked: Seconds that were worked, in all attempts.
            at: When it ended; seconds since 1970.
            completed: Whether the session has: only then is it known how long it takes.
        """
        nodes = list(nodes)
        shares = alone_shares(nodes)
        phases: dict[str, PhaseLesson] = {}
        for node in nodes:
            if node.status == "skipped":
                phases[node.name] = _SKIPPED
            elif node.status == "completed" and node.name in shares and node.free < MOSTLY:
                course = self.courses.get(node.name)
                count = node.done
                phases[node.name] = PhaseLesson(
                    seconds=node.before + node.spent,
                    needed=needed_part(node),
                    total=node.total,
                    count=count,
                    first_total=None if course is None else course.first_total,
                    alone=shares[node.name],
                    children=(node.folded + len(node.children) or None) if node.total is None else None,
                    profile=() if course is None or node.free or node.before else course.profile(node.spent),
                )
        if self._begun is not None and completed:
            absent = self.usual.keys() - self._begun.keys() - {node.name for node in nodes}
            phases.update(dict.fromkeys(sorted(absent), PhaseLesson()))
        miss = error = None
        if completed and self.usual and self._trail and worked > 0:
            misses = sorted(
                abs(log((worked - at + NEAR_END * (at + rest)) / (rest + NEAR_END * (at + rest))))
                for at, rest, _ in self._trail
                if at + rest > 0 and worked >= at
            )
            if misses:
                miss = misses[min(int(HELD * len(misses)), len(misses) - 1)]
            error = sum(abs(bar - at / worked) for at, _, bar in self._trail) / len(self._trail)
        return Lesson(at=at, phases=phases, miss=miss, error=error)


def needed_part(node: PhaseNode) -> float:
    """The part of a phase that its time was for: what was passed over took none, unless an earlier attempt did it."""
    return 1.0 if node.before else 1.0 - node.free


def alone_shares(nodes: Iterable[PhaseNode]) -> dict[str, float]:
    """The share of its time that is each phase's own, of those that have run in this attempt of the session.

    A second in which three phases run is a third of a second of each.
    """
    spans = {
        node.name: (node.started_after, node.started_after + node.elapsed)
        for node in nodes
        if node.started_after is not None and node.elapsed is not None
    }
    times = sorted({time for span in spans.values() for time in span})
    own = dict.fromkeys(spans, 0.0)
    for begin, end in pairwise(times):
        together = [name for name, (first, last) in spans.items() if first <= begin and end <= last]
        for name in together:
            own[name] += (end - begin) / len(together)
    return {
        name: min(own[name] / (last - first), 1.0) if last > first else 1.0 for name, (first, last) in spans.items()
    }
