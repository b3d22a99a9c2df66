"""What is written down of one schedule under one tracker, in the same words for all trackers."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from .schedule import Schedule

NEVER = float("inf")


@dataclass(slots=True)
class Look:
    """What a tracker showed at one moment at which nothing was under way."""

    at: float
    bar: float
    """Per cent."""
    over: frozenset[str]
    """The phases that it holds to be completed or skipped."""


@dataclass(slots=True)
class Replay:
    """What became of one replayed schedule."""

    looks: list[Look] = field(default_factory=list)
    stored_at: list[float] = field(default_factory=list)
    """When the store took a snapshot."""
    final_stored: bool = False
    """Whether the newest stored snapshot is the final state."""
    sent: int = 0
    """Messages that were made for a client, each for one of them."""
    lost: int = 0
    """Messages that did not reach a client and were not made up for by what it got instead."""
    reordered: int = 0
    """Messages that came after a newer one."""
    wrong_end: int = 0
    """Clients whose last state is not the final one."""
    longest_call: float = 0.0
    """Seconds that a caller was held up by one update."""
    lag: float = 0.0
    """Seconds from the last update until both fast clients had the final state."""
    tasks: int = 0
    """Most tasks that were there at a look, those of the callers among them."""
    left_behind: int = 0
    """Entries of the tracker's dicts that were still there at the end."""
    disagreements: list[str] = field(default_factory=list)
    """Where the tracker's own counters differ from what clients and store got."""
    history: int = 0
    """A number that two replays share only if their clients got the same things at the same moments."""

    def missing(self, schedule: Schedule) -> int:
        """Phases that were over before the last look, and are not held to be."""
        last = self.looks[-1]
        return len(set(schedule.truth(last.at)[1]) - last.over)

    def premature(self, schedule: Schedule) -> int:
        """Phases that at some look were held to be over, and were not."""
        return len({name for look in self.looks for name in look.over - set(schedule.truth(look.at)[1])})

    def bar_error(self, schedule: Schedule) -> float:
        """How far the bar was off, at most, in percentage points."""
        return max(abs(look.bar - schedule.truth(look.at)[0]) for look in self.looks)

    def gap(self, schedule: Schedule) -> float:
        """The longest time without a snapshot while there were updates, in seconds."""
        begin, end = schedule.calls[0].at, schedule.calls[-1].at
        moments = [begin, *(at for at in self.stored_at if begin < at < end), end]
        return max(then - at for at, then in pairwise(moments))


@dataclass(slots=True)
class Stays:
    """What became of several callers who began and ended one id."""

    errors: int = 0
    """KeyErrors, or whatever else was raised that is not a refusal."""
    refused: int = 0
    """Callers who were told that the id is taken."""
    heartbeats_left: int = 0
    """Heartbeats that beat on after everybody had left."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What became of a run that was cancelled about when it set its second phase."""

    lost: bool
    """Whether that phase was set, and the completion of the first one is not recorded."""
    tasks_left: int
    """Tasks that go on long after."""
