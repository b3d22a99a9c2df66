"""Correct scenarios with a guard: nothing that the explorer injects may let it fire."""

from __future__ import annotations

import trio

from trio_progress.testing import jitter

from .entry import Scenario, steps


async def _work(limit: trio.CapacityLimiter, send: trio.MemorySendChannel[int], number: int) -> None:
    async with limit:
        await jitter(0.005)
        await send.send(number)
        await steps(2)


async def _guarded(patience: float) -> None:
    limit, (send, receive) = trio.CapacityLimiter(2), trio.open_memory_channel[int](1)
    got: list[int] = []
    with trio.fail_after(patience):
        async with trio.open_nursery() as nursery:

            async def collect() -> None:
                got.extend([number async for number in receive])

            nursery.start_soon(collect)
            async with send, trio.open_nursery() as workers:
                for number in range(4):
                    workers.start_soon(_work, limit, send, number)
    assert sorted(got) == [0, 1, 2, 3]
    lock = trio.Lock()
    held: list[str] = []

    async def hold(name: str) -> None:
        with trio.move_on_after(patience) as scope:
            async with lock:
                held.append(name)
                await steps(2)
        assert not scope.cancelled_caught, f"{name} gave up, and nothing was in its way"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold, "one")
        nursery.start_soon(hold, "other")
    assert sorted(held) == ["one", "other"]


async def one_second() -> None:
    """With guards of one second."""
    await _guarded(1.0)


async def five_seconds() -> None:
    """With guards of five seconds."""
    await _guarded(5.0)


async def a_minute() -> None:
    """With guards of a minute."""
    await _guarded(60.0)


GUARDED: tuple[Scenario, ...] = (one_second, five_seconds, a_minute)
