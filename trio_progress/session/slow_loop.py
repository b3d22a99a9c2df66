"""Notices that the event loop stood still while somebody watched a session.

A blocking call in the work, such as a synchronous iterator in `phase.track(...)`, stops every task of the process, and
what watches with it. That is allowed, and is to be known. The hot path has no part in this: it is seen from how late
the session's children run.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, final

from ..telemetry.logs import log_event

if TYPE_CHECKING:
    from ..state.session import SessionState
    from ..telemetry.statistics import Tally

SLOW: Final = 0.5
"""Seconds by which a task must be late."""


@final
class LoopWatch:
    """What the children of one session say of when they ran; all of a tracker's count one standstill once."""

    __slots__ = ("_logged", "_state", "_tally")

    def __init__(self, state: SessionState, tally: Tally) -> None:
        self._state = state
        self._tally = tally
        self._logged = False

    def ran(self, due: float) -> None:
        """A task runs that was to run at `due`, of a session that is watched."""
        now = self._state.clock.monotonic()
        if now - due < SLOW:
            return
        tally, state = self._tally, self._state
        if due >= tally.slow_until:
            tally.slow_loops += 1
            tally.slow_until = now
        if not self._logged:
            self._logged = log_event(
                logging.WARNING,
                "slow_loop",
                "session %r: the event loop stood still for %.1f s while somebody watched: something blocks it, such "
                "as a synchronous iterator in phase.track(). Have a thread do that: "
                "`await trio.to_thread.run_sync(next, iterator)`. It is told once for a session, and counted",
                state.id,
                now - due,
                throttle=tally.throttle,
                session=state.id,
                pipeline=state.pipeline_name,
                epoch=state.epoch,
                reason=f"{now - due:.3f} s",
            )
