"""What a scenario has left behind: tasks, threads, channels, sockets, files, sessions."""

from __future__ import annotations

import gc
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, final

import trio

from ..tracker import ProgressTracker

_IDLE: Final = "Trio thread"
"""How Trio names threads that wait for work, which it keeps for a while; those that work are "f from task"."""


@final
class Leftovers(trio.abc.Instrument):
    """Lists what each of several runs has left.

    Tasks and threads are counted within the run (`begin` and `end`). Other leftovers are the objects that still exist
    when the run is over (`outside`), and those whose warnings say that they were thrown away while open.
    """

    def __init__(self) -> None:
        self._tasks: dict[trio.lowlevel.Task, None] = {}
        self._threads: set[threading.Thread] = set()
        self._working = 0
        self.found: list[str] = []

    # Within the run

    def begin(self) -> None:
        """Call it when the scenario begins."""
        self._tasks.clear()
        self.found = []
        self._threads = set(threading.enumerate())
        self._working = trio.to_thread.current_default_thread_limiter().statistics().borrowed_tokens
        trio.lowlevel.add_instrument(self)

    def end(self) -> None:
        """Call it when the scenario has ended."""
        trio.lowlevel.remove_instrument(self)
        self.found += [f"the task {task.name!r} still runs" for task in self._tasks]
        self._tasks.clear()
        working = trio.to_thread.current_default_thread_limiter().statistics().borrowed_tokens - self._working
        if working > 0:
            self.found.append(f"{working} threads of `trio.to_thread` still work")
        self.found += [
            f"the thread {thread.name!r} still runs"
            for thread in threading.enumerate()
            if thread not in self._threads and thread.is_alive() and not _of_trio(thread)
        ]

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Remembers a new task."""
        self._tasks[task] = None

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Forgets a task that has ended."""
        self._tasks.pop(task, None)

    # After the run

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Around a run: adds to `found` what exists afterwards and did not before."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ResourceWarning)
            gc.freeze()  # What an earlier run has left is that one's.
            yield
            gc.collect()
            for thing in gc.get_objects():
                text = _open(thing)
                if text is not None:
                    self.found.append(text)
            del thing
        for warning in caught:
            if issubclass(warning.category, ResourceWarning):
                self.found.append(str(warning.message))
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


@contextmanager
def newcomers_only() -> Iterator[None]:
    """While this is open, the garbage collector looks only at objects that are new since then."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _of_trio(thread: threading.Thread) -> bool:
    """Whether it is one of those of `trio.to_thread`, which are counted by their limiter."""
    return thread.name.startswith(_IDLE) or " from " in thread.name


def _open(thing: Any) -> str | None:
    kind = type(thing)
    if kind is ProgressTracker:
        sessions = thing.statistics().sessions_open
        return f"{sessions} sessions of a tracker are still open" if sessions else None
    if kind is trio.MemorySendChannel or kind is trio.MemoryReceiveChannel:
        return None if thing._closed else f"a {kind.__name__} is still open: close it, best by `with`"
    if isinstance(thing, socket.socket):
        return f"a socket is still open: {thing!r}" if thing.fileno() >= 0 else None
    return None
