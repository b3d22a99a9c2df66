"""Who of Trio's tasks runs when, and when time passes. All private parts of Trio that are needed are here.

1. Trio shuffles each batch of runnable tasks with its private `_r`, sorted by age, where its private flag says so.
   For the time of one run both are replaced, and put back afterwards. Importing this changes nothing, and a run of
   Trio in another thread goes on with Trio's own.
2. A batch is not only shuffled: an order says who of it runs, and the others are held back for the next pass.
3. Time may pass between two steps, as it does on a busy machine: the mock clock is moved on, and who waits for a
   deadline can run before those who could have run already. Nobody runs in a pass in which time passes, so that a
   schedule is a sequence of steps and passings of time, whatever was in which batch.
4. Tasks are named by their parent and by how many of that name it has begun before: the same in every process.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any, Final, Protocol, final

import trio
import trio._core._run as trio_run

from ..errors import Picklable
from .record import Record
from .schedule import Cancels, TimePasses

if TYPE_CHECKING:
    from trio.testing import MockClock


PRIVATE: Final = ("_ALLOW_DETERMINISTIC_SCHEDULING", "_r", "GLOBAL_RUN_CONTEXT")

HIDDEN: Final = ("<", "the explorer's")
"""How the names of tasks begin that are no part of a history: Trio's own, and ours."""

SAME_TIME: Final = 1e-9
"""Seconds: what a schedule's text leaves out."""

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")
_replaced = threading.Lock()


class UnsupportedTrioError(Picklable, RuntimeError):
    """This version of Trio does not have the private parts by which schedules are explored."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"trio {trio.__version__} cannot be explored: {what}. trio-progress knows trio 0.31 to 0.35; "
            "take one of these, or a newer trio-progress. Only `trio_progress.testing` is concerned."
        )


class HopelessError(RuntimeError):
    """A schedule had to be broken off from within Trio: it did not even end when it was cancelled."""


class Source(Protocol):
    """What a schedule comes from: a seed, one that is written down, or a search through all."""

    def begin(self, scheduler: Scheduler) -> None:
        """The schedule begins."""

    def cancels(self, scopes: Sequence[str]) -> str | None:
        """Which of the scopes that are open is cancelled before the next step."""

    def passes(self, to_deadline: Callable[[], float], left: float) -> float:
        """Seconds that pass before the next step, given how far the next deadline is and what may be spent."""

    def choose(self, able: list[trio.lowlevel.Task]) -> list[trio.lowlevel.Task]:
        """Those of the tasks that can run, oldest first, that do run in this pass, in this order."""


@final
class Scheduler:
    """What Trio draws from while one schedule runs, and what it has recorded of it.

    Args:
        seed: Of the streams of random numbers that tasks have.
        source: Who runs, when time passes, and what is cancelled.
        clock: The clock of the run that this is for; all other runs are left alone.
        budget: Seconds below which all stays that is made to pass.
        steps: How many may be made; then `on_limit` is called, once.
    """

    def __init__(
        self,
        seed: int,
        source: Source,
        clock: MockClock,
        budget: float,
        steps: int,
        on_limit: Callable[[], None],
    ) -> None:
        self._seed = seed
        self._source = source
        self._choose = source.choose
        self._passes = source.passes
        self._clock = clock
        self.left = budget
        """Seconds below which all stays that may still be made to pass."""
        self._limit = steps
        self._on_limit = on_limit
        self._plain: Random = trio_run._r
        self._numbers: dict[trio.lowlevel.Task, int] = {}
        self._shared: dict[str, object] = {}
        self._begun: dict[str, int] = {}
        self._streams: dict[int, Random] = {}
        self._shown: dict[str, str] = {}
        self._scopes: dict[str, trio.CancelScope] = {}
        self._able: set[trio.lowlevel.Task] = set()
        self.record = Record()
        self.passes = 0
        self.steps = 0
        """How often any task was run, Trio's own as well."""
        self.broken_off = False
        """Whether the run is to be ended by force."""
        source.begin(self)

    # What Trio calls

    def shuffle(self, batch: list[trio.lowlevel.Task]) -> None:
        """Decides who of the batch runs now, and in which order."""
        runner = trio_run.GLOBAL_RUN_CONTEXT.runner
        if runner.clock is not self._clock:
            self._plain.shuffle(batch)
            return
        self.passes += 1
        if self.broken_off:
            raise HopelessError("the scenario goes on after it was cancelled")
        numbers = self._numbers
        able: list[trio.lowlevel.Task] = []
        hidden: list[trio.lowlevel.Task] = []
        for task in batch:
            number = numbers.get(task)
            if number is None:
                number = self._number(task)
            (hidden if number < 0 else able).append(task)
        if able:
            now = set(able)
            woken = now - self._able
            self._able = now
            if self._shared:
                self._see_shared()
            if woken:
                self.record.events += sorted([numbers[task] for task in woken])
            run = [] if self._something_happens(runner) else self._choose(able)
            self.record.order.extend([numbers[task] for task in run])
            if len(run) < len(able):
                runner.runq.extend([task for task in able if task not in run])
            batch[:] = [*reversed(run), *hidden]  # Trio takes them from the end.
        self.steps += len(batch)
        if self.steps > self._limit:
            self._exceeded()

    def random(self) -> float:
        """For what else Trio draws; no schedule depends on it."""
        return self._plain.random()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)

    def _something_happens(self, runner: Any) -> bool:
        """Whether there is something before the next step: a scope is cancelled, or time passes."""
        if self._scopes:
            name = self._source.cancels(tuple(self._scopes))
            if name is not None:
                self.record.marks.append((len(self.record.order), Cancels(name)))
                self._scopes.pop(name).cancel()
                return True

        def to_deadline() -> float:
            return float(runner.deadlines.next_deadline() - self._clock.current_time())

        seconds = round(self._passes(to_deadline, self.left), 9)  # As it is printed.
        if not 0 < seconds < self.left:
            return False
        self.left -= seconds
        self.record.marks.append((len(self.record.order), TimePasses(seconds)))
        self._clock.jump(seconds)
        rest = to_deadline()
        if 0 < rest < SAME_TIME:  # The sum was rounded, and who is to be woken would not be.
            self._clock.jump(rest)
        return True

    def _see_shared(self) -> None:
        for name, thing in self._shared.items():
            shown = repr(thing)
            if shown != self._shown[name]:
                self._shown[name] = shown
                self.record.events.append((name, shown))

    def _number(self, task: trio.lowlevel.Task) -> int:
        if task.name.startswith(HIDDEN):
            number = -1
        else:
            number = len(self.record.names)
            self.record.names.append(self._name(task))
        self._numbers[task] = number
        return number

    def _name(self, task: trio.lowlevel.Task) -> str:
        plain = _ADDRESS.sub("", task.name).replace("\n", " ")
        if " " not in plain:
            plain = plain.rpartition(".")[2]
        nursery = task.parent_nursery
        parent = self._numbers.get(nursery.parent_task, -1) if nursery is not None else -1
        name = plain if parent < 0 else f"{plain}#" if parent == 0 else f"{self.record.names[parent]}/{plain}#"
        count = self._begun[name] = self._begun.get(name, 0) + 1
        return name if parent < 0 and count == 1 else f"{name}{count}"

    def _exceeded(self) -> None:
        if self.steps > 2 * self._limit:
            self.broken_off = True
        on_limit, self._on_limit = self._on_limit, lambda: None
        on_limit()

    # What a scenario calls

    def stream(self, task: trio.lowlevel.Task) -> Random:
        """The random numbers of a task: they depend on its name and the seed, and not on the order of steps."""
        number = self._numbers[task]
        if number not in self._streams:
            name = self.record.names[number]
            self._streams[number] = Random(f"trio-progress task {self._seed} {name}")  # noqa: S311 - repeatable
        return self._streams[number]

    def open_scope(self, task: trio.lowlevel.Task, scope: trio.CancelScope) -> None:
        """From now on the scope may be cancelled."""
        plain = name = self.record.names[self._numbers[task]]
        count = self._begun[f"cancel {plain}"] = self._begun.get(f"cancel {plain}", 0) + 1
        if count > 1:
            name = f"{plain} {count}"
        self._scopes[name] = scope

    def close_scope(self, scope: trio.CancelScope) -> None:
        """The scope is left."""
        for name in [name for name, other in self._scopes.items() if other is scope]:
            del self._scopes[name]

    def share(self, name: str, thing: object) -> None:
        """From now on changes of this are events, and it is part of the state."""
        self._shared[name] = thing
        self._shown[name] = repr(thing)

    def note(self, text: str) -> None:
        """Puts a note into the history."""
        self.record.notes.append((len(self.record.order), text))
        self.record.noted.append(self._clock.current_time())
        self.record.events.append(text)

    # The history

    def labelled(self) -> dict[trio.lowlevel.Task, str]:
        """The scenario's tasks as people are shown them; unique."""
        labels = self.record.labels
        return {task: labels[number] for task, number in self._numbers.items() if number >= 0}

    def label(self, task: trio.lowlevel.Task) -> str:
        """One of them."""
        return self.labelled().get(task, task.name.rpartition(".")[2])

    def live(self) -> list[trio.lowlevel.Task]:
        """The scenario's tasks that are not over, oldest first."""
        return [
            task
            for task, number in self._numbers.items()
            if number >= 0 and getattr(task.coro, "cr_frame", None) is not None
        ]

    def drawn(self, task: trio.lowlevel.Task) -> int:
        """How far the random numbers of a task are; 0 where it has not drawn any."""
        stream = self._streams.get(self._numbers[task])
        return 0 if stream is None else hash(stream.getstate())

    @property
    def drew(self) -> bool:
        """Whether any task has drawn random numbers, which it does by its name."""
        return bool(self._streams)

    @property
    def can_cancel(self) -> bool:
        """Whether there are scopes that may be cancelled."""
        return bool(self._scopes)

    def scope_of(self, name: str) -> trio.CancelScope:
        """A scope that may be cancelled."""
        return self._scopes[name]

    @property
    def clock_can_wake(self) -> bool:
        """Whether there are deadlines, but for the one after which a scenario is stuck."""
        heap = trio_run.GLOBAL_RUN_CONTEXT.runner.deadlines._heap
        # Those of scopes that are left stay in it for a while.
        return sum(scope._registered_deadline == deadline for deadline, _, scope in heap) > 1

    def shared_values(self) -> list[object]:
        """What is shared."""
        return list(self._shared.values())

    def name_of(self, task: trio.lowlevel.Task) -> str:
        """The name of a task that can run, or has."""
        return self.record.names[self._numbers[task]]


@contextmanager
def replaced(scheduler: Scheduler) -> Iterator[None]:
    """While this is open, a run of Trio under the scheduler's clock is scheduled by it.

    Raises:
        UnsupportedTrioError: Trio has not got what this needs.
        RuntimeError: It is open already, in another thread.
    """
    private = vars(trio_run)
    missing = [name for name in PRIVATE if name not in private]
    if missing:
        raise UnsupportedTrioError(f"its `_core._run` has no {' and no '.join(missing)}")
    if not _replaced.acquire(blocking=False):
        raise RuntimeError("schedules are being explored already in this process, in another thread or around this")
    kept = {name: private[name] for name in PRIVATE[:2]}
    private.update(_ALLOW_DETERMINISTIC_SCHEDULING=True, _r=scheduler)
    try:
        yield
    finally:
        private.update(kept)
        _replaced.release()
    if not scheduler.passes:
        raise UnsupportedTrioError("it does not draw the order of its tasks from `_core._run._r`")


def unshield(task: trio.lowlevel.Task) -> None:
    """Takes the shields away around a task, so that what is cancelled outside of them reaches it."""
    status = getattr(task, "_cancel_status", None)
    while status is not None:
        scope = getattr(status, "_scope", None)
        if isinstance(scope, trio.CancelScope) and scope.shield:
            scope.shield = False
        status = getattr(status, "_parent", None)
