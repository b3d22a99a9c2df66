"""What belongs to one process: it is not pickled, and a copy of it in a forked process is told that it is one."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Final, NoReturn
from weakref import WeakSet


def end_forked(what: str, error: BaseException | None) -> NoReturn:
    """Ends this process, which was forked in the middle of an event loop and now leaves a block of the parent's.

    It has the parent's loop without its threads: what it waited for would not come, and would take away what
    wakes up the parent. So it ends as a process of `multiprocessing` does, with nothing cleaned up but its output.

    Args:
        what: Whose block is left.
        error: What has come out of it; of a `SystemExit` it is the code that the process ends with.
    """
    code: object = 1
    if isinstance(error, SystemExit):
        code = 0 if error.code is None else error.code
    elif error is not None:
        traceback.print_exception(error)
    if not isinstance(code, int) or not isinstance(error, SystemExit):
        why = code if isinstance(error, SystemExit) else "end a forked process by os._exit(), or use multiprocessing"
        print(f"process {os.getpid()} was forked within {what}, and ends here: {why}", file=sys.stderr)  # noqa: T201
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            pass
    os._exit(code)


class OneProcess:
    """What is good in its own process only: pickling or copying it says so, and what to do instead."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled or copied: it belongs to process {os.getpid()}, and counts do "
            "not travel between processes. Send the worker the counter of `async with phase.from_processes()`, or "
            "plain values, and count here what it returns by the results of your pool or a queue"
        )


class ToldOfForks(OneProcess):
    """What learns that the process which it is in now was forked from its own."""

    __slots__ = ("__weakref__", "_foreign", "_process")

    def __init__(self) -> None:
        self._process = os.getpid()
        self._foreign = False
        """Whether this is a copy, in a process that was forked meanwhile."""
        _OPEN.add(self)

    def _forked(self) -> None:
        """Called in the child of a fork, once. Must not wait: the locks of other threads are never released here."""
        self._foreign = True


_OPEN: Final[WeakSet[ToldOfForks]] = WeakSet()


def _after_fork() -> None:
    for thing in list(_OPEN):
        thing._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
