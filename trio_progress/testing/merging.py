"""A state between two steps: two schedules that have led to one go on alike, whatever was before.

1. The state is what the live tasks can reach, see `reaching`, and who can run and who ran last.
2. Tasks of one kind, which run the same function, are interchangeable: states in which two of them have changed places
   are equal. Which kinds are how old is part of the state, for by age the default order chooses.
3. So a step is more than its state: who makes it. `View.step()` names it as it is seen from that task, by which equal
   tasks that could be chosen are one choice. Whom the default order would choose depends on the ages; a task that
   would be chosen if those of its kind had changed places costs nothing, so that no order is lost.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, final

import trio

from .module_values import ModuleValues
from .reaching import Walk

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .scheduler import Scheduler


@final
class States:
    """Makes digests of states, and remembers what it could not see."""

    def __init__(self) -> None:
        self.unseen: set[str] = set()
        """Types of objects into which it could not see."""
        self.modules = ModuleValues()
        self.by_name = False
        """Whether tasks are told apart by their names, because they draw random numbers by these."""

    def view(self, scheduler: Scheduler, able: Iterable[trio.lowlevel.Task], last: trio.lowlevel.Task | None) -> View:
        """The state between two steps."""
        return View(self, scheduler, set(able), last)

    def sentence(self) -> str:
        """What the state is made of, and what it could not see."""
        names = sorted(self.modules.names)
        modules = f" and what {', '.join(names)} change at module level" if names else ""
        blind = f"it could not see into {', '.join(sorted(self.unseen))}" if self.unseen else "it saw into all of these"
        return (
            f"the state is what the tasks' frames reach, `shared()`{modules}; {blind}, and it does not know what "
            "libraries hold at module level"
        )


@final
class View:
    """The state between two steps: as a whole, and as it is seen from who makes the next one."""

    def __init__(
        self, states: States, scheduler: Scheduler, able: set[trio.lowlevel.Task], last: trio.lowlevel.Task | None
    ) -> None:
        self._states = states
        self._scheduler = scheduler
        self._able = able
        self._alone: dict[trio.lowlevel.Task, bytes] = {}
        self._live = scheduler.live()
        may_wake = scheduler.clock_can_wake or scheduler.can_cancel
        self._last = last if last in able or (last in self._live and may_wake) else None
        """Who ran last, if it can go on; where time may pass or something be cancelled, it may be able to later."""
        self._kinds = {task: scheduler.name_of(task) if states.by_name else task.name for task in self._live}
        self._alike = Counter(self._kinds[task] for task in able)
        self._whole = self._walk(self._last)
        self.state = self._whole.digest()

    def step(self, task: trio.lowlevel.Task) -> bytes:
        """The state, and that this task makes a step in it."""
        if self._alike[self._kinds[task]] == 1:
            return b"%b %d" % (self.state, self._whole.names[task])
        return self._walk(task).digest()

    def cancel(self, scope: trio.CancelScope) -> bytes | None:
        """The state, and that this scope is cancelled in it; None where the scope was not met."""
        number = self._whole.met.get(id(scope))
        return None if number is None else b"%b cancel %d" % (self.state, number)

    def by_default(self) -> set[trio.lowlevel.Task]:
        """Whom the default order chooses, or would choose if tasks of a kind had changed places."""
        if self._last in self._able:
            return self._able & {self._last}
        ages: dict[str, list[int]] = {}
        for age, task in enumerate(self._live):
            ages.setdefault(self._kinds[task], []).append(age)
        # A task is the oldest of those that can run where the others of them are the youngest of their kinds.
        youngest = {kind: ages[kind][-count] for kind, count in self._alike.items()}
        return {
            task
            for task in self._able
            if all(ages[self._kinds[task]][0] < age for kind, age in youngest.items() if kind != self._kinds[task])
        }

    def _walk(self, first: trio.lowlevel.Task | None) -> Walk:
        scheduler = self._scheduler
        visit = Walk(
            scheduler,
            self._kinds,
            self._able,
            self._last,
            self._states.modules,
            self._states.unseen,
            self._alone,
        )
        visit.out.append(([*self._kinds.values()], trio.current_time(), scheduler.left, hash(random.getstate())))
        visit.tasks(first)
        visit.out.append(("last", None if self._last is None else visit.names[self._last]))
        for thing in scheduler.shared_values():
            visit.thing(thing)
        return visit
