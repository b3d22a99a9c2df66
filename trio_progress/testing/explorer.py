"""`explore()`: a concurrent scenario run under many schedules, each of which a seed repeats."""

from __future__ import annotations

import inspect
import math
import os
import random
import secrets
import shlex
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVarTuple, Unpack

import trio
from trio.testing import MockClock

from .scheduler import Scheduler, replaced, unshield
from .timeline import ADDRESS, Timeline, standing

Ts = TypeVarTuple("Ts")

SEED_VARIABLE: Final = "TRIO_PROGRESS_SEED"
"""The environment variable by which the printed command repeats one schedule."""

HORIZON: Final = 86_400.0
"""Virtual seconds after which a scenario is taken for stuck."""

STEPS: Final = 200_000
"""Steps of tasks after which a scenario is taken for endless."""

JITTER: Final = 0.001
"""The most virtual seconds that pass at once between two steps."""


class ScheduleError(AssertionError):
    """A scenario has failed under one schedule; its cause is what the scenario raised.

    `seed` repeats the schedule, `replay` is the command that does, `timeline` is what happened, as text;
    `history` names the history, `tried` says how many schedules were run and `distinct` how many of them
    differed; `deterministic` is False where the same seed gave something else the second time.
    """

    def __init__(
        self,
        scenario: str,
        error: BaseException,
        *,
        seed: int,
        tried: int,
        distinct: int,
        history: str,
        timeline: str,
        deterministic: bool,
        where: str = "",
    ) -> None:
        self.error = error
        self.seed = seed
        self.tried = tried
        self.distinct = distinct
        self.history = history
        self.timeline = timeline
        self.deterministic = deterministic
        self.replay = replay_command(f"{seed}{where}", scenario)
        lines = [
            f"{scenario} fails under seed {seed}{where}, the {_nth(tried)} schedule tried ({distinct} distinct):",
            *(f"  {line}" for line in _lines_of(error)[:20]),
            "",
            f"replay it:  {self.replay}",
            "",
        ]
        if not deterministic:
            lines += [
                "The same seed, run again, did something else. The scenario is not deterministic: a thread, the wall",
                "clock, a hash order, a real socket, `random.Random()` or `secrets`? What follows is the second run.",
                "",
            ]
        super().__init__("\n".join([*lines, f"history {history}:", timeline]))


class StuckError(AssertionError):
    """A scenario did not come to its end."""


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

    @property
    def distinct(self) -> int:
        """How many histories differed: two schedules that ran the same tasks in the same order are one."""
        return len(self.histories)

    def __str__(self) -> str:
        rate = self.schedules / max(self.seconds, 1e-9)
        return (
            f"{self.scenario}: {self.schedules} schedules, {self.distinct} distinct, in {self.seconds:.1f} s "
            f"({rate:.0f} a second)"
        )


@dataclass(slots=True)
class Run:
    """One schedule that was run."""

    error: BaseException | None
    history: str
    timeline: str
    steps: int


def explore(
    scenario: Callable[[Unpack[Ts]], Awaitable[object]],
    *args: *Ts,
    schedules: int = 500,
    seed: int | None = None,
    jitter: float = JITTER,
    horizon: float = HORIZON,
    steps: int = STEPS,
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

    Raises:
        ScheduleError: The scenario raised, did not end, or was stuck; with seed, history and command.
        ValueError, TypeError: A value is out of range.
        RuntimeError: Called inside of Trio: call it from a plain function.
        UnsupportedTrioError: This version of Trio cannot be explored.
    """
    name = check_scenario(scenario, "explore")
    _check_range(schedules, jitter, horizon, steps)
    first = secrets.randbits(32) if seed is None else seed
    given = os.environ.get(SEED_VARIABLE)
    if given is not None:
        first, schedules = parse_seed(given)[0], 1
    __tracebackhide__ = True  # pytest shows the scenario's own lines instead
    begun = time.perf_counter()
    histories: set[str] = set()
    for tried in range(1, schedules + 1):
        this = first + tried - 1
        run = run_schedule(scenario, args, this, jitter=jitter, horizon=horizon, steps=steps)
        histories.add(run.history)
        if run.error is not None:
            again = run_schedule(scenario, args, this, jitter=jitter, horizon=horizon, steps=steps, watch=True)
            raise schedule_error(name, run, again, seed=this, tried=tried, distinct=len(histories))
    return Exploration(name, first, schedules, frozenset(histories), time.perf_counter() - begun)


def schedule_error(
    scenario: str, run: Run, again: Run, *, seed: int, tried: int, distinct: int, where: str = ""
) -> ScheduleError:
    """The report of a schedule that failed, and was run `again` to be watched."""
    failed = again if again.error is not None else run
    assert failed.error is not None
    error = ScheduleError(
        scenario,
        failed.error,
        seed=seed,
        tried=tried,
        distinct=distinct,
        history=again.history,
        timeline=again.timeline,
        deterministic=same(run, again),
        where=where,
    )
    error.__cause__ = failed.error
    return error


def run_schedule(
    scenario: Callable[[Unpack[Ts]], Awaitable[object]],
    args: tuple[*Ts],
    seed: int,
    *,
    jitter: float = JITTER,
    horizon: float = HORIZON,
    steps: int = STEPS,
    watch: bool = False,
) -> Run:
    """One schedule. What the scenario raised is in the result; a Ctrl-C, and a test that is skipped, go through."""
    clock = MockClock(autojump_threshold=0)
    name = str(getattr(scenario, "__name__", "main"))
    whole = trio.CancelScope()
    stuck: list[str] = []

    def give_up() -> None:
        stuck.append(f"the scenario does not end: it has made more than {steps} steps")
        whole.cancel()

    scheduler = Scheduler(seed, clock, jitter, steps, give_up)
    timeline = Timeline()

    async def watchman() -> None:
        await trio.sleep_until(horizon)
        stuck.append(
            f"the scenario is stuck: it is not over after {horizon:g} virtual seconds\n{standing(_tasks())}".rstrip()
        )
        whole.cancel()
        await trio.sleep(horizon)
        stuck[0] += "\nit did not end when it was cancelled, either: a shield without a deadline?"
        for task in _tasks():
            unshield(task)
        await trio.sleep(horizon)
        scheduler.broken_off = True

    async def main() -> None:
        _scheduler.set(scheduler)
        trio.lowlevel.spawn_system_task(watchman, name="the explorer's watchman")
        with whole:
            await scenario(*args)

    main.__module__, main.__qualname__ = str(getattr(scenario, "__module__", "")), name
    error: BaseException | None = None
    kept = random.getstate()
    random.seed(f"trio-progress {seed}")
    try:
        with replaced(scheduler):
            try:
                trio.run(main, clock=clock, instruments=[timeline] if watch else [])
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as raised:  # noqa: ASYNC103 - it is the schedule's outcome
                error = raised
    finally:
        random.setstate(kept)
    if error is not None and type(error).__name__ in ("Skipped", "Exit") and not isinstance(error, Exception):
        raise error  # What pytest.skip() and pytest.exit() raise.
    if stuck:
        outcome = StuckError(stuck[0])
        outcome.__cause__, error = error, outcome
    text = ""
    if watch:
        labels = scheduler.labels
        notes = [(at, noted) for at, (_, noted) in zip(scheduler.noted, scheduler.notes, strict=True)]
        text = timeline.text({step.task: labels[scheduler.number(step.task)] for step in timeline.steps}, notes)
    return Run(error, scheduler.digest(), text, scheduler.steps)


_scheduler: trio.lowlevel.RunVar[Scheduler | None] = trio.lowlevel.RunVar("trio_progress scheduler", default=None)


def note(text: str) -> None:
    """Writes a line into the history of the schedule that is run; two that note other things are distinct.

    Does nothing where none is explored, so that it may stay in a test that also runs plainly.
    """
    scheduler = _scheduler.get() if trio.lowlevel.in_trio_run() else None
    if scheduler is not None:
        scheduler.notes.append((len(scheduler.order), text))
        scheduler.noted.append(trio.current_time())


async def jitter(most: float = 0.01) -> None:
    """Sleeps for a time that the seed decides, up to `most` seconds: for the edges of a scenario.

    Put it where the world outside would take its time: in a double of a service, before a message is
    delivered. Where nothing is explored it is a checkpoint and takes no time.
    """
    scheduler = _scheduler.get()
    await trio.sleep(0.0 if scheduler is None else scheduler.rng.random() * most)


def seeded_random() -> random.Random:
    """Random numbers of the schedule that is run, for a scenario's own choices; elsewhere of the `random` module."""
    scheduler = _scheduler.get() if trio.lowlevel.in_trio_run() else None
    return random.Random(random.random() if scheduler is None else scheduler.rng.random())  # noqa: S311 - repeatable


def same(one: Run, other: Run) -> bool:
    """Whether two runs of a seed did the same."""
    errors = [None if run.error is None else (type(run.error), ADDRESS.sub("", str(run.error))) for run in (one, other)]
    return one.history == other.history and errors[0] == errors[1]


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


def _check_range(schedules: object, jitter: float, horizon: float, steps: object) -> None:
    for name, value in (("schedules", schedules), ("steps", steps)):
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {value!r:.200}")
    if not 0 <= jitter < math.inf:
        raise ValueError(f"jitter must be a time of at least 0 seconds, not {jitter!r:.200}")
    if not 0 < horizon < math.inf:
        raise ValueError(f"horizon must be a time above 0 seconds, not {horizon!r:.200}")


def parse_seed(text: str) -> tuple[int, int | None]:
    """The seed, and the step of a sweep, in the environment variable; a `ValueError` where it holds neither."""
    seed, at, step = text.partition("@")
    try:
        return int(seed), int(step) if at else None
    except ValueError:
        raise ValueError(f"{SEED_VARIABLE} must be a seed, as a failure prints it, not {text!r:.200}") from None


def replay_command(seed: str, scenario: str) -> str:
    """The command that runs one schedule again."""
    test = os.environ.get("PYTEST_CURRENT_TEST")
    if test is not None:
        return f"{SEED_VARIABLE}={seed} python -m pytest {shlex.quote(test.rpartition(' (')[0])}"
    arguments = sys.orig_argv[1:]
    if not arguments or arguments[-1] == "-":
        return f"explore({scenario}, schedules=1, seed={seed.partition('@')[0]})"
    return f"{SEED_VARIABLE}={seed} {shlex.join([Path(sys.orig_argv[0]).name, *arguments])}"


def _tasks() -> list[trio.lowlevel.Task]:
    found: list[trio.lowlevel.Task] = []
    root = trio.lowlevel.current_root_task()
    todo = [] if root is None else [root]
    while todo:
        task = todo.pop()
        found.append(task)
        for nursery in task.child_nurseries:
            todo += sorted(nursery.child_tasks, key=lambda child: child.name)
    return found


def _lines_of(error: BaseException) -> list[str]:
    """The error's type and text, by line; those of its exceptions, where it is a group."""
    if isinstance(error, BaseExceptionGroup):
        return [line for inner in error.exceptions for line in _lines_of(inner)]
    text = str(error)
    return (f"{type(error).__name__}: {text}" if text else type(error).__name__).splitlines()


def _nth(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
