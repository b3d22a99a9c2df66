"""What a display knows of sessions: their newest states and last events, and the clocks of their owners."""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from typing import TYPE_CHECKING, Final, NamedTuple, final

if TYPE_CHECKING:
    from ..protocol.messages import CustomEvent
    from ..protocol.snapshot import Snapshot

SESSIONS_KEPT: Final = 50
"""Sessions that the display keeps; those that ended longest ago go first."""

UNSHOWN: Final = 10_000
"""Ended sessions that went before their last line was due; of more, only the number is shown."""

EVENTS_KEPT: Final = 3

_RANK: Final = {"running": 0, "lost": 1, "queued": 2}


@final
class DisplayModel:
    """The newest state and the last events of each session."""

    def __init__(self) -> None:
        self.snapshots: dict[str, Snapshot] = {}
        self.events: dict[str, deque[str]] = {}
        self.evicted: deque[Snapshot] = deque()
        """Ended sessions that had to go since the last frame."""
        self.unlisted = 0
        """How many of those had to go, too."""
        self.changed = True

    def put(self, snapshot: Snapshot) -> None:
        """Takes in a newer state."""
        self.snapshots[snapshot.id] = snapshot
        self.changed = True
        if snapshot.ended:
            self.events.pop(snapshot.id, None)
        while len(self.snapshots) > SESSIONS_KEPT:
            least = next((one.id for one in self.snapshots.values() if one.ended), next(iter(self.snapshots)))
            gone = self.snapshots.pop(least)
            self.events.pop(least, None)
            if gone.ended:
                self.evicted.append(gone)
                if len(self.evicted) > UNSHOWN:
                    self.evicted.popleft()
                    self.unlisted += 1

    def add_event(self, session_id: str, event: CustomEvent) -> None:
        """Takes in a custom event."""
        if session_id in self.snapshots and not self.snapshots[session_id].ended:
            self.events.setdefault(session_id, deque(maxlen=EVENTS_KEPT)).append(event_line(event))
            self.changed = True

    def ordered(self) -> list[Snapshot]:
        """The running sessions first, then the lost, the queued, and the ended ones, newest first."""
        return sorted(
            self.snapshots.values(),
            key=lambda one: (_RANK.get(one.status, 3), -one.ended_at.timestamp() if one.ended_at else 0.0),
        )


def event_line(event: CustomEvent) -> str:
    """An event as one line of 300 characters at most: its name and its data."""
    data = event.data
    if isinstance(data, dict):
        data = ", ".join(f"{name}={value}" for name, value in data.items())
    return event.name if data is None else f"{event.name}  {data}"[:300]


class _Seen(NamedTuple):
    epoch: int
    progressed: float
    """By the owner's wall clock."""
    since: float
    """The same moment, by the monotonic clock here."""


@final
class OwnerClock:
    """The wall clock of each session's owner, as it would be if nobody had set it since the session last advanced.

    Stamps come from the owner's wall clock and are compared with one another; the time since the newest of them is
    measured by a clock of this process. So a wall clock that is set changes no duration that is shown.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._looked: dict[str, float] = {}

    def now(self, snapshot: Snapshot, monotonic: float, wall: float) -> float:
        """Seconds since 1970.

        Args:
            snapshot: The newest state of the session.
            monotonic: A monotonic clock of this process; the same one in each call.
            wall: The wall clock: gives the age of a session's last advance when it is first seen.
        """
        if snapshot.progressed_at is None:
            return wall
        progressed = snapshot.progressed_at.timestamp()
        seen = self._seen.get(snapshot.id)
        if seen is None or seen[:2] != (snapshot.epoch, progressed):
            ago = max(wall - progressed, 0.0)
            if seen is not None and seen.epoch == snapshot.epoch:
                ago = min(ago, monotonic - self._looked[snapshot.id])
            seen = self._seen[snapshot.id] = _Seen(snapshot.epoch, progressed, monotonic - ago)
        self._looked[snapshot.id] = monotonic
        return progressed + monotonic - seen.since

    def forget(self, session_id: str) -> None:
        """Forgets this session."""
        self._seen.pop(session_id, None)
        self._looked.pop(session_id, None)

    def keep(self, session_ids: Container[str]) -> None:
        """Forgets all sessions but these."""
        for session_id in [known for known in self._seen if known not in session_ids]:
            self.forget(session_id)
