"""One contender of the suite `sessions`, in a process of its own.

1. Some are entered and left one after the other, with none of the others open.
2. So many are opened at once, each by a task of its own.
3. Each does one step of work, and what that leads to (publishing, storing) is waited for.
4. They idle.
5. Again some more are entered and left one after the other, beside all that are open.
6. All are left at once.
"""

from __future__ import annotations

import asyncio
import gc
import os
import statistics
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import trio

from trio_progress import Pipeline, open_tracker

PIPELINE: Final = Pipeline("measured", [f"phase-{n}" for n in range(8)])
HEARTBEAT: Final = 10.0
"""Seconds; what sessions have by default, so the rivals have it too."""

OURS: Final = "session"
NURSERY: Final = "trio nursery with 3 tasks"
GROUP: Final = "asyncio TaskGroup with 3 tasks"


@dataclass(frozen=True, slots=True)
class Plan:
    """How one contender is measured.

    Args:
        number: How many are open at once.
        samples: How many are entered and left one after the other.
        settle: Seconds for step 3.
        idle: Seconds for step 4.
        traced: Only the memory is measured, by tracing every allocation, and nothing idles.
    """

    number: int
    samples: int
    settle: float
    idle: float
    traced: bool


class Figure(NamedTuple):
    """One of the values that `measure` gives."""

    name: str
    unit: str


FIGURES: Final = (
    Figure("enter, alone", "us"),
    Figure("enter, all at once", "us"),
    Figure("enter, beside all", "us"),
    Figure("leave, alone", "us"),
    Figure("leave, all at once", "us"),
    Figure("leave, beside all", "us"),
    Figure("memory", "KB"),
    Figure("idle CPU, all together", "ms/s"),
)


class Event(Protocol):
    """What trio's and asyncio's events have in common."""

    def set(self) -> object:
        """Lets all who wait go on."""

    def wait(self) -> Awaitable[object]:
        """Waits until it is set."""


Spawn: TypeAlias = Callable[[Callable[[int], Awaitable[None]], int], object]


class Loop(NamedTuple):
    """What the measuring needs of an event loop, so that it is the same for all contenders."""

    event: Callable[[], Event]
    sleep: Callable[[float], Awaitable[None]]
    group: Callable[[], AbstractAsyncContextManager[Spawn]]


Open: TypeAlias = Callable[[str], AbstractAsyncContextManager[Any]]
"""Opens one of what is measured, under an id."""


def measure(contender: str, plan: Plan) -> dict[str, float]:
    """The figures of one contender, by name; of a traced one the memory alone."""
    try:
        return CONTENDERS[contender](plan)
    finally:
        tracemalloc.stop()  # It would go on to slow down whatever this process does next.


async def drive(loop: Loop, open_one: Open, work: Callable[[Any], object], plan: Plan) -> dict[str, float]:
    """Goes through the steps of the module's docstring."""
    figures: dict[str, float] = {}
    if plan.traced:
        await _one_after_the_other(open_one, 1, "warm-up")
        tracemalloc.start()
    else:
        await _one_after_the_other(open_one, plan.samples, "warm-up")
        figures["enter, alone"], figures["leave, alone"] = await _one_after_the_other(open_one, plan.samples, "alone")
    inside = 0
    all_in, begin, release = loop.event(), loop.event(), loop.event()

    async def hold(n: int) -> None:
        nonlocal inside
        async with open_one(f"s-{n}") as one:
            inside += 1
            if inside == plan.number:
                all_in.set()
            await begin.wait()
            work(one)
            await release.wait()

    before = memory_in_use()
    async with loop.group() as spawn:
        began = time.process_time()
        for n in range(plan.number):
            spawn(hold, n)
        await all_in.wait()
        figures["enter, all at once"] = (time.process_time() - began) / plan.number * 1e6
        begin.set()
        await loop.sleep(plan.settle)
        figures["memory"] = (memory_in_use() - before) / plan.number / 1024
        if not plan.traced:
            began, slept = time.process_time(), time.perf_counter()
            await loop.sleep(plan.idle)
            spent, slept = time.process_time() - began, time.perf_counter() - slept
            figures["idle CPU, all together"] = spent / slept * 1000
            beside = await _one_after_the_other(open_one, plan.samples, "beside")
            figures["enter, beside all"], figures["leave, beside all"] = beside
        began = time.process_time()
        release.set()
    figures["leave, all at once"] = (time.process_time() - began) / plan.number * 1e6
    return figures


async def _one_after_the_other(open_one: Open, samples: int, name: str) -> tuple[float, float]:
    """Microseconds of CPU time for entering and for leaving; medians. A busy machine gives the rest to others."""
    entering, leaving = [], []
    for n in range(samples):
        began = time.process_time()
        async with open_one(f"{name}-{n}"):
            entering.append(time.process_time() - began)
            began = time.process_time()
        leaving.append(time.process_time() - began)
    return statistics.median(entering) * 1e6, statistics.median(leaving) * 1e6


def memory_in_use() -> int:
    """Bytes: what Python has allocated where that is traced, else what the process has in memory."""
    gc.collect()
    if tracemalloc.is_tracing():
        return tracemalloc.get_traced_memory()[0]
    # The peak, which getrusage has, would hide what is reused.
    resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return resident * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def _trio_group() -> AsyncIterator[Spawn]:
    async with trio.open_nursery() as nursery:
        yield nursery.start_soon


@asynccontextmanager
async def _asyncio_group() -> AsyncIterator[Spawn]:
    async with asyncio.TaskGroup() as group:
        tasks = set()

        def spawn(function: Callable[[int], Awaitable[None]], n: int) -> None:
            async def task() -> None:
                await function(n)

            tasks.add(group.create_task(task()))

        yield spawn


_TRIO = Loop(trio.Event, trio.sleep, _trio_group)
_ASYNCIO = Loop(asyncio.Event, asyncio.sleep, _asyncio_group)


def _ours(plan: Plan) -> dict[str, float]:
    async def main() -> dict[str, float]:
        async with open_tracker("memory:", heartbeat_interval=HEARTBEAT) as tracker:
            return await drive(
                _TRIO,
                lambda name: tracker.session(name, PIPELINE),
                lambda session: session.advance_to("phase-0", total=100).advance(),
                plan,
            )

    return trio.run(main)


async def _beat(sleep: Callable[[float], Awaitable[None]]) -> None:
    while True:
        await sleep(HEARTBEAT)


@asynccontextmanager
async def _nursery(_: str) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_beat, trio.sleep)
        nursery.start_soon(trio.Event().wait)
        nursery.start_soon(trio.Event().wait)
        await trio.lowlevel.checkpoint()
        yield
        nursery.cancel_scope.cancel()


def _nurseries(plan: Plan) -> dict[str, float]:
    return trio.run(drive, _TRIO, _nursery, id, plan)


@asynccontextmanager
async def _task_group(_: str) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(_beat(asyncio.sleep)),
            group.create_task(_wait_asyncio()),
            group.create_task(_wait_asyncio()),
        ]
        await asyncio.sleep(0)
        yield
        for task in tasks:
            task.cancel()


async def _wait_asyncio() -> None:
    await asyncio.Event().wait()


def _task_groups(plan: Plan) -> dict[str, float]:
    return asyncio.run(drive(_ASYNCIO, _task_group, id, plan))


CONTENDERS: Final[dict[str, Callable[[Plan], dict[str, float]]]] = {
    OURS: _ours,
    NURSERY: _nurseries,
    GROUP: _task_groups,
}
