"""So many faults between trackers and a Redis, and whether any promise was broken: `tests/fault_scenario.py`.

Not a benchmark of speed. What fails tells its seed, and the command that replays it.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Final

import trio

from .report import Report
from .suites import MissingError, Suite, count, register

EACH: Final = 10
"""Faults in one scenario."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `faults`."""
    parser.add_argument("--count", type=count, default=2000, metavar="N", help="faults (default: 2000)")
    parser.add_argument("--seed", type=int, metavar="N", help="the seed of a single scenario, to replay it")
    parser.add_argument("--at-once", type=count, default=4, metavar="N", help="scenarios at once (default: 4)")


def run(options: argparse.Namespace) -> Report:
    """Goes through scenarios until there were so many faults; all of them again in each round."""
    from tests.redis_server import RedisServer, binary

    program = binary()
    if program is None:
        raise MissingError("there is no redis-server on the PATH")
    report = Report("faults", {"rounds": options.rounds, "count": options.count, "each": EACH})
    logging.getLogger("trio_progress").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="trio-progress-") as folder:
        server = RedisServer(program, Path(folder)).start()
        try:
            trio.run(_run, report, options, server.port)
        finally:
            server.stop()
    return report


async def _run(report: Report, options: argparse.Namespace, port: int) -> None:
    from tests.fault_proxy import FAULTS
    from tests.fault_scenario import run_scenario

    counts = {fault: [0.0] * options.rounds for fault in FAULTS}
    sums = {name: [0.0] * options.rounds for name in ("states", "messages", "events", "failed_writes")}
    broken = [0.0] * options.rounds
    at_once = trio.Semaphore(options.at_once)
    done = 0

    async def one(seed: int, nth: int) -> None:
        nonlocal done
        async with at_once:
            try:
                outcome = await run_scenario(("127.0.0.1", port), seed, EACH)
            except Exception as error:
                broken[nth] += 1
                traceback.print_exception(error)
                print(f"seed {seed} failed; this replays it: python -m benchmarks faults --seed {seed}", flush=True)
                return
            for fault, number in outcome.faults.items():
                counts[fault][nth] += number
            for name, numbers in sums.items():
                numbers[nth] += getattr(outcome, name)
            done += 1
            print(f"\r{done} scenarios held", end="", file=sys.stderr, flush=True)

    for nth in range(options.rounds):
        seeds = [random.SystemRandom().getrandbits(32) for _ in range(max(options.count // EACH, 1))]
        async with trio.open_nursery() as nursery:
            for seed in seeds if options.seed is None else [options.seed]:
                nursery.start_soon(one, seed, nth)
    print(file=sys.stderr)
    report.add("faults", "times", counts)
    report.add("what went on meanwhile", "", sums)
    report.aim("scenarios that broke a promise", "", 0, broken)
    faults = sum(map(sum, counts.values()))
    report.notes.append(f"{done} scenarios held, in which there were {faults:.0f} faults")


register(
    Suite(
        name="faults",
        summary="faults between trackers and a Redis: whether what must hold does; not a measurement",
        rounds=1,
        add_arguments=add_arguments,
        run=run,
        short=("--count", "200"),
    )
)
