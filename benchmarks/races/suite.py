"""`python -m benchmarks races`: the table, and with `--plot` the drawings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, TextIO

from ..report import Report, Row, columns, number
from ..suites import Suite, count, register
from . import cost, minimal, plot
from .drive_asyncio import AsyncioModel
from .drive_trio import TrioProgress
from .old import ROOM, OldTracker
from .outcome import Cancelled, Stays
from .remedied import RemediedTracker
from .schedule import Schedule, draw, draw_stays
from .summary import FIGURES, RACES, SHOWN, Case

OLD, REMEDIED, OURS = "old", "old, remedied", "trio-progress"


def contenders(room: int = ROOM) -> dict[str, AsyncioModel | TrioProgress]:
    """All by name; `room` is the messages that a client's socket takes before a sender has to wait."""
    return {
        OLD: AsyncioModel(OldTracker, room),
        REMEDIED: AsyncioModel(RemediedTracker, room),
        OURS: TrioProgress(room),
    }


SMALLEST: Final[Mapping[str, Schedule | None]] = {
    "1. phase completion": minimal.TWO_PHASES_AT_ONCE,
    "2. snapshot skipped": minimal.TWO_UPDATES_IN_A_TICK,
    "3. heartbeat clean-up": None,
    "4. broadcasts that overlap": minimal.A_SLOW_SOCKET,
}
"""The schedule that shows each race; none of calls where it is about starting and cleaning up."""


class RacesReport(Report):
    """Printed as one table, race by race, with a column for each tracker."""

    def print(self, file: TextIO) -> None:
        """Prints the table, then what a report prints."""
        names = list(dict.fromkeys(row.name for row in self.rows))
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        print(f"{self.suite}: {settings}", file=file)
        lines: list[tuple[str, ...]] = []
        for group in dict.fromkeys(row.group for row in self.rows):
            race, _, what = group.rpartition(": ")
            if not lines or (race and race != lines[-1][0]):
                lines.append((race, ""))
            rows = {row.name: row for row in self.rows if row.group == group}
            cells = [_cell(rows[name]) if name in rows else "-" for name in names]
            lines.append((race, what, *cells, next(iter(rows.values())).unit))
        shown: list[tuple[str, ...]] = [("", *names, "")]
        for race, what, *cells in lines:
            shown.append((f"  {what}" if cells else f"\n{race}", *cells))
        print("\n".join(columns(shown)), file=file)
        self.print_end(file)


def _cell(row: Row) -> str:
    """Counts as they are, the rest with three digits."""
    value = row.spread.median
    return number(value) if row.unit in ("s", "us", "points") else f"{value:,.0f}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `races`."""
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the first schedule (default: 1)")
    parser.add_argument("--runs", type=count, default=1000, metavar="N", help="schedules (default: 1000)")
    room = "messages that a client's socket takes before a sender waits (default: %(default)s)"
    parser.add_argument("--room", type=count, default=ROOM, metavar="N", help=room)
    parser.add_argument("--only", action="append", choices=(OLD, REMEDIED, OURS), help="one tracker, or some")
    parser.add_argument("--plot", type=Path, metavar="DIR", help="draw it into DIR, as SVG")


def run(options: argparse.Namespace) -> Report:
    """Replays every schedule to every tracker; then measures what an update costs, `--rounds` times."""
    every = contenders(options.room)
    chosen = {name: one for name, one in every.items() if not options.only or name in options.only}
    report = RacesReport("races", {name: getattr(options, name) for name in ("seed", "runs", "room", "rounds")})
    smallest(report, chosen)
    found = replay(chosen, options.seed, options.runs)
    for figure in FIGURES:
        values = {name: value for name, cases in found.items() if (value := figure.of(cases)) is not None}
        if figure.name == "own counters that disagree":
            values = {name: value for name, value in values.items() if name == OURS}
        shown = {OURS: [name for name in values if name != OURS]} if figure.name in SHOWN and OURS in values else {}
        report.add(
            f"{figure.race}: {figure.name}",
            figure.unit,
            {name: [value] for name, value in values.items()},
            headline=shown,
        )
    cost.measure(report, options, chosen, (OLD, REMEDIED), OURS)
    for race, shows in RACES.items():
        if OURS in found:
            report.aim(f"{race}, {OURS}", "schedules", 0, [sum(map(shows, found[OURS]))])
    if OURS in found:
        wrong = [text for case in found[OURS] for text in case.replay.disagreements]
        report.aim("counters that disagree with what clients and store got", "counters", 0, [len(wrong)])
        report.notes += wrong[:5]
    report.notes += [
        f"schedules of the seeds {options.seed} to {options.seed + options.runs - 1}, the same for all; virtual time",
        "what the models take from the seed's text, and how it was read: benchmarks/races/old.py and remedied.py",
        "CPU: real time of the processor, the tasks that replay the schedule included",
    ]
    if options.plot is not None:
        plot.draw_all(options.plot, found)
    return report


def replay(chosen: Mapping[str, AsyncioModel | TrioProgress], seed: int, runs: int) -> dict[str, list[Case]]:
    """All cases, by tracker."""
    found: dict[str, list[Case]] = {name: [] for name in chosen}
    for each in range(seed, seed + runs):
        schedule, stays = draw(each), draw_stays(each)
        for name, contender in chosen.items():
            outcome = contender.replay(schedule, each)
            found[name].append(Case(each, schedule, outcome, contender.stays(stays, each), contender.cancelled(each)))
        if sys.stderr.isatty():
            print(f"\r{each - seed + 1} of {runs} schedules", end="", file=sys.stderr, flush=True)
    return found


def smallest(report: Report, chosen: Mapping[str, AsyncioModel | TrioProgress]) -> None:
    """Adds whether each race shows in the smallest schedule for it."""
    for race, shows in RACES.items():
        values = {name: [float(shows(_smallest_case(one, SMALLEST[race])))] for name, one in chosen.items()}
        report.add(f"the smallest schedule for each: {race}", "schedules", values)


NOTHING: Final = Cancelled(lost=False, tasks_left=0)


def _smallest_case(contender: AsyncioModel | TrioProgress, schedule: Schedule | None) -> Case:
    if schedule is None:
        some = minimal.TWO_PHASES_AT_ONCE
        return Case(0, some, contender.replay(some, 0), contender.stays(minimal.TWO_CALLERS, 0), NOTHING)
    return Case(0, schedule, contender.replay(schedule, 0), Stays(), NOTHING)


def races_in(cases: Sequence[Case]) -> dict[str, int]:
    """In how many of the cases each race has shown."""
    return {race: sum(map(shows, cases)) for race, shows in RACES.items()}


register(
    Suite(
        name="races",
        summary="the seed's four races: the old tracker, the same with its remedy, and trio-progress",
        rounds=5,
        add_arguments=add_arguments,
        run=run,
        short=("--rounds", "3"),
    )
)
