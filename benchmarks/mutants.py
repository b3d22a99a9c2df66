"""`python -m benchmarks mutants`: how many schedules it takes to find each of the bugs that are planted."""

from __future__ import annotations

import argparse
import secrets
import sys

from ._mutants import MUTANTS, hunt
from .report import Report
from .suites import Suite, count, register


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `mutants`."""
    parser.add_argument(
        "--schedules", type=count, default=500, metavar="N", help="at most so many a scenario (default: 500)"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="only those whose name has this in it")


def run(options: argparse.Namespace) -> Report:
    """Hunts each bug once a round, each time from other seeds."""
    report = Report("mutants", {"rounds": options.rounds, "schedules": options.schedules})
    hidden = 0
    for mutant in MUTANTS:
        if options.only not in mutant.name:
            continue
        found = [hunt(mutant, options.schedules, secrets.randbits(32)) for _ in range(options.rounds)]
        report.add(mutant.name, "schedules", {"explore": [float(one.schedules) for one in found]})
        missed = sum(one.scenario is None for one in found)
        hidden += missed > 0
        print(f"{mutant.name}: {found[-1]}", file=sys.stderr)
        if missed:
            report.notes.append(f"NOT FOUND in {missed} of {options.rounds}: {mutant.name}")
    report.aim("bugs that were not found every time", "bugs", 0, [hidden])
    if not report.notes:
        report.notes.append(f"all {len(report.rows)} were found")
    return report


register(
    Suite(
        name="mutants",
        summary="bugs planted into a copy of the package: the schedules that it takes to find each",
        rounds=1,
        add_arguments=add_arguments,
        run=run,
    )
)
