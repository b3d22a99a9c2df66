"""What `current_session()` gives where there is no session: the same calls, which do nothing."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, final, overload

import trio

if TYPE_CHECKING:
    from ..protocol.snapshot import PhaseStatus, SessionStatus
    from ..state.pipeline import Pipeline
    from ..state.quantities import Number

T = TypeVar("T")


class _Deaf:
    """What keeps nothing, not even what is assigned to it."""

    __slots__ = ()

    if not TYPE_CHECKING:  # Type checkers know without these that nothing is to be assigned.

        def __setattr__(self, name: str, value: object) -> None:
            """Does nothing."""

        def __delattr__(self, name: str) -> None:
            """Does nothing."""


@final
class NullTicker:
    """Counts nothing, from any thread."""

    __slots__ = ()

    def advance(self, n: Number = 1) -> None:
        """Does nothing."""

    def update(self, *, done: object = None, total: object = None, message: object = None) -> None:
        """Does nothing."""


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

    @property
    def fields(self) -> dict[str, Any]:
        """None are kept."""
        return {}

    @property
    def phases(self) -> Mapping[str, NullPhase]:
        """Any by name."""
        return _NullPhases()

    def advance(self, n: Number = 1) -> None:
        """Does nothing."""

    def skip(self, n: Number = 1) -> None:
        """Does nothing."""

    def extend(self, n: Number) -> None:
        """Does nothing."""

    def update(self, *, done: object = None, total: object = None, message: object = None) -> None:
        """Does nothing."""

    def set(self, **fields: Any) -> None:
        """Does nothing."""

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

    def from_thread(self) -> NullTicker:
        """One that counts nothing."""
        return NullTicker()

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

    @property
    def phases(self) -> Mapping[str, NullPhase]:
        """A phase that does nothing for every name."""
        return _NullPhases()

    def phase(self, name: str, **given: Any) -> NullPhase:
        """A phase that does nothing."""
        return NULL_PHASE

    def advance_to(self, name: str, **given: Any) -> NullPhase:
        """A phase that does nothing."""
        return NULL_PHASE

    def skip_phase(self, name: str, reason: str | None = None) -> None:
        """Does nothing."""

    def increment(self, name: str, n: Number = 1) -> None:
        """Does nothing."""

    def set(self, **fields: Any) -> None:
        """Does nothing."""

    def update(self, *, message: object = None, title: object = None) -> None:
        """Does nothing."""

    def emit(self, name: str, data: Any = None) -> None:
        """Does nothing."""

    def save(self, data: Any) -> None:
        """Does nothing."""

    def set_result(self, result: Any) -> None:
        """Does nothing."""

    def cancel(self, reason: str | None = None) -> None:
        """Does nothing: there is no session to end."""

    def fail(self, reason: str, details: Mapping[str, Any] | None = None) -> None:
        """Does nothing."""

    def snapshot(self) -> None:
        """None: there is nothing to see."""
        return

    async def flush(self) -> None:
        """Returns after a checkpoint; under another event loop than Trio's at once."""
        if trio.lowlevel.in_trio_task():
            await trio.lowlevel.checkpoint()


NULL_SESSION: Final = NullSession()
