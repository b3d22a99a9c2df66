"""What a session, a phase, an event, a subscriber, a stored state and a label cost, and how each grows in number.

Of each, some are made at once, and ten times as many: what the larger number costs beyond the smaller is what one more
costs where there are many. Time is CPU time; bytes are what Python has allocated, traced in a run of its own, for
tracing is slow.
"""

from __future__ import annotations

import argparse
import gc
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import trio

from trio_progress import Pipeline, ProgressTracker, Session, open_tracker

from .report import Report
from .suites import Suite, register

PIPELINE: Final = Pipeline("measured", [f"phase-{n}" for n in range(8)])

FEW, MANY = 30, 300
"""How many are made at once."""

LABELLED: Final = 10
"""Sessions that are entered with labels; one has at most 32 of them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(options: argparse.Namespace) -> Report:
    """Measures each kind once a round for its time, and once for its bytes."""
    report = Report("costs", {"rounds": options.rounds})
    for what, (measure, few, many) in KINDS.items():
        times: dict[str, list[float]] = {f"of {few}": [], f"of {many}": []}
        for _ in range(options.rounds):
            for number in (few, many):
                times[f"of {number}"].append(trio.run(_spent, measure, number))
        report.add(f"{what}, time", "us", times, against=(f"of {few}",))
        sizes = {f"of {number}": [trio.run(_allocated, measure, number)] for number in (few, many)}
        report.add(f"{what}, memory", "bytes", sizes, against=(f"of {few}",))
    report.notes += [
        "one more, where there are many, is what the many cost beyond the few, divided by their difference",
        "CPU time and allocated bytes of one, where so many are made; the ratio says how it grows: 1 is not at all",
        "a store in memory; a session's eight phases are declared and not begun; a task of its own holds each open",
        "a subscriber's time is that of one update; of a session that has ended the store keeps the final state",
    ]
    return report


Measure = Callable[[int, AsyncExitStack], Awaitable[Callable[[], Awaitable[object]]]]
"""Prepares so many, and gives what makes them, which is what is measured; what they hold on to lives in the stack."""


async def _spent(measure: Measure, number: int) -> float:
    async with AsyncExitStack() as stack:
        make = await measure(number, stack)
        gc.collect()
        began = time.process_time()
        await make()
        return (time.process_time() - began) / number * 1e6


async def _allocated(measure: Measure, number: int) -> float:
    async with AsyncExitStack() as stack:
        make = await measure(number, stack)
        gc.collect()
        tracemalloc.start()
        try:
            await make()
            gc.collect()
            return tracemalloc.get_traced_memory()[0] / number
        finally:
            tracemalloc.stop()


async def _tracker(stack: AsyncExitStack) -> tuple[ProgressTracker, trio.Nursery]:
    tracker = await stack.enter_async_context(open_tracker("memory:"))
    nursery = await stack.enter_async_context(trio.open_nursery())
    stack.callback(nursery.cancel_scope.cancel)
    async with tracker.session("warm-up", PIPELINE) as session:
        session.advance_to("phase-0").advance()
    return tracker, nursery


async def _session(stack: AsyncExitStack) -> tuple[ProgressTracker, trio.Nursery, Session]:
    tracker, nursery = await _tracker(stack)
    session = await stack.enter_async_context(tracker.session("measured"))
    return tracker, nursery, session


@asynccontextmanager
async def _all(number: int) -> AsyncIterator[Callable[[], None]]:
    """Waits at its end until what is given was called so often."""
    done, count = trio.Event(), 0

    def one() -> None:
        nonlocal count
        count += 1
        if count == number:
            done.set()

    yield one
    await done.wait()


async def sessions(number: int, stack: AsyncExitStack) -> Callable[[], Awaitable[object]]:
    """Open sessions."""
    tracker, nursery = await _tracker(stack)

    async def hold(n: int, entered: Callable[[], None]) -> None:
        async with tracker.session(f"s-{n}", PIPELINE):
            entered()
            await trio.sleep_forever()

    async def make() -> None:
        async with _all(number) as entered:
            for n in range(number):
                nursery.start_soon(hold, n, entered)

    return make


async def ended(number: int, stack: AsyncExitStack) -> Callable[[], Awaitable[object]]:
    """Sessions that are entered and left: the store keeps what they ended as."""
    tracker, _ = await _tracker(stack)

    async def make() -> None:
        for n in range(number):
            async with tracker.session(f"s-{n}", PIPELINE):
                pass

    return make


async def states(number: int, stack: AsyncExitStack) -> Callable[[], Awaitable[object]]:
    """States of one session, each stored by a flush."""
    _, _, session = await _session(stack)

    async def make() -> None:
        for n in range(number):
            session.set(n=n)
            await session.flush()

    return make


async def phases(number: int, stack: AsyncExitStack) -> Callable[[], Awaitable[object]]:
    """Phases of one session that are begun, counted on, and completed."""
    _, _, session = await _session(stack)

    async def make() -> None:
        for n in range(number):
            with session.phase(f"p-{n}", total=1) as phase:
                phase.advance()

    return make


async def events(number: int, stack: AsyncExitStack) -> Callable[[], Awaitable[object]]:
    """Custom events of one session."""
    _, _, session = await _session(stack)

    async def make() -> None:
        for n in range(number):
            session.emit("found", {"n": n})

    return make


async def subscribers(number: int, stack: AsyncExitStack) -> Callable[[], Awaitable[object]]:
    """Subscribers of one session that come, and read what there is and one update."""
    tracker, nursery, session = await _session(stack)

    async def read(joined: Callable[[], None], updated: Callable[[], None]) -> None:
        async with tracker.subscribe("measured") as messages:
            async for message in messages:
                if type(message).__name__ == "Snapshot":
                    joined()
                elif type(message).__name__ == "Update":
                    updated()

    async def make() -> None:
        async with _all(number) as updated:
            async with _all(number) as joined:
                for _ in range(number):
                    nursery.start_soon(read, joined, updated)
            session.set(n=1)

    return make


async def labels(number: int, stack: AsyncExitStack) -> Callable[[], Awaitable[object]]:
    """Labels of sessions that are entered: their entry is in it, so one more is what the many cost beyond the few."""
    tracker, _ = await _tracker(stack)
    given = {f"label-{n}": f"value-{n}" for n in range(number // LABELLED)}

    async def make() -> None:
        for n in range(LABELLED):
            await stack.enter_async_context(tracker.session(f"s-{n}", PIPELINE, labels=given))

    return make


KINDS: Final[dict[str, tuple[Measure, int, int]]] = {
    "a session": (sessions, FEW, MANY),
    "a session that has ended": (ended, FEW, MANY),
    "a phase": (phases, FEW, MANY),
    "an event": (events, FEW, MANY),
    "a subscriber": (subscribers, FEW, MANY),
    "a stored state": (states, FEW, MANY),
    "ten sessions, of so many labels in all": (labels, FEW, MANY),
}


register(
    Suite(
        name="costs",
        summary="what a session, a phase, an event, a subscriber, a stored state and a label cost, and how that grows",
        rounds=7,
        add_arguments=add_arguments,
        run=run,
        short=("--rounds", "5"),
    )
)
