"""The collector that Prometheus' registries ask: plain ints are read when a scrape comes, and not before.

1. One collector for a registry, however many trackers: their counts are added up.
2. Counts never fall, for Prometheus takes that for a restart of the process. When a tracker is left, what it has
   counted stays in the sums, and its gauges go.
3. A scrape that comes in another thread (as with `prometheus_client.start_http_server`) is answered by the event
   loop, between two steps of its tasks: what it reads is one moment. Of a loop that does not answer in `PATIENCE`,
   one for all trackers, the counts of the last time are told, and no gauges: their series end, which alerts can see.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, final
from weakref import WeakKeyDictionary

import trio
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from ..telemetry.histograms import OTHER, PHASES, PIPELINES, BoundedLabels, Distribution
from ..telemetry.logs import log_event
from .families import FAMILIES, PREFIX, Family, Labels, Value, Values, values

if TYPE_CHECKING:
    from ..telemetry.statistics import TrackerStatistics
    from ..tracker import ProgressTracker

PATIENCE: Final = 2.0
"""Seconds that a scrape in another thread waits for an event loop."""

LONGEST_ACCEPT: Final = 2000
"""Characters of an `Accept` that is looked at; Prometheus sends some 300."""

_CONTENT_TYPE: Final = re.compile(
    r"(?:application/openmetrics-text|text/plain); version=[0-9]{1,3}(?:\.[0-9]{1,3}){0,3}; charset=utf-8"
    r"(?:; escaping=[a-z0-9-]+)?"
)


@final
class _Member:
    """A tracker that is collected, and what it has told last."""

    def __init__(self, tracker: ProgressTracker) -> None:
        try:
            self._token = trio.lowlevel.current_trio_token()
        except RuntimeError:
            raise RuntimeError("a tracker is collected from the event loop that runs it: call this there") from None
        self._tracker = tracker
        self._told = threading.Condition()
        self._readings = 0
        self.last: TrackerStatistics = tracker.statistics()

    def read(self) -> None:
        """Reads the tracker; in its event loop."""
        try:
            last = self._tracker.statistics()
        except Exception as error:  # It would end the whole run: this may be called by Trio itself.
            log_event(logging.ERROR, "metrics_failed", "the statistics of a tracker cannot be read", error=error)
            return
        with self._told:
            self.last = last
            self._readings += 1
            self._told.notify_all()

    def ask(self) -> int | None:
        """Has it read, from any thread: now in its event loop, or else soon.

        Returns:
            Which reading that will be; None where there is none any more.
        """
        try:
            here = trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:
            here = False
        with self._told:
            wanted = self._readings + 1
        if here:
            self.read()
            return wanted if self._readings >= wanted else None
        try:
            self._token.run_sync_soon(self.read, idempotent=True)
        except trio.RunFinishedError:
            return None
        return wanted

    def answered(self, wanted: int | None, until: float) -> bool:
        """Waits for a reading, by `time.monotonic()`; False where the event loop does not answer."""
        with self._told:
            return wanted is not None and self._told.wait_for(
                lambda: self._readings >= wanted, max(until - time.monotonic(), 0)
            )


@final
class Collector:
    """The metrics of trackers, for a Prometheus registry: `registry.register(Collector(tracker))`.

    See `register()` for the simpler way. Scrapes may come in any thread, several at a time.

    Args:
        trackers: To be collected from the beginning.

    Raises:
        RuntimeError: Not called in the event loop that runs the trackers.
        SessionClosedError: A tracker has been left.
    """

    def __init__(self, *trackers: ProgressTracker) -> None:
        self._lock = threading.Lock()
        self._members: dict[ProgressTracker, _Member] = {}
        self._closed: Values = {}
        self._pipelines: BoundedLabels[str] = BoundedLabels(PIPELINES)
        self._phases: BoundedLabels[Labels] = BoundedLabels(PHASES)
        for tracker in trackers:
            self.add(tracker)

    def add(self, tracker: ProgressTracker) -> None:
        """Collects a further tracker, until it is left; one that is collected already just stays.

        Raises:
            RuntimeError: Not called in the event loop that runs it.
            SessionClosedError: It has been left.
        """
        if tracker in self._members:
            return
        member = _Member(tracker)
        tracker.on_left(lambda: self.remove(tracker))
        with self._lock:
            self._members[tracker] = member

    def remove(self, tracker: ProgressTracker) -> None:
        """Stops collecting a tracker: its gauges go, and its counts stay as they are. Twice is once.

        Call it in the tracker's event loop.
        """
        member = self._members.get(tracker)
        if member is None:
            return
        member.answered(member.ask(), time.monotonic() + PATIENCE)
        with self._lock:
            if self._members.pop(tracker, None) is member:
                self._add(self._closed, values(member.last), gauges=False)

    @property
    def trackers(self) -> tuple[ProgressTracker, ...]:
        """Those that are collected now."""
        return tuple(self._members)

    def describe(self) -> Iterator[Metric]:
        """The metrics without their values: what a registry holds against others when it takes a collector in."""
        return (_metric(family, {}) for family in FAMILIES)

    def collect(self) -> Iterator[Metric]:
        """The metrics with their values; what registries call for a scrape."""
        # All are asked before the first is waited for: those of one loop that is stuck cost its patience once.
        asked = [(member, member.ask()) for member in tuple(self._members.values())]
        until = time.monotonic() + PATIENCE
        answered = {member for member, wanted in asked if member.answered(wanted, until)}
        total: Values = {}
        with self._lock:
            self._add(total, self._closed, gauges=False)
            for member in self._members.values():
                self._add(total, values(member.last), gauges=member in answered)
        return (_metric(family, total.get(family.name, {})) for family in FAMILIES)

    def _add(self, total: Values, more: Values, *, gauges: bool) -> None:
        for family in FAMILIES:
            if family.kind == "gauge" and not gauges:
                continue
            merged = total.setdefault(family.name, {})
            for labels, value in more.get(family.name, {}).items():
                place = self._place(family, labels)
                known = merged.get(place)
                merged[place] = value if known is None else _both(family, known, value)

    def _place(self, family: Family, labels: Labels) -> Labels:
        """The labels, bounded once more: trackers may come and go, each with pipelines of its own."""
        if "pipeline" not in family.labels or labels[0] == OTHER:
            return labels
        pipeline, rest = labels
        if not self._pipelines.has(pipeline):
            return (OTHER, OTHER if "phase" in family.labels else rest)
        if "phase" in family.labels and rest != OTHER and not self._phases.has(labels):
            return (pipeline, OTHER)
        return labels


def _both(family: Family, one: Value, other: Value) -> Value:
    if isinstance(one, Distribution):
        assert isinstance(other, Distribution)
        return one + other
    assert not isinstance(other, Distribution)
    return family.merge(one, other)


def _metric(family: Family, samples: dict[Labels, Value]) -> Metric:
    name = PREFIX + family.name
    if family.kind == "histogram":
        histogram = HistogramMetricFamily(name, family.help, labels=family.labels, unit=family.unit)
        for labels, value in samples.items():
            assert isinstance(value, Distribution)
            histogram.add_metric(labels, _buckets(value), value.sum)
        return histogram
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(name, family.help, labels=family.labels, unit=family.unit)
    for labels, value in samples.items():
        assert not isinstance(value, Distribution)
        metric.add_metric(labels, float(value))
    return metric


def _buckets(distribution: Distribution) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus has them."""
    buckets: list[tuple[str, float]] = []
    count = 0
    for bound, more in zip((*map(str, distribution.bounds), "+Inf"), distribution.counts, strict=True):
        count += more
        buckets.append((bound, count))
    return buckets


_collectors: WeakKeyDictionary[CollectorRegistry, Collector] = WeakKeyDictionary()


def register(tracker: ProgressTracker, registry: CollectorRegistry = REGISTRY) -> Collector:
    """Has a registry tell the metrics of a tracker. Of several trackers in one registry, the sums are told.

    When the tracker is left, its gauges go and its counts stay: to Prometheus a counter that falls is one of a
    process that was restarted. `unregister()` takes a tracker out before, and with the last one all metrics.

    Args:
        tracker: Whose metrics.
        registry: Where to; prometheus_client's default one unless given.

    Returns:
        The registry's collector.

    Raises:
        RuntimeError: Not called in the event loop that runs the tracker.
        SessionClosedError: The tracker has been left.
        ValueError: The registry has other metrics of these names.
    """
    collector = _collectors.get(registry)
    if collector is None:
        collector = Collector(tracker)
        registry.register(collector)
        _collectors[registry] = collector
        return collector
    collector.add(tracker)
    try:
        registry.register(collector)  # Somebody may have taken it out by hand.
    except ValueError:
        pass
    return collector


def unregister(tracker: ProgressTracker, registry: CollectorRegistry = REGISTRY) -> None:
    """Takes a tracker out of a registry, and with the last one all metrics. Call it in the tracker's event loop."""
    collector = _collectors.get(registry)
    if collector is not None:
        collector.remove(tracker)
        if not collector.trackers:
            del _collectors[registry]
            registry.unregister(collector)


class _Reading:
    """One tracker at this moment, as a collector."""

    def __init__(self, tracker: ProgressTracker) -> None:
        self._values = values(tracker.statistics())

    def collect(self) -> Iterator[Metric]:
        return (_metric(family, self._values[family.name]) for family in FAMILIES)


def exposition(tracker: ProgressTracker, accept: str | None = None) -> tuple[str, bytes]:
    """The metrics of one tracker as text: what a server answers to a scrape. Call it in the tracker's event loop.

    Has no checkpoint, and registers nothing.

    Args:
        tracker: Whose metrics.
        accept: The request's `Accept` header: OpenMetrics where it asks for that, else Prometheus' own text format.

    Returns:
        The `Content-Type`, and the body.
    """
    registry = CollectorRegistry()
    registry.register(_Reading(tracker))
    asked = accept if accept is not None and len(accept) <= LONGEST_ACCEPT else ""
    try:
        encode, content_type = choose_encoder(asked)
    except (TypeError, ValueError):  # Of a version that is none, it does not say that it is none.
        encode, content_type = choose_encoder("")
    if not _CONTENT_TYPE.fullmatch(content_type):  # It repeats what was asked for as the version, whatever that is.
        encode, content_type = choose_encoder("")
    return content_type, encode(registry)
