"""`ProcessCounter`: what worker processes count with."""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, final

from ..state import checks
from ..state.guard import UNSET, Unset
from ..state.limits import Limits
from ..telemetry.logs import log_event
from .layout import ADVANCED, EXTENDED, MESSAGE_BYTES, NAME_BYTES, SKIPPED

if TYPE_CHECKING:
    from ..state.quantities import Number
    from .slots import Slot, Slots

VARIABLE: Final = "TRIO_PROGRESS_COUNTER"
"""The environment variable that tells a program where to count."""

_ONE: Final = 1
_LIMITS: Final = Limits(text=NAME_BYTES // 4, message=MESSAGE_BYTES)
_WRONG: Final = (ValueError, TypeError)


class _Nowhere:
    """The place of a counter that has not counted yet in this process, or that comes too late."""

    local = None


_UNKNOWN: Final = _Nowhere()
_GONE: Final = _Nowhere()


@final
class ProcessCounter:
    """Counts on one phase from any process of this machine; from `async with phase.from_processes() as counter`.

    It goes through pickle, forks, and (by `environment`) to programs that are started, and may be used by any thread.
    No call waits for the parent. What a call has counted when it returns is never lost, whatever becomes of its
    process; the parent sees it within a quarter of a second. What comes after the block of `from_processes()` is late.
    """

    __slots__ = ("_path", "_place")

    def __init__(self, path: str) -> None:
        self._path = path
        self._place: Any = _UNKNOWN

    def __reduce__(self) -> tuple[type[ProcessCounter], tuple[str]]:
        return ProcessCounter, (self._path,)

    @property
    def environment(self) -> dict[str, str]:
        """What a program that is to count is started with: `env={**os.environ, **counter.environment}`."""
        return {VARIABLE: self._path}

    def advance(self, n: Number = 1) -> None:
        """Counts `n` more units as done; finite, at least 0.

        Raises:
            ValueError, TypeError: `n` is not a number of at least 0, and the session is strict.
            PermissionError: The file of counts belongs to another user.
        """
        # The form was measured, as in `Phase.advance()`. No other code runs within an addition: a signal handler may
        # count as well. Who has no cell goes the long way: a thread that has not counted yet, or one too late.
        try:
            if n is _ONE:
                self._place.local.cell[0] += 1.0
                return
            if (type(n) is int or type(n) is float) and 0 <= n < 9007199254740992:
                self._place.local.cell[0] += n
                return
        except AttributeError:
            pass
        self._add(ADVANCED, n)

    def skip(self, n: Number = 1) -> None:
        """Counts `n` units as done that needed no work, as on resuming: they are not in the rate.

        Raises:
            ValueError, TypeError: `n` is not a number of at least 0, and the session is strict.
            PermissionError: The file of counts belongs to another user.
        """
        self._add(SKIPPED, n)

    def extend(self, n: Number) -> None:
        """Adds `n` units to what there is to do. An indeterminate phase then knows: what is done, and `n` more.

        Raises:
            ValueError, TypeError: `n` is not a number of at least 0, and the session is strict.
            PermissionError: The file of counts belongs to another user.
        """
        self._add(EXTENDED, n)

    def increment(self, name: str, n: Number = 1) -> None:
        """Adds `n`, any finite number, to a counter of the session. Workers can name 13 counters on a phase.

        Raises:
            ValueError, TypeError: `n` is no finite number, or there are too many counters, and the session is strict.
            PermissionError: The file of counts belongs to another user.
        """
        slots = self._slots()
        if slots is None:
            return
        try:
            place = slots.counter(checks.name("a counter's name", name, _LIMITS))
            plain = checks.number("n", n, least=None)
        except _WRONG as error:
            _refuse(slots, error)
        else:
            slots.add(place, plain)

    def update(
        self,
        *,
        total: Number | Unset | None = UNSET,
        message: str | Unset | None = UNSET,
        done: object = UNSET,
    ) -> None:
        """Sets the message or the total; what is not given stays, and of several processes the newest wins.

        Args:
            total: How much there is to do; None: not known.
            message: What people are shown; at most 576 bytes of UTF-8, a longer one is cut.
            done: Is refused: `advance()` counts, and the counts of all processes add up.

        Raises:
            ValueError, TypeError: A value is out of range, or `done` was given, and the session is strict.
            PermissionError: The file of counts belongs to another user.
        """
        slots = self._slots()
        if slots is None:
            return
        try:
            if not isinstance(done, Unset):
                raise TypeError(
                    "update(done=...) is for one process: here several count on one phase. Use advance(), whose counts "
                    "add up, or set it in the parent"
                )
            if not isinstance(total, Unset) and total is not None:
                total = checks.number("total", total)
            if not isinstance(message, Unset):
                message = _cut(checks.message("message", message, _LIMITS))
        except _WRONG as error:
            _refuse(slots, error)
        else:
            slots.set(message, total)

    def job(self) -> AbstractContextManager[None]:
        """What this thread counts in its `with` block is taken back where the block does not return.

        So what a job has counted that is tried again, because it raised or its worker was killed, counts once. It is
        shown while the job runs. Jobs do not nest, and what several tasks of one thread count cannot be told apart.
        Messages and totals are not taken back. A worker that is killed after the block and before its result has
        reached the pool has counted.

        Raises:
            RuntimeError: When entering: a job of this thread is open.
            PermissionError: When entering: the file of counts belongs to another user.
        """
        return _Job(self)

    def _add(self, place: int, n: object) -> None:
        """The long way: the first count of a process, its further threads, and what is no plain number."""
        slots = self._slots()
        if slots is None:
            return
        try:
            plain = checks.number("n", n)
        except _WRONG as error:
            _refuse(slots, error)
        else:
            slots.add(place, plain)

    def _slots(self) -> Slots | None:
        """This process' way into the file; None: it comes too late, and counts into nothing."""
        place = self._place
        if place is _UNKNOWN:
            from .files import open_file

            place = self._place = open_file(self._path) or _GONE
        return None if place is _GONE else place

    def __repr__(self) -> str:
        return f"<ProcessCounter of {self._path}>"


@final
class _Job(AbstractContextManager[None]):
    """One entering of a job."""

    __slots__ = ("_counter", "_slot", "_slots")

    def __init__(self, counter: ProcessCounter) -> None:
        self._counter = counter
        self._slots: Slots | None = None
        self._slot: Slot | None = None

    def __enter__(self) -> None:
        self._slots = self._counter._slots()
        if self._slots is not None:
            self._slot = self._slots.begin_job()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._slots is not None:
            self._slots.end_job(self._slot, keep=error is None)


@final
class NullCounter:
    """Counts nothing, in any process."""

    __slots__ = ()

    environment: dict[str, str] = {}  # noqa: RUF012 - nothing is put into it

    def advance(self, n: Number = 1) -> None:
        """Does nothing."""

    def skip(self, n: Number = 1) -> None:
        """Does nothing."""

    def extend(self, n: Number) -> None:
        """Does nothing."""

    def increment(self, name: str, n: Number = 1) -> None:
        """Does nothing."""

    def update(self, *, total: object = None, message: object = None, done: object = None) -> None:
        """Does nothing."""

    def job(self) -> AbstractContextManager[None]:
        """A block in which nothing is counted."""
        return nullcontext()


def inherit() -> ProcessCounter | NullCounter:
    """The counter that this program was started with, by `counter.environment`; else one that counts nothing."""
    path = os.environ.get(VARIABLE)
    return ProcessCounter(path) if path else NullCounter()


def _refuse(slots: Slots, error: Exception) -> None:
    """Raises, or logs one of each kind where the session is not strict."""
    if slots.layout.strict:
        raise error
    kind = type(error)
    if kind not in _logged:
        _logged.add(kind)
        log_event(logging.WARNING, "call_dropped", "a call of a worker was dropped: %s", error, reason=error)


_logged: Final[set[type[Exception]]] = set()


def _cut(message: str | None) -> str | None:
    """The message within the bytes that there are for it."""
    if message is None or len(message) * 4 <= MESSAGE_BYTES:
        return message
    data = message.encode()
    if len(data) <= MESSAGE_BYTES:
        return message
    return data[: MESSAGE_BYTES - 3].decode(errors="ignore") + "…"
