"""One schedule of a scenario: a `trio.run` of its own in virtual time, and what came of it."""

from __future__ import annotations

import inspect
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVarTuple, Unpack

import trio
from trio.testing import MockClock

from . import within
from .scheduler import Scheduler, replaced, unshield
from .strategies import SPENT, Drawn
from .timeline import ADDRESS, Timeline
from .waiting import standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .record import Record
    from .scheduler import Source
    from .timeline import Row

Ts = TypeVarTuple("Ts")

HORIZON: Final = 86_400.0
"""Virtual seconds after which a scenario is taken for stuck."""

STEPS: Final = 200_000
"""Steps of tasks after which a scenario is taken for endless."""

JITTER: Final = 0.001
"""The most virtual seconds that pass at once between two steps, where they jitter."""

STALL: Final = 1.0
"""Virtual seconds below which all stays that is made to pass in one schedule."""


class StuckError(AssertionError):
    """A scenario did not come to its end."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a schedule may go.

    Args:
        strategy: What its order is drawn from.
        jitter: The most seconds that pass at once where they jitter; 0: no time is made to pass.
        stall: Seconds below which all stays that is made to pass.
        horizon: Seconds after which the scenario is stuck.
        steps: Steps of tasks after which it is endless.
    """

    strategy: str = "auto"
    jitter: float = JITTER
    stall: float = STALL
    horizon: float = HORIZON
    steps: int = STEPS


@dataclass(slots=True)
class Run:
    """One schedule that was run."""

    error: BaseException | None
    history: str
    timeline: str
    steps: int
    record: Record

    rows: Sequence[Row] = ()
    """Where it was watched: its last steps."""

    @property
    def events(self) -> str:
        """The order of its events, as a digest."""
        return self.record.events_digest()


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario, with what it is called with and how far it may go."""

    scenario: Callable[..., Awaitable[object]]
    args: tuple[Any, ...]
    name: str
    limits: Limits

    def run(self, seed: int, source: Source | None = None, *, watch: bool = False) -> Run:
        """One schedule of it."""
        return run_schedule(self.scenario, self.args, seed, self.limits, source=source, watch=watch)


def run_schedule(
    scenario: Callable[[Unpack[Ts]], Awaitable[object]],
    args: tuple[*Ts],
    seed: int,
    limits: Limits = Limits(),
    *,
    source: Source | None = None,
    watch: bool = False,
) -> Run:
    """One schedule. What the scenario raised is in the result; a Ctrl-C, and a test that is skipped, go through.

    Args:
        scenario: Called once.
        args: What it is called with.
        seed: Decides everything; where there is a source, only what tasks draw.
        limits: How far it may go.
        source: What the schedule comes from.
        watch: Whether the timeline is recorded, which is slow.
    """
    clock = MockClock(autojump_threshold=0)
    name = str(getattr(scenario, "__name__", "main"))
    whole = trio.CancelScope()
    stuck: list[str] = []

    def give_up() -> None:
        stuck.append(f"the scenario does not end: it has made more than {limits.steps} steps")
        whole.cancel()

    budget = limits.stall * SPENT
    scheduler = Scheduler(
        seed,
        source or Drawn(seed, limits.strategy, limits.jitter, budget),
        clock,
        budget,
        limits.steps,
        give_up,
    )
    timeline = Timeline()

    async def watchman() -> None:
        await trio.sleep_until(limits.horizon)
        stuck.append(
            f"the scenario is stuck: it is not over after {limits.horizon:g} virtual seconds\n"
            f"{standing(scheduler.live(), scheduler.label)}".rstrip()
        )
        whole.cancel()
        await trio.sleep(limits.horizon)
        stuck[0] += "\nit did not end when it was cancelled, either: a shield without a deadline, or a thread?"
        for task in _tasks():
            unshield(task)
        await trio.sleep(limits.horizon)
        scheduler.broken_off = True

    async def main() -> None:
        within.current.set(scheduler)
        trio.lowlevel.spawn_system_task(watchman, name="the explorer's watchman")
        with timeline.main_task(), whole:
            await _awaitable(scenario(*args), name)

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
    labels = scheduler.labelled() if watch else {}
    text = timeline.text(labels, scheduler.record.timed_notes()) if watch else ""
    return Run(
        error,
        scheduler.record.digest(),
        text,
        scheduler.steps,
        scheduler.record,
        timeline.rows(labels) if watch else (),
    )


def same(one: Run, other: Run) -> bool:
    """Whether two runs of a seed did the same."""
    errors = [None if run.error is None else (type(run.error), ADDRESS.sub("", str(run.error))) for run in (one, other)]
    return one.history == other.history and errors[0] == errors[1]


def _awaitable(begun: Awaitable[object], name: str) -> Awaitable[object]:
    if not inspect.isawaitable(begun):
        raise TypeError(
            f"the scenario must be an async function: {name} gave {begun!r:.200}, which is nothing to await"
        )
    return begun


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
