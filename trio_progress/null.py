"""What `current_session()` gives where there is no session: the same calls, which do nothing."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import Any, Final, Self, TypeVar, final, overload

import trio

from .state.quantities import Number
from .state.snapshot import PhaseStatus, SessionStatus

T = TypeVar("T")


@final
class NullTicker:
    """Counts nothing, from any thread."""

    __slots__ = ()

    def advance(self, n: Number = 1) -> None:
        """Does nothing."""

    def update(self, *, done: object = None, total: object = None, message: object = None) -> None:
        """Does nothing."""


@final
class NullPhase:
    """A phase that nobody follows."""

    __slots__ = ()

    name: Final = ""
    title: Final = ""
    label: Final = ""
    path: Final[tuple[str, ...]] = ()
    attempt: Final = 0
    done: Final = 0
    skipped: Final = 0
    total: Final = None
    unit: Final = None
    weight: Final = 1.0
    fraction: Final = None
    rate: Final = None
    eta: Final = None
    message: Final = None
    running: Final = True

    @property
    def status(self) -> PhaseStatus:
        """Always "running": there is nothing that it could be late for."""
        return "running"

    @property
    def fields(self) -> dict[str, Any]:
        """None are kept."""
        return {}

    @property
    def children(self) -> dict[str, Any]:
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
class NullSession:
    """A session that nobody follows."""

    __slots__ = ()

    id: Final = ""
    epoch: Final = 0
    attempt: Final = 0
    saved: Final = None
    pipeline: Final = None

    @property
    def status(self) -> SessionStatus:
        """Always "running"."""
        return "running"

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
        """Returns after a checkpoint."""
        await trio.lowlevel.checkpoint()


NULL_SESSION: Final = NullSession()
