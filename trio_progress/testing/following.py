"""Follows a schedule that was given, as far as it fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from .schedule import Block, Cancels, TimePasses
from .timeline import place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import trio

    from .schedule import Entry
    from .scheduler import Scheduler

    Task = trio.lowlevel.Task


@final
class Follow:
    """The source of a schedule that is written down.

    One task runs in a pass. A block whose task cannot run ends early; after the last entry who ran last goes on,
    else the oldest.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)
        self._todo = [*reversed(self.entries)]
        self._left: int | None = 0
        self._ran = False
        self._block: Block | None = None
        self._last: Task | None = None
        self._name: Callable[[Task], str] = repr
        self.preemptions = 0
        """How often a task had to stop that could have gone on."""
        self.misfits: list[Entry] = []
        """Entries that could not be followed to their end."""
        self.places: list[str] = []
        """Where each task stood that had to stop because its number of steps was over."""

    @property
    def fits(self) -> bool:
        """Whether all of it was followed."""
        return not self.misfits and not self._todo

    def begin(self, scheduler: Scheduler) -> None:
        """The schedule begins."""
        self._name = scheduler.name_of

    def cancels(self, scopes: Sequence[str]) -> str | None:
        """The scope that is cancelled now."""
        entry = self._next()
        if not isinstance(entry, Cancels):
            return None
        self._todo.pop()
        if entry.scope in scopes:
            return entry.scope
        self.misfits.append(entry)
        return None

    def passes(self, to_deadline: Callable[[], float], left: float) -> float:
        """The seconds that pass now."""
        entry = self._next()
        if not isinstance(entry, TimePasses):
            if isinstance(entry, Cancels):  # No scope is open, or this had been asked for before.
                self.misfits.append(self._todo.pop())
            return 0.0
        self._todo.pop()
        seconds = to_deadline() if entry.seconds is None else entry.seconds
        if 0 < seconds < left:
            return seconds
        self.misfits.append(entry)
        return 0.0

    def choose(self, able: list[Task]) -> list[Task]:
        """The one that the schedule says; none where something else is to happen before."""
        task = self._planned({self._name(task): task for task in able})
        if task is None and self._todo:
            return []  # First what happens between two blocks, of which the scheduler asks before it asks who runs.
        if task is None:
            task = self._last if self._last in able else able[0]
        if self._last is not task and self._last in able:
            self.preemptions += 1
        self._last = task
        return [task]

    def _next(self) -> Entry | None:
        """The entry that is next, where no block is under way."""
        if self._block is not None and self._left != 0:
            return None
        return self._todo[-1] if self._todo else None

    def _planned(self, able: dict[str, Task]) -> Task | None:
        while True:
            block = self._block
            if block is not None and self._left != 0:
                task = able.get(block.task)
                if task is not None:
                    self._ran = True
                    if self._left is not None:
                        self._left -= 1
                    return task
                if self._left is not None or not self._ran:
                    self.misfits.append(block)
            if block is not None and block.steps is not None and self._left == 0 and self._last is not None:
                self.places.append(place_of(self._last))
                if block.place not in ("", self.places[-1]):
                    self.misfits.append(block)
            self._block = None
            if not self._todo or not isinstance(self._todo[-1], Block):
                return None
            following = self._todo.pop()
            assert isinstance(following, Block)
            self._block, self._left, self._ran = following, following.steps, False
