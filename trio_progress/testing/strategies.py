"""Who runs next, and when time passes: one of each is drawn for a schedule, from its seed alone.

1. An order says which of the tasks that can run do run in a pass. `Hold` lets many run and holds some back for long;
   `Priorities` is probabilistic concurrency testing (Burckhardt et al., ASPLOS 2010) with a drawn number of changes
   within a drawn length; `Walk` lets anybody run, and go on for a number of steps of any order of magnitude.
2. A time says how many seconds pass before a step. The sum of them stays below the budget of a schedule.
3. Both draw from streams of their own: how time passes does not depend on what the order has drawn.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Final, Literal, Protocol, final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import trio

    Task = trio.lowlevel.Task

Strategy = Literal["auto", "hold", "pct", "walk", "sticky"]
STRATEGIES: Final = ("auto", "hold", "pct", "walk", "sticky")

ORDERS: Final = (("hold", 3), ("pct", 1), ("walk", 1), ("sticky", 5))
"""What "auto" draws from, and how often each is drawn."""

TIMES: Final = ("none", "jitter", "stall", "deadline")
"""Each is drawn as often."""

HOLDS: Final = (0.0, 0.9, 0.98)
"""How likely a slow task is held back for a pass; a schedule draws one. Others are held back half as often, or not."""

REDRAW: Final = 0.03
"""How likely, at a pass, the tasks' shares of being held back are drawn anew."""

STICKS: Final = (8, 8, 30)
"""How many steps who runs goes on for at most; a schedule draws one."""

LENGTHS: Final = (8, 500)
"""Between which the length of a schedule, in steps, is guessed; evenly in its logarithm."""

CANCELLED: Final = 0.8
"""How likely a block under `cancelled_somewhere()` is cancelled at all."""

CANCELS: Final = (1, 200)
"""After how many passes it is; evenly in the logarithm."""

CHANGES: Final = 3
"""How many changes of priority there are at most."""

STALL: Final = 0.1
"""How likely a little time passes before a pass."""

SHORTEST_STALL: Final = 0.001
"""Seconds: the least that the longest stall of a schedule may be."""

SPENT: Final = 0.95
"""The part of the budget that may be used: what adds up to a second by rounding must not be a second."""

EDGE: Final = 1e-6
"""Seconds by which a jump may end before or after a deadline."""


class Order(Protocol):
    """Who runs next."""

    def choose(self, able: list[Task]) -> list[Task]:
        """Those of the tasks that can run, oldest first, that do run in this pass, in this order."""


class Time(Protocol):
    """When time passes."""

    def passes(self, to_deadline: Callable[[], float], left: float) -> float:
        """Seconds that pass before the next step, given how far the next deadline is and what may be spent."""


@final
class Hold:
    """Nearly all run in a shuffled order; a few are held back, so that others make many steps meanwhile."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._hold = rng.choice(HOLDS)
        self._shares: dict[Task, float] = {}

    def choose(self, able: list[Task]) -> list[Task]:
        """All but those who are held back."""
        if len(able) == 1:
            return able
        rng, shares = self._rng, self._shares
        if not self._hold:
            return rng.sample(able, len(able))
        if rng.random() < REDRAW:
            shares.clear()
        run: list[Task] = []
        held: list[Task] = []
        for task in able:
            share = shares.get(task)
            if share is None:
                share = shares[task] = rng.choice((0.0, 0.5, 1.0)) * self._hold
            (held if rng.random() < share else run).append(task)
        if not run:
            run.append(rng.choice(held))
        rng.shuffle(run)
        return run


@final
class Priorities:
    """The task of the highest priority runs, until its priority falls below all others at a drawn step."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        length = length_guessed(rng)
        self._above = CHANGES + 1
        changes = rng.randint(0, CHANGES)
        self._falls = {rng.randrange(1, length + 1): change for change in range(changes)}
        self._priorities: dict[Task, float] = {}
        self._steps = 0

    def choose(self, able: list[Task]) -> list[Task]:
        """The one of the highest priority."""
        priorities = self._priorities
        for task in able:
            if task not in priorities:
                priorities[task] = self._above + self._rng.random()
        self._steps += 1
        run = max(able, key=priorities.__getitem__)
        fall = self._falls.get(self._steps)
        if fall is not None:
            priorities[run] = float(fall)
            run = max(able, key=priorities.__getitem__)
        return [run]


@final
class Walk:
    """Anybody runs, each as likely, and goes on for up to `most` steps, short and long ones as likely."""

    def __init__(self, rng: random.Random, most: int) -> None:
        self._rng = rng
        self._most = most
        self._last: Task | None = None
        self._left = 0

    def choose(self, able: list[Task]) -> list[Task]:
        """The last one, or one by chance."""
        if self._left and self._last in able:
            self._left -= 1
            return [self._last]
        rng = self._rng
        self._last = rng.choice(able)
        self._left = int((self._most + 1) ** rng.random()) - 1 if self._most > 1 else 0
        return [self._last]


@final
class NoTime:
    """No time passes but where all wait."""

    def passes(self, to_deadline: Callable[[], float], left: float) -> float:
        """Nothing."""
        return 0.0


@final
class Jitter:
    """Now and then a little time passes."""

    def __init__(self, rng: random.Random, most: float) -> None:
        self._rng = rng
        self._most = most

    def passes(self, to_deadline: Callable[[], float], left: float) -> float:
        """Up to the most that may pass at once."""
        rng = self._rng
        return rng.random() * self._most if rng.random() < STALL else 0.0


@final
class Stalls:
    """A few times in a schedule the machine is busy elsewhere, for a time of any order of magnitude."""

    def __init__(self, rng: random.Random, budget: float) -> None:
        self._rng = rng
        self._rate = rate_guessed(rng)
        self._longest = math.exp(rng.uniform(math.log(min(SHORTEST_STALL, budget)), math.log(budget)))

    def passes(self, to_deadline: Callable[[], float], left: float) -> float:
        """Mostly much less than the longest."""
        rng = self._rng
        return self._longest * math.exp(-rng.expovariate(1)) if rng.random() < self._rate else 0.0


@final
class ToDeadlines:
    """A few times in a schedule time passes until just before, onto or just after the next deadline."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._rate = rate_guessed(rng)

    def passes(self, to_deadline: Callable[[], float], left: float) -> float:
        """To the next deadline, where it may come within what is left."""
        rng = self._rng
        if rng.random() >= self._rate:
            return 0.0
        seconds = to_deadline()
        return max(seconds + rng.choice((-EDGE, 0.0, EDGE)), 0.0) if 0 < seconds < left else 0.0


def length_guessed(rng: random.Random, lengths: tuple[int, int] = LENGTHS) -> int:
    """How many steps a schedule may have."""
    shortest, longest = lengths
    return round(math.exp(rng.uniform(math.log(shortest), math.log(longest))))


def rate_guessed(rng: random.Random) -> float:
    """How likely something is at a step that comes one, three or ten times in a schedule of a guessed length."""
    return min(1.0, rng.choice((1, 3, 10)) / length_guessed(rng))


@final
class Drawn:
    """The source of a schedule that a seed decides: an order, a time, and when each scope is cancelled.

    Args:
        seed: Decides all.
        strategy: What the order is drawn from.
        jitter: The most seconds that pass at once where they jitter; 0: none pass.
        budget: Seconds below which all stays that is made to pass; 0: none pass.
    """

    def __init__(self, seed: int, strategy: str, jitter: float, budget: float) -> None:
        self._seed = seed
        self.choose = _draw_order(random.Random(f"trio-progress order {seed}"), strategy).choose  # noqa: S311
        self.passes = _draw_time(random.Random(f"trio-progress time {seed}"), jitter, budget).passes  # noqa: S311
        self._before_cancel: dict[str, int] = {}

    def begin(self, scheduler: object) -> None:
        """The schedule begins."""

    def cancels(self, scopes: Sequence[str]) -> str | None:
        """One scope whose drawn number of passes is over."""
        cancelled = None
        for name in scopes:
            left = self._before_cancel.get(name)
            if left is None:
                rng = random.Random(f"trio-progress cancel {self._seed} {name}")  # noqa: S311
                left = length_guessed(rng, CANCELS) if rng.random() < CANCELLED else -1
            self._before_cancel[name] = left - 1
            if left == 0:
                cancelled = name
        return cancelled


def _draw_order(rng: random.Random, strategy: str) -> Order:
    name = strategy
    if name == "auto":
        name = rng.choices([name for name, _ in ORDERS], [weight for _, weight in ORDERS])[0]
    if name == "hold":
        return Hold(rng)
    if name == "pct":
        return Priorities(rng)
    return Walk(rng, rng.choice(STICKS) if name == "sticky" else 1)


def _draw_time(rng: random.Random, jitter: float, budget: float) -> Time:
    name = rng.choice(TIMES)
    if not jitter or not budget or name == "none":
        return NoTime()
    if name == "jitter":
        return Jitter(rng, jitter)
    if name == "stall":
        return Stalls(rng, budget)
    return ToDeadlines(rng)
