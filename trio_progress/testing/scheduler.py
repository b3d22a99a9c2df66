"""The order in which Trio runs what can run, from a seed. All private parts of Trio that are needed are here.

1. Trio shuffles each batch of runnable tasks with its private `_r`, by what it last sorted them by, where
   its private flag says so. For the time of one run both are replaced, and put back afterwards. Importing
   this changes nothing, and a run of Trio in another thread goes on with Trio's own.
2. A batch is not only shuffled: tasks are held back in it, so that one may make many steps while another
   makes none. Some are held back more often than others, which a new draw changes now and then.
3. Time may pass between two steps, as it does on a busy machine: the mock clock is moved on a little, and
   timers overtake what could have run.
4. What does what is drawn from the seed alone. Some seeds hold nothing back and let no time pass.
"""

from __future__ import annotations

import hashlib
import random
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, final

import trio
import trio._core._run as trio_run
from trio.testing import MockClock

HOLDS: Final = (0.0, 0.0, 0.5, 0.9, 0.98)
"""How likely a slow task is held back for a pass; a seed draws one. Others are held back half as often, or not."""

REDRAW: Final = 0.03
"""How likely, at a pass, the tasks' shares are drawn anew."""

STALL: Final = 0.1
"""How likely time passes before a pass, where a seed lets any pass."""

PRIVATE: Final = ("_ALLOW_DETERMINISTIC_SCHEDULING", "_r", "GLOBAL_RUN_CONTEXT")

HIDDEN: Final = ("<", "the explorer's")
"""How the names of tasks begin that are no part of a history: Trio's own, and ours."""

_replaced = threading.Lock()


class UnsupportedTrioError(RuntimeError):
    """This version of Trio does not have the private parts by which schedules are explored."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"trio {trio.__version__} cannot be explored: {what}. trio-progress knows trio 0.31 to 0.35; "
            "take one of these, or a newer trio-progress. Only `trio_progress.testing` is concerned."
        )


class HopelessError(RuntimeError):
    """A schedule had to be broken off from within Trio: it did not even end when it was cancelled."""


@final
class Scheduler:
    """What Trio draws from while one schedule runs.

    Args:
        seed: Decides everything.
        clock: The clock of the run that this is for; all other runs are left alone.
        jitter: The most seconds that pass at once between two steps.
        steps: How many may be made; then `on_limit` is called, once.
    """

    def __init__(self, seed: int, clock: MockClock, jitter: float, steps: int, on_limit: Callable[[], None]) -> None:
        self.rng = random.Random(f"trio-progress schedule {seed}")  # noqa: S311 - to be repeated
        self._clock = clock
        self._limit = steps
        self._on_limit = on_limit
        self._plain: random.Random = trio_run._r
        self._hold = self.rng.choice(HOLDS)
        self._jitter = jitter if self.rng.random() < 0.6 else 0.0
        self._shares: dict[trio.lowlevel.Task, float] = {}
        self._numbers: dict[trio.lowlevel.Task, int] = {}
        self.order = array("I")
        """The scenario's tasks in the order in which they were run, by number."""
        self.names: list[str] = []
        """The name of each task, by number: the order in which they came."""
        self.notes: list[tuple[int, str]] = []
        """Texts of `note()`, each after how many steps."""
        self.noted: list[float] = []
        """When that was, in virtual time."""
        self.passes = 0
        self.steps = 0
        """How often any task was run, Trio's own as well."""
        self.broken_off = False
        """Whether the run is to be ended by force."""

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
        rng = self.rng
        if len(batch) > 1:
            rng.shuffle(batch)
            if self._hold:
                self._hold_back(batch, runner)
        if self._jitter and rng.random() < STALL:
            self._clock.jump(rng.random() * self._jitter)
        self.steps += len(batch)
        for task in reversed(batch):  # Trio takes them from the end.
            number = self._numbers.get(task)
            if number is None:
                number = self._number(task)
            if number >= 0:
                self.order.append(number)
        if self.steps > self._limit:
            self._exceeded()

    def random(self) -> float:
        """For what else Trio draws; no schedule depends on it."""
        return self._plain.random()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)

    def _number(self, task: trio.lowlevel.Task) -> int:
        if task.name.startswith(HIDDEN):
            number = -1
        else:
            number = len(self.names)
            self.names.append(task.name)
        self._numbers[task] = number
        return number

    def _hold_back(self, batch: list[trio.lowlevel.Task], runner: Any) -> None:
        rng, shares = self.rng, self._shares
        if rng.random() < REDRAW:
            shares.clear()
        held = []
        for task in batch:
            share = shares.get(task)
            if share is None:
                share = shares[task] = rng.choice((0.0, 0.5, 1.0)) * self._hold
            if rng.random() < share:
                held.append(task)
        if len(held) == len(batch):
            held.pop(rng.randrange(len(held)))
        if held:
            batch[:] = [task for task in batch if task not in held]
            runner.runq.extend(held)

    def _exceeded(self) -> None:
        if self.steps > 2 * self._limit:
            self.broken_off = True
        on_limit, self._on_limit = self._on_limit, lambda: None
        on_limit()

    # The history

    @property
    def labels(self) -> list[str]:
        """The tasks' names as people are shown them, by number; unique."""
        plain = [name.rpartition(".")[2] if " " not in name else name for name in self.names]
        return [
            f"{name} {plain[: number + 1].count(name)}" if plain.count(name) > 1 else name
            for number, name in enumerate(plain)
        ]

    def number(self, task: trio.lowlevel.Task) -> int:
        """The number of a task that has run."""
        return self._numbers[task]

    def digest(self) -> str:
        """The history in 16 characters: which task ran when, and what was noted. The same in every process."""
        summed = hashlib.blake2b(self.order.tobytes(), digest_size=8)
        summed.update(repr((self.names, self.notes)).encode())
        return summed.hexdigest()


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
