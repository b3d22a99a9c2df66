"""`explore()`: a concurrent scenario run under many schedules, each of which a seed repeats."""

from __future__ import annotations

import inspect
import math
import os
import secrets
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVarTuple, Unpack

import trio

from .failure import SEED_VARIABLE, Found, failure, parse_seed
from .following import Follow
from .kept import SCHEDULE_VARIABLE, Kept, folders_of, read_schedule, test_name
from .replaying import UnfitScheduleWarning, replay
from .running import HORIZON, JITTER, STALL, STEPS, Case, Limits
from .seen import Unseen, chance_of_new
from .shrinking import SHRINK
from .strategies import STRATEGIES, Strategy

if TYPE_CHECKING:
    from .schedule import Schedule

Ts = TypeVarTuple("Ts")


@dataclass(frozen=True, slots=True)
class Exploration:
    """The result of an exploration without a failure."""

    scenario: str
    seed: int
    """The first one; the others follow on it."""
    schedules: int
    histories: frozenset[str] = field(repr=False)
    """One name for each distinct history."""
    seconds: float
    orders: Counter[str] = field(default_factory=Counter, repr=False)
    """How often each order of events was seen: wake-ups, `note()` and changes of what is `shared()`."""
    unfit: tuple[str, ...] = ()
    """Kept schedules that pass, and are of a scenario that was another."""

    @property
    def unseen(self) -> Unseen:
        """How likely one more schedule of this kind shows a new order of events."""
        return chance_of_new(self.orders)

    @property
    def distinct(self) -> int:
        """How many histories differed: two schedules that ran the same tasks in the same order are one."""
        return len(self.histories)

    def __str__(self) -> str:
        rate = self.schedules / max(self.seconds, 1e-9)
        return (
            f"{self.scenario}: {self.schedules} schedules, {self.distinct} distinct, in {self.seconds:.1f} s "
            f"({rate:.0f} a second)" + (f"; {self.unseen}" if self.orders else "")
        )


def explore(  # noqa: PLR0913 - keywords of which few are given
    scenario: Callable[[Unpack[Ts]], Awaitable[object]],
    *args: *Ts,
    schedules: int = 500,
    seed: int | None = None,
    jitter: float = JITTER,
    horizon: float = HORIZON,
    steps: int = STEPS,
    strategy: Strategy = "auto",
    stall: float = STALL,
    shrink: int = SHRINK,
    database: str | os.PathLike[str] | None = None,
) -> Exploration:
    """Runs a scenario under many schedules, in virtual time, until one fails or all have passed.

    Each schedule is a `trio.run` of its own under a `MockClock` that jumps ahead, with the order of all
    tasks drawn from a seed: at each checkpoint another task may go on, for as long as the seed likes, and a
    little time may pass. Works for any Trio code. The `random` module is seeded as well, and put back
    afterwards. A schedule that fails is run a second time to see what happened, and whether it is the seed
    that decides. With the environment variable TRIO_PROGRESS_SEED only that seed is run.

    Threads, real sockets and subprocesses take real time, which a clock that jumps does not wait for:
    stand in for them by memory streams and the doubles of this package.

    Args:
        scenario: An async function; called anew for each schedule, so that it begins from nothing.
        args: What it is called with. They are shared by all schedules.
        schedules: How many, at least 1.
        seed: The first seed; drawn where it is None. The next schedules take the seeds that follow it.
        jitter: The most virtual seconds that pass at once between two steps, at least 0; some seeds let
            none pass. 0 where the scenario asserts exact times.
        horizon: Virtual seconds after which the scenario is stuck; above 0.
        steps: Steps of tasks after which it is endless; above 0.
        strategy: What the order of a schedule is drawn from: "hold" lets all run in turn and holds some back for long,
            "pct" runs by priorities that change at a few drawn steps, "walk" lets anybody run at each step, "sticky"
            lets who runs go on for a while; "auto" draws one of these for each schedule.
        stall: Virtual seconds below which all stays that is made to pass in one schedule, at least 0: what waits
            for longer fires only with the scenario's own sleeping.
        shrink: In how many runs at most a failing schedule is made smaller; 0: in none.
        database: A folder in which failing schedules are kept, and tried first the next time; it is yours to commit.
            In a test with the marker `schedules` pytest's cache is one as well, which forgets what passes often.

    Raises:
        ScheduleError: The scenario raised, did not end, or was stuck; with seed, history and command.
        ValueError, TypeError: A value is out of range.
        RuntimeError: Called inside of Trio: call it from a plain function.
        UnsupportedTrioError: This version of Trio cannot be explored.
    """
    name = check_scenario(scenario, "explore")
    case = Case(scenario, args, name, checked_limits(strategy, jitter, stall, horizon, steps))
    check_count("schedules", schedules)
    if type(shrink) is not int or shrink < 0:
        raise ValueError(f"shrink must be a whole number of at least 0, not {shrink!r:.200}")
    first = secrets.randbits(32) if seed is None else seed
    given = os.environ.get(SEED_VARIABLE)
    one = os.environ.get(SCHEDULE_VARIABLE)
    if given is not None:
        first, schedules = parse_seed(given)[0], 1
    elif one is not None:
        schedules = 0
    __tracebackhide__ = True  # pytest shows the scenario's own lines instead
    begun = time.perf_counter()
    test = test_name(scenario)
    folders = folders_of(test, database)
    unfit: list[str] = []
    tried = 0
    for tried, (path, schedule, folder) in enumerate(_kept(one, folders if given is None else []), 1):
        verdict = replay(case, schedule)
        if verdict.failed is not None:
            kept = path
            if folder is not None:
                folder.failed(path)
                if folder is not folders[0]:
                    # One that the cache knew is for the folder that is to be committed as well.
                    kept = folders[0].keep(schedule) or path
            source = partial(Follow, verdict.entries)
            raise failure(
                case, Found(verdict.failed, schedule.seed, tried, tried, source=source, path=kept), shrink, test
            )
        if not verdict.fits and (folder is None or not folder.forgets):
            unfit.append(str(path))
            text = (
                f"{path} passes and no longer fits: {name} has changed before the last switch. Delete it, or record it"
            )
            warnings.warn(f"{text} anew", UnfitScheduleWarning, stacklevel=2)
        elif folder is not None:
            folder.passed(path)
    histories: set[str] = set()
    orders: Counter[str] = Counter()
    for number in range(schedules):
        run = case.run(first + number)
        histories.add(run.history)
        orders[run.events] += 1
        if run.error is not None:
            error = failure(case, Found(run, first + number, number + 1, len(histories)), shrink, test)
            if folders and error.schedule is not None:
                error.kept = folders[0].keep(error.schedule)
            raise error
    took = time.perf_counter() - begun
    return Exploration(name, first, schedules + tried, frozenset(histories), took, orders, tuple(unfit))


def _kept(one: str | None, folders: list[Kept]) -> Iterator[tuple[Path, Schedule, Kept | None]]:
    """The schedules that come before all others."""
    if one is not None:
        yield Path(one), read_schedule(Path(one)), None
        return
    for folder in folders:
        for path, schedule in folder.schedules():
            yield path, schedule, folder


def check_scenario(scenario: object, what: str) -> str:
    """The scenario's name; an error where it cannot be run from here."""
    if inspect.iscoroutine(scenario):
        scenario.close()
        raise TypeError(f"{what}() calls the scenario itself: give it the async function, not what it returns")
    if not callable(scenario):
        raise TypeError(f"the scenario must be an async function, not {scenario!r:.200}")
    if trio.lowlevel.in_trio_run():
        raise RuntimeError(f"{what}() runs Trio itself: call it from a plain function, not from an async one")
    return str(getattr(scenario, "__name__", None) or repr(scenario))


def checked_limits(strategy: str, jitter: float, stall: float, horizon: float, steps: int) -> Limits:
    """The limits, where each is in its range.

    Raises:
        ValueError: One is not.
    """
    check_count("steps", steps)
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, not {strategy!r:.200}")
    for name, value in (("jitter", jitter), ("stall", stall)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a time of at least 0 seconds, not {value!r:.200}")
    if not 0 < horizon < math.inf:
        raise ValueError(f"horizon must be a time above 0 seconds, not {horizon!r:.200}")
    return Limits(strategy, jitter, stall, horizon, steps)


def check_count(name: str, value: object) -> None:
    """Refuses what is no whole number of at least 1.

    Raises:
        ValueError: It is none.
    """
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, not {value!r:.200}")
