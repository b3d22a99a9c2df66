"""A schedule as a value: which task ran for how many steps, when time was made to pass, what was cancelled.

It can be printed, read again, edited, kept in a file and replayed. Its text has an entry a line:

    test tests/test_a.py::test_b    # what it was recorded of
    seed 17                         # of jitter() and seeded_random(), which each task draws by its name
    2 reader#1 @ fetch+4            # `reader#1` runs for two steps; it stands in the fourth line of fetch() then
    + 0.0025                        # so many seconds pass, and deadlines with them
    to deadline                     # time passes until the next deadline
    cancel reader#1                 # the block under `cancelled_somewhere()` that this task has opened
    * close#1                       # it runs for as long as it can

A block whose task cannot run ends early. After the last entry who ran last goes on as long as it can, then the oldest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HEAD: Final = "# trio-progress schedule 1"


@dataclass(frozen=True, slots=True)
class Block:
    """A task runs for so many steps; None: for as long as it can."""

    task: str
    steps: int | None
    place: str = field(default="", compare=False)
    """Where the task stood then: a function, and how far in it. Elsewhere it no longer fits."""

    def __str__(self) -> str:
        text = f"{'*' if self.steps is None else self.steps} {self.task}"
        return f"{text} @ {self.place}" if self.place else text


@dataclass(frozen=True, slots=True)
class TimePasses:
    """Time passes before it has to; None: until the next deadline."""

    seconds: float | None

    def __str__(self) -> str:
        return "to deadline" if self.seconds is None else f"+ {self.seconds!r}"


@dataclass(frozen=True, slots=True)
class Cancels:
    """A block under `cancelled_somewhere()` is cancelled."""

    scope: str

    def __str__(self) -> str:
        return f"cancel {self.scope}"


Entry = Block | TimePasses | Cancels


@dataclass(frozen=True, slots=True)
class Schedule:
    """One order of a scenario's steps.

    Args:
        seed: Of the random numbers that tasks draw.
        entries: What happens, in this order.
        test: What it was recorded of: a scenario, or the id of a test.
    """

    seed: int
    entries: tuple[Entry, ...]
    test: str = ""

    def __str__(self) -> str:
        lines = [HEAD, *([f"test {self.test}"] if self.test else []), f"seed {self.seed}"]
        return "\n".join([*lines, *map(str, self.entries)]) + "\n"

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Reads what `str()` has written, also where it was edited.

        Raises:
            ValueError: A line is none of a schedule.
        """
        if text.partition("\n")[0].strip() != HEAD:
            raise ValueError(f"a schedule begins with the line {HEAD!r}, not {text[:60]!r}")
        seed, test = 0, ""
        entries: list[Entry] = []
        for number, raw in enumerate(text.splitlines()[1:], 2):
            line = raw.strip()
            if not line or line.startswith("#"):
                continue
            if line.startswith("test "):
                test = line.removeprefix("test ")
                continue
            try:
                if line.startswith("seed "):
                    seed = int(line.removeprefix("seed "))
                else:
                    entries.append(_entry(line))
            except ValueError:
                raise ValueError(
                    f"line {number} of the schedule must be 'N TASK', '* TASK', '+ SECONDS', 'to deadline' or "
                    f"'cancel SCOPE', not {line!r:.200}"
                ) from None
        return cls(seed, tuple(entries), test)


def merged(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The same with neighbouring blocks of one task as one."""
    result: list[Entry] = []
    for entry in entries:
        before = result[-1] if result else None
        if isinstance(entry, Block) and isinstance(before, Block) and before.task == entry.task:
            steps = None if before.steps is None or entry.steps is None else before.steps + entry.steps
            result[-1] = Block(entry.task, steps)
        else:
            result.append(entry)
    return tuple(result)


def blocks(entries: Sequence[Entry]) -> list[Block]:
    """Those of the entries in which a task runs."""
    return [entry for entry in entries if isinstance(entry, Block)]


def _entry(line: str) -> Entry:
    first, _, rest = line.partition(" ")
    rest = rest.strip()
    if line == "to deadline":
        return TimePasses(None)
    if not rest:
        raise ValueError
    if first == "+":
        seconds = float(rest)
        if not 0 < seconds < math.inf:
            raise ValueError
        return TimePasses(seconds)
    if first == "cancel":
        return Cancels(rest)
    task, _, place = rest.partition(" @ ")
    if first == "*":
        return Block(task, None, place)
    steps = int(first)
    if steps < 1:
        raise ValueError
    return Block(task, steps, place)
