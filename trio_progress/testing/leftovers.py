"""What a scenario has left behind: tasks, threads, channels, streams, files, generators, locks, tokens, sessions."""

from __future__ import annotations

import gc
import io
import socket
import threading
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple, final

import trio
import trio._core._run as trio_run
import trio.testing

from ..tracker import ProgressTracker

_IDLE: Final = "Trio thread"
"""How Trio names threads that wait for work, which it keeps for a while; those that work are "f from task"."""

KINDS: Final = (
    "task",
    "thread",
    "session",
    "channel",
    "stream",
    "socket",
    "file",
    "generator",
    "lock",
    "token",
    "slot",
    "warning",
)
"""By which leftovers can be allowed."""


class Leftover(NamedTuple):
    """One thing that was left."""

    kind: str
    text: str

    def allowed(self, ignore: Sequence[str]) -> bool:
        """Whether it is of a kind that is allowed, or its text is."""
        return any(self.kind == allowed or fnmatchcase(self.text, allowed) for allowed in ignore)


@final
class Leftovers(trio.abc.Instrument):
    """Lists what each of several runs has left.

    Tasks, threads and async generators are looked at within the run (`begin` and `end`). Other leftovers are the
    objects that still exist when the run is over (`outside`), and those whose warnings say that they were thrown away
    while open.
    """

    def __init__(self, ignore: Sequence[str] = ()) -> None:
        self._ignore = ignore
        self._tasks: dict[trio.lowlevel.Task, None] = {}
        self._threads: set[threading.Thread] = set()
        self._generators: set[int] = set()
        self._default_limiter: trio.CapacityLimiter | None = None
        self._working = 0
        self._found: list[Leftover] = []

    @property
    def found(self) -> list[str]:
        """What was left and is not allowed."""
        return [left.text for left in self._found if not left.allowed(self._ignore)]

    # Within the run

    def begin(self) -> None:
        """Call it when the scenario begins."""
        self._tasks.clear()
        self._found = []
        self._threads = set(threading.enumerate())
        self._default_limiter = trio.to_thread.current_default_thread_limiter()
        self._working = self._default_limiter.statistics().borrowed_tokens
        self._generators = {id(generator) for generator in _suspended_generators()}
        trio.lowlevel.add_instrument(self)

    def end(self) -> None:
        """Call it when the scenario has ended."""
        trio.lowlevel.remove_instrument(self)
        self._found += [Leftover("task", f"the task {task.name!r} still runs") for task in self._tasks]
        self._tasks.clear()
        assert self._default_limiter is not None
        working = self._default_limiter.statistics().borrowed_tokens - self._working
        if working > 0:
            self._found.append(Leftover("thread", f"{working} threads of `trio.to_thread` still work"))
        self._found += [
            Leftover("thread", f"the thread {thread.name!r} still runs")
            for thread in threading.enumerate()
            if thread not in self._threads and thread.is_alive() and not _of_trio(thread)
        ]
        self._found += [
            Leftover(
                "generator",
                f"the async generator {generator.__qualname__!r} is suspended: close it, best by `contextlib.aclosing`",
            )
            for generator in _suspended_generators()
            if id(generator) not in self._generators
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
                left = None if thing is self._default_limiter else _open(thing)
                if left is not None:
                    self._found.append(left)
            del thing
        for warning in caught:
            if issubclass(warning.category, ResourceWarning):
                self._found.append(Leftover("warning", str(warning.message)))
            else:
                warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


@contextmanager
def newcomers_only() -> Iterator[None]:
    """While this is open, the garbage collector looks only at objects that are new since then.

    Who has frozen objects of their own keeps them so, and ours with them: all that is frozen can only thaw together.
    """
    frozen = gc.get_freeze_count() > 0
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()


def _of_trio(thread: threading.Thread) -> bool:
    """Whether it is one of those of `trio.to_thread`, which are counted by their limiter."""
    return thread.name.startswith(_IDLE) or " from " in thread.name


def _suspended_generators() -> list[types.AsyncGeneratorType[Any, Any]]:
    """Those that have begun and are not over; Trio knows all that were iterated, and finalizes them after the run."""
    alive = trio_run.GLOBAL_RUN_CONTEXT.runner.asyncgens.alive
    return [generator for generator in list(alive) if generator.ag_frame is not None]


def _open(thing: Any) -> Leftover | None:
    looks: Callable[[Any], Leftover | None] | None = _LOOKS.get(type(thing))
    if looks is not None:
        return looks(thing)
    if isinstance(thing, socket.socket):
        return Leftover("socket", f"a socket is still open: {thing!r}") if thing.fileno() >= 0 else None
    if isinstance(thing, io.FileIO):
        return None if thing.closed else Leftover("file", f"a file is still open: {thing.name!r}")
    if type(thing).__name__ == "AsyncConnectionPool" and isinstance(getattr(thing, "_requests", None), list):
        requests = len(thing._requests)
        return Leftover("slot", f"{requests} requests still have or want a slot of a pool") if requests else None
    return None


def _sessions(thing: ProgressTracker) -> Leftover | None:
    sessions = thing.statistics().sessions_open
    return Leftover("session", f"{sessions} sessions of a tracker are still open") if sessions else None


def _channel(thing: Any) -> Leftover | None:
    if thing._closed:
        return None
    return Leftover("channel", f"a {type(thing).__name__} is still open: close it, best by `with`")


def _stream(thing: Any) -> Leftover | None:
    closed = thing._outgoing._closed if isinstance(thing, trio.testing.MemorySendStream) else thing._closed
    return (
        None if closed else Leftover("stream", f"a {type(thing).__name__} is still open: close it, or the pair's end")
    )


def _lock(thing: Any) -> Leftover | None:
    owner = thing.statistics().owner
    return None if owner is None else Leftover("lock", f"a {type(thing).__name__} is still held by {owner.name!r}")


def _semaphore(thing: trio.Semaphore) -> Leftover | None:
    most = thing.max_value
    taken = 0 if most is None else most - thing.value
    return Leftover("token", f"{taken} of {most} of a Semaphore are still taken") if taken else None


def _limiter(thing: trio.CapacityLimiter) -> Leftover | None:
    taken = thing.borrowed_tokens
    return Leftover("token", f"{taken} tokens of a CapacityLimiter are still borrowed") if taken else None


_LOOKS: Final[dict[type, Any]] = {
    ProgressTracker: _sessions,
    trio.MemorySendChannel: _channel,
    trio.MemoryReceiveChannel: _channel,
    trio.testing.MemorySendStream: _stream,
    trio.testing.MemoryReceiveStream: _stream,
    trio.Lock: _lock,
    trio.StrictFIFOLock: _lock,
    trio.Semaphore: _semaphore,
    trio.CapacityLimiter: _limiter,
}
