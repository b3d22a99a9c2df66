"""What the model of the tracker is played by: a run of Trio, trackers, runs and readers, and what they were told."""

from __future__ import annotations

import copy
import queue
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import trio
import trio.testing

from tests.support import seeded_scheduler
from trio_progress import (
    MemoryStore,
    Pipeline,
    ProgressTracker,
    Session,
    Snapshot,
    open_tracker,
)
from trio_progress.session.core import SessionCore
from trio_progress.testing import FaultyStore, Subscriber

T = TypeVar("T")

NAMES = ("search", "analysis", "report")
PIPELINE = Pipeline("research", dict(zip(NAMES, (3, 2, 1), strict=True)))
SETTINGS: dict[str, Any] = {"lost_after": 12.0, "heartbeat_interval": 4.0, "flush_timeout": 3.0, "retention": 1e6}


class Stage:
    """A run of Trio in a thread, which stands still unless it is asked to do something."""

    def __init__(self, seed: int) -> None:
        self._orders: queue.SimpleQueue[Callable[[], Awaitable[Any]] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._seed = seed
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with seeded_scheduler(self._seed):
            try:
                trio.run(self._main, clock=trio.testing.MockClock(autojump_threshold=0))
            except BaseException as error:  # noqa: ASYNC103 - handed over to the thread that waits
                self._answers.put((None, error))
            else:
                self._answers.put((None, None))

    async def _main(self) -> None:
        async with trio.open_nursery() as self.nursery:
            while (order := self._orders.get()) is not None:
                answer, problem = None, None
                try:
                    with trio.fail_after(10_000):
                        answer = await order()
                except Exception as error:
                    problem = error
                self._answers.put((answer, problem))
            self.nursery.cancel_scope.cancel()

    def do(self, order: Callable[[], Awaitable[T]]) -> T:
        self._orders.put(order)
        answer, error = self._answers.get()
        if error is not None:
            raise error
        return answer  # type: ignore[no-any-return]

    def close(self) -> None:
        self._orders.put(None)
        _, error = self._answers.get()
        self._thread.join()
        if error is not None:
            raise error


@dataclass
class Told:
    """What a run was told."""

    phases: dict[str, tuple[str, float]] = field(default_factory=lambda: dict.fromkeys(NAMES, ("pending", 0.0)))
    counters: dict[str, float] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    events: int = 0
    saved: Any = None
    result: Any = None

    def gone_on(self) -> Told:
        """What the next attempt finds."""
        phases = {
            name: phase if phase[0] in ("completed", "skipped") else ("pending", 0.0)
            for name, phase in self.phases.items()
        }
        return Told(phases, dict(self.counters), dict(self.fields), self.events, self.saved, None)

    def ended(self, status: str) -> Told:
        """What the end makes of it."""
        ended = copy.deepcopy(self)
        becomes = status if status in ("completed", "failed") else "cancelled"
        for name, (phase, done) in self.phases.items():
            if phase == "running":
                ended.phases[name] = (becomes, done)
            elif phase == "pending" and status == "completed":
                ended.phases[name] = ("skipped", done)
        return ended

    @classmethod
    def of(cls, state: Snapshot, saved: Any) -> Told:
        """What a state says. What is skipped counts as done, and is no count of ours."""
        phases: dict[str, tuple[str, float]]
        phases = {phase.name: (phase.status, float(phase.done)) for phase in state.phases}
        return cls(phases, dict(state.counters), dict(state.fields), state.events, saved, state.result)


class Process:
    """A tracker with its own way to the store, until it is left or dies."""

    def __init__(self, inner: MemoryStore) -> None:
        self.store = FaultyStore(inner)
        self.scope = trio.CancelScope()
        self.leave = trio.Event()
        self.ready = trio.Event()
        self.over = trio.Event()
        self.alive = True
        self.troubled = False
        """Whether its store has ever failed."""
        self.tracker: ProgressTracker

    async def run(self) -> None:
        with self.scope:
            async with open_tracker(self.store, wall_clock=wall, **SETTINGS) as self.tracker:
                self.ready.set()
                await self.leave.wait()
        self.over.set()


@dataclass(eq=False)
class Run:
    """A session that somebody has begun."""

    process: Process
    id: str
    resume: str
    told: Told = field(default_factory=Told)
    history: list[Told] = field(default_factory=list)
    """All that it was told so far, after each time."""
    acked: int = 0
    """The place in `history` of what the store is known to hold."""
    way: str = "returns"
    leave: trio.Event = field(default_factory=trio.Event)
    opened: trio.Event = field(default_factory=trio.Event)
    left: trio.Event = field(default_factory=trio.Event)
    session: Session | None = None
    core: SessionCore | None = None
    """The inside of `session`."""
    refused: Exception | None = None
    fenced: bool = False
    failed: bool = False
    failing: set[str] = field(default_factory=set)
    """The phases that were open when it was said to have failed."""
    totals: dict[str, int | None] = field(default_factory=dict)
    asked: bool = False
    """Whether it was asked to end by somebody else."""

    @property
    def working(self) -> bool:
        return self.process.alive and self.core is not None and not self.core.state.over

    def note(self) -> None:
        self.history.append(copy.deepcopy(self.told))


@dataclass(eq=False)
class Reader:
    """A subscriber, and where it is."""

    process: Process
    subscriber: Subscriber
    over: bool = False

    def misled_by(self, run: Run) -> bool:
        """Whether it was shown a run whose claim the store never took."""
        persister = None if run.core is None else run.core.persister
        here = run.process is self.process and run.id == self.subscriber.id
        return here and persister is not None and persister.stored is None


def wall() -> float:
    return 1e9 + trio.current_time()


def core(state: Snapshot) -> tuple[object, ...]:
    """What must be the same everywhere, at any time; how alive it is and which part of its time has passed is of the
    moment."""
    phases = tuple((phase.name, phase.status, phase.done, phase.total, phase.fraction) for phase in state.phases)
    values = (state.status, state.attempt, state.message, state.result, state.error)
    return (state.epoch, state.seq, *values, state.counters, state.fields, state.events, phases)


def epoch_of(run: Run) -> int:
    return 0 if run.session is None else run.session.epoch
