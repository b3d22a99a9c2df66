"""Measuring fairly: contenders in turn, round by round; medians with ranges; ratios taken within a round.

A machine that is shared changes its speed from one second to the next. What is compared is therefore
measured close together in time, and divided before the median is taken: a slow round is slow for both.
"""

from __future__ import annotations

import gc
import json
import random
import statistics
import subprocess
import time
import timeit
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

import trio

PATIENCE: Final = 600.0
"""Seconds that processes are waited for."""

Values: TypeAlias = dict[str, list[float]]
"""What was measured: for each contender one value a round."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Some values of one thing: their median, and how far they lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    @classmethod
    def ratio(cls, values: Sequence[float], rivals: Sequence[float]) -> Self | None:
        """How many times `rivals` the `values` are, round by round; None where a rival's value is not above 0."""
        if any(rival <= 0 for rival in rivals):
            return None
        return cls.of([value / rival for value, rival in zip(values, rivals, strict=True)])


def compiled(statement: str, names: Mapping[str, Any]) -> timeit.Timer:
    """A loop around `statement`, to be run by `.timeit(n)`: the seconds of CPU time that n repetitions take.

    Each statement gets a loop of its own, so that the interpreter specialises it for what it calls there:
    one loop that is handed different functions would slow all of them down. CPU time is the whole
    process's: what a shared machine gives to others is not counted, what a rival's own thread does is.

    Args:
        statement: What is measured; it may use the names in `names`, as locals.
        names: What the statement speaks of.
    """
    # Under a name of its own for the loop's globals, or the local name would hide it.
    setup = "\n".join(f"{name} = global_{name}" for name in names) or "pass"
    given = {f"global_{name}": value for name, value in names.items()}
    return timeit.Timer(statement, setup, timer=time.process_time, globals=given)


class Timing:
    """A statement that is repeated for about `span` seconds at a time; its value is nanoseconds for each operation.

    Args:
        statement: What is measured; see `compiled`.
        names: What the statement speaks of.
        span: Seconds that one value takes, about; above 0.
        each: How many operations one repetition is.
    """

    def __init__(self, statement: str, names: Mapping[str, Any], *, span: float, each: int = 1) -> None:
        self._loop = compiled(statement, names)
        self._each = each
        self._number = 1
        while (taken := self._loop.timeit(self._number)) < span / 10:
            self._number *= 4
        self._number = max(1, round(self._number * span / taken))

    async def __call__(self) -> float:
        """One value. Has no checkpoint; the garbage collector rests meanwhile."""
        return self._loop.timeit(self._number) / self._number / self._each * 1e9


async def interleave(
    contenders: Mapping[str, Callable[[], Awaitable[float]]],
    rounds: int,
    *,
    passes: int = 1,
    between: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint,
) -> Values:
    """Asks the contenders for values, in an order that is shuffled anew for each pass.

    Args:
        contenders: By name; each call gives one value.
        rounds: How many values each has in the end; at least 1.
        passes: How often each is asked in a round, in turn; their mean is the round's value. Many short
            passes share a machine's fast and slow moments fairly.
        between: Awaited before each round.
    """
    order = list(contenders)
    values: Values = {name: [] for name in contenders}
    for _ in range(rounds):
        await between()
        gc.collect()
        asked: Values = {name: [] for name in contenders}
        for _ in range(passes):
            random.shuffle(order)
            for name in order:
                asked[name].append(await contenders[name]())
        for name, given in asked.items():
            values[name].append(statistics.fmean(given))
    return values


def run_together(
    commands: Sequence[Sequence[str]], before: Callable[[], object] = lambda: None
) -> list[dict[str, float]]:
    """What processes tell, each by one line of JSON, that all begin to work at once. Blocks.

    Args:
        commands: What is run. Each says "ready" in a line, begins when it is told a line, and ends by itself.
        before: Called when all are ready, before the first begins.
    """
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ourselves
        for command in commands
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        before()
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate(timeout=PATIENCE)[0]) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
