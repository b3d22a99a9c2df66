"""What wakes the children of a session, and what is noticed of how late they run.

They are woken by a token in a memory channel, of which there is at most one: `SessionCore.mark_dirty()` sends them. The
channel is made with the first one: in most sessions nobody ever wakes the broadcaster.

A blocking call in the work, such as a synchronous iterator in `phase.track(...)`, stops every task of the process, and
what watches with it. That is allowed, and is to be known. The hot path has no part in this: it is seen from how late
the children run.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Self, final

import trio

from ..telemetry.logs import log_event

if TYPE_CHECKING:
    from ..state.session import SessionState
    from ..telemetry.statistics import Tally

SLOW: Final = 0.5
"""Seconds by which a child must be late for the event loop to have stood still."""


@final
class WakeUp:
    """What wakes one child, which waits for the `first()` token and then iterates over all until it is closed."""

    __slots__ = ("_child", "_closed", "_send", "_tokens", "pending", "since")

    def __init__(self) -> None:
        self._child: trio.lowlevel.Task | None = None
        """The child, as long as it waits for the first token."""
        self._send: trio.MemorySendChannel[None] | None = None
        self._tokens: trio.MemoryReceiveChannel[None] | None = None
        self._closed = False
        self.pending = False
        """Whether a token lies in the channel: to try another one costs more than most updates."""
        self.since = 0.0
        """When the newest token was sent, on Trio's clock."""

    def wake(self) -> None:
        """Sends a token, unless one lies there, or the child has gone. Does not wait."""
        if self.pending or self._closed:
            return
        self.pending = True
        self.since = trio.current_time()
        if self._send is None:
            self._send, self._tokens = trio.open_memory_channel(1)
            self._let_go()
        self._send.send_nowait(None)

    def close(self) -> None:
        """Nothing more will come: the child's loop ends, after a token that is still there."""
        self._closed = True
        self._let_go()
        if self._send is not None:
            self._send.close()

    def _let_go(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            trio.lowlevel.reschedule(child)

    # What the child calls

    async def first(self) -> bool:
        """Waits for the first token, or until there will be none. Cannot be cancelled, without a scope around it.

        Returns:
            Whether there is a token.
        """
        if self._tokens is None and not self._closed:
            self._child = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(_go_on_waiting)
        return self._tokens is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        if self._tokens is not None:
            self._tokens.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> None:
        """Takes the next token. A checkpoint, unless there is none any more."""
        if self._tokens is None:
            raise StopAsyncIteration
        try:
            await self._tokens.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
        self.pending = False


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
