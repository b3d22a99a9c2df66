"""Which metrics there are, what each means, and how it is read from a tracker's statistics.

Three kinds of not-delivered are never mixed: *conflated* (harmless, a newer state replaced an older one),
*dropped* (an event or a subscriber was lost), *skipped* (a persist that was coalesced, unchanged, or failed).
Labels are of bounded number (see `distribution`), and hold no session id and no text of a user.

Ended sessions are `sessions_ended_total`, not `sessions_total`: a counter and a gauge that differ in `_total`
only are one and the same family in OpenMetrics, which readers refuse (prometheus/client_python#818).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from ..telemetry.histograms import Distribution
    from ..telemetry.statistics import TrackerStatistics

PREFIX: Final = "trio_progress_"

Labels: TypeAlias = tuple[str, ...]
Value: TypeAlias = "float | Distribution"
Values: TypeAlias = "dict[str, dict[Labels, Value]]"
"""By name of the family and values of its labels."""


class Family(NamedTuple):
    """One metric, as it is told to Prometheus."""

    name: str
    """Without the prefix."""
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    read: Callable[[TrackerStatistics], Mapping[Labels, Value]]
    labels: tuple[str, ...] = ()
    unit: str = ""
    merge: Callable[[float, float], float] = lambda one, other: one + other
    """How the gauges of several trackers become one."""


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


FAMILIES: Final[tuple[Family, ...]] = (
    Family("states_total", "counter", "Published states of all sessions.", _plain("states")),
    Family("broadcasts_total", "counter", "Updates and snapshots handed to subscribers.", _plain("broadcasts")),
    Family(
        "broadcasts_conflated_total",
        "counter",
        "Published states that a subscriber did not see one by one, as a newer one came in their place; harmless.",
        _plain("conflated"),
    ),
    Family(
        "broadcasts_dropped_total",
        "counter",
        "What was lost on the way to subscribers: an event (told as a gap), a subscriber that did not read, an end.",
        _dropped,
        ("reason",),
    ),
    Family("persists_total", "counter", "States that the store has taken.", _plain("persists")),
    Family(
        "persists_skipped_total",
        "counter",
        "Persists that were not made: coalesced into one of a newer state, unchanged, or failed and tried again.",
        _skipped,
        ("reason",),
    ),
    Family(
        "persist_seconds",
        "histogram",
        "Seconds that the store took for a batch of writes, of those that it answered.",
        _plain("persist_seconds"),
        unit="seconds",
    ),
    Family(
        "persist_lag_seconds",
        "gauge",
        "Seconds for which the session that waits longest has waited for the store to take its newest state.",
        _plain("persist_lag"),
        unit="seconds",
        merge=max,
    ),
    Family(
        "sessions",
        "gauge",
        "Sessions by liveness: ok and stalled are open in this process; lost are those in the store whose owners, "
        "wherever, are not heard of, until they are written off or resumed.",
        _sessions,
        ("liveness",),
    ),
    Family("sessions_begun_total", "counter", "Sessions that have begun in this process.", _plain("sessions_begun")),
    Family(
        "sessions_ended_total",
        "counter",
        "Sessions that have ended in this process, or were written off as lost by it.",
        _ended,
        ("pipeline", "status"),
    ),
    Family(
        "subscribers",
        "gauge",
        "Subscriptions to sessions, those of displays and watchers among them.",
        _plain("subscribers"),
    ),
    Family(
        "phase_seconds",
        "histogram",
        "Seconds that completed phases took; phases that no pipeline declares are counted as other.",
        _phases,
        ("pipeline", "phase"),
        unit="seconds",
    ),
    Family(
        "store_up",
        "gauge",
        "Whether the store answers: 1, or 0 while it cannot be read or does not take what waits for it.",
        _plain("store_up"),
        merge=min,
    ),
    Family(
        "sessions_followed",
        "gauge",
        "Sessions of other processes that are watched here, by way of the store.",
        _plain("sessions_followed"),
    ),
    Family(
        "read_lag_seconds",
        "gauge",
        "Seconds since it was last known what news there is in the store; above a few it is slow, or does not answer.",
        _plain("read_lag"),
        unit="seconds",
        merge=max,
    ),
    Family(
        "delivery_lag_seconds",
        "histogram",
        "Seconds from when a state was published until a subscriber who waited for it had it.",
        _plain("delivery_lag"),
        unit="seconds",
    ),
    Family(
        "late_updates_total",
        "counter",
        "Updates that came for a phase or a session that had ended, and changed nothing.",
        _plain("late"),
    ),
    Family(
        "refused_calls_total",
        "counter",
        "Calls with bad input that were dropped, with strict=False.",
        _plain("refused"),
    ),
    Family(
        "slow_loops_total",
        "counter",
        "Times that the event loop stood still for half a second or longer while somebody watched a session.",
        _plain("slow_loops"),
    ),
    Family(
        "final_states_lost_total",
        "counter",
        "Final states that did not reach the store before their session was left.",
        _plain("final_lost"),
    ),
    Family("lease_renewals_total", "counter", "Leases of sessions renewed in the store.", _plain("renewals")),
    Family(
        "unreadable_entries_total",
        "counter",
        "Stored entries that could not be read and were passed over, each time that one was come across.",
        _plain("unreadable"),
    ),
)


def values(statistics: TrackerStatistics) -> Values:
    """All metrics of one tracker."""
    return {family.name: dict(family.read(statistics)) for family in FAMILIES}
