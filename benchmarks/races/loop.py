"""An asyncio event loop in virtual time: time passes only when nothing is left to do, and then at once.

What is different from asyncio's own selector loop: `time()` is a number that begins at 0, and where the loop
would wait for its next timer, that number jumps to the timer. Everything else is asyncio's: callbacks that
are ready run first in, first out, and timers that are due at one moment run in one pass.

The seed is not in here, on purpose. It decides the schedule that is replayed (when each call comes, which
come in one tick, how fast each client is); a loop that shuffled its ready callbacks as well would show
races that no real asyncio program has. So one schedule gives one history.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.DefaultSelector):  # type: ignore[misc,valid-type,unused-ignore]  # it is chosen at run time
    """Never waits: what it would have waited is added to the time."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("deadlock: no callback is ready and no timer is set")
        self.now += max(timeout, 0.0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose timers are due as soon as nothing else is."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._jumping.now


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs `main` in a loop of its own, as `asyncio.run` does; what it leaves running is cancelled."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
