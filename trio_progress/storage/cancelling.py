"""Cancelling a session by the store, whoever runs it: the steps that a tracker, a client and a job's end share.

1. An owner that is heard of is asked. Without one the session is ended here, if it stands so that it is to be.
2. What ends it expects the entry that was read. Where somebody has written in between, it is looked at anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from ..errors import StoreError
from ..stores.base import Ask, Claim, Moved, Refused
from .ownerless import QUEUED, cancellation

if TYPE_CHECKING:
    from ..protocol.snapshot import Snapshot
    from ..stores.base import Outcome, Stored
    from ..telemetry.statistics import Tally

TRIES: Final = 5
"""How often it is looked at anew because somebody has written in between."""


@final
@dataclass(frozen=True, slots=True)
class Cancel:
    """Who is cancelled, and why.

    Args:
        reason: Shown to viewers.
        at: Seconds since 1970.
        keep: Seconds that what is ended here is kept.
        statuses: The stored ones of which a session without an owner is ended here.
    """

    reason: str | None
    at: float
    keep: float
    statuses: frozenset[str] = QUEUED

    def write(self, stored: Stored, tally: Tally) -> tuple[Ask | Claim, Snapshot | None] | None:
        """What is written, and the session's state where that ends it; None: there is nothing to be cancelled.

        Args:
            stored: The session, with its events.
            tally: Counts events that cannot be read.

        Raises:
            StoreError: The stored entry cannot be read.
        """
        if stored.alive:
            return Ask(stored.id, "cancel", self.reason), None
        return cancellation(stored, self.reason, self.at, self.keep, tally, self.statuses)


def overtaken(outcome: Outcome) -> bool:
    """Whether somebody has written in between: the session is to be looked at anew."""
    return isinstance(outcome, (Moved, Refused))


def changes_too_fast(session_id: str) -> StoreError:
    """It was another one at each look."""
    return StoreError(f"session {session_id!r} changes faster than it can be cancelled: try again")
