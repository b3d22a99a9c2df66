"""What a tracker counts: plain ints on the inside, a frozen value to whoever asks.

Three kinds of not-delivered are never mixed: *conflated* (harmless, a newer state replaced an older one),
*dropped* (an event or an update was lost), *skipped* (a persist that was coalesced, unchanged, or failed).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import final


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
    persists: int = 0
    persists_unchanged: int = 0
    persists_failed: int = 0
    final_lost: int = 0
    renewals: int = 0
    late: int = 0
    refused: int = 0


@final
@dataclass(frozen=True, slots=True)
class TrackerStatistics:
    """Counts since the tracker was opened, and how it stands now."""

    sessions_open: int
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
    persists: int
    """States that the store has taken."""
    persists_unchanged: int
    """Persists that were not needed: the store held the newest state."""
    persists_failed: int
    """Tries that the store did not answer or refused."""
    final_lost: int
    """Final states that did not reach the store; each was logged as an error."""
    renewals: int
    """Leases renewed."""
    late: int
    """Updates that came for what had ended."""
    refused: int
    """Bad input that was dropped, with `strict=False`."""
    store_up: bool
    """Whether the store answered the last time."""

    @classmethod
    def of(
        cls, tally: Tally, *, sessions_open: int, subscribers: int, states: int, store_up: bool
    ) -> TrackerStatistics:
        """The tally, frozen, with how things stand."""
        counts = asdict(tally)
        counts["states"] += states
        return cls(sessions_open=sessions_open, subscribers=subscribers, store_up=store_up, **counts)


assert {field.name for field in fields(Tally)} < {field.name for field in fields(TrackerStatistics)}
