"""What happens, decided before anything runs: every call with its moment, every client with its pace.

A schedule is drawn once from a seed and replayed to each tracker, so all of them are asked the same things at
the same moments. Moments are whole milliseconds: calls of one millisecond land in one tick of the event loop,
as they do when several workers wait for one thing. What is right at each moment (`Schedule.truth`) follows from
the schedule alone.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Final, Literal, TypeAlias

PHASES: Final = {"classification": 8, "search": 38, "analysis": 32, "follow-ups": 10, "synthesis": 12}
"""The pipeline, with weights that add up to 100."""

ORDER: Final = tuple(PHASES)

QUIET: Final = 0.005
"""Seconds after a call in which it may still be under way; what comes after them can be judged."""

Kind: TypeAlias = Literal["enter", "count", "mark"]


@dataclass(frozen=True, slots=True)
class Call:
    """Somebody tells the tracker something.

    Args:
        at: When, in seconds.
        caller: Which task; a task makes its calls one after the other.
        kind: "enter" sets the phase, "count" says that an item is done, "mark" that all items of a phase are.
        phase: Which.
        done: Items of the phase that are done then.
        total: Items that the phase has.
    """

    at: float
    caller: str
    kind: Kind
    phase: str
    done: int
    total: int


@dataclass(frozen=True, slots=True)
class Client:
    """A viewer; `pace` is the seconds that it takes for each message."""

    name: str
    pace: float
    slow: bool = False


@dataclass(frozen=True)
class Schedule:
    """One run: calls in the order in which they come, the clients, and when the work is over."""

    calls: tuple[Call, ...]
    clients: tuple[Client, ...]
    end: float

    @cached_property
    def by_caller(self) -> dict[str, list[tuple[int, Call]]]:
        """What each task does, each call with its place in the schedule."""
        found: dict[str, list[tuple[int, Call]]] = {}
        for place, call in enumerate(self.calls):
            found.setdefault(call.caller, []).append((place, call))
        return found

    @cached_property
    def looks(self) -> tuple[float, ...]:
        """Moments at which nothing is under way, once before each pause of the calls and once before the end."""
        moments = [call.at for call in self.calls] + [self.end]
        return tuple(at + QUIET for at, then in pairwise(moments) if then - at > 2 * QUIET)

    @cached_property
    def _truth(self) -> tuple[list[float], list[tuple[float, tuple[str, ...]]]]:
        at: list[float] = []
        facts: list[tuple[float, tuple[str, ...]]] = []
        highest, part = -1, 0.0
        for call in self.calls:
            place = ORDER.index(call.phase)
            if place > highest:
                highest, part = place, 0.0
            if place == highest and call.total:
                part = max(part, call.done / call.total)
            finished = ORDER[:highest]
            at.append(call.at)
            facts.append((sum(PHASES[name] for name in finished) + PHASES[ORDER[highest]] * part, finished))
        return at, facts

    def truth(self, moment: float) -> tuple[float, tuple[str, ...]]:
        """The percentage that the bar should show then, and the phases that are over: all before the furthest."""
        at, facts = self._truth
        place = bisect_right(at, moment) - 1
        return facts[place] if place >= 0 else (0.0, ())


def draw(seed: int) -> Schedule:
    """A run of about ten seconds: many workers, random timing, three clients of which one is slow.

    A phase is handed over as the seed tells it: a worker marks it as complete while the coroutine of the next
    phase sets that, within two milliseconds, in either order. In two of three runs the analysis leaves nothing
    to follow up, so that phase is over as soon as it has begun.
    """
    rng = random.Random(seed)
    calls: list[Call] = []
    now = 10
    for name in ORDER:
        total = rng.randint(8, 24)
        if name == "follow-ups" and rng.random() < 2 / 3:
            total = 0
        calls.append(_call(now, name, "enter", name, 0, total))
        moment = now
        for done in range(1, total + 1):
            moment += 0 if done > 1 and rng.random() < 0.15 else rng.randint(20, 260)
            calls.append(_call(moment, f"{name} worker {rng.randrange(8)}", "count", name, done, total))
        if total:
            calls.append(_call(moment + rng.randint(0, 2), f"{name} marker", "mark", name, total, total))
        now = moment + rng.randint(0, 2)
    rng.shuffle(calls)  # Who comes first within a tick is chance; the sort keeps that.
    calls.sort(key=lambda call: (call.at, call.done if call.kind == "count" else 0))
    clients = [
        Client("fast 1", rng.uniform(0.001, 0.004)),
        Client("fast 2", rng.uniform(0.001, 0.004)),
        Client("slow", rng.uniform(0.15, 0.5), slow=True),
    ]
    rng.shuffle(clients)
    return Schedule(tuple(calls), tuple(clients), max(call.at for call in calls) + 0.1)


def _call(milliseconds: int, caller: str, kind: Kind, phase: str, done: int, total: int) -> Call:
    return Call(milliseconds / 1000, caller, kind, phase, done, total)


@dataclass(frozen=True, slots=True)
class Stay:
    """One caller's run of an id: when it begins, and for how long."""

    at: float
    seconds: float


def draw_stays(seed: int) -> tuple[Stay, ...]:
    """Four callers who start and clean up the same id, within a tenth of a second: somebody clicks impatiently."""
    rng = random.Random(seed ^ 0x5EED)
    return tuple(Stay(rng.randrange(60) / 1000, rng.randrange(1, 60) / 1000) for _ in range(4))
