"""`tracker.fence()`: what a tracker's user calls when the owner of a session is known to be dead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..state import checks
from ..state.quantities import whole
from .commands import fence
from .runtime import TrackerPart

if TYPE_CHECKING:
    from ..protocol.snapshot import Snapshot


class TrackerFencing(TrackerPart):
    """The part of a tracker that fences owners off."""

    async def fence(self, session_id: str, *, epoch: int | None = None, reason: str | None = None) -> Snapshot:
        """Writes off a running session whose owner is known to be dead, without waiting for its lease to lapse.

        It is `lost` then, and may be gone on with at once, anywhere. Only who knows that the owner is dead should call
        this: an owner that lives is fenced, works on until its next write to the store, and ends by `FencedError`. The
        store never has two owners; for other side effects `session.epoch` is the token to refuse the older one by.

        A final state that the owner has left on this machine, because the store was away, is brought to the store
        first, and counts. Who has fenced whom and why is the custom event `session.fenced`, and is logged.

        When the answer is lost (`StoreError`), it may or may not be written off: call it again, with the epoch that was
        meant, which then succeeds and touches no other owner. Cancelled, it is the same.

        Args:
            session_id: The session.
            epoch: That of the owner who is dead, its `Snapshot.epoch`; None: of whoever owns it now. An owner of
                another epoch is left alone.
            reason: Why, for people.

        Returns:
            How it stands: `lost`, or unchanged where it does not run, or where it has another owner than `epoch`.

        Raises:
            ValueError, TypeError: A value is out of range.
            SessionActiveError: It is open in this process.
            SessionNotFoundError: There is no such session.
            StoreError: The store did not answer, or the owner writes all the time.
        """
        runtime = self._runtime
        checks.session_id(session_id)
        number = None if epoch is None else whole("epoch", epoch, least=0)
        return await fence(runtime, session_id, number, checks.message("reason", reason, runtime.settings.limits))
