"""The collector for Prometheus' registries: the trackers' plain ints are read at a scrape, and not before.

1. A registry has one collector for any number of trackers, whose counts are added up.
2. Counts never fall, for Prometheus takes that for a restart of the process. When a tracker is left, its counts stay
   in the sums, and its gauges end.
3. A scrape in another thread (as with `prometheus_client.start_http_server`) is answered by the event loop, between
   two steps of its tasks: its values belong to one moment. Where the loop does not answer within `PATIENCE`, one for
   all trackers, the scrape gets their last counts and no gauges: those series end, which alerts can see.
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

from ..telemetry.logs import log_event
from ..telemetry.statistics import OTHER, PHASES, PIPELINES, BoundedLabels, Distribution
from .families import FAMILIES, PREFIX, Family, Labels, Value, Values, values

if TYPE_CHECKING:
    from ..telemetry.statistics import TrackerStatistics
    from ..tracker import ProgressTracker

PATIENCE: Final = 2.0
"""Seconds that a scrape in another thread waits for an event loop."""

LONGEST_ACCEPT: Final = 2000
"""Characters of an `Accept` that is parsed; Prometheus sends some 300."""

_CONTENT_TYPE: Final = re.compile(
    r"(?:application/openmetrics-text|text/plain); version=[0-9]{1,3}(?:\.[0-9]{1,3}){0,3}; charset=utf-8"
    r"(?:; escaping=[a-z0-9-]+)?"
)


@final
class _Member:
    """A tracker that is collected, and its last statistics."""

    def __init__(self, tracker: ProgressTracker) -> None:
        try:
            self._token = trio.lowlevel.current_trio_token()
        except RuntimeError:
            raise RuntimeError("a tracker is collected from the event loop that runs it: call this there") from None
        self._tracker = tracker
        self._new_reading = threading.Condition()
        self._readings = 0
        self.last: TrackerStatistics = tracker.statistics()

    def read(self) -> None:
        """Reads the tracker; in its event loop."""
        try:
            last = self._tracker.statistics()
        except Exception as error:  # Trio may call this itself, and would end the whole run.
            log_event(logging.ERROR, "metrics_failed", "the statistics of a tracker cannot be read", error=error)
            return
        with self._new_reading:
            self.last = last
            self._readings += 1
            self._new_reading.notify_all()

    def ask(self) -> int | None:
        """Requests a reading, from any thread: done at once in the event loop, or else soon.

        Returns:
            The number of that reading; None where the loop has ended or the reading failed.
        """
        try:
            here = trio.lowlevel.current_trio_token() is self._token
        except RuntimeError:
            here = False
        with self._new_reading:
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
        """Waits for a reading until a time of `time.monotonic()`; False where the event loop does not answer."""
        with self._new_reading:
            return wanted is not None and self._new_reading.wait_for(
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
        """Collects a further tracker until it is left; does nothing for one that is collected already.

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
        """Stops collecting a tracker: its gauges end, its counts stay. Idempotent; call it in its event loop."""
        member = self._members.get(tracker)
        if member is None:
            return
        member.answered(member.ask(), time.monotonic() + PATIENCE)
        with self._lock:
            if self._members.pop(tracker, None) is member:
                self._add(self._closed, values(member.last), gauges=False)

    @property
    def trackers(self) -> tuple[ProgressTracker, ...]:
        """The trackers that are collected now."""
        return tuple(self._members)

    def describe(self) -> Iterator[Metric]:
        """The metrics without values, which a registry compares with those that it has."""
        return (_metric(family, {}) for family in FAMILIES)

    def collect(self) -> Iterator[Metric]:
        """The metrics with their values; registries call this at a scrape."""
        # All are asked before the first is waited for: trackers of one loop that is stuck cost `PATIENCE` once.
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
        """The labels, bounded once more: each tracker that comes and goes may have pipelines of its own."""
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
    """The bounds of the buckets with cumulative counts."""
    buckets: list[tuple[str, float]] = []
    count = 0
    for bound, more in zip((*map(str, distribution.bounds), "+Inf"), distribution.counts, strict=True):
        count += more
        buckets.append((bound, count))
    return buckets


_collectors: WeakKeyDictionary[CollectorRegistry, Collector] = WeakKeyDictionary()


def register(tracker: ProgressTracker, registry: CollectorRegistry = REGISTRY) -> Collector:
    """Adds the metrics of a tracker to a registry, which has the sums of all its trackers.

    When the tracker is left, its gauges end and its counts stay: Prometheus takes a counter that falls for a restart
    of the process. `unregister()` removes a tracker before, and with the last one all metrics.

    Args:
        tracker: The tracker.
        registry: The registry; prometheus_client's default one unless given.

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
        registry.register(collector)  # The application may have unregistered it.
    except ValueError:
        pass
    return collector


def unregister(tracker: ProgressTracker, registry: CollectorRegistry = REGISTRY) -> None:
    """Removes a tracker from a registry, and with the last one all metrics. Call it in the tracker's event loop."""
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
    """The metrics of one tracker as text, for the answer to a scrape. Call it in the tracker's event loop.

    Has no checkpoint, and registers nothing.

    Args:
        tracker: The tracker.
        accept: The request's `Accept` header: OpenMetrics where it asks for that, else Prometheus' own text format.

    Returns:
        The `Content-Type`, and the body.
    """
    registry = CollectorRegistry()
    registry.register(_Reading(tracker))
    asked = accept if accept is not None and len(accept) <= LONGEST_ACCEPT else ""
    try:
        encode, content_type = choose_encoder(asked)
    except (TypeError, ValueError):  # prometheus_client does not check that a version is one.
        encode, content_type = choose_encoder("")
    if not _CONTENT_TYPE.fullmatch(content_type):  # It would repeat any version that was asked for.
        encode, content_type = choose_encoder("")
    return content_type, encode(registry)
