"""Distributions, and counts by pipeline: as cheap as plain ints, and put together only when somebody asks.

What names become labels elsewhere is bounded here: the first pipelines and phases that come get a name of
their own, all that come later share `other`, and so do phases that no pipeline declares.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, final

from ..protocol.snapshot import ENDED

PIPELINES: Final = 50
"""Pipelines that are counted by name."""

PHASES: Final = 200
"""Declared phases, of all pipelines together, that are counted by name."""

OTHER: Final = "other"
"""What has no name of its own: work without a pipeline, phases that none declares, and all beyond the bounds."""

LATENCIES: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds, for what should be quick."""

DURATIONS: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Upper bounds in seconds, for work: from a tenth of a second to a day."""

K = TypeVar("K", bound=Hashable)


@final
@dataclass(frozen=True, slots=True)
class Distribution:
    """How often a value fell where.

    Args:
        bounds: The upper bounds of the buckets, inclusive and rising.
        counts: How many fell into each bucket, and last how many were above all bounds; not cumulative.
        sum: All values, added up.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def __add__(self, other: Distribution) -> Distribution:
        """Both together; they must have the same bounds."""
        if self.bounds != other.bounds:
            raise ValueError(f"distributions over {self.bounds} and {other.bounds} do not add up")
        counts = tuple(one + two for one, two in zip(self.counts, other.counts, strict=True))
        return Distribution(self.bounds, counts, self.sum + other.sum)


@final
class Histogram:
    """A distribution as it is counted: one bisection and two additions for each value."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Counts one value, once unless told."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def frozen(self) -> Distribution:
        """What was counted so far."""
        return Distribution(self.bounds, tuple(self.counts), self.sum)


@final
class BoundedLabels(Generic[K]):
    """Gives the first `most` keys a place of their own, for ever; the others none."""

    __slots__ = ("_most", "_placed")

    def __init__(self, most: int) -> None:
        self._most = most
        self._placed: set[K] = set()

    def has(self, key: K) -> bool:
        """Whether the key has a place, taking the next one for it if there still is one."""
        if key in self._placed:
            return True
        if len(self._placed) >= self._most:
            return False
        self._placed.add(key)
        return True


@final
class PipelineMetrics:
    """How sessions ended and how long phases took, by pipeline.

    All rows of a pipeline are there from its first session on: whoever computes rates needs the zeros.
    """

    __slots__ = ("_phases", "_pipelines", "ended", "phase_seconds")

    def __init__(self) -> None:
        self._pipelines: BoundedLabels[str] = BoundedLabels(PIPELINES)
        self._phases: BoundedLabels[tuple[str, str]] = BoundedLabels(PHASES)
        self.ended: dict[str, dict[str, int]] = {}
        """Sessions by pipeline and status."""
        self.phase_seconds: dict[tuple[str, str], Histogram] = {}
        """By pipeline and phase."""
        self._open(OTHER)

    def begin(self, pipeline: str, phases: Iterable[str]) -> None:
        """A session of this pipeline, which declares these phases, has begun."""
        if pipeline in self.ended or not self._pipelines.has(pipeline):
            return
        self._open(pipeline)
        for phase in phases:
            self._histogram(pipeline, phase)

    def _open(self, pipeline: str) -> None:
        self.ended[pipeline] = dict.fromkeys(sorted(ENDED), 0)
        self.phase_seconds[pipeline, OTHER] = Histogram(DURATIONS)

    def end(self, pipeline: str | None, status: str) -> None:
        """A session has ended; one of a pipeline that no session here has begun counts among the others."""
        self.ended.get(pipeline or OTHER, self.ended[OTHER])[status] += 1

    def phase(self, pipeline: str | None, phase: str | None, seconds: float) -> None:
        """A phase has completed; None: one that no pipeline declares."""
        self._histogram(pipeline or OTHER, phase or OTHER).observe(seconds)

    def _histogram(self, pipeline: str, phase: str) -> Histogram:
        found = self.phase_seconds.get((pipeline, phase))
        if found is None and pipeline in self.ended and self._phases.has((pipeline, phase)):
            found = self.phase_seconds[pipeline, phase] = Histogram(DURATIONS)
        return found or self.phase_seconds[pipeline if pipeline in self.ended else OTHER, OTHER]
