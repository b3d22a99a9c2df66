"""Cancelling the parts of a session that has ended: by the store, whoever runs them, whatever they stand at.

A part whose owner is heard of is asked for its end, as `tracker.cancel()` asks. One that is queued, interrupted or lost
is ended here: nobody is to begin it, or to go on with it, for a session that is over. What is no part of that session
is not touched, nor is any once another attempt of the session has begun.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from ..errors import CorruptEntryError, StoreError
from ..state.record import decode_head
from .cancelling import TRIES, Cancel, changes_too_fast, overtaken
from .ownerless import UNFINISHED

if TYPE_CHECKING:
    from ..protocol.snapshot import Head
    from ..stores.base import Store
    from ..telemetry.statistics import Tally
    from .committer import Committer

YOUNG: Final = 2.0
"""Seconds since its beginning in which a session without a parent may have one after all.

Who claims a declared session learns by the answer what it was declared with, and stores that at once, behind the claim.
"""


@final
@dataclass(frozen=True, slots=True)
class PartCanceller:
    """Cancels the parts of one attempt of a session."""

    store: Store
    committer: Committer
    tally: Tally
    parent: str
    """The id of the session that has ended."""
    epoch: int
    """The epoch of the attempt."""
    status: str
    """How it has ended."""
    keep: float
    """Seconds that what is ended here is kept."""

    async def stands(self) -> bool:
        """Whether the attempt is the newest one of the session.

        Raises:
            StoreError: The store did not answer.
        """
        stored = await self.store.read(self.parent)
        return stored is not None and stored.key.epoch == self.epoch

    @property
    def reason(self) -> str:
        """What viewers of a part are shown."""
        ended = {"failed": "failed", "timed_out": "timed out"}.get(self.status, "was cancelled")
        return f"session {self.parent!r}, which it is a part of, {ended}"

    async def cancel(self, part: str, now: float, *, patient: bool = False) -> bool:
        """Cancels one part; False where there is nothing to be cancelled: it is none, or has ended for good.

        Args:
            part: The id of the session that may be one.
            now: Seconds since 1970.
            patient: Whether it is asked again where the answer may be another one soon.

        Raises:
            StoreError: The store did not answer; or the part has just begun, and whose it is is not stored yet.
            SessionClosedError: The tracker has been left.
        """
        cancel = Cancel(self.reason, now, self.keep, UNFINISHED)
        try:
            for _ in range(TRIES):
                stored = await self.store.read(part)
                if stored is None:
                    return False
                head = decode_head(part, *stored.key, stored.record)
                if patient and stored.alive and head.parent is None and _has_just_begun(head, now):
                    raise StoreError(f"session {part!r} has just begun, and what it is a part of is not stored yet")
                if head.parent != self.parent:
                    return False
                made = cancel.write(stored, self.tally)
                if made is None:
                    return False
                if not overtaken(await self.committer.write(made[0])):
                    return True
        except CorruptEntryError as error:
            self.tally.pass_over(part, error)
            return False
        raise changes_too_fast(part)


def _has_just_begun(head: Head, now: float) -> bool:
    return head.started_at is not None and abs(now - head.started_at.timestamp()) < YOUNG
