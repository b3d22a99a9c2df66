"""What a tracker counts: plain ints on the inside, a frozen value to whoever asks.

Three kinds of not-delivered are never mixed: *conflated* (harmless, a newer state replaced an older one),
*dropped* (an event or an update was lost), *skipped* (a persist that was coalesced, unchanged, or failed).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Protocol, final, runtime_checkable

from .histograms import LATENCIES, Distribution, Histogram, PipelineMetrics
from .logs import BURST, Throttle, log_event


@runtime_checkable
class PassesOver(Protocol):
    """A store that passes over, and counts, what it cannot read itself."""

    @property
    def unreadable(self) -> int:
        """How many times it came across such an entry."""
        ...


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
        if isinstance(store, PassesOver):
            counts["unreadable"] += store.unreadable
        return cls(
            **counts,
            **standing,  # type: ignore[arg-type]
            persist_seconds=tally.persist_seconds.frozen(),
            delivery_lag=tally.delivery_lag.frozen(),
            ended={pipeline: dict(row) for pipeline, row in tally.ledger.ended.items()},
            phase_seconds={key: histogram.frozen() for key, histogram in tally.ledger.phase_seconds.items()},
        )


COUNTS = tuple(found.name for found in fields(Tally) if found.type == "int")
assert set(COUNTS) < {found.name for found in fields(TrackerStatistics)}
