"""What a tracker counts: plain ints on the inside, a frozen value to whoever asks.

Three kinds of not-delivered are never mixed: *conflated* (harmless, a newer state replaced an older one),
*dropped* (an event or an update was lost), *skipped* (a persist that was coalesced, unchanged, or failed).

What names become labels elsewhere is bounded here: the first pipelines and phases that come get a name of
their own, all that come later share `other`, and so do phases that no pipeline declares.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Final, Generic, TypeVar, final

from ..protocol.snapshot import ENDED
from .logs import BURST, Throttle, log_event

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


@dataclass(slots=True)
class Tally:
    """The counts, as they are incremented."""

    sessions_begun: int = 0
    sessions_ended: int = 0
    sessions_lost: int = 0
    states: int = 0
    """States published by sessions that have ended, or told to subscribers; see `TrackerStatistics.states`."""
    broadcasts: int = 0
    conflated: int = 0
    events_dropped: int = 0
    subscribers_dropped: int = 0
    ends_dropped: int = 0
    persists: int = 0
    persists_coalesced: int = 0
    persists_unchanged: int = 0
    persists_failed: int = 0
    unreadable: int = 0
    final_lost: int = 0
    parts_left: int = 0
    renewals: int = 0
    late: int = 0
    refused: int = 0
    slow_loops: int = 0
    slow_until: float = 0.0
    """When the newest of those ended, on the monotonic clock."""
    persist_seconds: Histogram = field(default_factory=lambda: Histogram(LATENCIES))
    delivery_lag: Histogram = field(default_factory=lambda: Histogram(LATENCIES))
    ledger: PipelineMetrics = field(default_factory=PipelineMetrics)
    throttle: Throttle = field(default_factory=Throttle)
    """For what this tracker logs and may come in floods."""

    def pass_over(self, session_id: str, error: Exception) -> None:
        """An entry of the store cannot be read: it is counted, and logged at a bounded rate."""
        self.unreadable += 1
        log_event(
            logging.WARNING,
            "entry_unreadable",
            "passed over: session %r: %s",
            session_id,
            error,
            throttle=self.throttle,
            most=BURST,
            session=session_id,
            reason=error,
        )


@final
@dataclass(frozen=True, slots=True)
class TrackerStatistics:
    """Counts since the tracker was opened, and how it stands now."""

    sessions_open: int
    sessions_stalled: int
    """Those of them that have not advanced for longer than they are given."""
    sessions_missing: int
    """Sessions in the store that run without a lease: their owners are not heard of any more. As last looked for."""
    sessions_begun: int
    sessions_ended: int
    sessions_lost: int
    """Sessions of owners that were not heard of any more, written off here."""
    subscribers: int
    states: int
    """Published states of all sessions."""
    broadcasts: int
    """Updates and snapshots handed to subscribers."""
    conflated: int
    """Published states that a subscriber did not see one by one, for a newer one came with them."""
    events_dropped: int
    """Custom events that a subscriber did not get; each was told as a gap."""
    subscribers_dropped: int
    """Clients of servers that were dropped because they did not read, or answer; each one once."""
    ends_dropped: int
    """Last states of sessions that a watcher of all did not get, for it left too many of them unread."""
    persists: int
    """States that the store has taken, those that claims bring among them."""
    persists_coalesced: int
    """Published states that were not stored, for a newer one was stored in their place."""
    persists_unchanged: int
    """Persists that were not needed: the store held the newest state."""
    persists_failed: int
    """Tries that the store did not answer or refused."""
    unreadable: int
    """Stored entries that could not be read and were passed over, each time that one was come across."""
    final_lost: int
    """Final states that did not reach the store; each was logged as an error."""
    parts_left: int
    """Parts of sessions that were cancelled with them, and had not ended when those were left; each was logged."""
    renewals: int
    """Leases renewed."""
    late: int
    """Updates that came for what had ended."""
    refused: int
    """Bad input that was dropped, with `strict=False`."""
    slow_loops: int
    """Times that the event loop stood still while somebody watched a session: something blocks it."""
    store_up: bool
    """Whether the store answers: it can be read, and nothing waits that it did not take the last time."""
    store_partitions_down: Sequence[int]
    """The numbers of the partitions of a store in a Redis Cluster whose node did not answer the last time: what stands
    there cannot be read and waits to be stored. Of any other store there are none."""
    sessions_followed: int
    """Sessions of other processes that somebody watches here."""
    read_lag: float
    """Seconds since it was last known what news there is of them in the store; some 1 where Redis answers."""
    persist_lag: float
    """Seconds for which the open session that waits longest has waited for the store to take its newest state."""
    persist_seconds: Distribution = field(repr=False)
    """Seconds that the store took for a batch of writes, of those that it answered."""
    delivery_lag: Distribution = field(repr=False)
    """Seconds from when a state was published until a subscriber who waited for it had it."""
    ended: Mapping[str, Mapping[str, int]] = field(repr=False)
    """Sessions that have ended, by pipeline and status; what has no pipeline is under "other"."""
    phase_seconds: Mapping[tuple[str, str], Distribution] = field(repr=False)
    """Seconds that completed phases took, by pipeline and phase; what no pipeline declares is under "other"."""

    @classmethod
    def of(cls, tally: Tally, *, states: int, store: object, **standing: float | bool) -> TrackerStatistics:
        """The tally, frozen, with what the open sessions and the store have counted, and how things stand."""
        counts = {name: getattr(tally, name) for name in COUNTS}
        counts["states"] += states
        counts["unreadable"] += getattr(store, "unreadable", 0)  # Of a store that passes over what it cannot read.
        return cls(
            **counts,
            **standing,  # type: ignore[arg-type]
            store_partitions_down=tuple(getattr(store, "partitions_down", ())),
            persist_seconds=tally.persist_seconds.frozen(),
            delivery_lag=tally.delivery_lag.frozen(),
            ended={pipeline: dict(row) for pipeline, row in tally.ledger.ended.items()},
            phase_seconds={key: histogram.frozen() for key, histogram in tally.ledger.phase_seconds.items()},
        )


COUNTS = tuple(found.name for found in fields(Tally) if found.type == "int")
assert set(COUNTS) < {found.name for found in fields(TrackerStatistics)}
