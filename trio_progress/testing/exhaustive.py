"""`exhaust()`: all schedules of a scenario that depart from a default order a few times, and nothing left out.

1. By default who ran last goes on, else the oldest runs, and no time passes as long as anybody can run.
2. Each other choice is a deviation: another task, where one blocks as well; the next deadline made to pass early; a
   block under `cancelled_somewhere()` that is cancelled.
3. Schedules with no deviation come first, then all with one, and so on. Each is run from the beginning.
4. With `merge=True` what follows on a state that was there already is left out: see `merging`.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVarTuple, Unpack, final

from .explorer import check_count, check_scenario, checked_limits
from .failure import Found, failure
from .kept import test_name
from .merging import States
from .running import HORIZON, JITTER, STALL, STEPS, Case, Run
from .shrinking import SHRINK

if TYPE_CHECKING:
    from collections.abc import Sequence

    import trio

    from .scheduler import Scheduler

    Task = trio.lowlevel.Task

Ts = TypeVarTuple("Ts")

MOST: Final = 100_000
"""Schedules that are run at most."""

RECHECKED: Final = 0.1
"""The part of what was merged that is run all the same."""

TIME: Final = "time passes"


class NotProvenError(AssertionError):
    """Two states that were taken for equal have led to something else: what tells them apart was not seen."""


class Deviation(NamedTuple):
    """A departure from the default: at which choice, and what instead; a task, a scope or time."""

    at: int
    what: str


Plan = tuple[Deviation, ...]


@dataclass(frozen=True, slots=True)
class Exhaustion:
    """How far a search has come; all of it without a failure."""

    scenario: str
    deviations: int
    """Up to how many all were run."""
    schedules: int
    complete: bool
    """Whether all with at most as many deviations as was asked for were run."""
    merged: int
    """How many were left out because they go on from a state that was there already."""
    rechecked: int
    """How many of these were run all the same."""
    stall: float
    seconds: float
    state: str
    """With `merge=True`: what the state is made of, and what it could not see."""
    proven: bool = True
    """Whether nothing was left out by a state that could not be seen whole."""

    def __str__(self) -> str:
        within = f"time passed early only within {self.stall:g} s"
        many = "deviation" if self.deviations == 1 else "deviations"
        if not self.complete:
            done = (
                f"all with at most {self.deviations} {many} among them"
                if self.deviations >= 0
                else "not all of any kind"
            )
            return f"{self.scenario}: {self.schedules:,} orders pass, {done}; then the budget was used up; {within}"
        sentence = (
            f"{self.scenario}: all {self.schedules:,} orders with at most {self.deviations} {many} pass; {within}"
        )
        if not self.state:
            return sentence
        if not self.proven:
            sentence = (
                f"{self.scenario}: {self.schedules:,} orders with at most {self.deviations} {many} pass, not proven "
                f"for those left out; {within}"
            )
        return f"{sentence}; {self.merged:,} were left out as equal, {self.rechecked:,} of them run: {self.state}"


class Choice(NamedTuple):
    """What could have been chosen instead of the default, and the state it was chosen in."""

    others: tuple[str, ...]
    state: bytes | None


@final
class Guided:
    """The source of one schedule of a search: the default, but for some deviations."""

    def __init__(self, plan: Plan, states: States | None) -> None:
        self._plan = deque(plan)
        self._from = plan[-1].at if plan else -1
        self._states = states
        self._at = 0
        self._last: Task | None = None
        self._jump = 0.0
        self._scopes: Sequence[str] = ()
        self._scheduler: Scheduler | None = None
        self.choices: list[Choice] = []
        """Those that come after the last deviation."""
        self.misfit: Deviation | None = None
        """A deviation that could not be made: the scenario is not deterministic."""

    def begin(self, scheduler: Scheduler) -> None:
        """The schedule begins."""
        self._scheduler = scheduler

    def cancels(self, scopes: Sequence[str]) -> str | None:
        """The scope that this deviation cancels."""
        self._scopes = scopes
        if self._plan and self._plan[0].at == self._at and self._plan[0].what.removeprefix("cancel ") in scopes:
            self._at += 1
            return self._plan.popleft().what.removeprefix("cancel ")
        return None

    def passes(self, to_deadline: Callable[[], float], left: float) -> float:
        """The time that this deviation lets pass."""
        seconds = to_deadline()
        self._jump = seconds if 0 < seconds < left else 0.0
        if self._jump and self._plan and self._plan[0] == (self._at, TIME):
            self._at += 1
            self._plan.popleft()
            return self._jump
        return 0.0

    def choose(self, able: list[Task]) -> list[Task]:
        """The default, or the task of this deviation."""
        scheduler = self._scheduler
        assert scheduler is not None
        default = self._last if self._last in able else able[0]
        run = default
        if self._plan and self._plan[0].at == self._at:
            deviation = self._plan.popleft()
            wanted = [task for task in able if scheduler.name_of(task) == deviation.what]
            if wanted:
                run = wanted[0]
            else:
                self.misfit = deviation
        elif self._at > self._from:
            others = [scheduler.name_of(task) for task in able if task is not default]
            others += [f"cancel {name}" for name in self._scopes]
            if self._jump:
                others.append(TIME)
            state = None
            if self._states is not None:
                state = self._states.digest(scheduler, able, self._last)
            self.choices.append(Choice(tuple(others), state))
        self._at += 1
        self._scopes = ()
        self._last = run
        return [run]


def exhaust(
    scenario: Callable[[Unpack[Ts]], Awaitable[object]],
    *args: *Ts,
    deviations: int = 2,
    merge: bool = False,
    most: int = MOST,
    seed: int | None = None,
    stall: float = STALL,
    horizon: float = HORIZON,
    steps: int = STEPS,
) -> Exhaustion:
    """Runs all schedules of a scenario that depart at most `deviations` times from a default order.

    The default: who ran last goes on, else the oldest, and time passes only where all wait. Each other choice, also
    where a task blocks, each deadline that is made to pass early, and each cancel of a block under
    `cancelled_somewhere()` is one deviation. For small scenarios: of n choices there are about n times as many
    schedules for each more deviation.

    Args:
        scenario: An async function; called anew for each schedule. It has to be deterministic but for the order.
        args: What it is called with; shared by all schedules.
        deviations: How many, at least 0.
        merge: Leaves out what follows on a state that was there already, and runs a tenth of that all the same.
        most: Schedules after which it stops, and says how far it came; at least 1.
        seed: Of `jitter()` and `seeded_random()`; 0 where it is None.
        stall: Seconds below which all stays that is made to pass early in one schedule, at least 0.
        horizon: Virtual seconds after which the scenario is stuck; above 0.
        steps: Steps of tasks after which it is endless; above 0.

    Raises:
        ScheduleError: A schedule has failed; it has no fewer deviations than needed.
        NotProvenError: With `merge`, what was taken for equal was not.
        ValueError, TypeError: A value is out of range.
        RuntimeError: Called inside of Trio, or the scenario is not deterministic.
    """
    name = check_scenario(scenario, "exhaust")
    case = Case(scenario, args, name, checked_limits("auto", JITTER, stall, horizon, steps))
    check_count("most", most)
    if type(deviations) is not int or deviations < 0:
        raise ValueError(f"deviations must be a whole number of at least 0, not {deviations!r:.200}")
    this = 0 if seed is None else seed
    __tracebackhide__ = True
    begun = time.perf_counter()
    states = States() if merge else None

    def run(plan: Plan) -> tuple[Run, Guided]:
        source = Guided(plan, states)
        made = case.run(this, source)
        if source.misfit is not None:
            raise RuntimeError(
                f"{name} is not deterministic: {source.misfit.what!r} could run at choice {source.misfit.at} before, "
                "and cannot now. A thread, the wall clock, a hash order, a real socket, a global that goes on?"
            )
        return made, source

    search = _Search(run, deviations, most)
    failed = search.search()
    if failed is not None:
        plan, made = failed
        found = Found(made, this, search.tried, search.tried, source=partial(Guided, plan, None), searched=True)
        raise failure(case, found, SHRINK, test_name(scenario))
    return Exhaustion(
        name,
        deviations if search.complete else search.level - 1,
        search.tried,
        search.complete,
        search.merged,
        search.rechecked,
        stall,
        time.perf_counter() - begun,
        "" if states is None else states.sentence(),
        states is None or not states.unseen,
    )


@final
class _Search:
    """All plans, those with fewest deviations first."""

    def __init__(self, run: Callable[[Plan], tuple[Run, Guided]], deviations: int, most: int) -> None:
        self._run = run
        self._deviations = deviations
        self._most = most
        self._rng = random.Random("trio-progress recheck")  # noqa: S311 - to be repeated
        self._seen: dict[bytes, bytes | None] = {}
        """Of each state that was expanded the one that follows on it by default."""
        self._checks: set[Plan] = set()
        """Plans that are run although they are left out; what follows on them is not."""
        self.tried = self.merged = self.rechecked = self.level = 0
        self.complete = False

    def search(self) -> tuple[Plan, Run] | None:
        """The first plan that fails, if one does."""
        plans: list[Plan] = [()]
        for level in range(self._deviations + 1):
            self.level = level
            deeper: list[Plan] = []
            for plan in plans:
                if self.tried == self._most:
                    return None
                made, source = self._run(plan)
                self.tried += 1
                if made.error is not None:
                    return plan, made
                if self.level < self._deviations and plan not in self._checks:
                    self._expand(plan, source, deeper)
            plans = deeper
        self.complete = True
        return None

    def _expand(self, plan: Plan, source: Guided, deeper: list[Plan]) -> None:
        first = plan[-1].at + 1 if plan else 0
        followed_by = [*(choice.state for choice in source.choices[1:]), None]
        for at, (choice, after) in enumerate(zip(source.choices, followed_by, strict=False), first):
            if choice.state is not None:
                if choice.state in self._seen:
                    self._compare(plan, source.choices[at - first :])
                    self._leave_out(plan, at, source.choices[at - first :], deeper)
                    return
                self._seen[choice.state] = after
            deeper += [(*plan, Deviation(at, what)) for what in choice.others]

    def _compare(self, plan: Plan, choices: list[Choice]) -> None:
        """What has followed on an equal state has to be equal, by default."""
        for choice, after in zip(choices, [*(later.state for later in choices[1:]), None], strict=True):
            assert choice.state is not None
            if self._seen.get(choice.state, after) != after:
                raise NotProvenError(
                    f"not proven: after {[deviation.what for deviation in plan]} a state was taken for one that was "
                    "there before, and what followed was another: what tells them apart was not seen, as a value in "
                    "another module. Put it into `shared()`, or leave out merge=True"
                )

    def _leave_out(self, plan: Plan, at: int, choices: list[Choice], deeper: list[Plan]) -> None:
        """What follows on this state is left out, but for a tenth."""
        for later, choice in enumerate(choices, at):
            for what in choice.others:
                if self._rng.random() < RECHECKED:
                    self.rechecked += 1
                    check = (*plan, Deviation(later, what))
                    self._checks.add(check)
                    deeper.append(check)
                else:
                    self.merged += 1
