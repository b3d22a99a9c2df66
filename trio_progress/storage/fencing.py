"""Fencing: an owner that is known to be dead is written off before its lease has lapsed.

1. What is written is the reaper's claim. It expects the entry that was read, and passes the lease of that epoch alone:
   an owner that has claimed since is never touched. Who repeats it names the epoch that was meant the first time.
2. Repeated because the answer was lost, it finds what it has written, and changes nothing.
3. The owner need not be dead in truth. It works on until its next write, which is refused; the store has one owner.
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

import msgspec

from ..errors import StoreError
from ..state.record import decode_head
from ..stores.base import Claim, Key, Stored
from ..telemetry.logs import log_event
from .ownerless import written_off

if TYPE_CHECKING:
    from ..telemetry.statistics import Tally

EVENT: Final = "session.fenced"
"""The custom event that says which epoch was fenced, by whom and why."""

TRIES: Final = 10
"""How often it is tried again because the owner, who is not dead, has written in between."""


@final
@dataclass(frozen=True, slots=True)
class Fence:
    """Who is fenced off, by whom and why.

    Args:
        epoch: That of the owner; no other one is meant.
        reason: Why, for people.
        at: Seconds since 1970.
    """

    epoch: int
    reason: str | None
    at: float
    by: str = field(default_factory=lambda: f"{socket.gethostname()}:{os.getpid()}")
    """The process that asks for it."""

    def claim(self, stored: Stored, keep: float, tally: Tally) -> Claim | None:
        """The claim that writes the session off; None where it does not run, or has another owner by now.

        Args:
            stored: The session, with its events.
            keep: Seconds that it is kept.
            tally: Counts events that cannot be read.

        Raises:
            StoreError: The stored entry cannot be read.
        """
        if stored.key.epoch != self.epoch or decode_head(stored.id, *stored.key, stored.record).status != "running":
            return None
        data = {"epoch": self.epoch, "by": self.by, "reason": self.reason}
        return msgspec.structs.replace(written_off(stored, keep, tally, (EVENT, data, self.at)), past_lease=True)

    def granted(self, claim: Claim, epoch: int) -> Stored:
        """Logs that the claim was granted, under `epoch`; what is stored then."""
        log_event(
            logging.INFO,
            "session_fenced",
            "session %r: the owner of epoch %d is fenced off by %s, and the session is lost: %s",
            claim.id,
            self.epoch,
            self.by,
            self.reason or "no reason was given",
            session=claim.id,
            pipeline=claim.index.pipeline,
            epoch=self.epoch,
            status="lost",
            reason=self.reason,
        )
        return Stored(claim.id, Key(epoch, claim.seq), claim.record, False, None, [data for _, data in claim.events])


def changes_too_fast(session_id: str) -> StoreError:
    """The owner writes faster than it can be fenced: it is everything but dead."""
    return StoreError(
        f"session {session_id!r} was written by its owner before each of {TRIES} tries to fence it: that owner is not "
        "dead; end it, or cancel the session"
    )
