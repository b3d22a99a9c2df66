"""`cancel_everywhere()`: a scenario cancelled at each of its steps in turn, leaving nothing behind."""

from __future__ import annotations

import os
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeVarTuple, Unpack, final

import trio

from .explorer import HORIZON, SEED_VARIABLE, STEPS, Run, check_scenario, parse_seed, run_schedule, schedule_error
from .leftovers import Leftovers, newcomers_only

Ts = TypeVarTuple("Ts")

MOST: Final = 20_000
"""Steps at which a scenario is cancelled; one that makes more is too large to be swept."""


class LeftoverError(AssertionError):
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
    """At how many it was cancelled: all that it makes when nothing happens to it."""
    outcomes: dict[str, int]
    """How often it was "cancelled", and how often it "returned" all the same."""
    seconds: float

    def __str__(self) -> str:
        return f"{self.scenario}: cancelled at each of {self.steps} steps, {self.outcomes}, in {self.seconds:.1f} s"


@final
class _AtStep(trio.abc.Instrument):
    def __init__(self, step: int, action: Callable[[], object]) -> None:
        self.step = step
        self.action = action
        self.made = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.made += 1
        if self.made == self.step:
            self.action()


def cancel_everywhere(
    scenario: Callable[[Unpack[Ts]], Awaitable[object]],
    *args: *Ts,
    kind: Literal["cancel", "interrupt"] = "cancel",
    seed: int | None = None,
    check: Callable[[], object] | None = None,
    horizon: float = HORIZON,
    steps: int = STEPS,
) -> Sweep:
    """Runs a scenario again and again, cancelled at its first step, its second, and so on to its last.

    All under one schedule, in virtual time, as `explore()` does. After each run nothing may be left: no
    task, no busy thread, no open memory channel or socket that anything still holds on to, none that was
    thrown away while open, no open session. Whatever the scenario raises instead of ending, and a scenario
    that does not end, is a failure. The first run, in which nothing happens, counts the steps.

    Args:
        scenario: An async function; called anew for each run.
        args: What it is called with; shared by all runs.
        kind: "cancel" cancels a scope around the scenario; "interrupt" is a Ctrl-C.
        seed: Of the schedule; drawn where it is None.
        check: Called after each run, outside of Trio; what it raises is a failure.
        horizon: Virtual seconds after which the scenario is stuck.
        steps: Steps of tasks after which it is endless.

    Raises:
        ScheduleError: At some step it failed or left something; its cause is what came out, or a `LeftoverError`.
        ValueError, TypeError: A value is out of range.
        RuntimeError: Called inside of Trio, or, for "interrupt", not in the main thread.
    """
    name = check_scenario(scenario, "cancel_everywhere")
    if kind not in ("cancel", "interrupt"):
        raise ValueError(f"kind must be 'cancel' or 'interrupt', not {kind!r:.200}")
    if kind == "interrupt" and threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a Ctrl-C is for the main thread: sweep with kind='interrupt' there")
    this, only = secrets.randbits(32) if seed is None else seed, None
    given = os.environ.get(SEED_VARIABLE)
    if given is not None:
        this, only = parse_seed(given)
    __tracebackhide__ = True
    begun = time.perf_counter()
    outcomes: Counter[str] = Counter()

    def one(step: int, *, watch: bool = False) -> tuple[Run, int, str]:
        return _one(scenario, args, step, this, kind, check, horizon, steps, watch)

    with newcomers_only():
        run, total, _ = one(0)
        if run.error is None and total > MOST:
            raise ValueError(f"{name} makes {total} steps: at most {MOST} can be swept, take a smaller scenario")
        step, histories = 0, {run.history}
        while run.error is None:
            step = step + 1 if only is None else only
            if step > total:
                break
            run, made, outcome = one(step)
            histories.add(run.history)
            if made >= step:
                outcomes[outcome] += 1
            if only is not None:
                break
        if run.error is not None:
            again, _, _ = one(step, watch=True)
            verb = "cancelled" if kind == "cancel" else "interrupted"
            what = f"{name}, {f'{verb} at step {step}' if step else 'left alone in all its steps'} of {total},"
            raise schedule_error(what, run, again, seed=this, tried=step + 1, distinct=len(histories), where=f"@{step}")
    return Sweep(name, this, total, dict(outcomes), time.perf_counter() - begun)


def _one(
    scenario: Callable[[Unpack[Ts]], Awaitable[object]],
    args: tuple[*Ts],
    step: int,
    seed: int,
    kind: str,
    check: Callable[[], object] | None,
    horizon: float,
    steps: int,
    watch: bool,
) -> tuple[Run, int, str]:
    """One run with something happening at `step` (0: nothing); the steps that it made, and how it ended."""
    leftovers = Leftovers()
    scope = trio.CancelScope()
    instrument = _AtStep(step, scope.cancel if kind == "cancel" else lambda: signal.raise_signal(signal.SIGINT))
    interrupted = False

    async def swept() -> None:
        leftovers.begin()
        trio.lowlevel.add_instrument(instrument)
        try:
            with scope:
                await scenario(*args)
        finally:
            trio.lowlevel.remove_instrument(instrument)
            leftovers.end()

    swept.__name__ = getattr(scenario, "__name__", "scenario")
    with leftovers.outside():
        try:
            run = run_schedule(swept, (), seed, horizon=horizon, steps=steps, watch=watch)
        except KeyboardInterrupt:
            if kind != "interrupt" or instrument.made < step or not step:
                raise
            interrupted = True
            run = Run(None, "interrupted", "", instrument.made)
        if run.error is not None and kind == "interrupt" and _only_interrupts(run.error):
            interrupted = True
            run = Run(None, run.history, run.timeline, run.steps)
    if run.error is None and leftovers.found:
        run.error = LeftoverError(leftovers.found)
    if run.error is None and check is not None:
        try:
            check()
        except Exception as error:
            run.error = error
    outcome = "interrupted" if interrupted else "cancelled" if scope.cancelled_caught else "returned"
    return run, instrument.made, outcome


def _only_interrupts(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(KeyboardInterrupt)[1] is None
    return isinstance(error, KeyboardInterrupt)
