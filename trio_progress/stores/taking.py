"""How sessions that wait to be run are handed out: which process is given which, and which one is woken.

1. A session can be taken if it is queued, interrupted or lost, also by a lease that has lapsed, and is not reserved.
2. A *take* chooses the oldest of those that its process can use, and reserves them for a few seconds, in one step;
   where there are too few, the same step enters the process as waiting. The ordinary claim follows, which expects what
   was chosen: a reservation alone keeps nobody from claiming a session by its id.
3. A reservation lapses, or is given back by a `Release`; every claim of the session ends it.
4. A session that becomes takeable rings one process: the one that has waited longest and can use it is asked to take,
   by an `Ask` that has its name for id. The bell hands nothing over. Who leaves what it was rung for, for it has enough
   or goes away, rings the next, in the same step. A process that waits looks again every two seconds or so, and a bell
   that nobody hears costs no more than that.
5. Sessions are kept by how often they have been begun. What was begun as often as a process allows is not looked at by
   it, however many of those there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, NamedTuple

RESERVED_FOR: Final = 5.0
"""Seconds in which what was chosen is to be claimed."""

HEARD_FOR: Final = 30.0
"""Seconds after which a process that waits, and has not looked again, is no longer there."""

RUNG_FOR: Final = 60.0
"""Seconds for which it is kept what a process was rung for; by then others have looked."""

LOOKED_FOR: Final = 5000
"""Sessions that one take looks at in vain: reserved, or of another pipeline or label than the one that it goes by."""

SPENT_SHOWN: Final = 20
"""Sessions that were begun as often as is allowed, of which a take tells."""

MOST_ATTEMPTS: Final = 100
"""The most that a process can allow."""

TAKE: Final = "take"
"""What a process is asked that is rung."""

NEVER_BEGUN: Final = "queued"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which sessions a process can use, and how many."""

    pipelines: Sequence[str] = ()
    """The names of their pipelines; none: any, or no pipeline."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """They have all of these."""
    max_attempts: int = 3
    """They were begun less often than that; 1 to `MOST_ATTEMPTS`."""
    count: int = 1

    def fits(self, pipeline: str | None, labels: Mapping[str, str]) -> bool:
        """Whether a session is one of these, but for how often it was begun."""
        return (not self.pipelines or pipeline in self.pipelines) and self.labels.items() <= labels.items()


@dataclass(frozen=True, slots=True)
class Take:
    """Choose sessions for a process and reserve them, or else enter it as waiting. The outcome is `Taken`."""

    id: str
    """The name of the process."""
    wanted: Sequence[Wanted]
    without: frozenset[str] = frozenset()
    """Sessions that it cannot open now."""
    reserve: float = RESERVED_FOR
    heard: float = HEARD_FOR


@dataclass(frozen=True, slots=True)
class Release:
    """Give back what was reserved and is not claimed, and wait no more."""

    id: str
    """The name of the process."""
    sessions: Sequence[str] = ()
    leaves: bool = False
    """Whether it waits no more."""


class Chosen(NamedTuple):
    """A session that is reserved."""

    id: str
    key: tuple[int, int]
    """The key of its newest entry, which the claim is to expect."""
    wanted: int
    """For which of `Take.wanted`."""


class Spent(NamedTuple):
    """A session that was begun as often as is allowed, and is left as it is."""

    id: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Taken:
    """What was chosen. Where that is less than was wanted, the process waits for what there is too little of."""

    sessions: Sequence[Chosen]
    spent: Sequence[Spent] = ()
    records: Mapping[str, bytes] = field(default_factory=dict, compare=False)
    """What is stored of those that were never begun, where the store has it at hand: they need not be read."""


def choose(
    take: Take,
    takeable: Callable[[Wanted], Iterable[tuple[str, tuple[int, int]]]],
    spent: Callable[[Wanted], Iterable[str]],
    reserve: Callable[[str], object],
) -> tuple[Taken, Sequence[Wanted]]:
    """Chooses and reserves what is wanted; that, and the wishes of which there is less than is wanted.

    Args:
        take: What is asked for.
        takeable: Gives the sessions that can be taken and are not reserved, with their newest keys, oldest first; it
            is gone on with after each that was reserved.
        spent: Gives the sessions that were begun as often as is allowed.
        reserve: Reserves one.
    """
    chosen: list[Chosen] = []
    left: list[Spent] = []
    short: list[Wanted] = []
    for number, wanted in enumerate(take.wanted):
        found = len(chosen)
        for session_id, key in islice(takeable(wanted), wanted.count):
            reserve(session_id)
            chosen.append(Chosen(session_id, key, number))
        if len(chosen) - found < wanted.count:
            short.append(wanted)
        left += [Spent(session_id, wanted.max_attempts) for session_id in islice(spent(wanted), SPENT_SHOWN)]
    return Taken(chosen, left), short
