"""All metrics: the name, kind and meaning of each, and how it is read from a tracker's statistics.

Three kinds of not delivered are never mixed: *conflated* (harmless, a newer state replaced an older one),
*dropped* (an event or a subscriber was lost), *skipped* (a persist that was coalesced, unchanged, or failed).
The number of label values is bounded (see `telemetry.histograms`); none is a session id or a text of a user.

Ended sessions are `sessions_ended_total`, not `sessions_total`: a counter and a gauge that differ in `_total`
only are one and the same family in OpenMetrics, which readers refuse (prometheus/client_python#818).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from ..telemetry.statistics import Distribution, TrackerStatistics

PREFIX: Final = "trio_progress_"

Labels: TypeAlias = tuple[str, ...]
Value: TypeAlias = "float | Distribution"
Values: TypeAlias = "dict[str, dict[Labels, Value]]"
"""By the name of a family, then by the values of its labels."""


class Family(NamedTuple):
    """One metric, as Prometheus knows it."""

    name: str
    """Without the prefix."""
    kind: Literal["counter", "gauge", "histogram"]
    read: Callable[[TrackerStatistics], Mapping[Labels, Value]]
    help: str
    labels: tuple[str, ...] = ()
    merge: Callable[[float, float], float] = lambda one, other: one + other
    """Merges the values of two trackers."""

    @property
    def unit(self) -> str:
        """As OpenMetrics has it: the end of the name."""
        return "seconds" if self.name.endswith("_seconds") else ""


def _plain(name: str) -> Callable[[TrackerStatistics], Mapping[Labels, Value]]:
    return lambda statistics: {(): getattr(statistics, name)}


def _dropped(statistics: TrackerStatistics) -> Mapping[Labels, Value]:
    return {
        ("event",): statistics.events_dropped,
        ("subscriber",): statistics.subscribers_dropped,
        ("end",): statistics.ends_dropped,
    }


def _skipped(statistics: TrackerStatistics) -> Mapping[Labels, Value]:
    return {
        ("coalesced",): statistics.persists_coalesced,
        ("failed",): statistics.persists_failed,
        ("unchanged",): statistics.persists_unchanged,
    }


def _sessions(statistics: TrackerStatistics) -> Mapping[Labels, Value]:
    return {
        ("ok",): statistics.sessions_open - statistics.sessions_stalled,
        ("stalled",): statistics.sessions_stalled,
        ("lost",): statistics.sessions_missing,
    }


def _ended(statistics: TrackerStatistics) -> Mapping[Labels, Value]:
    return {(name, status): count for name, row in statistics.ended.items() for status, count in row.items()}


def _phases(statistics: TrackerStatistics) -> Mapping[Labels, Value]:
    return {labels: distribution for labels, distribution in statistics.phase_seconds.items()}  # noqa: C416 - for mypy


def _partitions_down(statistics: TrackerStatistics) -> Mapping[Labels, Value]:
    return {(): len(statistics.store_partitions_down)}


# A table: a line or two for each.
# fmt: off
FAMILIES: Final[tuple[Family, ...]] = (
    Family("states_total", "counter", _plain("states"), "Published states of all sessions."),
    Family("broadcasts_total", "counter", _plain("broadcasts"), "Updates and snapshots handed to subscribers."),
    Family("broadcasts_conflated_total", "counter", _plain("conflated"),
           "Published states that a subscriber did not see one by one, as a newer one came in their place; harmless."),
    Family("broadcasts_dropped_total", "counter", _dropped,
           "What was lost on the way to subscribers: an event (told as a gap), a subscriber that did not read, an end.",
           ("reason",)),
    Family("persists_total", "counter", _plain("persists"), "States that the store has taken."),
    Family("persists_skipped_total", "counter", _skipped,
           "Persists that were not made: coalesced into one of a newer state, unchanged, or failed and tried again.",
           ("reason",)),
    Family("persist_seconds", "histogram", _plain("persist_seconds"),
           "Seconds that the store took for a batch of writes, of those that it answered."),
    Family("persist_lag_seconds", "gauge", _plain("persist_lag"),
           "Seconds for which the session that waits longest has waited for the store to take its newest state.",
           merge=max),
    Family("sessions", "gauge", _sessions,
           "Sessions by liveness: ok and stalled are open in this process; lost are those in the store whose owners, "
           "wherever, are not heard of, until they are written off or resumed.", ("liveness",)),
    Family("sessions_begun_total", "counter", _plain("sessions_begun"), "Sessions that have begun in this process."),
    Family("sessions_ended_total", "counter", _ended,
           "Sessions that have ended in this process, or were written off as lost by it.", ("pipeline", "status")),
    Family("subscribers", "gauge", _plain("subscribers"),
           "Subscriptions to sessions, those of displays and watchers among them."),
    Family("phase_seconds", "histogram", _phases,
           "Seconds that completed phases took; phases that no pipeline declares are counted as other.",
           ("pipeline", "phase")),
    Family("store_up", "gauge", _plain("store_up"),
           "Whether the store answers: 1, or 0 while it cannot be read or does not take what waits for it.", merge=min),
    Family("store_partitions_down", "gauge", _partitions_down,
           "Partitions of a store in a Redis Cluster whose node did not answer the last time; 0 with any other store.",
           merge=max),
    Family("sessions_followed", "gauge", _plain("sessions_followed"),
           "Sessions of other processes that are watched here, by way of the store."),
    Family("read_lag_seconds", "gauge", _plain("read_lag"),
           "Seconds since it was last known what news there is in the store; above a few it is slow, or does not "
           "answer.", merge=max),
    Family("delivery_lag_seconds", "histogram", _plain("delivery_lag"),
           "Seconds from when a state was published until a subscriber who waited for it had it."),
    Family("late_updates_total", "counter", _plain("late"),
           "Updates that came for a phase or a session that had ended, and changed nothing."),
    Family("refused_calls_total", "counter", _plain("refused"),
           "Calls with bad input that were dropped, with strict=False."),
    Family("slow_loops_total", "counter", _plain("slow_loops"),
           "Times that the event loop stood still for half a second or longer while somebody watched a session."),
    Family("final_states_lost_total", "counter", _plain("final_lost"),
           "Final states that did not reach the store before their session was left."),
    Family("parts_left_total", "counter", _plain("parts_left"),
           "Parts that were cancelled with the session that follows them, and had not ended when that was left."),
    Family("lease_renewals_total", "counter", _plain("renewals"), "Leases of sessions renewed in the store."),
    Family("unreadable_entries_total", "counter", _plain("unreadable"),
           "Stored entries that could not be read and were passed over, each time that one was come across."),
)
# fmt: on


def values(statistics: TrackerStatistics) -> Values:
    """All metrics of one tracker."""
    return {family.name: dict(family.read(statistics)) for family in FAMILIES}
