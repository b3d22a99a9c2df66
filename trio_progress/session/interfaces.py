"""What a session and the null one have in common, for the types of code that is given either of them.

`current_session()` gives a `ProgressSession`. A helper that is typed by these takes a `Session`, a
`NullSession`, or what a test puts in their place.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, overload

from ..state.guard import UNSET, Unset

if TYPE_CHECKING:
    from ..protocol.snapshot import PhaseStatus, SessionStatus, Snapshot
    from ..state.pipeline import Pipeline
    from ..state.quantities import Number

T = TypeVar("T")


class ProgressTicker(Protocol):
    """What counts on a phase from any thread: `ThreadTicker`, or one that does nothing."""

    def advance(self, n: Number = 1) -> None:
        """Counts `n` more units as done."""
        ...

    def update(
        self,
        *,
        done: Number | Unset = UNSET,
        total: Number | Unset | None = UNSET,
        message: str | Unset | None = UNSET,
    ) -> None:
        """Sets absolute values; what is not given stays."""
        ...


class ProgressPhase(Protocol):
    """A phase: `Phase`, or `NullPhase` where nobody follows. Values are read-only; `update()` sets them."""

    @property
    def name(self) -> str:
        """Its name, unique among its siblings."""
        ...

    @property
    def title(self) -> str:
        """What people are shown."""
        ...

    @property
    def label(self) -> str:
        """The names down to it, as one text."""
        ...

    @property
    def path(self) -> tuple[str, ...]:
        """The names down to it."""
        ...

    @property
    def status(self) -> PhaseStatus:
        """How it stands, or how it ended."""
        ...

    @property
    def running(self) -> bool:
        """Whether it has begun and not ended."""
        ...

    @property
    def attempt(self) -> int:
        """How often it was entered."""
        ...

    @property
    def done(self) -> float:
        """Units that are done, those that needed no work among them."""
        ...

    @property
    def skipped(self) -> float:
        """Units that needed no work."""
        ...

    @property
    def total(self) -> float | None:
        """Units that there are to do; None: not known."""
        ...

    @property
    def unit(self) -> str | None:
        """What is counted."""
        ...

    @property
    def weight(self) -> float:
        """Its share among its siblings."""
        ...

    @property
    def fraction(self) -> float | None:
        """How far it was in the newest published state, 0 to 1; None: not known."""
        ...

    @property
    def rate(self) -> float | None:
        """Units a second."""
        ...

    @property
    def eta(self) -> float | None:
        """Seconds to its end by its own rate; None: not known."""
        ...

    @property
    def message(self) -> str | None:
        """What people are told."""
        ...

    @property
    def fields(self) -> dict[str, Any]:
        """A copy of the values that `set()` has set."""
        ...

    @property
    def phases(self) -> Mapping[str, ProgressPhase]:
        """The children by name."""
        ...

    def advance(self, n: Number = 1) -> None:
        """Counts `n` more units as done."""
        ...

    def skip(self, n: Number = 1) -> None:
        """Counts `n` units as done that needed no work."""
        ...

    def extend(self, n: Number) -> None:
        """Adds `n` units to what there is to do."""
        ...

    def update(
        self,
        *,
        done: Number | Unset = UNSET,
        total: Number | Unset | None = UNSET,
        message: str | Unset | None = UNSET,
    ) -> None:
        """Sets absolute values; what is not given stays."""
        ...

    def set(self, **fields: Any) -> None:
        """Sets fields: JSON values by name."""
        ...

    def phase(
        self,
        name: str,
        *,
        total: float | Unset | None = UNSET,
        weight: float | None = None,
        title: str | None = None,
        unit: str | None = None,
        again: bool = False,
    ) -> AbstractContextManager[ProgressPhase, None]:
        """A child phase, to be entered by `with`."""
        ...

    @overload
    def track(self, items: Iterable[T]) -> Iterator[T]: ...
    @overload
    def track(self, items: AsyncIterable[T]) -> AsyncIterator[T]: ...
    def track(self, items: Iterable[T] | AsyncIterable[T]) -> Iterator[T] | AsyncIterator[T]:
        """Iterates over `items` and counts each once its body is done."""
        ...

    def from_thread(self) -> ProgressTicker:
        """What counts on this phase from any thread."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: Any, error: Any, traceback: Any, /) -> None: ...


class ProgressSession(Protocol):
    """A session: `Session`, or `NullSession` where nobody follows."""

    @property
    def id(self) -> str:
        """Its id; empty where there is no session."""
        ...

    @property
    def pipeline(self) -> Pipeline | None:
        """The pipeline that it runs."""
        ...

    @property
    def epoch(self) -> int:
        """The number of this ownership."""
        ...

    @property
    def attempt(self) -> int:
        """1, and one more for each time that the session was resumed."""
        ...

    @property
    def status(self) -> SessionStatus:
        """How it stands, or how it ended."""
        ...

    @property
    def saved(self) -> Any:
        """A copy of what was saved last; None: nothing."""
        ...

    @property
    def phases(self) -> Mapping[str, ProgressPhase]:
        """The top-level phases by name."""
        ...

    def phase(
        self,
        name: str,
        *,
        total: float | Unset | None = UNSET,
        weight: float | None = None,
        title: str | None = None,
        unit: str | None = None,
    ) -> AbstractContextManager[ProgressPhase, None]:
        """A phase, to be entered by `with`."""
        ...

    def advance_to(
        self,
        name: str,
        *,
        total: float | Unset | None = UNSET,
        title: str | None = None,
        unit: str | None = None,
    ) -> ProgressPhase:
        """Hands over to the phase `name`, in one step."""
        ...

    def skip_phase(self, name: str, reason: str | None = None) -> None:
        """Marks a phase as not to be worked on."""
        ...

    def increment(self, name: str, n: Number = 1) -> None:
        """Adds `n` to a counter."""
        ...

    def set(self, **fields: Any) -> None:
        """Sets fields: JSON values by name."""
        ...

    def update(self, *, message: str | Unset | None = UNSET, title: str | Unset = UNSET) -> None:
        """Sets the message or the title; what is not given stays."""
        ...

    def emit(self, name: str, data: Any = None) -> None:
        """Logs a custom event with JSON data."""
        ...

    def save(self, data: Any) -> None:
        """Keeps JSON data for a later attempt."""
        ...

    def set_result(self, result: Any) -> None:
        """Sets what the work came to, as JSON data."""
        ...

    def cancel(self, reason: str | None = None) -> None:
        """Cancels the body of the session."""
        ...

    def fail(self, reason: str, details: Mapping[str, Any] | None = None) -> None:
        """Says that the session has failed, for an error that was caught."""
        ...

    def snapshot(self) -> Snapshot | None:
        """The session as it is now; None where there is none."""
        ...

    async def flush(self) -> None:
        """Waits until the store holds all that was said so far."""
        ...
