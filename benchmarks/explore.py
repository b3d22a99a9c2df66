"""`python -m benchmarks explore`: our own scenarios under as many schedules as one likes, in all cores.

The scenarios take turns, so that each has about the same CPU time; what is counted are distinct histories. A
failure is printed with the command that repeats it, and ends the run.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import secrets
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field

from trio_progress.testing import ScheduleError, explore
from trio_progress.testing.failure import SEED_VARIABLE

from ._scenarios import SCENARIOS, quiet
from .report import Report
from .suites import Suite, count, register

BLOCK = 50
"""Schedules that a process runs before it is given something else."""

LIMIT = 10.0
"""Milliseconds of CPU time that a schedule of the first scenario may take: a hundred a second."""

_BY_NAME = {scenario.__name__: scenario for scenario in SCENARIOS}


@dataclass(slots=True)
class Tally:
    """What one scenario has come to."""

    next_seed: int
    schedules: int = 0
    seconds: float = 0.0
    under_way: int = 0
    histories: set[str] = field(default_factory=set)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `explore`."""
    parser.add_argument("--schedules", type=count, default=2000, metavar="N", help="of all together (default: 2000)")
    parser.add_argument("--scenario", choices=sorted(_BY_NAME), help="only this one")
    parser.add_argument("--jobs", type=count, default=os.cpu_count() or 1, metavar="N", help="default: all cores")
    parser.add_argument("--seed", type=int, metavar="N", help="the first seed; drawn unless given")


def block(name: str, seed: int, schedules: int) -> tuple[frozenset[str], float, str | None]:
    """Runs some schedules in this process: their histories, the CPU seconds they took, and what failed."""
    quiet()
    command = [sys.executable, "-m", "benchmarks", "explore", "--scenario", name]
    sys.orig_argv[:] = command  # A worker's own command line would lead nobody back.
    begun = time.process_time()
    try:
        explored = explore(_BY_NAME[name], schedules=schedules, seed=seed)
    except ScheduleError as error:
        return frozenset(), time.process_time() - begun, str(error)
    return explored.histories, time.process_time() - begun, None


def begin_process() -> None:
    """Has the collector walk less often: a schedule leaves thousands of objects, and nearly all go by themselves."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def run(options: argparse.Namespace) -> Report:
    """Explores until so many schedules were run, or one has failed; then it exits with what it was."""
    names = [options.scenario] if options.scenario else list(_BY_NAME)
    first = secrets.randbits(32) if options.seed is None else options.seed
    wanted, jobs = options.schedules, options.jobs
    if SEED_VARIABLE in os.environ:
        wanted = jobs = 1
    report = Report("explore", {"schedules": wanted, "jobs": jobs, "seed": first})
    tallies = {name: Tally(first) for name in names}
    begun = time.perf_counter()
    _explore(tallies, wanted, jobs)
    took = time.perf_counter() - begun
    for name, tally in tallies.items():
        if tally.schedules:
            report.add(name, "ms of CPU a schedule", {"explore": [tally.seconds * 1000 / tally.schedules]})
    watched = tallies.get(SCENARIOS[0].__name__)
    if watched is not None and watched.schedules:
        report.aim("a schedule of a session", "ms of CPU", LIMIT, [watched.seconds * 1000 / watched.schedules])
    schedules = sum(tally.schedules for tally in tallies.values())
    distinct = sum(len(tally.histories) for tally in tallies.values())
    report.notes += [
        f"{schedules} schedules, {distinct} of them distinct, in {took:.0f} s by {jobs} processes; none failed",
        *(f"{name}: {tally.schedules} schedules, {len(tally.histories)} distinct" for name, tally in tallies.items()),
    ]
    return report


def _explore(tallies: dict[str, Tally], wanted: int, jobs: int) -> None:
    planned = done = 0
    running: dict[Future[tuple[frozenset[str], float, str | None]], tuple[str, int]] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=begin_process) as pool:
        while planned < wanted or running:
            while planned < wanted and len(running) < jobs:
                name = min(tallies, key=lambda name: (tallies[name].seconds, tallies[name].under_way))
                tally = tallies[name]
                share = -(-wanted // len(tallies)) if not tally.schedules else BLOCK
                number = min(BLOCK, share, wanted - planned)
                running[pool.submit(block, name, tally.next_seed, number)] = (name, number)
                tally.next_seed += number
                tally.under_way += 1
                tally.seconds += 1e-6  # Till it is known; so that the next process takes another one.
                planned += number
            ready, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ready:
                name, number = running.pop(future)
                histories, seconds, failure = future.result()
                if failure is not None:
                    pool.shutdown(cancel_futures=True)
                    print(file=sys.stderr)
                    raise SystemExit(failure)
                tally = tallies[name]
                tally.schedules += number
                tally.seconds += seconds
                tally.under_way -= 1
                tally.histories |= histories
                done += number
                print(f"\r{done} of {wanted} schedules", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


register(
    Suite(
        name="explore",
        summary="our own scenarios under many schedules: whether any fails, and how fast that goes",
        rounds=1,
        add_arguments=add_arguments,
        run=run,
        short=("--schedules", "1200"),
    )
)
