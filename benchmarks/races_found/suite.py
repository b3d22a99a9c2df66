"""`python -m benchmarks races-found`: whether the explorer finds the bugs that others have found."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, TextIO

from ..report import Report, columns, number
from ..suites import MissingError, Suite, count, register
from . import ENTRIES
from .entry import Entry
from .environments import ROOT, cache, python_with
from .guarded import GUARDED
from .hunting import MISSED, Hunt, alarms

RATE: Final = 0.012
"""The share of schedules that is to fail, at least."""

SMALL: Final = 0.9
"""The share of failures that is to come down to at most one preemption above the least known."""

HEAD: Final = ("", "mended in", "found", "first failure", "failing", "left", "least", "false alarms")


class RacesFoundReport(Report):
    """Printed as one table, an entry a line."""

    table: list[tuple[str, ...]]

    def print(self, file: TextIO) -> None:
        """Prints the table, then what a report prints."""
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        print(f"{self.suite}: {settings}", file=file)
        print("\n".join(columns([HEAD, *self.table])), file=file)
        self.print_end(file)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `races-found`."""
    parser.add_argument("--full", action="store_true", help="20 base seeds, 5000 schedules, 2000 of what is mended")
    parser.add_argument("--only", action="append", metavar="TEXT", help="only entries whose name has this in it")
    parser.add_argument("--installed", action="store_true", help="only entries for which nothing is installed")
    where = "where environments are kept (default: in the user's cache)"
    parser.add_argument("--environments", type=Path, default=cache(), metavar="DIR", help=where)
    parser.add_argument("--bases", type=count, metavar="N", help="base seeds (default: 3; with --full 20)")
    parser.add_argument("--schedules", type=count, metavar="N", help="of each entry (default: 300; with --full 5000)")
    parser.add_argument("--mended", type=count, metavar="N", help="of what is mended (default: 100; with --full 2000)")


def run(options: argparse.Namespace) -> Report:
    """Hunts each bug, and then what has mended it."""
    bases = options.bases or (20 if options.full else 3)
    schedules = options.schedules or (5000 if options.full else 300)
    mended = options.mended or (2000 if options.full else 100)
    chosen = [
        entry
        for entry in ENTRIES
        if (not options.only or any(text in entry.name for text in options.only))
        and not (options.installed and (entry.packages or entry.mended_packages))
    ]
    if not chosen:
        raise MissingError(f"no entry has {' or '.join(options.only or ())} in its name")
    report = RacesFoundReport("races-found", {"bases": bases, "schedules": schedules, "mended": mended})
    report.table = []
    hunts: list[tuple[Entry, Hunt]] = []
    false = 0
    for entry in chosen:
        came = Hunt(**_worker(entry, options.environments, "faulty", bases, schedules))
        wrong = _worker(entry, options.environments, "right", mended)["errors"]
        false += len(wrong)
        hunts.append((entry, came))
        report.table.append(_line(entry, came, wrong))
        first = [float(each or MISSED + 1) for each in came.first]
        report.add(entry.name, "schedules", {"to the first failure": first})
        report.add(entry.name, "percent", {"failing": [100 * came.rate]})
        report.notes += [f"{entry.name}: FALSE ALARM in {text}" for text in wrong[:3]]
        print("  ".join(report.table[-1]), file=sys.stderr, flush=True)
    false += _guards(report, mended)
    _judge(report, hunts, false)
    return report


def _guards(report: RacesFoundReport, schedules: int) -> int:
    """Explores the correct scenarios with guards; how many schedules of them fail."""
    wrong = 0
    for scenario in GUARDED:
        errors = alarms(scenario, schedules).errors
        wrong += len(errors)
        name = f"guards of {scenario.__name__.replace('_', ' ')}"
        report.table.append((name, "", "", "", "", "", "", str(len(errors))))
        report.notes += [f"{name}: FALSE ALARM in {text}" for text in errors[:3]]
    return wrong


def _judge(report: RacesFoundReport, hunts: list[tuple[Entry, Hunt]], false: int) -> None:
    failed, schedules = (sum(getattr(came, name) for _, came in hunts) for name in ("failed", "schedules"))
    medians = [came.median for _, came in hunts]
    missed = sum(each is None for _, came in hunts for each in came.first)
    shrunk = sum(len(came.preemptions) for _, came in hunts)
    small = sum(came.small(entry.least) for entry, came in hunts)
    report.aim("the rarest: schedules to the first failure", "median", 58, [max(medians)])
    report.aim(f"base seeds that miss in {MISSED}", "seeds", 0, [missed])
    report.aim("failures that do not shrink", "percent", 100 * (1 - SMALL), [100 * (1 - small / max(shrunk, 1))])
    report.aim("false alarms", "schedules", 0, [false])
    rare = [f"{entry.name} {100 * came.rate:.2f} %" for entry, came in hunts if came.rate < RATE]
    middle = number(statistics.median(medians))
    report.notes += [
        f"{failed:,} of {schedules:,} schedules failed; the first failure, median of all entries: schedule {middle}",
        f"{small} of {shrunk} first failures came down to at most one preemption above the least known",
        f"below {100 * RATE:g} % failing: {', '.join(rare) or 'none'}",
        "left: preemptions after shrinking, median (most); least: the fewest known",
    ]


def _line(entry: Entry, came: Hunt, wrong: list[str]) -> tuple[str, ...]:
    left = [each for each in came.preemptions if each is not None]
    shown = f"{statistics.median(left):g} ({max(left)})" if left else "-"
    return (
        entry.name + (" *" if entry.remade else ""),
        entry.mended,
        f"{len(came.found)} of {len(came.first)}",
        f"{came.median:g}" if came.found else "-",
        f"{100 * came.rate:.1f} %",
        shown,
        str(entry.least),
        str(len(wrong)),
    )


def _worker(entry: Entry, environments: Path, what: str, *numbers: int) -> Any:
    python = python_with(entry.packages if what == "faulty" else entry.mended_packages, environments)
    command = [python, "-m", "benchmarks.races_found.hunting", entry.name, what, *map(str, numbers)]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    if made.returncode:
        raise RuntimeError(f"{entry.name}: measuring has failed by itself:\n{made.stderr[-3000:]}")
    return json.loads(made.stdout.splitlines()[-1])


register(
    Suite(
        name="races-found",
        summary="races of Trio's libraries that others have told of: how soon the explorer finds each",
        rounds=1,
        add_arguments=add_arguments,
        run=run,
        short=("--installed", "--bases", "2", "--schedules", "100", "--mended", "50"),
    )
)
