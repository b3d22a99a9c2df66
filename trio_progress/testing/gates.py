"""`Gates`: named points at which a test can stop whoever comes by, and then the world."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import final

import trio
import trio.testing


@final
class Gates:
    """Points of a scenario, each open until a test closes it. A point that nobody closes is a checkpoint.

    The scenario says `await gates.point("fetched")`; the test says `async with gates.stopped("fetched"):`
    and looks at the world as it is there.
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
        """Stops whoever comes to the point from now on."""
        self._closed.setdefault(name, trio.Event())

    def open(self, name: str) -> None:
        """Lets those go on that stand there, and whoever comes later pass."""
        gate = self._closed.pop(name, None)
        if gate is not None:
            gate.set()

    def waiting(self, name: str) -> int:
        """How many stand at the point."""
        return self._waiting.get(name, 0)

    async def reached(self, name: str) -> None:
        """Waits until somebody stands at the point. A checkpoint."""
        await trio.lowlevel.checkpoint()
        await self._arrived.setdefault(name, trio.Event()).wait()

    @asynccontextmanager
    async def stopped(self, name: str) -> AsyncIterator[None]:
        """The block runs once somebody stands at the point and nobody else can run; then the point is opened.

        Under a clock that jumps, no virtual time passes between the two.
        """
        self.close(name)
        try:
            await self.reached(name)
            await trio.testing.wait_all_tasks_blocked()
            yield
        finally:
            self.open(name)
