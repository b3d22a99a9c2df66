"""`Gates`: named points at which a test stops the tasks that come there, and looks at the world."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import final

import trio
import trio.testing


@final
class Gates:
    """Points of a scenario, each open until a test closes it. A point that nobody closes is a checkpoint.

    The scenario says `await gates.point("fetched")`; the test begins the scenario, says
    `async with gates.stopped("fetched"):`, and looks at the world as it is there. What is to come to the point is begun
    before that block: it is not entered until somebody stands there.
    """

    def __init__(self) -> None:
        self._closed: dict[str, trio.Event] = {}
        self._arrived: dict[str, trio.Event] = {}
        self._waiting: dict[str, int] = {}

    async def point(self, name: str) -> None:
        """Passes the point, or waits until it is opened. A checkpoint."""
        gate = self._closed.get(name)
        self._waiting[name] = self._waiting.get(name, 0) + 1
        try:
            self._arrived.setdefault(name, trio.Event()).set()
            if gate is None:
                await trio.lowlevel.checkpoint()
            else:
                await gate.wait()
        finally:
            self._waiting[name] -= 1
            if not self._waiting[name]:
                self._arrived.pop(name, None)

    def close(self, name: str) -> None:
        """Stops the tasks that come to the point from now on."""
        self._closed.setdefault(name, trio.Event())

    def open(self, name: str) -> None:
        """Lets the tasks at the point go on, and later ones pass."""
        gate = self._closed.pop(name, None)
        if gate is not None:
            gate.set()

    def waiting(self, name: str) -> int:
        """How many tasks stand at the point."""
        return self._waiting.get(name, 0)

    async def reached(self, name: str) -> None:
        """Waits until a task stands at the point. A checkpoint."""
        await trio.lowlevel.checkpoint()
        await self._arrived.setdefault(name, trio.Event()).wait()

    @asynccontextmanager
    async def stopped(self, name: str) -> AsyncIterator[None]:
        """Runs the block once a task stands at the point and no other can run; then opens the point.

        Under a clock that jumps, no virtual time passes between the two.
        """
        self.close(name)
        try:
            await self.reached(name)
            await trio.testing.wait_all_tasks_blocked()
            yield
        finally:
            self.open(name)
