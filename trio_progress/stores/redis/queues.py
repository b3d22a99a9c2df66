"""Taking and giving back where a store has several partitions.

1. The oldest is looked for in all partitions at once, then taken from the one that has it; should somebody have been
   faster, from the next. So what is taken is the oldest of all but for what came or went meanwhile.
2. Who finds too little waits in each partition, and is rung by each. Who was given all waits in none.
3. A partition whose node does not answer is left out: what stands there waits until it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

from ..taking import SPENT_SHOWN, Chosen, Release, Take, Taken
from .answers import UnansweredError
from .queue import head, release, take

if TYPE_CHECKING:
    from ..base import Done
    from .calls import RoundTrips
    from .keys import Keys
    from .scripts import Steps


@final
class Queues:
    """Used by one thread at a time."""

    def __init__(self, calls: RoundTrips[Any], partitions: Sequence[Keys]) -> None:
        self._calls = calls
        self._partitions = partitions
        self._waiting: set[str] = set()
        """The processes that wait, by the names that the store knows."""

    def take(self, asked: Take) -> Taken:
        """Chooses and reserves, or enters the process as waiting.

        Raises:
            UnansweredError: No partition has answered.
            ResponseError: Redis has refused it.
            CorruptEntryError: It has answered what is not known.
        """
        found: list[Chosen] = []
        records: dict[str, bytes] = {}
        left = [wanted.count for wanted in asked.wanted]
        looked = self._run([head(keys.base, asked) for keys in self._partitions])
        answered = [each for each in looked if not isinstance(each, UnansweredError)]
        if not answered:
            raise looked[0]
        spent = [each for _, those in answered for each in those]
        oldest = {
            keys: each[0]
            for keys, each in zip(self._partitions, looked, strict=True)
            if not isinstance(each, UnansweredError) and each[0] is not None
        }
        while any(left) and oldest:
            keys = min(oldest, key=oldest.__getitem__)
            del oldest[keys]
            given = self._take([keys], asked, [min(count, 1) for count in left], found, records)
            if any(one < min(count, 1) for count, one in zip(left, given, strict=True)):
                self._waiting.add(asked.id)  # Somebody was faster, and there it waits.
            left = [count - one for count, one in zip(left, given, strict=True)]
            if any(given) and any(left):
                (again,) = self._run([head(keys.base, asked)])
                if not isinstance(again, UnansweredError) and again[0] is not None:
                    oldest[keys] = again[0]
        if any(left):
            given = self._take(self._partitions, asked, left, found, records)
            left = [max(count - one, 0) for count, one in zip(left, given, strict=True)]
            self._waiting.add(asked.id)
        found, surplus = _cut(asked, found)
        if surplus or (not any(left) and asked.id in self._waiting):
            self.release(Release(asked.id, [each.id for each in surplus], leaves=not any(left)))
        return Taken(sorted(found, key=lambda each: each.wanted), spent[: SPENT_SHOWN * len(asked.wanted)], records)

    def release(self, given: Release) -> None:
        """Gives back what a process has reserved, and takes it off those that wait.

        Where a node does not answer, both lapse.
        """
        steps: list[Steps[Done]] = []
        for keys in self._partitions:
            sessions = [session for session in given.sessions if keys.of(session) is keys]
            if sessions or given.leaves:
                steps.append(release(keys.base, replace(given, sessions=sessions)))
        self._run(steps)
        if given.leaves:
            self._waiting.discard(given.id)

    def _take(
        self,
        partitions: Sequence[Keys],
        asked: Take,
        counts: Sequence[int],
        found: list[Chosen],
        records: dict[str, bytes],
    ) -> list[int]:
        """Takes from partitions; how many of each wish there were."""
        wanted = [replace(each, count=count) for each, count in zip(asked.wanted, counts, strict=True)]
        given = [0] * len(counts)
        for taken in self._run([take(keys.base, replace(asked, wanted=wanted)) for keys in partitions]):
            if not isinstance(taken, UnansweredError):
                found += taken.sessions
                records |= taken.records
                for chosen in taken.sessions:
                    given[chosen.wanted] += 1
        return given

    def _run(self, steps: Sequence[Steps[Any]]) -> Sequence[Any]:
        return self._calls.run_replicated(steps, 0)[0]


def _cut(asked: Take, found: Sequence[Chosen]) -> tuple[list[Chosen], list[Chosen]]:
    """As many of each wish as are wanted, and what is too much: it came while the partitions were looked at."""
    left = [wanted.count for wanted in asked.wanted]
    kept: list[Chosen] = []
    surplus: list[Chosen] = []
    for chosen in found:
        left[chosen.wanted] -= 1
        (kept if left[chosen.wanted] >= 0 else surplus).append(chosen)
    return kept, surplus
