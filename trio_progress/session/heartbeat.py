"""The child that says that the session's event loop lives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import trio

from .wake import SLOW, ChildWatch

if TYPE_CHECKING:
    from ..live.feed import Topic
    from ..state.session import SessionState


@final
@dataclass(slots=True, eq=False, repr=False)
class Heartbeat:
    """Stamps the state, tells the subscribers, and has the lease renewed; at every interval until all is stored."""

    _state: SessionState
    _topic: Topic
    _interval: float
    _renew: Callable[[], None]
    """Has the lease renewed; does not wait."""
    _flushed: trio.Event
    """Set when the store holds the final state, or when that was given up: the session has ended."""
    _watch: ChildWatch

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Beats until the session has ended. Shielded: nothing else ends it."""
        try:
            while not self._flushed.is_set():
                due = trio.current_time() + self._interval
                with trio.CancelScope(deadline=due, shield=True):
                    await self._flushed.wait()
                    return
                if self._topic.subscribers:
                    now = trio.current_time()
                    if now - due >= SLOW:
                        self._watch.ran_late(due, now)
                    self._state.note_time()
                self._state.beat()
                self._topic.bookmark()
                self._renew()
        except Exception as error:
            self._watch.bug = error
            raise
