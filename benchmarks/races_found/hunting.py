"""One entry measured in this process: when it is found, how often, how small it becomes, and whether its mend holds."""

from __future__ import annotations

import json
import statistics
import sys
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Final

import trio

from trio_progress.testing import ScheduleError, exhaust, explore
from trio_progress.testing.running import Run, run_schedule

from .entry import Entry, Scenario

MISSED: Final = 500
"""Schedules after which a base seed has missed."""

SHRINK: Final = 300
"""Runs in which a failure is made small."""

APART: Final = 1_000_003
"""By how much base seeds differ, so that none runs into another's."""


@dataclass(slots=True)
class Hunt:
    """What came of the faulty version."""

    first: list[int | None] = field(default_factory=list)
    """By base seed: which schedule failed first; None: none of `MISSED`."""
    schedules: int = 0
    failed: int = 0
    preemptions: list[int | None] = field(default_factory=list)
    """By base seed that found it: what is left of the first failure; None: it does not fail again by its order."""
    errors: list[str] = field(default_factory=list)
    """Types of what was raised."""

    @property
    def found(self) -> list[int]:
        """Where it was found."""
        return [number for number in self.first if number is not None]

    @property
    def median(self) -> float:
        """Schedules to the first failure."""
        return statistics.median(MISSED + 1 if number is None else number for number in self.first)

    @property
    def rate(self) -> float:
        """The share that failed."""
        return self.failed / self.schedules

    def small(self, least: int) -> int:
        """How many failures came down to at most one preemption above the least."""
        return sum(left is not None and left <= least + 1 for left in self.preemptions)


@dataclass(slots=True)
class Alarms:
    """What came of a version that is right."""

    schedules: int
    errors: list[str]


def prepare() -> None:
    """Gives old libraries what they ask of Trio, and lets nothing be printed of what they do by the way."""
    warnings.simplefilter("ignore")
    if "MultiError" not in vars(trio):
        trio.MultiError = BaseExceptionGroup  # type: ignore[attr-defined]


def hunt(scenario: Scenario, bases: int, schedules: int, first_base: int = 0) -> Hunt:
    """Explores from some base seeds; in all so many schedules, and with each until it has found something."""
    came = Hunt()
    each = -(-schedules // bases)
    errors: set[str] = set()
    for base in range(first_base, first_base + bases):
        seed = base * APART + 17
        first: int | None = None
        for number in range(max(each, MISSED)):
            if number >= each and first is not None:
                break
            run = run_schedule(scenario, (), seed + number)
            came.schedules += number < each
            if run.error is None:
                continue
            came.failed += number < each
            errors.add(kind_of(run))
            if first is None:
                first = number + 1
        came.first.append(first)
        if first is not None:
            came.preemptions.append(preemptions(scenario, seed + first - 1))
    came.errors = sorted(errors)
    return came


def preemptions(scenario: Scenario, seed: int) -> int | None:
    """How many are left of a schedule that fails, in its smallest form."""
    try:
        explore(scenario, schedules=1, seed=seed, shrink=SHRINK)
    except ScheduleError as error:
        return error.preemptions
    return None


def least(scenario: Scenario, deviations: int = 2) -> int | None:
    """The fewest preemptions with which it fails, among the orders with few deviations; None: it passes them all."""
    try:
        exhaust(scenario, deviations=deviations)
    except ScheduleError as error:
        return error.preemptions
    return None


def alarms(scenario: Scenario, schedules: int, seed: int = 17) -> Alarms:
    """Explores what is right."""
    runs = (run_schedule(scenario, (), seed + number) for number in range(schedules))
    return Alarms(schedules, [f"seed {seed + number}: {kind_of(run)}" for number, run in enumerate(runs) if run.error])


def kind_of(run: Run) -> str:
    """The type of what was raised; of a group, of the first that is in it."""
    error = run.error
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return type(error).__name__


def entry_named(entries: Iterable[Entry], name: str) -> Entry:
    """The entry of that name.

    Raises:
        LookupError: There is none.
    """
    for entry in entries:
        if entry.name == name:
            return entry
    raise LookupError(f"no entry is named {name!r}")


def main() -> None:
    """In an environment of its own: `NAME faulty BASES SCHEDULES`, `NAME right SCHEDULES`, `NAME least`."""
    from . import ENTRIES

    prepare()
    name, what, *numbers = sys.argv[1:]
    entry = entry_named(ENTRIES, name)
    if what == "faulty":
        answer: object = asdict(hunt(entry.faulty, *map(int, numbers)))
    elif what == "right":
        answer = asdict(alarms(entry.right, *map(int, numbers)))
    else:
        answer = least(entry.faulty)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
