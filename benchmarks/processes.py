"""What counting in worker processes costs a worker and the parent; and whether anything is lost, also by kills.

The parent is measured beside itself without the counter: as many workers do the same loop, and count on nothing. A
worker's count is measured beside what one would write with `multiprocessing` alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import time
from contextlib import nullcontext
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any, Final

import trio

from trio_progress import NullCounter, ProcessCounter, open_tracker

from ._counting import WAYS
from .harness import Timing, interleave
from .report import Report
from .suites import Suite, count, register, seconds

ROOT: Final = Path(__file__).resolve().parents[1]

PASSES: Final = 10
BEAT: Final = 0.002
"""Seconds that the task sleeps whose lag is measured."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `processes`."""
    parser.add_argument("--span", type=seconds, default=2.0, metavar="S", help="seconds with workers (default: 2)")
    parser.add_argument("--workers", type=count, default=8, metavar="N", help="default: 8")
    parser.add_argument(
        "--units", type=count, default=200_000, metavar="N", help="counted in all, exactly, in each way (200000)"
    )
    parser.add_argument("--times", type=count, default=1, metavar="N", help="how often each way counts them (1)")
    parser.add_argument(
        "--ways", nargs="*", choices=list(WAYS), default=["fork", "executor", "fork-with-threads"], metavar="WAY"
    )
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="workers that are killed (20)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="when they are killed")


def run(options: argparse.Namespace) -> Report:
    """Measures, and counts what is missing."""
    settings = {name: value for name, value in vars(options).items() if name in SETTINGS}
    report = Report("processes", settings)
    _exact(report, options)
    if options.kills:
        _killed(report, options)
    trio.run(_measure, report, options)
    report.notes += [
        "a count: CPU time of the process that is measured; nobody else asks for the lock of the shared value",
        f"the parent: its CPU time, and then how late a task wakes at worst, beside {options.workers} busy workers",
        "a worker that is killed keeps a journal of the calls that have returned; one more may have counted",
    ]
    return report


SETTINGS: Final = ("rounds", "span", "workers", "units", "times", "ways", "kills", "seed")


def _program(*arguments: str) -> list[int]:
    """Runs `benchmarks._counting`; the numbers that it prints."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-m", "benchmarks._counting", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - this program
    return [int(word) for word in done.stdout.split()]


def _exact(report: Report, options: argparse.Namespace) -> None:
    each = options.units // options.workers
    wrong: dict[str, list[float]] = {}
    for way in options.ways:
        for _ in range(options.times):
            done, late = _program(way, str(each), str(options.workers))
            wrong.setdefault(way, []).append(abs(done - each * options.workers) + late)
    if wrong:
        report.add(f"{each * options.workers} units counted: wrong", "units", wrong)
        report.aim("units that are wrong, in all ways", "units", 0, [max(max(values) for values in wrong.values())])


def _killed(report: Report, options: argparse.Namespace) -> None:
    returned, done, deaths, late = _program("kills", str(options.seed), str(options.kills))
    report.add(
        f"{deaths} workers killed",
        "units",
        {"returned": [returned], "counted": [done], "counted, and not returned": [done - returned]},
    )
    report.aim("returned and not counted, or late", "units", 0, [max(returned - done, 0) + late])
    report.aim("counted and not returned, for each that died", "units", 1, [max(done - returned, 0) / deaths])


async def _measure(report: Report, options: argparse.Namespace) -> None:
    value = multiprocessing.Value("q", 0)
    async with open_tracker("memory:") as tracker, tracker.session("measured") as session:
        with session.phase("count") as phase:
            async with phase.from_processes() as counter:
                await _counts(report, options, counter, value)
            cpu: dict[str, list[float]] = {}
            lag: dict[str, list[float]] = {}
            for _ in range(options.rounds):
                for name, block in (
                    ("without the counter", nullcontext(NullCounter())),
                    ("with the counter", phase.from_processes()),
                ):
                    async with block as counter:
                        used, late = await _beside_workers(counter, options.workers, options.span)
                    cpu.setdefault(name, []).append(used * 100)
                    lag.setdefault(name, []).append(late * 1000)
    report.add("the parent's CPU", "% of a core", cpu)
    report.add("the event loop's worst lag", "ms", lag)
    more = [a - b for a, b in zip(cpu["with the counter"], cpu["without the counter"], strict=True)]
    report.aim("the parent's CPU for the counter", "% of a core", 0.5, more)
    above = [a - b for a, b in zip(lag["with the counter"], lag["without the counter"], strict=True)]
    report.aim("worst lag above that without the counter", "ms", 10, above)


async def _counts(
    report: Report, options: argparse.Namespace, counter: ProcessCounter | NullCounter, value: Synchronized[Any]
) -> None:
    locked = "with value.get_lock(): value.value += 1"
    given = {"counter": counter, "value": value}
    span = 0.05 / PASSES
    values = await interleave(
        {
            "empty loop": Timing("pass", {}, span=span),
            "counter.advance()": Timing("counter.advance()", given, span=span),
            "counter.advance(3)": Timing("counter.advance(3)", given, span=span),
            locked: Timing(locked, given, span=span),
        },
        options.rounds,
        passes=PASSES,
    )
    report.add("a count of a worker", "ns", values, against=(locked,), headline={"counter.advance()": (locked,)})
    for name in ("counter.advance()", "counter.advance(3)"):
        report.aim(f"{name} to a shared value under its lock", "x", 0.4, values[name], values[locked])


def _work(counter: ProcessCounter | NullCounter, ready: Any) -> None:
    counter.advance()
    ready.release()
    while True:
        counter.advance()


async def _beside_workers(counter: ProcessCounter | NullCounter, workers: int, span: float) -> tuple[float, float]:
    """The parent's CPU time a second, and the worst lag of its event loop, while workers count."""
    context = multiprocessing.get_context("fork")
    ready = context.Semaphore(0)
    processes = [context.Process(target=_work, args=(counter, ready), daemon=True) for _ in range(workers)]
    for process in processes:
        process.start()
    try:
        for _ in processes:
            await trio.to_thread.run_sync(ready.acquire)
        began, used = time.perf_counter(), time.process_time()
        await trio.sleep(span)
        cpu = (time.process_time() - used) / (time.perf_counter() - began)
        worst, began = 0.0, time.perf_counter()
        while (now := time.perf_counter()) < began + span:
            await trio.sleep(BEAT)
            worst = max(worst, time.perf_counter() - now - BEAT)
        return cpu, worst
    finally:
        for process in processes:
            process.kill()
            process.join()


register(
    Suite(
        "processes",
        "counting in worker processes: what it costs, and that nothing is lost",
        5,
        add_arguments,
        run,
        short=("--rounds", "3"),
    )
)
