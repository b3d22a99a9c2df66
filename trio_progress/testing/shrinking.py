"""A failing schedule made small, and the one beside it that passes.

What counts is what a run really did, read anew after each try: first preemptions and what was injected, then
blocks, tasks and steps. A try is taken where it fails as the first one did and is smaller.

1. The tail is cut off: what is left out is decided by default.
2. Chunks of blocks are sorted by task, which merges them; the chunks become smaller.
3. Each entry is left out, and each block is merged with the block before of its task, there or here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from .schedule import Block, TimePasses, blocks, merged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .schedule import Entry

    Entries = tuple[Entry, ...]

SHRINK: Final = 300
"""In how many runs at most a failing schedule is made smaller."""

NEIGHBOURS: Final = 60
"""In how many runs at most a passing one beside it is looked for."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a schedule has led to."""

    kinds: frozenset[object]
    """What was raised, and where; empty where it passed."""
    entries: Entries
    preemptions: int
    misfits: int

    @property
    def size(self) -> tuple[int, int, int, int]:
        """What is to be small: preemptions and injected events, blocks, tasks, steps."""
        run = blocks(self.entries)
        injected = len(self.entries) - len(run)
        steps = sum(block.steps or 0 for block in run)
        return self.preemptions + injected, len(run), len({block.task for block in run}), steps


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A schedule that passes and differs by one switch from one that fails."""

    sentence: str
    entries: Entries


@final
class Shrinker:
    """Makes one failing schedule smaller.

    Args:
        run: Runs a schedule.
        first: What the schedule has led to that was found.
        budget: How often it may be run.
    """

    def __init__(self, run: Callable[[Entries], Outcome], first: Outcome, budget: int) -> None:
        self._run = run
        self._kinds = first.kinds
        self._budget = budget
        self.best = first
        self.runs = 0

    def shrink(self) -> None:
        """Tries until nothing is smaller, or the budget is used up."""
        self._without_time()
        self._cut()
        self._sort_chunks()
        while self.runs < self._budget and any(self._attempt(trial) for trial in self._trials(self.best.entries)):
            pass

    def _attempt(self, trial: Sequence[Entry]) -> bool:
        if self.runs >= self._budget:
            return False
        outcome = self._run(merged(trial))
        self.runs += 1
        if not self._kinds & outcome.kinds or outcome.size >= self.best.size:
            return False
        self.best = outcome
        return True

    def _without_time(self) -> None:
        """Leaves out all that was injected, at once; else each by itself, the last ones first."""
        injected = [at for at, entry in enumerate(self.best.entries) if not isinstance(entry, Block)]
        if not injected or self._attempt(blocks(self.best.entries)):
            return
        width = len(injected)
        while width:
            at = 0
            injected = [at for at, entry in enumerate(self.best.entries) if not isinstance(entry, Block)]
            while at < len(injected) and self.runs < self._budget:
                left_out = set(injected[at : at + width])
                if self._attempt([entry for n, entry in enumerate(self.best.entries) if n not in left_out]):
                    injected = [at for at, entry in enumerate(self.best.entries) if not isinstance(entry, Block)]
                else:
                    at += width
            width //= 2

    def _cut(self) -> None:
        cut = len(self.best.entries) // 2
        while cut and self.runs < self._budget:
            entries = self.best.entries
            cut = min(cut, len(entries) // 2) if self._attempt(entries[: len(entries) - cut]) else cut // 2

    def _sort_chunks(self) -> None:
        width = max(len(self.best.entries) // 4, 1)
        while self.runs < self._budget:
            at, better = 0, False
            while at < len(self.best.entries) and self.runs < self._budget:
                if self._sorted(at, 2 * width):
                    better = True
                else:
                    at += width
            if width == 1 and not better:
                break
            width = max(width // 2, 1)

    def _sorted(self, at: int, width: int) -> bool:
        entries = self.best.entries
        chunk = entries[at : at + width]
        by_task: dict[object, Entry] = {}
        for entry in chunk:
            key = entry.task if isinstance(entry, Block) else entry
            before = by_task.get(key)
            if isinstance(before, Block) and isinstance(entry, Block):
                by_task[key] = Block(entry.task, (before.steps or 0) + (entry.steps or 0))
            else:
                by_task[key] = entry
        together = list(by_task.values())
        if len(together) == len(chunk):
            return False
        return any(self._attempt([*entries[:at], *some, *entries[at + width :]]) for some in (together, together[::-1]))

    def _trials(self, entries: Entries) -> list[list[Entry]]:
        trials: list[list[Entry]] = []
        for at in range(len(entries) - 1, -1, -1):
            entry = entries[at]
            without = [*entries[:at], *entries[at + 1 :]]
            if not isinstance(entry, Block):
                trials.append(without)
                continue
            earlier = next((n for n in range(at - 1, -1, -1) if getattr(entries[n], "task", None) == entry.task), None)
            if earlier is not None:
                before = entries[earlier]
                assert isinstance(before, Block)
                both = Block(entry.task, (before.steps or 0) + (entry.steps or 0))
                between = entries[earlier + 1 : at]
                trials.append([*entries[:earlier], both, *between, *entries[at + 1 :]])
                trials.append([*entries[:earlier], *between, both, *entries[at + 1 :]])
            trials.append(without)
            trials.append([*entries[:at], Block(entry.task, None), *entries[at + 1 :]])
        return trials


def passing_neighbour(
    run: Callable[[Entries], Outcome], entries: Entries, label: Callable[[str], str]
) -> Neighbour | None:
    """A schedule that passes and differs by one switch: two blocks the other way round, or a switch a step away."""
    runs = 0
    for at in range(len(entries) - 1, 0, -1):
        for sentence, trial in _switched(entries, at, label):
            if runs == NEIGHBOURS:
                return None
            runs += 1
            if not run(merged(trial)).kinds:
                return Neighbour(sentence, merged(trial))
    return None


def _switched(entries: Entries, at: int, label: Callable[[str], str]) -> list[tuple[str, list[Entry]]]:
    before, after = entries[at - 1], entries[at]
    head, tail = list(entries[: at - 1]), list(entries[at + 1 :])
    other_way = [*head, after, before, *tail]
    if not isinstance(before, Block) or not isinstance(after, Block):
        injected = after if isinstance(before, Block) else before
        what = "no time passed there" if isinstance(injected, TimePasses) else "nothing been cancelled there"
        without = [*entries[:at], *tail] if injected is after else [*head, *entries[at:]]
        return [(f"had {what}, it would have passed", without)]
    first, second = label(before.task), label(after.task)
    trials = [(f"had `{second}` run before `{first}`, it would have passed", other_way)]
    if before.steps is not None:
        later = [*head, Block(before.task, before.steps + 1), after, *tail]
        trials.append((f"had `{first}` made one step more before `{second}`, it would have passed", later))
        if before.steps > 1:
            earlier = [*head, Block(before.task, before.steps - 1), after, *tail]
            trials.append((f"had `{first}` made one step less before `{second}`, it would have passed", earlier))
    return trials
