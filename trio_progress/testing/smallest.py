"""The smallest schedule that fails as a found one does, and the passing one beside it; as values, and as lines."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..session.outcome import leaves
from .following import Follow
from .running import Case, Run
from .schedule import Block, Schedule
from .shrinking import Neighbour, Outcome, Shrinker, passing_neighbour

if TYPE_CHECKING:
    from .schedule import Entry

SHOWN: Final = 12
"""Entries of a schedule that are shown: the last ones."""


@dataclass(frozen=True, slots=True)
class Smallest:
    """What a failing schedule was made into."""

    schedule: Schedule
    run: Run
    """It, watched."""
    preemptions: int
    runs: int
    """In how many runs it was found."""
    neighbour: Neighbour | None
    passing: str
    """What happens in the neighbour, as text; empty where there is none."""

    def lines(self) -> list[str]:
        """The schedule in words, and what would have passed."""
        entries = self.schedule.entries
        label = labels_of(self.run)
        many = {0: "no task is interrupted", 1: "1 preemption"}.get(self.preemptions, f"{self.preemptions} preemptions")
        lines = [f"smallest schedule that fails so, after {self.runs} runs: {many}"]
        shown = entries[-SHOWN:]
        if len(shown) < len(entries):
            lines.append(f"  ... {len(entries) - len(shown)} earlier entries")
        lines += [f"  {in_words(entry, label)}" for entry in shown]
        if self.neighbour is not None:
            lines.append(self.neighbour.sentence)
        return lines


def smallest(case: Case, seed: int, failed: Run, budget: int, test: str = "") -> Smallest | None:
    """Makes the schedule of a run that failed smaller; None where it does not fail again by its order alone."""

    def run(entries: tuple[Entry, ...]) -> Outcome:
        source = Follow(entries)
        made = case.run(seed, source)
        kinds = kinds_of(made.error)
        return Outcome(kinds, made.record.entries(), source.preemptions, len(source.misfits))

    first = run(failed.record.entries())
    if not first.kinds & kinds_of(failed.error):
        return None
    shrinker = Shrinker(run, first, budget)
    shrinker.shrink()
    best = shrinker.best
    watched = case.run(seed, Follow(best.entries), watch=True)
    neighbour = passing_neighbour(run, best.entries, labels_of(watched))
    passing = "" if neighbour is None else case.run(seed, Follow(neighbour.entries), watch=True).timeline
    source = Follow(_relaxed(run, best.entries))
    case.run(seed, source)
    places = iter(source.places)
    entries = tuple(
        Block(entry.task, entry.steps, next(places, "")) if isinstance(entry, Block) and entry.steps else entry
        for entry in source.entries
    )
    schedule = Schedule(seed, entries, test)
    return Smallest(schedule, watched, best.preemptions, shrinker.runs, neighbour, passing)


def _relaxed(run: Callable[[tuple[Entry, ...]], Outcome], entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """The same, but that a task that stops because it has to wait has no number: one step more does not matter then."""
    relaxed = tuple(Block(entry.task, None) if isinstance(entry, Block) else entry for entry in entries)
    for at, entry in enumerate(entries):
        if not isinstance(entry, Block):
            continue
        # All that follows is exact, so that this block alone decides.
        if run((*relaxed[: at + 1], *entries[at + 1 :])).entries != entries:
            relaxed = (*relaxed[:at], entry, *relaxed[at + 1 :])
    return relaxed


def kinds_of(error: BaseException | None) -> frozenset[object]:
    """What was raised, by type and by where; of a group all that is in it."""
    return frozenset(_kind(leaf) for leaf in (() if error is None else leaves(error)))


def _kind(leaf: BaseException) -> object:
    frames = traceback.extract_tb(leaf.__traceback__)
    return type(leaf), (frames[-1].filename, frames[-1].lineno) if frames else None


def labels_of(run: Run) -> Callable[[str], str]:
    """Makes the names of a run's tasks into those that people are shown."""
    shown = dict(zip(run.record.names, run.record.labels, strict=True))
    return lambda name: shown.get(name, name)


def in_words(entry: Entry, label: Callable[[str], str]) -> str:
    """An entry as people read it."""
    if not isinstance(entry, Block):
        return str(entry)
    if entry.steps is None:
        return f"{label(entry.task)} runs until it waits or ends"
    return f"{label(entry.task)} makes {entry.steps} step{'s' * (entry.steps != 1)} and could make more"
