"""Whether a tracker's memory grows with the sessions that were entered and left: what each leaves behind, in bytes.

Each has an id of its own, begins a phase, counts on it and is gone from the store soon after it was left. What the
process has in memory is looked at ten times; what the first two tenths take is warming up.
"""

from __future__ import annotations

import argparse
from statistics import linear_regression
from typing import Final

import trio

from trio_progress import ProgressTracker, open_tracker

from .report import Report
from .sessions_worker import PIPELINE, memory_in_use
from .suites import Suite, count, register

LOOKS: Final = 10
WARM_UP: Final = 2
"""Of the looks, those before what counts."""

ALLOWED: Final = 8.0
"""Bytes a session: over 200,000 of them a megabyte and a half, which the allocator may hold in pieces."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `slope`."""
    parser.add_argument("--count", type=count, default=200_000, metavar="N", help="sessions (default: 200000)")
    parser.add_argument("--together", type=count, default=100, metavar="N", help="open at once (default: 100)")


def run(options: argparse.Namespace) -> Report:
    """Enters and leaves them all, once a round."""
    report = Report("slope", {"rounds": options.rounds, "count": options.count, "together": options.together})
    slopes = []
    for _ in range(options.rounds):
        numbers, resident = trio.run(_looks, options.count, options.together)
        slopes.append(linear_regression(numbers[WARM_UP:], resident[WARM_UP:]).slope)
        megabytes = {f"after {number}": [size / 2**20] for number, size in zip(numbers, resident, strict=True)}
        report.add("resident memory", "MB", megabytes)
    report.aim("what a session leaves behind", "bytes", ALLOWED, slopes)
    return report


async def _looks(number: int, together: int) -> tuple[list[int], list[int]]:
    """How many sessions there were at each look, and the bytes that were resident."""
    numbers, resident = [], []
    async with open_tracker("memory:", retention=0.001) as tracker:
        done = 0
        for look in range(1, LOOKS + 1):
            while done < number * look // LOOKS:
                async with trio.open_nursery() as nursery:
                    for n in range(done, done + together):
                        nursery.start_soon(_one, tracker, n)
                done += together
            numbers.append(done)
            resident.append(memory_in_use())
    return numbers, resident


async def _one(tracker: ProgressTracker, n: int) -> None:
    async with tracker.session(f"s-{n}", PIPELINE) as session:
        with session.phase("phase-0", total=2) as phase:
            phase.advance()
            await trio.lowlevel.checkpoint()
            phase.advance()


register(
    Suite(
        name="slope",
        summary="whether memory grows with the sessions that were entered and left",
        rounds=1,
        add_arguments=add_arguments,
        run=run,
        short=("--count", "20000"),
    )
)
