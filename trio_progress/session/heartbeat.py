"""The child that says that the session's event loop lives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

import trio

if TYPE_CHECKING:
    from ..live.feed import Topic
    from ..state.session import SessionState
    from .wake import ChildWatch


@final
@dataclass(slots=True, eq=False, repr=False)
class Heartbeat:
    """Stamps the state, tells the subscribers, and has the lease renewed; at every interval until stopped."""

    _state: SessionState
    _topic: Topic
    _interval: float
    _renew: Callable[[], None]
    """Has the lease renewed; does not wait."""
    _watch: ChildWatch
    _scope: trio.CancelScope = field(default_factory=lambda: trio.CancelScope(shield=True))

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Beats until `stop()`. Shielded: nothing else ends it."""
        with self._watch, self._scope:
            while True:
                due = trio.current_time() + self._interval
                await trio.sleep_until(due)
                if self._topic.subscribers:
                    self._watch.ran(due)
                    self._state.note_time()
                self._state.beat()
                self._topic.bookmark()
                self._renew()

    def stop(self) -> None:
        """Ends it; the last step of leaving a session."""
        self._scope.cancel(reason="the session has been left")
