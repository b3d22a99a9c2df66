"""What wakes the children of a session, and what is noticed of how late they run.

They are woken by a token in a memory channel, of which there is at most one: `SessionCore.mark_dirty()` sends them.

A blocking call in the work, such as a synchronous iterator in `phase.track(...)`, stops every task of the process, and
what watches with it. That is allowed, and is to be known. The hot path has no part in this: it is seen from how late
the children run.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import TYPE_CHECKING, Final, final

import trio

from ..telemetry.logs import log_event

if TYPE_CHECKING:
    from ..state.session import SessionState
    from ..telemetry.statistics import Tally

SLOW: Final = 0.5
"""Seconds by which a child must be late for the event loop to have stood still."""


@final
class WakeUp:
    """What wakes one child, which iterates over `tokens` until that is closed, and notes that each was taken."""

    __slots__ = ("pending", "send", "since", "tokens")

    def __init__(self) -> None:
        channel: tuple[trio.MemorySendChannel[None], trio.MemoryReceiveChannel[None]] = trio.open_memory_channel(1)
        self.send, self.tokens = channel
        self.pending = False
        """Whether a token lies in the channel: to try another one costs more than most updates."""
        self.since = 0.0
        """When the newest token was sent, on Trio's clock."""

    def close(self) -> None:
        """Nothing more will come: the child's loop ends, after a token that is still there."""
        self.send.close()


@final
class ChildWatch:
    """What is noticed of the children of one session: how late they ran, and the bug that one has crashed of.

    All of a tracker's sessions count one standstill of the event loop once. Each child runs `with` it.
    """

    __slots__ = ("_logged", "_state", "_tally", "bug")

    def __init__(self, state: SessionState, tally: Tally) -> None:
        self._state = state
        self._tally = tally
        self._logged = False
        self.bug: Exception | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self.bug = error

    def ran_late(self, due: float, now: float) -> None:
        """A child that was to run at `due` runs at `now`, `SLOW` later, in a session that somebody follows."""
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
