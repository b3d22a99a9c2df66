"""Cancelling the parts of a session that has ended: by the store, whoever runs them, whatever they stand at.

A part whose owner is heard of is asked for its end, as `tracker.cancel()` asks. One that is queued, interrupted or lost
is ended here: nobody is to begin it, or to go on with it, for a session that is over. What is no part of that session
is not touched, nor is any once another attempt of the session has begun.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from ..errors import CorruptEntryError
from ..state.record import decode_head
from .cancelling import TRIES, Cancel, changes_too_fast, overtaken
from .ownerless import UNFINISHED

if TYPE_CHECKING:
    from ..stores.base import Store
    from ..telemetry.statistics import Tally
    from .committer import Committer


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

    async def cancel(self, part: str, now: float) -> bool:
        """Cancels one part; False where there is nothing to be cancelled: it is none, or has ended for good.

        Args:
            part: The id of the session that may be one.
            now: Seconds since 1970.

        Raises:
            StoreError: The store did not answer.
            SessionClosedError: The tracker has been left.
        """
        cancel = Cancel(self.reason, now, self.keep, UNFINISHED)
        try:
            for _ in range(TRIES):
                stored = await self.store.read(part)
                if stored is None or decode_head(part, *stored.key, stored.record).parent != self.parent:
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
