"""What code without an event loop holds of its session: the calls of `Session` and `Phase`, each of which may block.

Each call is made in the event loop of the session's thread, and returns when it has been made there; counting alone
does not wait. All of it may be called by any thread of the process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, final

import trio

from ..errors import SessionCancelledError, SessionClosedError
from ..session.one_process import OneProcess
from ..state.guard import UNSET, Unset
from ..state.loops import length_of
from .loop import LoopThread

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from ..counting.counter import NullCounter, ProcessCounter
    from ..protocol.snapshot import PhaseStatus, SessionStatus, Snapshot
    from ..session.phase import Phase, PhaseScope
    from ..session.session import Session
    from ..session.thread_ticker import NullTicker, ThreadTicker
    from ..state.quantities import Number

T = TypeVar("T")


@final
class BlockingPhase(OneProcess):
    """A phase as code without an event loop holds it. What each call means is said at `Phase`.

    Where the session was cancelled, `track()`, `phase()` and `from_processes()` raise `SessionCancelledError`, which
    ends the session's block quietly; what only counts or sets changes nothing then.
    """

    __slots__ = ("_loop", "_phase", "_sums", "_ticker")

    def __init__(self, loop: LoopThread, phase: Phase) -> None:
        self._loop = loop
        self._phase = phase
        self._ticker: ThreadTicker | NullTicker = loop.call(phase.from_thread)
        self._sums = phase.total is None
        """Whether the lengths of loops add up to the total."""

    # Counting

    def advance(self, n: Number = 1) -> None:
        """Counts `n` more units as done; finite, at least 0. Does not wait.

        Raises:
            ValueError, TypeError: `n` is not a number of at least 0.
        """
        self._ticker.advance(n)

    def update(
        self,
        *,
        done: Number | Unset = UNSET,
        total: Number | Unset | None = UNSET,
        message: str | Unset | None = UNSET,
    ) -> None:
        """Sets absolute values; what is not given stays. Does not wait.

        Raises:
            ValueError, TypeError: A value is out of range; nothing was changed.
        """
        self._ticker.update(done=done, total=total, message=message)

    def skip(self, n: Number = 1) -> None:
        """Counts `n` units as done that needed no work.

        Raises:
            ValueError, TypeError: `n` is not a number of at least 0.
        """
        self._set(self._phase.skip, n)

    def extend(self, n: Number) -> None:
        """Adds `n` units to what there is to do.

        Raises:
            ValueError, TypeError: `n` is not a number of at least 0.
        """
        self._set(self._phase.extend, n)

    def set(self, **fields: Any) -> None:
        """Sets fields.

        Raises:
            ValueError, TypeError: A value is no JSON data or too large, or there are too many fields.
        """
        self._set(lambda: self._phase.set(**fields))

    def _set(self, function: Any, *args: Any) -> None:
        with suppress(SessionClosedError, SessionCancelledError):  # Late, and so of no matter.
            self._loop.call(function, *args)

    def track(self, items: Iterable[T]) -> Iterator[T]:
        """Iterates over `items` and counts each once its body is done.

        Where the phase has no total, the lengths of its loops add up to one, as far as they have one.

        Raises:
            SessionCancelledError: At an item: the session was cancelled.
        """
        length = length_of(items)
        if self._sums and length is not None:
            self.extend(length)
        for item in items:
            self._loop.check_cancelled()
            yield item
            self.advance()

    def from_thread(self) -> BlockingPhase:
        """Itself: its calls may be made by any thread."""
        return self

    @contextmanager
    def from_processes(self) -> Iterator[ProcessCounter | NullCounter]:
        """`with phase.from_processes() as counter`: the counter works in any process of this machine.

        Raises:
            PhaseError, OSError: As at `Phase.from_processes()`.
            SessionCancelledError: The session was cancelled.
        """
        manager: AbstractAsyncContextManager[ProcessCounter | NullCounter] = self._phase.from_processes()
        counter, leave = self._loop.enter(manager)
        try:
            yield counter
        finally:
            with suppress(SessionClosedError, SessionCancelledError):  # It was left when the session ended.
                leave()

    # Children, and how it stands

    def phase(
        self,
        name: str,
        *,
        total: float | Unset | None = UNSET,
        weight: float | None = None,
        title: str | None = None,
        unit: str | None = None,
        again: bool = False,
    ) -> AbstractContextManager[BlockingPhase]:
        """A child phase, to be entered by `with`; see `Phase.phase()`.

        Raises:
            ValueError, TypeError, PhaseError: A value is out of range; nothing was changed.
            SessionCancelledError: The session was cancelled.
        """
        given = {"total": total, "weight": weight, "title": title, "unit": unit, "again": again}
        return _BlockingScope(self._loop, self._loop.call(lambda: self._phase.phase(name, **given)))  # type: ignore[arg-type]

    @property
    def name(self) -> str:
        """Its name, unique among its siblings."""
        return self._phase.name

    @property
    def status(self) -> PhaseStatus:
        """How it stands."""
        return self._phase.status

    @property
    def done(self) -> float:
        """Units that are done, with all that this process has counted; of others, see `from_processes()`."""
        return self._loop.read(getattr, self._phase, "done")  # type: ignore[no-any-return]

    @property
    def total(self) -> float | None:
        """Units that there are to do; None: not known."""
        return self._phase.total

    def __repr__(self) -> str:
        return repr(self._phase)


@final
class _BlockingScope(OneProcess, AbstractContextManager[BlockingPhase]):
    """A phase that begins when it is entered."""

    __slots__ = ("_loop", "_scope")

    def __init__(self, loop: LoopThread, scope: PhaseScope) -> None:
        self._loop = loop
        self._scope = scope

    def __enter__(self) -> BlockingPhase:
        return BlockingPhase(self._loop, self._loop.call(self._scope.__enter__))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(SessionClosedError, SessionCancelledError):  # It ended with the session.
            self._loop.call(self._scope.__exit__, kind, error, traceback)


@final
class BlockingSession(OneProcess):
    """A session as code without an event loop holds it. What each call means is said at `Session`.

    Where it was cancelled, from here or elsewhere, the code in its block goes on until it calls something that raises
    `SessionCancelledError`: `check_cancelled()`, `phase.track()` and each call of the session that would change it or
    wait do. Coming out of the block, that ends it quietly.
    """

    __slots__ = ("_loop",)

    def __init__(self, loop: LoopThread) -> None:
        self._loop = loop

    @property
    def _session(self) -> Session:
        return self._loop.session

    @property
    def id(self) -> str:
        """The session's id."""
        return self._session.id

    @property
    def epoch(self) -> int:
        """The number of this ownership."""
        return self._session.epoch

    @property
    def attempt(self) -> int:
        """1, and one more for each time that the session was resumed."""
        return self._session.attempt

    @property
    def status(self) -> SessionStatus:
        """How it stands, or how it ended."""
        return self._session.status

    @property
    def saved(self) -> Any:
        """A copy of what was saved last, by this attempt or the one that it goes on from; None: nothing."""
        return self._session.saved

    def snapshot(self) -> Snapshot:
        """The session as it is now, or as it ended."""
        return self._loop.read(self._session.snapshot)

    def check_cancelled(self) -> None:
        """Raises `SessionCancelledError` where the session was cancelled; does not wait."""
        self._loop.check_cancelled()

    def phase(
        self,
        name: str,
        *,
        total: float | Unset | None = UNSET,
        weight: float | None = None,
        title: str | None = None,
        unit: str | None = None,
    ) -> AbstractContextManager[BlockingPhase]:
        """A phase, to be entered by `with`; see `Session.phase()`.

        Raises:
            ValueError, TypeError, PhaseError: A value is out of range, or the phase is unknown.
            SessionCancelledError: The session was cancelled.
        """
        given = {"total": total, "weight": weight, "title": title, "unit": unit}
        return _BlockingScope(self._loop, self._loop.call(lambda: self._session.phase(name, **given)))  # type: ignore[arg-type]

    def advance_to(
        self, name: str, *, total: float | Unset | None = UNSET, title: str | None = None, unit: str | None = None
    ) -> BlockingPhase:
        """Hands over to the phase `name`, in one step; see `Session.advance_to()`.

        Raises:
            ValueError, TypeError, PhaseError: A value is out of range, or the phase is unknown.
            SessionCancelledError: The session was cancelled.
        """
        return BlockingPhase(
            self._loop, self._loop.call(lambda: self._session.advance_to(name, total=total, title=title, unit=unit))
        )

    def skip_phase(self, name: str, reason: str | None = None) -> None:
        """Marks a phase as not to be worked on; it counts as done."""
        self._loop.call(self._session.skip_phase, name, reason)

    def increment(self, name: str, n: Number = 1) -> None:
        """Adds `n`, any finite number, to a counter."""
        self._loop.call(self._session.increment, name, n)

    def set(self, **fields: Any) -> None:
        """Sets fields."""
        self._loop.call(lambda: self._session.set(**fields))

    def update(self, *, message: str | Unset | None = UNSET, title: str | Unset = UNSET) -> None:
        """Sets the message or the title that people are shown; what is not given stays."""
        self._loop.call(lambda: self._session.update(message=message, title=title))

    def emit(self, name: str, data: Any = None) -> None:
        """Logs a custom event with JSON data."""
        self._loop.call(self._session.emit, name, data)

    def save(self, data: Any) -> None:
        """Keeps JSON data for a later attempt."""
        self._loop.call(self._session.save, data)

    def set_result(self, result: Any) -> None:
        """Sets what the work came to, as JSON data."""
        self._loop.call(self._session.set_result, result)

    def cancel(self, reason: str | None = None) -> None:
        """Cancels the session; see above for where the code in its block notices."""
        self._loop.call(self._session.cancel, reason)

    def fail(self, reason: str, details: Mapping[str, Any] | None = None) -> None:
        """Says that the session has failed, for an error that was caught; does not cancel."""
        self._loop.call(self._session.fail, reason, details)

    def flush(self) -> None:
        """Waits until the store holds all that was said so far.

        Raises:
            FencedError: Another owner has taken the session over.
            SessionCancelledError: The session was cancelled.
        """
        self._loop.wait(self._session.flush)

    def __repr__(self) -> str:
        return repr(self._session)


@final
class BlockingProgress(AbstractContextManager[BlockingSession, bool | None]):
    """The block of `blocking.progress()`."""

    __slots__ = ("_call", "_loop")

    def __init__(self, call: str, loop: LoopThread) -> None:
        self._call = call
        self._loop = loop

    def __enter__(self) -> BlockingSession:
        if trio.lowlevel.in_trio_task():
            raise RuntimeError(f"{self._call} would block the event loop: use `async with open_progress(...)`")
        self._loop.start()
        return BlockingSession(self._loop)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return self._loop.leave(error)

    async def __aenter__(self) -> NoReturn:
        raise TypeError(f"use `with {self._call}`, not `async with`: it is for code without an event loop")

    async def __aexit__(self, *_: object) -> None:
        raise AssertionError("never entered")
