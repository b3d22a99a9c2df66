"""`current_session()`: the session that a task works for, without handing it down; and what stands there without one.

A helper that is typed by the protocols takes a `Session`, a `NullSession`, whose calls do nothing, or what a test puts
in their place. What each member means is said once, where it is done: see `Session`, `Phase` and `ThreadTicker`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar, final, overload

import trio

from ..counting.counter import NullCounter
from ..state.guard import UNSET, Unset
from .thread_ticker import NullTicker
from .threaded_items import ThreadedItems

if TYPE_CHECKING:
    from ..protocol.snapshot import PhaseStatus, SessionStatus, Snapshot
    from ..state.pipeline import Pipeline
    from ..state.quantities import Number

T = TypeVar("T")

current: ContextVar[ProgressSession | None] = ContextVar("trio_progress_session", default=None)
"""Set while a session is open, in the task that opened it and in all that are started there."""


def current_session() -> ProgressSession:
    """The session that this task works for: the innermost one that was open where the task was started.

    Where there is none, a `NullSession` whose calls do nothing, so that code deep inside a pipeline can
    report its progress without asking whether anybody follows it.
    """
    session = current.get()
    return NULL_SESSION if session is None else session


class ProgressTicker(Protocol):
    """What counts on a phase from any thread: `ThreadTicker`, which tells what each call means, or `NullTicker`."""

    def advance(self, n: Number = 1) -> None: ...
    def update(
        self,
        *,
        done: Number | Unset = UNSET,
        total: Number | Unset | None = UNSET,
        message: str | Unset | None = UNSET,
    ) -> None: ...


class ProgressCounter(Protocol):
    """What counts on a phase from any process: `ProcessCounter`, which tells what each call means, or `NullCounter`."""

    @property
    def environment(self) -> dict[str, str]: ...
    def advance(self, n: Number = 1) -> None: ...
    def skip(self, n: Number = 1) -> None: ...
    def extend(self, n: Number) -> None: ...
    def increment(self, name: str, n: Number = 1) -> None: ...
    def update(self, *, total: Number | Unset | None = UNSET, message: str | Unset | None = UNSET) -> None: ...
    def job(self) -> AbstractContextManager[None]: ...


class ProgressPhase(Protocol):
    """A phase: `Phase`, which tells what each member means, or `NullPhase` where nobody follows."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def path(self) -> tuple[str, ...]: ...
    @property
    def status(self) -> PhaseStatus: ...
    @property
    def running(self) -> bool: ...
    @property
    def attempt(self) -> int: ...
    @property
    def done(self) -> float: ...
    @property
    def skipped(self) -> float: ...
    @property
    def total(self) -> float | None: ...
    @property
    def unit(self) -> str | None: ...
    @property
    def weight(self) -> float: ...
    @property
    def fraction(self) -> float | None: ...
    @property
    def rate(self) -> float | None: ...
    @property
    def eta(self) -> float | None: ...
    @property
    def message(self) -> str | None: ...
    @property
    def fields(self) -> dict[str, Any]: ...
    @property
    def phases(self) -> Mapping[str, ProgressPhase]: ...

    def advance(self, n: Number = 1) -> None: ...
    def skip(self, n: Number = 1) -> None: ...
    def extend(self, n: Number) -> None: ...
    def update(
        self,
        *,
        done: Number | Unset = UNSET,
        total: Number | Unset | None = UNSET,
        message: str | Unset | None = UNSET,
    ) -> None: ...
    def set(self, **fields: Any) -> None: ...
    def phase(
        self,
        name: str,
        *,
        total: float | Unset | None = UNSET,
        weight: float | None = None,
        title: str | None = None,
        unit: str | None = None,
        again: bool = False,
    ) -> AbstractContextManager[ProgressPhase, None]: ...
    @overload
    def track(self, items: Iterable[T]) -> Iterator[T]: ...
    @overload
    def track(self, items: AsyncIterable[T]) -> AsyncIterator[T]: ...
    def track(self, items: Iterable[T] | AsyncIterable[T]) -> Iterator[T] | AsyncIterator[T]: ...
    def track_threaded(self, items: Iterable[T], *, abandon_on_cancel: bool = False) -> AsyncIterator[T]: ...
    def from_thread(self) -> ProgressTicker: ...
    def from_processes(self) -> AbstractAsyncContextManager[ProgressCounter, None]: ...
    def tqdm(self) -> AbstractContextManager[None]: ...
    async def follow(
        self, session_id: str, *, weight: float | None = None, title: str | None = None, detach: bool = False
    ) -> Snapshot | None: ...
    def __enter__(self) -> Self: ...
    def __exit__(self, kind: Any, error: Any, traceback: Any, /) -> None: ...


class ProgressSession(Protocol):
    """A session: `Session`, which tells what each member means, or `NullSession` where nobody follows."""

    @property
    def id(self) -> str: ...
    @property
    def pipeline(self) -> Pipeline | None: ...
    @property
    def epoch(self) -> int: ...
    @property
    def attempt(self) -> int: ...
    @property
    def status(self) -> SessionStatus: ...
    @property
    def saved(self) -> Any: ...
    @property
    def phases(self) -> Mapping[str, ProgressPhase]: ...

    def phase(
        self,
        name: str,
        *,
        total: float | Unset | None = UNSET,
        weight: float | None = None,
        title: str | None = None,
        unit: str | None = None,
    ) -> AbstractContextManager[ProgressPhase, None]: ...
    def advance_to(
        self,
        name: str,
        *,
        total: float | Unset | None = UNSET,
        title: str | None = None,
        unit: str | None = None,
    ) -> ProgressPhase: ...
    def skip_phase(self, name: str, reason: str | None = None) -> None: ...
    def increment(self, name: str, n: Number = 1) -> None: ...
    def set(self, **fields: Any) -> None: ...
    def update(self, *, message: str | Unset | None = UNSET, title: str | Unset = UNSET) -> None: ...
    def emit(self, name: str, data: Any = None) -> None: ...
    def save(self, data: Any) -> None: ...
    def set_result(self, result: Any) -> None: ...
    def cancel(self, reason: str | None = None) -> None: ...
    def fail(self, reason: str, details: Mapping[str, Any] | None = None) -> None: ...
    def snapshot(self) -> Snapshot | None: ...
    async def flush(self) -> None: ...


class _Deaf:
    """What keeps nothing, not even what is assigned to it."""

    __slots__ = ()

    if not TYPE_CHECKING:  # Type checkers know without these that nothing is to be assigned.

        def __setattr__(self, name: str, value: object) -> None: ...
        def __delattr__(self, name: str) -> None: ...


@final
class NullPhase(_Deaf):
    """A phase that nobody follows."""

    __slots__ = ()

    # No `Final`: to type checkers that would be a constant of the class, which is no value of a phase.
    name: str = ""
    title: str = ""
    label: str = ""
    path: tuple[str, ...] = ()
    status: PhaseStatus = "running"
    running: bool = True
    attempt: int = 0
    done: float = 0
    skipped: float = 0
    total: float | None = None
    unit: str | None = None
    weight: float = 1.0
    fraction: float | None = None
    rate: float | None = None
    eta: float | None = None
    message: str | None = None

    def advance(self, n: Number = 1) -> None: ...
    def skip(self, n: Number = 1) -> None: ...
    def extend(self, n: Number) -> None: ...
    def update(self, *, done: object = None, total: object = None, message: object = None) -> None: ...
    def set(self, **fields: Any) -> None: ...

    @property
    def fields(self) -> dict[str, Any]:
        """None are kept."""
        return {}

    @property
    def phases(self) -> Mapping[str, NullPhase]:
        """Any by name."""
        return _NullPhases()

    def phase(self, name: str, **given: Any) -> NullPhase:
        """Another one like it."""
        return self

    @overload
    def track(self, items: Iterable[T]) -> Iterator[T]: ...
    @overload
    def track(self, items: AsyncIterable[T]) -> AsyncIterator[T]: ...
    def track(self, items: Iterable[T] | AsyncIterable[T]) -> Iterator[T] | AsyncIterator[T]:
        """The items."""
        return aiter(items) if isinstance(items, AsyncIterable) else iter(items)

    def track_threaded(self, items: Iterable[T], *, abandon_on_cancel: bool = False) -> AsyncIterator[T]:
        """The items, each waited for in a thread."""
        return ThreadedItems(items, abandon_on_cancel)

    def from_thread(self) -> NullTicker:
        """One that counts nothing."""
        return NullTicker()

    def from_processes(self) -> AbstractAsyncContextManager[NullCounter, None]:
        """A block whose counter counts nothing."""
        return nullcontext(NullCounter())

    def tqdm(self) -> AbstractContextManager[None]:
        """Leaves tqdm as it is."""
        return nullcontext()

    async def follow(self, session_id: str, **given: Any) -> None:
        """Follows nothing, and returns after a checkpoint; under another event loop than Trio's at once."""
        await _checkpoint()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


NULL_PHASE: Final = NullPhase()


class _NullPhases(Mapping[str, NullPhase]):
    """Any phase by name, for code that looks one up deep inside."""

    def __getitem__(self, name: str) -> NullPhase:
        return NULL_PHASE

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


@final
class NullSession(_Deaf):
    """A session that nobody follows."""

    __slots__ = ()

    id: str = ""
    epoch: int = 0
    attempt: int = 0
    saved: Any = None
    pipeline: Pipeline | None = None
    status: SessionStatus = "running"

    def skip_phase(self, name: str, reason: str | None = None) -> None: ...
    def increment(self, name: str, n: Number = 1) -> None: ...
    def set(self, **fields: Any) -> None: ...
    def update(self, *, message: object = None, title: object = None) -> None: ...
    def emit(self, name: str, data: Any = None) -> None: ...
    def save(self, data: Any) -> None: ...
    def set_result(self, result: Any) -> None: ...
    def cancel(self, reason: str | None = None) -> None: ...
    def fail(self, reason: str, details: Mapping[str, Any] | None = None) -> None: ...
    def snapshot(self) -> None: ...

    @property
    def phases(self) -> Mapping[str, NullPhase]:
        """A phase that does nothing for every name."""
        return _NullPhases()

    def phase(self, name: str, **given: Any) -> NullPhase:
        """A phase that does nothing."""
        return NULL_PHASE

    advance_to = phase

    async def flush(self) -> None:
        """Returns after a checkpoint; under another event loop than Trio's at once."""
        await _checkpoint()


async def _checkpoint() -> None:
    if trio.lowlevel.in_trio_task():
        await trio.lowlevel.checkpoint()


NULL_SESSION: Final = NullSession()
