"""`cancel_everywhere()`: a scenario cancelled at each of its steps in turn, leaving nothing behind."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any, Final, Literal, TypeVarTuple, Unpack, cast, final

import trio

from ..errors import Picklable
from .explorer import check_scenario
from .failure import SEED_VARIABLE, Found, ScheduleError, lines_of, parse_seed, schedule_error
from .leftovers import Leftovers, newcomers_only
from .record import Record
from .running import HORIZON, STEPS, Limits, Run, run_schedule

Ts = TypeVarTuple("Ts")

MOST: Final = 20_000
"""Steps at which a scenario is cancelled; one that makes more is too large to be swept."""

TOLD: Final = 8
"""Kinds of failures that are told beside the first."""


class LeftoverError(Picklable, AssertionError):
    """A scenario that was cancelled has left something behind; `found` lists it."""

    def __init__(self, found: list[str]) -> None:
        self.found = tuple(found)
        super().__init__("this is left:\n" + "\n".join(f"- {line}" for line in found))


@dataclass(frozen=True, slots=True)
class Sweep:
    """The result of a sweep without a failure."""

    scenario: str
    seed: int
    steps: int
    """At how many it was cancelled: all that it makes when nothing happens to it, for each task that was aimed at."""
    outcomes: dict[str, int]
    """How often it was "cancelled", and how often it "returned" all the same."""
    seconds: float

    def __str__(self) -> str:
        return f"{self.scenario}: cancelled at each of {self.steps} steps, {self.outcomes}, in {self.seconds:.1f} s"


@final
class _AtStep(trio.abc.Instrument):
    """Cancels, or interrupts, before a step; counts the steps, and the tasks that are aimed at.

    Args:
        step: Before which; 0: before none.
        action: What happens then, where no task is aimed at.
        patterns: Of the names of tasks that are aimed at.
        target: Which of them is cancelled, by the order in which they began.
    """

    def __init__(self, step: int, action: Callable[[], object], patterns: Sequence[str], target: int) -> None:
        self.step = step
        self.action = action
        self.made = 0
        self.targets: list[str] = []
        self.scope = trio.CancelScope()
        self._patterns = patterns
        self._target = target

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """One that is aimed at is run within a scope of its own."""
        name = task.name.rpartition(".")[2] if " " not in task.name else task.name
        if any(fnmatchcase(name, pattern) for pattern in self._patterns):
            if len(self.targets) == self._target:
                task.coro = _within(self.scope, task.coro)  # type: ignore[assignment]  # any coroutine will do
            self.targets.append(name)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """The step at which it happens may be this one."""
        self.made += 1
        if self.made == self.step:
            if self._patterns:
                self.scope.cancel()
            else:
                self.action()


def _within(scope: trio.CancelScope, coroutine: Any) -> Coroutine[Any, Any, object]:
    """A coroutine under a scope of its own."""

    class Awaited:
        def __await__(self) -> Generator[Any, Any, Any]:
            return (yield from coroutine.__await__())

    async def scoped() -> object:
        with scope:
            return await Awaited()
        return None

    wrapper: Any = scoped()
    wrapper.__name__, wrapper.__qualname__ = coroutine.__name__, coroutine.__qualname__
    return cast("Coroutine[Any, Any, object]", wrapper)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What all runs of a sweep have in common."""

    scenario: Callable[..., Awaitable[object]]
    args: tuple[Any, ...]
    seed: int
    kind: str
    check: Callable[[], object] | None
    limits: Limits
    ignore: Sequence[str]
    tasks: Sequence[str]


def cancel_everywhere(
    scenario: Callable[[Unpack[Ts]], Awaitable[object]],
    *args: *Ts,
    kind: Literal["cancel", "interrupt"] = "cancel",
    seed: int | None = None,
    check: Callable[[], object] | None = None,
    horizon: float = HORIZON,
    steps: int = STEPS,
    ignore: Sequence[str] = (),
    tasks: Sequence[str] = (),
) -> Sweep:
    """Runs a scenario again and again, cancelled at its first step, its second, and so on to its last.

    All under one schedule, in virtual time, as `explore()` does. After each run nothing may be left: no task, no busy
    thread, no open memory channel, memory stream, file or socket that anything still holds on to, none that was
    thrown away while open, no suspended async generator, no held lock, no token of a limiter or of a bounded
    semaphore, no request in a connection pool of httpcore, no open session. Whatever the scenario raises instead of
    ending, and a scenario that does not end, is a failure. The first run, in which nothing happens, counts the steps.
    After a failure it goes on: the error tells the first, and at which steps there were others.

    Args:
        scenario: An async function; called anew for each run.
        args: What it is called with; shared by all runs.
        kind: "cancel" cancels a scope around the scenario; "interrupt" is a Ctrl-C.
        seed: Of the schedule; drawn where it is None.
        check: Called after each run, outside of Trio; what it raises is a failure.
        horizon: Virtual seconds after which the scenario is stuck.
        steps: Steps of tasks after which it is endless.
        ignore: What may be left: kinds of leftovers ("task", "thread", "session", "channel", "stream", "socket",
            "file", "generator", "lock", "token", "slot", "warning"), or patterns of their texts ("*'helper'*").
        tasks: Patterns of the names of tasks, as "reader": each of these by itself is cancelled at each step, and not
            the scenario. Only for kind "cancel".

    Raises:
        ScheduleError: At some step it failed or left something; its cause is what came out, or a `LeftoverError`;
            `failures` has each step at which it did, with what came out.
        ValueError, TypeError: A value is out of range, or no task has such a name.
        RuntimeError: Called inside of Trio, or, for "interrupt", not in the main thread.
    """
    name = check_scenario(scenario, "cancel_everywhere")
    if kind not in ("cancel", "interrupt"):
        raise ValueError(f"kind must be 'cancel' or 'interrupt', not {kind!r:.200}")
    if kind == "interrupt" and threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a Ctrl-C is for the main thread: sweep with kind='interrupt' there")
    for option, value in (("ignore", ignore), ("tasks", tasks)):
        if isinstance(value, str):
            raise TypeError(f"{option} must be a sequence of texts, not one: write {option}=[{value!r:.200}]")
    if tasks and kind != "cancel":
        raise ValueError("tasks= is for kind='cancel': a Ctrl-C is not for one task")
    this, only = secrets.randbits(32) if seed is None else seed, None
    given = os.environ.get(SEED_VARIABLE)
    if given is not None:
        this, only = parse_seed(given)
    __tracebackhide__ = True
    begun = time.perf_counter()
    plan = _Plan(scenario, args, this, kind, check, Limits(horizon=horizon, steps=steps), ignore, tasks)
    outcomes: Counter[str] = Counter()
    failures: list[tuple[int, Run]] = []
    with newcomers_only():
        run, instrument, _ = _one(plan, 0, 0)
        total, targets = instrument.made, instrument.targets
        if run.error is None and total > MOST:
            raise ValueError(f"{name} makes {total} steps: at most {MOST} can be swept, take a smaller scenario")
        if run.error is None and tasks and not targets:
            raise ValueError(f"{name} has no task with a name like {', '.join(map(repr, tasks))}")
        histories = {run.history}
        if run.error is not None:
            failures.append((0, run))
        last = total * max(len(targets), 1)
        for position in range(1, last + 1) if only is None else [min(only, last)] if only else []:
            if failures and not failures[0][0]:
                break
            run, instrument, outcome = _one(plan, *_step_and_target(position, total))
            histories.add(run.history)
            if instrument.made >= instrument.step:
                outcomes[outcome] += 1
            if run.error is not None:
                failures.append((position, run))
        if failures:
            position, run = failures[0]
            again, _, _ = _one(plan, *_step_and_target(position, total), watch=True)
            what = f"{name}, {_what(kind, position, total, targets)} of {total},"
            found = Found(run, this, position + 1, len(histories), where=f"@{position}")
            error = schedule_error(what, found, again)
            raise _with_all(error, failures, total, targets)
    return Sweep(name, this, last, dict(outcomes), time.perf_counter() - begun)


def _step_and_target(position: int, total: int) -> tuple[int, int]:
    """Where several tasks are aimed at, all steps come for the first of them, then for the second."""
    return (0, 0) if not position else ((position - 1) % total + 1, (position - 1) // total)


def _one(plan: _Plan, step: int, target: int, *, watch: bool = False) -> tuple[Run, _AtStep, str]:
    """One run with something happening at `step` (0: nothing), and how it ended."""
    leftovers = Leftovers(plan.ignore)
    scope = trio.CancelScope()
    action = scope.cancel if plan.kind == "cancel" else lambda: signal.raise_signal(signal.SIGINT)
    instrument = _AtStep(step, action, plan.tasks, target)
    interrupted = False

    async def swept() -> None:
        leftovers.begin()
        trio.lowlevel.add_instrument(instrument)
        try:
            with scope:
                await plan.scenario(*plan.args)
        finally:
            trio.lowlevel.remove_instrument(instrument)
            leftovers.end()

    swept.__name__ = getattr(plan.scenario, "__name__", "scenario")
    with leftovers.outside():
        try:
            run = run_schedule(swept, (), plan.seed, plan.limits, watch=watch)
        except KeyboardInterrupt:
            if plan.kind != "interrupt" or instrument.made < step or not step:
                raise
            interrupted = True
            run = Run(None, "interrupted", "", instrument.made, Record())
        if run.error is not None and plan.kind == "interrupt" and _only_interrupts(run.error):
            interrupted = True
            run.error = None
    if run.error is None and leftovers.found:
        run.error = LeftoverError(leftovers.found)
    if run.error is None and plan.check is not None:
        try:
            plan.check()
        except Exception as error:
            run.error = error
    cancelled = scope.cancelled_caught or instrument.scope.cancelled_caught
    outcome = "interrupted" if interrupted else "cancelled" if cancelled else "returned"
    return run, instrument, outcome


def _with_all(error: ScheduleError, failures: list[tuple[int, Run]], total: int, targets: list[str]) -> ScheduleError:
    """The first failure's error, with all others at its end."""
    what = [(position, " ".join(lines_of(run.error))[:120]) for position, run in failures if run.error is not None]
    error.failures = tuple(what)
    if len(what) > 1:
        by_text: dict[str, list[int]] = {}
        for position, text in what:
            by_text.setdefault(text, []).append(position)
        count = total * max(len(targets), 1)
        error.add_note(f"it fails at {len(what)} of {count} steps:")
        for text, positions in list(by_text.items())[:TOLD]:
            error.add_note(f"  {_ranges(positions)}: {text}")
        if len(by_text) > TOLD:
            error.add_note(f"  and in {len(by_text) - TOLD} other ways")
    return error


def _ranges(numbers: list[int]) -> str:
    """1, 2, 3, 7 as "1-3, 7"."""
    runs = [list(group) for _, group in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0][1]) if len(run) == 1 else f"{run[0][1]}-{run[-1][1]}" for run in runs)


def _what(kind: str, position: int, total: int, targets: list[str]) -> str:
    if not position:
        return "left alone in all its steps"
    step, target = _step_and_target(position, total)
    whom = f"its task {targets[target]!r} " if targets else ""
    return f"{whom}{'cancelled' if kind == 'cancel' else 'interrupted'} at step {step}"


def _only_interrupts(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(KeyboardInterrupt)[1] is None
    return isinstance(error, KeyboardInterrupt)
