"""The child that publishes for the subscribers, and announces that there is something new."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, final

import trio

if TYPE_CHECKING:
    from ..live.feed import Topic
    from ..state.session import SessionState
    from .core import ChildWatch, WakeUp


@final
class Broadcaster:
    """Ticks at once at the first change, and then at most once an interval; never waits for a subscriber.

    A change that comes later than an interval after the last tick is told at once, and costs no timer.

    When the session is left it offers the ended state at once, waits until that is flushed, and then ends
    the subscribers' streams.

    Args:
        wake: Wakes it; closed when the session is left.
        flushed: Set when the store holds the final state, or when that was given up.
        finish: Ends the streams; then the rest of the session may go.
        left: Set when the session is left.
        watch: Notices when it ran.
    """

    __slots__ = (
        "_finish",
        "_flushed",
        "_interval",
        "_left",
        "_scope",
        "_state",
        "_topic",
        "_wake",
        "_watch",
    )

    def __init__(
        self,
        state: SessionState,
        topic: Topic,
        interval: float,
        wake: WakeUp,
        flushed: trio.Event,
        finish: Callable[[], None],
        left: trio.Event,
        watch: ChildWatch,
    ) -> None:
        self._state = state
        self._topic = topic
        self._interval = interval
        self._wake = wake
        self._flushed = flushed
        self._finish = finish
        self._scope = trio.CancelScope(shield=True)
        self._left = left
        self._watch = watch

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Tells the subscribers until the session has ended. Shielded; ends once it is flushed."""
        with self._watch:
            try:
                with self._scope, self._wake.tokens as tokens:
                    not_before = 0.0
                    async for _ in tokens:
                        self._wake.pending = False
                        due = self._wake.since
                        if trio.current_time() < not_before:
                            due = max(due, not_before)
                            with trio.move_on_at(not_before):
                                await self._left.wait()
                        self._watch.ran(due)
                        # From its beginning: to tell a thousand takes a while, which is not to come on top.
                        not_before = trio.current_time() + self._interval
                        self._state.publish()
                        self._topic.announce()
                    self._state.publish()
                    self._topic.announce()
                    await self._flushed.wait()
            finally:
                self._finish()
