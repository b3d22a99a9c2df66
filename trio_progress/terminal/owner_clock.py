"""How long ago sessions last advanced: by a clock of this process, whatever becomes of the wall clocks."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, NamedTuple, final

if TYPE_CHECKING:
    from ..protocol.snapshot import Snapshot


class _Seen(NamedTuple):
    epoch: int
    progressed: float
    """By the owner's wall clock."""
    since: float
    """The same moment, by the monotonic clock here."""


@final
class OwnerClock:
    """What the wall clock of a session's owner says now, if nobody has set it since the session last advanced.

    Stamps are taken by the owner's wall clock and compared with one another; the time that has passed since the newest
    of them is measured here. A wall clock that is set meanwhile so changes no duration that is shown.
    """

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._looked: dict[str, float] = {}

    def now(self, snapshot: Snapshot, monotonic: float, wall: float) -> float:
        """Seconds since 1970.

        Args:
            snapshot: The newest state of the session.
            monotonic: A monotonic clock of this process; the same one in each call.
            wall: The wall clock. Tells how long ago a session advanced that is seen for the first time.
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
        """Nothing more is asked of this session."""
        self._seen.pop(session_id, None)
        self._looked.pop(session_id, None)

    def keep(self, session_ids: Container[str]) -> None:
        """Nothing more is asked of others than these."""
        for session_id in [known for known in self._seen if known not in session_ids]:
            self.forget(session_id)
