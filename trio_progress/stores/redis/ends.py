"""The ends of sessions that this process has written lately, which a failover may have forgotten.

1. Replication is not waited for (`wait_replicas` aside), so a replica that is made the primary may lack what the one
   before had acknowledged. Owners of sessions that run notice it by their next write. Of one that has ended nobody
   writes any more: so its last write is kept here for as long as the store would keep it, an hour at most.
2. After each break of the connections it is looked whether the store still has them. What is older there is brought up
   to date, claimed by the epoch that it had. What is gone altogether is written again where Sentinel has named another
   primary since; elsewhere it was deleted, or the store keeps nothing.
3. Nothing is taken from an owner who has come since. What was deleted here stays so; what another process has deleted
   may come back with a failover, for that leaves no mark.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, final

import msgspec

from ...errors import CorruptEntryError
from ...telemetry.logs import BURST, Throttle, log_event
from ..base import Append, Claim, Claimed, Delete, Done, Fenced, Key, Outcome, claim_for

if TYPE_CHECKING:
    from .reads import Reads
    from .scripts import Steps
    from .writes import Writer

KEPT: Final = 500
"""Ends that are kept in mind, the newest."""

KEPT_FOR: Final = 3600.0
"""Seconds."""

LARGEST: Final = 16 * 1024 * 1024
"""Bytes of their records."""

AT_ONCE: Final = 50
"""Ends that one call looks after."""


@final
class Ends:
    """Used by one thread at a time."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._ends: dict[str, tuple[Append, float]] = {}
        """By session: the last write, and until when it is kept, by `time.monotonic()`."""
        self._bytes = 0
        self._throttle = Throttle()

    def note(self, turns: Sequence[tuple[Append | Claim | Delete, Outcome]]) -> None:
        """Keeps the ends among what was written, and forgets those of sessions that have begun anew, or are deleted.

        Args:
            turns: The claims, last writes and deletions, and what became of each.
        """
        for write, outcome in turns:
            if isinstance(outcome, (Done, Claimed)):
                self.forget(write.id)
                if isinstance(write, Append):
                    self._ends[write.id] = (write, time.monotonic() + min(write.keep, KEPT_FOR))
                    self._bytes += len(write.record)
        while len(self._ends) > KEPT or self._bytes > LARGEST:
            self.forget(next(iter(self._ends)))

    def forget(self, session: str) -> None:
        """It is somebody else's business now."""
        known = self._ends.pop(session, None)
        if known is not None:
            self._bytes -= len(known[0].record)

    def kept(self) -> list[Append]:
        """Those that the store should have."""
        now = time.monotonic()
        for session in [session for session, (_, until) in self._ends.items() if until <= now]:
            self.forget(session)
        return [end for end, _ in self._ends.values()]

    def steps(self, end: Append, reads: Reads, writer: Writer, failed_over: bool) -> Steps[bool]:
        """Sees that the store has an end, and writes it again where it has not; whether it was.

        Args:
            end: The last write of a session.
            reads: Reads what there is of it.
            writer: Makes the writes.
            failed_over: Whether what is gone may have been lost with the primary before.
        """
        found = yield from reads.steps(end.id, events=False)
        if isinstance(found, CorruptEntryError):
            self.forget(end.id)
            return False
        stored = None if found is None else found.stored
        if stored is None and not failed_over:
            self.forget(end.id)
            return False
        if stored is not None and stored.key >= end.key:
            if stored.key.epoch > end.key.epoch:
                self.forget(end.id)
            return False
        (outcome,) = yield from writer.steps([end])
        if isinstance(outcome, Fenced) and (outcome.by is None or outcome.by < end.key.epoch):
            claim = claim_for(end, f"again {end.key.epoch}", None if stored is None else stored.key)
            (outcome,) = yield from writer.steps([claim])
            if isinstance(outcome, Claimed):
                (outcome,) = yield from writer.steps(
                    [msgspec.structs.replace(end, key=Key(outcome.epoch, end.key.seq))]
                )
        if not isinstance(outcome, Done):
            self.forget(end.id)  # Somebody was faster, and has it.
            return False
        text = "session %r: the store had forgotten its end (%s), which was written again"
        log_event(
            logging.WARNING,
            "end_written_again",
            text,
            end.id,
            end.index.status,
            throttle=self._throttle,
            most=BURST,
            session=end.id,
            pipeline=end.index.pipeline,
            epoch=end.key.epoch,
            status=end.index.status,
        )
        return True
