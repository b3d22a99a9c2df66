"""`exhaust()`: all schedules of a scenario that depart from a default order a few times, and nothing left out.

1. By default who ran last goes on, else the oldest runs, and no time passes as long as anybody can run.
2. Each other choice is a deviation: another task, where one blocks as well; the next deadline made to pass early; a
   block under `cancelled_somewhere()` that is cancelled.
3. Schedules with no deviation come first, then all with one, and so on. Each is run from the beginning.
4. With `merge=True` what follows on a state that was there already is left out, and of equal tasks that could be
   chosen only one is: see `merging`.
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


class _DrawnByNameError(Exception):
    """Tasks draw random numbers, each by its name: what was taken for equal so far is not."""


class Deviation(NamedTuple):
    """A departure from the default: at which choice, and what instead; a task, a scope or time."""

    at: int
    what: str


Plan = tuple[Deviation, ...]


class _Planned(NamedTuple):
    """A plan that will be run."""

    plan: Plan
    step: bytes | None = None
    """The last deviation, and the state in which it is made."""
    check: bool = False
    """Whether it is run although it has its equal; what follows on it is not planned then."""


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


class Option(NamedTuple):
    """What could have been chosen instead of what was."""

    what: str
    cost: int = 1
    """1: it is a deviation. 0: it would be the default if tasks of a kind had changed places."""
    step: bytes | None = None
    """It, and the state in which it is made, where states are looked at."""


class Choice(NamedTuple):
    """What could have been chosen, and what was, in which state."""

    others: tuple[Option, ...]
    state: bytes | None = None
    step: bytes | None = None


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

    @property
    def drew(self) -> bool:
        """Whether tasks have drawn random numbers."""
        return self._scheduler is not None and self._scheduler.drew

    def begin(self, scheduler: Scheduler) -> None:
        """The schedule begins."""
        self._scheduler = scheduler

    def cancels(self, scopes: Sequence[str]) -> str | None:
        """The scope that this deviation cancels."""
        self._scopes = scopes
        if self._plan and self._plan[0].at == self._at and self._plan[0].what.removeprefix("cancel ") in scopes:
            self._at += 1
            self._scopes = ()  # Nobody asks again where no scope is left.
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
            self.choices.append(self._choice(scheduler, able, default))
        self._at += 1
        self._scopes = ()
        self._last = run
        return [run]

    def _choice(self, scheduler: Scheduler, able: list[Task], default: Task) -> Choice:
        others = [task for task in able if task is not default]
        if self._states is None:
            options = [Option(scheduler.name_of(task)) for task in others]
            options += [Option(f"cancel {name}") for name in self._scopes]
            return Choice((*options, *([Option(TIME)] if self._jump else [])))
        view = self._states.view(scheduler, able, self._last)
        free = view.by_default()
        options = [Option(scheduler.name_of(task), task not in free, view.step(task)) for task in others]
        options += [Option(f"cancel {name}", 1, view.cancel(scheduler.scope_of(name))) for name in self._scopes]
        if self._jump:
            options.append(Option(TIME, 1, b"%b time" % view.state))
        return Choice(tuple(options), view.state, view.step(default))


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
        merge: Leaves out what follows on a state that was there already, and runs a tenth of that all the same. Tasks
            that run the same function are interchangeable then.
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
        if states is not None and source.drew and not states.by_name:
            states.by_name = True
            raise _DrawnByNameError
        if source.misfit is not None:
            raise RuntimeError(
                f"{name} is not deterministic: {source.misfit.what!r} could run at choice {source.misfit.at} before, "
                "and cannot now. A thread, the wall clock, a hash order, a real socket, a global that goes on?"
            )
        return made, source

    search = _Search(run, deviations, most)
    try:
        failed = search.search()
    except _DrawnByNameError:
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
        self._levels: list[list[_Planned]] = [[] for _ in range(deviations + 1)]
        """Plans by how many deviations they have."""
        self._states: set[bytes] = set()
        """Those from which all goes on that is to be run."""
        self._planned: set[bytes] = set()
        """The steps that were made, or will be."""
        self._led_to: dict[bytes, bytes | None] = {}
        """The state to which a step has led; None: the scenario was over."""
        self.tried = self.merged = self.rechecked = self.level = 0
        self.complete = False

    def search(self) -> tuple[Plan, Run] | None:
        """The first plan that fails, if one does."""
        self._levels[0].append(_Planned(()))
        for level, plans in enumerate(self._levels):
            self.level = level
            for planned in plans:  # It grows meanwhile.
                if self.tried == self._most:
                    return None
                made, source = self._run(planned.plan)
                self.tried += 1
                if made.error is not None:
                    return planned.plan, made
                self._compare(planned, source.choices)
                if not planned.check:
                    self._expand(planned.plan, source.choices)
            plans.clear()
        self.complete = True
        return None

    def _expand(self, plan: Plan, choices: list[Choice]) -> None:
        """Plans all that could have been chosen instead, as far as it is not planned."""
        for at, choice in enumerate(choices, plan[-1].at + 1 if plan else 0):
            known = choice.state in self._states
            if choice.step is not None:
                self._planned.add(choice.step)
            for option in choice.others:
                level = self.level + option.cost
                if level <= self._deviations:
                    equal = known if option.step is None else option.step in self._planned
                    self._plan(_Planned((*plan, Deviation(at, option.what)), option.step), level, equal)
            if choice.state is not None:
                if known:
                    return  # What follows by default is equal, or it is planned.
                self._states.add(choice.state)

    def _plan(self, planned: _Planned, level: int, equal: bool) -> None:
        """A plan is run, but for nine of ten that have their equal."""
        if not equal:
            if planned.step is not None:
                self._planned.add(planned.step)
            self._levels[level].append(planned)
        elif self._rng.random() < RECHECKED:
            self.rechecked += 1
            self._levels[level].append(planned._replace(check=True))
        else:
            self.merged += 1

    def _compare(self, planned: _Planned, choices: list[Choice]) -> None:
        """Equal steps from equal states lead to equal states."""
        states = [*(choice.state for choice in choices), None]
        steps = [planned.step, *(choice.step for choice in choices)]
        for step, state in zip(steps, states, strict=True):
            if step is not None and self._led_to.setdefault(step, state) != state:
                raise NotProvenError(
                    f"not proven: after {[deviation.what for deviation in planned.plan]} a state was taken for one "
                    "that was there before, and what followed was another: what tells them apart was not seen, as a "
                    "value in a library. Put it into `shared()`, or leave out merge=True"
                )
