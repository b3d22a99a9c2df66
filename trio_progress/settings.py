"""What a tracker can be told, checked once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, TypedDict

from .state import checks
from .state.limits import Limits

if TYPE_CHECKING:
    from .protocol.snapshot import SessionStatus

UNFINISHED: Final[frozenset[SessionStatus]] = frozenset({"queued", "running", "interrupted", "lost"})
"""The statuses of what waits to be run, or may be gone on with."""

UNFINISHED_RETENTION: Final = 7 * 86_400.0


class TrackerOptions(TypedDict, total=False):
    """The keywords of `Settings`, for the type of what hands them on."""

    strict: bool
    persist_interval: float
    broadcast_interval: float
    heartbeat_interval: float
    stall_after: float
    lost_after: float
    flush_timeout: float
    retention: float
    unfinished_retention: float
    event_limit: int
    limits: Limits


def check_names(call: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Says which keyword is not known, and which one was meant.

    Args:
        call: What was called, as users write it.
        given: The names that came.
        known: All that there are.

    Raises:
        TypeError: One is not known.
    """
    names = list(known)
    for name in given:
        if name not in names:
            close = get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"
            raise TypeError(f"{call} has no setting {name!r}: {hint}")


def checked_settings(call: str, given: Mapping[str, Any], *others: str) -> Settings:
    """The settings that were given as keywords.

    Args:
        call: What was called, as users write it.
        given: By name.
        others: The keywords of `call` that are no settings, one of which may have been meant.

    Raises:
        ValueError, TypeError: One is not known, or out of range.
    """
    check_names(call, given, [*others, *(one.name for one in fields(Settings))])
    return Settings(**given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The keywords of `open_tracker`; all times in seconds.

    Args:
        strict: Bad input raises at the call. With False it is logged once, counted and dropped.
        persist_interval: The least time between two stored states, but for those that must not wait.
        broadcast_interval: The least time between two states that subscribers are told; above 0.
        heartbeat_interval: How often the session says that its event loop lives; above 0.
        stall_after: Without progress for so long a session counts as stalled; `math.inf` for never.
        lost_after: Without a heartbeat for so long it counts as lost; above `heartbeat_interval`.
        flush_timeout: How long leaving a session waits for the store to take the final state.
        retention: How long the store keeps a session that has ended.
        unfinished_retention: How long it keeps one that waits to be run, or may be gone on with: queued, interrupted
            or lost, and one that runs; at least `retention`, which it is set to where it is shorter.
        event_limit: Custom events that are retained for each session; at least 1.
        limits: The bounds of one session.
    """

    strict: bool = True
    persist_interval: float = 2.0
    broadcast_interval: float = 0.1
    heartbeat_interval: float = 10.0
    stall_after: float = 60.0
    lost_after: float = 30.0
    flush_timeout: float = 5.0
    retention: float = 3600.0
    unfinished_retention: float = UNFINISHED_RETENTION
    event_limit: int = 1000
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        given: dict[str, float] = {
            name: checks.number(name, getattr(self, name), above=0)
            for name in (
                "persist_interval",
                "broadcast_interval",
                "heartbeat_interval",
                "lost_after",
                "retention",
                "unfinished_retention",
            )
        }
        given["unfinished_retention"] = max(given["retention"], given["unfinished_retention"])
        given["flush_timeout"] = checks.number("flush_timeout", self.flush_timeout)
        given["stall_after"] = checks.seconds_or_never("stall_after", self.stall_after)
        given["event_limit"] = checks.whole("event_limit", self.event_limit)
        for name, value in given.items():
            object.__setattr__(self, name, value)  # As a plain number, whatever came.
        if not self.lost_after > self.heartbeat_interval:
            raise ValueError(
                f"lost_after ({self.lost_after} s) must be above heartbeat_interval ({self.heartbeat_interval} s), "
                "or every session is lost between two heartbeats"
            )
        if not isinstance(self.limits, Limits):
            raise TypeError(f"limits must be a trio_progress.Limits, not {self.limits!r:.200}")

    def keep(self, status: SessionStatus) -> float:
        """Seconds for which the store keeps what stands so, from when that was written."""
        return self.unfinished_retention if status in UNFINISHED else self.retention
