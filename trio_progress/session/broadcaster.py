"""The child that publishes for the subscribers, and announces that there is something new."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import trio

from .wake import SLOW, ChildWatch, WakeUp

if TYPE_CHECKING:
    from ..live.feed import Topic
    from ..state.session import SessionState


@final
@dataclass(slots=True, eq=False, repr=False)
class Broadcaster:
    """Ticks at once at the first change, and then at most once an interval; never waits for a subscriber.

    A change that comes later than an interval after the last tick is told at once, and costs no timer.

    When the session is left it offers the ended state at once, waits until that is flushed, and then ends
    the subscribers' streams.
    """

    _state: SessionState
    _topic: Topic
    _interval: float
    _wake: WakeUp
    """Closed when the session is left."""
    _flushed: trio.Event
    """Set when the store holds the final state, or when that was given up."""
    _finish: Callable[[], None]
    """Ends the streams; then the rest of the session may go."""
    _left: trio.Event
    """Set when the session is left."""
    _watch: ChildWatch

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Tells the subscribers until the session has ended. Shielded; ends once it is flushed."""
        try:
            try:
                tokens = await self._wake.first()
                if tokens is not None:
                    with trio.CancelScope(shield=True), tokens:
                        not_before = 0.0
                        async for _ in tokens:
                            self._wake.pending = False
                            due, now = self._wake.since, trio.current_time()
                            if now < not_before:
                                due = max(due, not_before)
                                with trio.move_on_at(not_before):
                                    await self._left.wait()
                                now = trio.current_time()
                            if now - due >= SLOW:
                                self._watch.ran_late(due, now)
                            # From its beginning: to tell a thousand takes a while, which is not to come on top.
                            not_before = now + self._interval
                            self._state.publish()
                            self._topic.announce()
                self._state.publish()
                self._topic.announce()
                if not self._flushed.is_set():
                    with trio.CancelScope(shield=True):
                        await self._flushed.wait()
            finally:
                self._finish()
        except Exception as error:
            self._watch.bug = error
            raise
