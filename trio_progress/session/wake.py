"""What wakes the children of a session, and what is noticed of how late they run.

They are woken by a token in a memory channel, of which there is at most one: `SessionCore.mark_dirty()` sends them. The
channel is made with the first one: in most sessions nobody ever wakes the broadcaster.

A blocking call in the work, such as a synchronous iterator in `phase.track(...)`, stops every task of the process, and
what watches with it. That is allowed, and is to be known. The hot path has no part in this: it is seen from how late
the children run.
"""

from __future__ import annotations

import logging
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
    """What wakes one child, which waits for the `first()` token, and then notes that each was taken."""

    __slots__ = ("_child", "_closed", "pending", "send", "since", "tokens")

    def __init__(self) -> None:
        self.send: trio.MemorySendChannel[None] | None = None
        self.tokens: trio.MemoryReceiveChannel[None] | None = None
        self.pending = False
        """Whether a token lies in the channel: to try another one costs more than most updates."""
        self.since = 0.0
        """When the newest token was sent, on Trio's clock."""
        self._closed = False
        self._child: trio.lowlevel.Task | None = None
        """The child, as long as it waits for the first token."""

    def open(self) -> trio.MemorySendChannel[None]:
        """Makes the channel, for the first token. Once closed it takes none."""
        self.send, self.tokens = trio.open_memory_channel(1)
        if self._closed:
            self.send.close()
        self._let_go()
        return self.send

    def close(self) -> None:
        """Nothing more will come: the child's loop ends, after a token that is still there."""
        self._closed = True
        if self.send is not None:
            self.send.close()
        self._let_go()

    def discard(self) -> None:
        """Closes both ends: there is no child."""
        self.close()
        if self.tokens is not None:
            self.tokens.close()

    async def first(self) -> trio.MemoryReceiveChannel[None] | None:
        """Waits for the first token, or until it is closed. Cannot be cancelled, and needs no scope for that.

        Returns:
            The channel that has the tokens; None: there will be none.
        """
        if self.tokens is None and not self._closed:
            self._child = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(_go_on_waiting)
        return self.tokens

    def _let_go(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            trio.lowlevel.reschedule(child)


def _go_on_waiting(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED


@final
class ChildWatch:
    """What is noticed of the children of one session: how late they ran, and the bug that one has crashed of.

    All of a tracker's sessions count one standstill of the event loop once.
    """

    __slots__ = ("_logged", "_state", "_tally", "bug")

    def __init__(self, state: SessionState, tally: Tally) -> None:
        self._state = state
        self._tally = tally
        self._logged = False
        self.bug: Exception | None = None
        """What came out of a child, which notes it here."""

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
