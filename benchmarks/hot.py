"""What one update costs: `phase.advance()` beside a bare method, tqdm and rich; unwatched, and watched by many.

The update itself is measured without checkpoints in between: what subscribers cost *the work*. A second
table has a checkpoint every 1000 updates, so that broadcasting happens meanwhile, as in a real program.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, TextIO

import trio

from trio_progress import ProgressTracker, open_tracker

from .harness import Timing, compiled, interleave
from .report import Report
from .suites import Suite, count, register, seconds

TOTAL = 10**12
"""More than any of the bars will count."""

ITEMS = 10_000
"""Items of one loop."""

STRETCH = 1000
"""Updates between two checkpoints, where there are checkpoints."""

PASSES = 10
"""How often the contenders take turns within a round, where they need no checkpoint."""


class Bare:
    """What everybody would write who needs no progress."""

    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0

    def add(self) -> None:
        """Counts one."""
        self.n += 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `hot`."""
    parser.add_argument(
        "--span", type=seconds, default=0.05, metavar="S", help="seconds each contender has in a round (default: 0.05)"
    )
    parser.add_argument("--subscribers", type=count, default=1000, metavar="N", help="default: 1000")


def run(options: argparse.Namespace) -> Report:
    """Measures in an event loop of its own."""
    return trio.run(measure, options)


async def measure(options: argparse.Namespace) -> Report:
    """Measures all of it; the trackers have their default settings."""
    report = Report("hot", {"rounds": options.rounds, "span": options.span, "subscribers": options.subscribers})
    async with AsyncExitStack() as stack:
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        alone = await _open_phase(stack, await stack.enter_async_context(open_tracker("memory:")), "alone")
        crowd = await stack.enter_async_context(open_tracker("memory:"))
        watched = await _open_phase(stack, crowd, "watched")
        for _ in range(options.subscribers):
            await nursery.start(_read, crowd, "watched")
        sink = stack.enter_context(_sink())
        await _updates(report, options, alone, watched, sink)
        await _items(report, options, alone, sink)
        await _with_checkpoints(report, options, alone, watched)
    report.notes += [
        "CPU time; the empty loop is in every figure of its table",
        f"tqdm and rich draw to {os.devnull}, at the pace that they have by default; rich draws in a thread of its own",
    ]
    return report


async def _updates(report: Report, options: argparse.Namespace, alone: Any, watched: Any, sink: TextIO) -> None:
    from rich.console import Console
    from rich.progress import Progress
    from tqdm import tqdm

    crowded = f"phase.advance(), {options.subscribers} subscribers"
    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=TOTAL, file=sink))
        progress = stack.enter_context(Progress(console=Console(file=sink, force_terminal=True, width=80)))
        task = progress.add_task("measured", total=TOTAL)
        span = options.span / PASSES
        values = await interleave(
            {
                "empty loop": Timing("pass", {}, span=span),
                "bare method": Timing("counter.add()", {"counter": Bare()}, span=span),
                "phase.advance()": Timing("phase.advance()", {"phase": alone}, span=span),
                crowded: Timing("phase.advance()", {"phase": watched}, span=span),
                "tqdm.update(1)": Timing("bar.update(1)", {"bar": bar}, span=span),
                "rich Progress.advance(task)": Timing(
                    "progress.advance(task)", {"progress": progress, "task": task}, span=span
                ),
            },
            options.rounds,
            passes=PASSES,
            between=_settle,
        )
    shown = {
        "phase.advance()": ("bare method", "tqdm.update(1)", "rich Progress.advance(task)"),
        crowded: ("phase.advance()",),
    }
    against = ("bare method", "tqdm.update(1)", "rich Progress.advance(task)", "phase.advance()")
    report.add("one update, no checkpoint", "ns", values, against=against, headline=shown)
    ours = values["phase.advance()"]
    report.aim("phase.advance() to a bare method", "x", 1.5, ours, values["bare method"])
    report.aim("phase.advance() to tqdm.update(1)", "x", 0.4, ours, values["tqdm.update(1)"])
    report.aim(f"phase.advance(), {options.subscribers} subscribers to none", "x", 1.05, values[crowded], ours)


async def _items(report: Report, options: argparse.Namespace, alone: Any, sink: TextIO) -> None:
    from tqdm import tqdm

    items = list(range(ITEMS))
    given = {"items": items, "counter": Bare(), "phase": alone, "tqdm": tqdm, "sink": sink}
    statements = {
        "bare method": "for x in items: counter.add()",
        "phase.track(items)": "for x in phase.track(items): pass",
        "tqdm(items)": "for x in tqdm(items, file=sink): pass",
    }
    span = options.span / PASSES
    contenders = {name: Timing(statement, given, span=span, each=ITEMS) for name, statement in statements.items()}
    values = await interleave(contenders, options.rounds, passes=PASSES, between=_settle)
    against = ("bare method", "tqdm(items)")
    shown = {"phase.track(items)": against}
    report.add("one item of a loop, no checkpoint", "ns", values, against=against, headline=shown)


async def _with_checkpoints(report: Report, options: argparse.Namespace, alone: Any, watched: Any) -> None:
    span = options.span * 10  # some ticks of the broadcaster
    crowded = f"phase.advance(), {options.subscribers} subscribers"
    values = await interleave(
        {
            "bare method": _stretches("counter.add()", Bare(), span),
            "phase.advance()": _stretches("counter.advance()", alone, span),
            crowded: _stretches("counter.advance()", watched, span),
        },
        options.rounds,
    )
    what = f"one update, a checkpoint every {STRETCH}, broadcasting meanwhile"
    against = ("bare method", "phase.advance()")
    report.add(what, "ns", values, against=against, headline={crowded: against})


def _stretches(statement: str, counter: Any, span: float) -> Callable[[], Awaitable[float]]:
    """Updates with checkpoints in between, for so many seconds; the value is CPU nanoseconds for each update."""
    loop = compiled(statement, {"counter": counter})

    async def value() -> float:
        await _settle()
        stretches = 0
        began, until = time.process_time(), time.perf_counter() + span
        while not stretches or time.perf_counter() < until:
            loop.timeit(STRETCH)
            stretches += 1
            await trio.lowlevel.checkpoint()
        return (time.process_time() - began) / stretches / STRETCH * 1e9

    return value


def _sink() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


async def _open_phase(stack: AsyncExitStack, tracker: ProgressTracker, name: str) -> Any:
    session = await stack.enter_async_context(tracker.session(name))
    return stack.enter_context(session.phase("measured", total=TOTAL))


async def _read(
    tracker: ProgressTracker, name: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    async with tracker.subscribe(name) as messages:
        task_status.started()
        async for _ in messages:
            pass


async def _settle() -> None:
    """Lets the broadcaster tell what was counted, and pause; and readers read it."""
    await trio.sleep(0.25)


register(
    Suite(
        name="hot",
        summary="one update: phase.advance() beside a bare method, tqdm and rich; with 0 and with many subscribers",
        rounds=11,
        add_arguments=add_arguments,
        run=run,
        short=("--rounds", "5", "--span", "0.02"),
    )
)
