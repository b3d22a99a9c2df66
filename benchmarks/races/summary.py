"""What many replays come to: the rows of the table, race by race."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from .outcome import NEVER, Cancelled, Replay, Stays
from .schedule import Schedule

GAP_LIMIT: Final = 2.3
"""Seconds without a snapshot above which one has been put off: two, and the longest pause between two updates."""


@dataclass(frozen=True, slots=True)
class Case:
    """All that one seed has led to, under one tracker."""

    seed: int
    schedule: Schedule
    replay: Replay
    stays: Stays
    cancelled: Cancelled


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Args:
        race: What it belongs to.
        name: What is counted.
        unit: Of the value.
        of: The value, from all cases of a tracker; None where it has none.
    """

    race: str
    name: str
    unit: str
    of: Callable[[Sequence[Case]], float | None]


def lost_completion(case: Case) -> bool:
    """Race 1: a phase was over, and was not recorded by the end."""
    return case.replay.missing(case.schedule) > 0


def snapshot_put_off(case: Case) -> bool:
    """Race 2: longer without a snapshot than the interval and the next update explain."""
    return case.replay.gap(case.schedule) > GAP_LIMIT


def failed_cleanup(case: Case) -> bool:
    """Race 3: cleaning up raised, or left a heartbeat."""
    return case.stays.errors > 0 or case.stays.heartbeats_left > 0


def lost_broadcast(case: Case) -> bool:
    """Race 4: a client did not get what was sent to it, or not in order."""
    return case.replay.lost > 0 or case.replay.reordered > 0


RACES: Final[dict[str, Callable[[Case], bool]]] = {
    "1. phase completion": lost_completion,
    "2. snapshot skipped": snapshot_put_off,
    "3. heartbeat clean-up": failed_cleanup,
    "4. broadcasts that overlap": lost_broadcast,
}

BEYOND: Final = "beyond the four"


def _count(what: Callable[[Case], float]) -> Callable[[Sequence[Case]], float]:
    return lambda cases: sum(what(case) for case in cases)


def _most(what: Callable[[Case], float]) -> Callable[[Sequence[Case]], float]:
    return lambda cases: max(what(case) for case in cases)


def _middle(what: Callable[[Case], float]) -> Callable[[Sequence[Case]], float]:
    return lambda cases: statistics.median(what(case) for case in cases)


def _lag(pick: Callable[[list[float]], float]) -> Callable[[Sequence[Case]], float | None]:
    def value(cases: Sequence[Case]) -> float | None:
        lags = [case.replay.lag for case in cases if case.replay.lag != NEVER]
        return pick(lags) if lags else None

    return value


_ONE, _TWO, _THREE, _FOUR = RACES

FIGURES: Final = (
    Figure(_ONE, "schedules with it", "schedules", _count(lost_completion)),
    Figure(_ONE, "completions never recorded", "phases", _count(lambda c: c.replay.missing(c.schedule))),
    Figure(_ONE, "phases held to be over too early", "phases", _count(lambda c: c.replay.premature(c.schedule))),
    Figure(_ONE, "the bar was wrong by, median worst", "points", _middle(lambda c: c.replay.bar_error(c.schedule))),
    Figure(_ONE, "the bar was wrong by, at most", "points", _most(lambda c: c.replay.bar_error(c.schedule))),
    Figure(_TWO, "schedules with it", "schedules", _count(snapshot_put_off)),
    Figure(_TWO, "without a snapshot, median longest", "s", _middle(lambda c: c.replay.gap(c.schedule))),
    Figure(_TWO, "without a snapshot, at most", "s", _most(lambda c: c.replay.gap(c.schedule))),
    Figure(_TWO, "final state not stored", "schedules", _count(lambda c: not c.replay.final_stored)),
    Figure(_THREE, "schedules with it", "schedules", _count(failed_cleanup)),
    Figure(_THREE, "KeyErrors", "errors", _count(lambda c: c.stays.errors)),
    Figure(_THREE, "heartbeats left beating", "tasks", _count(lambda c: c.stays.heartbeats_left)),
    Figure(_THREE, "callers told that the id is taken", "callers", _count(lambda c: c.stays.refused)),
    Figure(_FOUR, "schedules with it", "schedules", _count(lost_broadcast)),
    Figure(_FOUR, "messages sent, to one client each", "messages", _count(lambda c: c.replay.sent)),
    Figure(_FOUR, "messages lost", "messages", _count(lambda c: c.replay.lost)),
    Figure(_FOUR, "messages after a newer one", "messages", _count(lambda c: c.replay.reordered)),
    Figure(_FOUR, "clients that ended on a wrong state", "clients", _count(lambda c: c.replay.wrong_end)),
    Figure(_FOUR, "fast clients had the final state after, median", "s", _lag(statistics.median)),
    Figure(_FOUR, "fast clients had the final state after, at most", "s", _lag(max)),
    Figure(BEYOND, "a cancelled run loses a completion", "schedules", _count(lambda c: c.cancelled.lost)),
    Figure(BEYOND, "cancelled runs leave behind, without `finally`", "tasks", _count(lambda c: c.cancelled.tasks_left)),
    Figure(BEYOND, "an update held its caller up, at most", "s", _most(lambda c: c.replay.longest_call)),
    Figure(BEYOND, "most tasks at once, callers included", "tasks", _most(lambda c: c.replay.tasks)),
    Figure(BEYOND, "entries kept after the end", "entries", _count(lambda c: c.replay.left_behind)),
    Figure(BEYOND, "own counters that disagree", "counters", _count(lambda c: len(c.replay.disagreements))),
    Figure(BEYOND, "distinct histories", "schedules", lambda cases: len({case.replay.history for case in cases})),
)

SHOWN: Final = frozenset(
    {
        "schedules with it",
        "phases held to be over too early",
        "the bar was wrong by, median worst",
        "without a snapshot, median longest",
        "final state not stored",
        "KeyErrors",
        "heartbeats left beating",
        "messages sent, to one client each",
        "messages lost",
        "messages after a newer one",
        "clients that ended on a wrong state",
        "fast clients had the final state after, median",
        "a cancelled run loses a completion",
        "cancelled runs leave behind, without `finally`",
    }
)
"""Names of the figures that the page of results shows."""

assert {figure.name for figure in FIGURES} >= SHOWN
