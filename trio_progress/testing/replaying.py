"""A schedule that was kept, run again: it fails, or one a step or two away does; or it passes, and fits or does not.

A checkpoint more or less, anywhere before the place at which a task has to stop, makes the number of its steps wrong
by one. So where a schedule passes, those are tried in which one or two of its numbers are a step or two larger or
smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING, Final

from .following import Follow
from .running import Case, Run
from .schedule import Block

if TYPE_CHECKING:
    from .schedule import Entry, Schedule

AWAY: Final = (1, -1, 2, -2)
"""By how many steps a block is made longer or shorter."""

TRIED: Final = 100
"""Schedules beside one that are tried at most."""


class UnfitScheduleWarning(UserWarning):
    """A schedule that was kept passes, but is of a scenario that was another."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What has come of a schedule."""

    failed: Run | None
    """The run that has failed, if one did."""
    entries: tuple[Entry, ...]
    """The schedule of that run."""
    away: bool
    """Whether that was not the very schedule."""
    fits: bool


def replay(case: Case, schedule: Schedule) -> Verdict:
    """Runs a schedule, and where it passes those that are a step or two away."""
    follow = Follow(schedule.entries)
    run = case.run(schedule.seed, follow)
    if run.error is not None:
        return Verdict(run, schedule.entries, False, True)
    fits = follow.fits
    for number, entries in enumerate(_beside(schedule.entries)):
        if number == TRIED:
            break
        run = case.run(schedule.seed, Follow(entries))
        if run.error is not None:
            return Verdict(run, entries, True, fits)
    return Verdict(None, schedule.entries, False, fits)


def _beside(entries: tuple[Entry, ...]) -> Iterator[tuple[Entry, ...]]:
    counted = [at for at, entry in enumerate(entries) if isinstance(entry, Block) and entry.steps is not None]
    for changed in (1, 2):
        for places in combinations(counted, changed):
            for steps in product(AWAY, repeat=changed):
                beside = list(entries)
                for at, more in zip(places, steps, strict=True):
                    block = beside[at]
                    assert isinstance(block, Block)
                    assert block.steps is not None
                    beside[at] = Block(block.task, max(block.steps + more, 1))
                yield tuple(beside)
