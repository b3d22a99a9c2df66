"""What a display knows of sessions: the newest state of each, and the last events."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from ..protocol.messages import CustomEvent
    from ..protocol.snapshot import Snapshot

SESSIONS_KEPT: Final = 50
"""Sessions that the display remembers; those that ended longest ago go first."""

UNSHOWN: Final = 10_000
"""Ended ones among those that went before a line has told their end; of more, only the number is told."""

EVENTS_KEPT: Final = 3

_RANK: Final = {"running": 0, "lost": 1, "queued": 2}


@final
class DisplayModel:
    """What is known of the sessions, newest state and last events."""

    def __init__(self) -> None:
        self.snapshots: dict[str, Snapshot] = {}
        self.events: dict[str, deque[str]] = {}
        self.evicted: deque[Snapshot] = deque()
        """Ended ones that had to go since the last frame."""
        self.unlisted = 0
        """How many of those had to go in turn."""
        self.changed = True

    def put(self, snapshot: Snapshot) -> None:
        """A newer state."""
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
        """A custom event."""
        if session_id in self.snapshots and not self.snapshots[session_id].ended:
            self.events.setdefault(session_id, deque(maxlen=EVENTS_KEPT)).append(event_line(event))
            self.changed = True

    def ordered(self) -> list[Snapshot]:
        """Those that run first, then the lost, the queued, and the ended ones, newest first."""
        return sorted(
            self.snapshots.values(),
            key=lambda one: (_RANK.get(one.status, 3), -one.ended_at.timestamp() if one.ended_at else 0.0),
        )


def event_line(event: CustomEvent) -> str:
    """An event as one line: its name and what it carries, cut where nobody would read on."""
    data = event.data
    if isinstance(data, dict):
        data = ", ".join(f"{name}={value}" for name, value in data.items())
    return event.name if data is None else f"{event.name}  {data}"[:300]
