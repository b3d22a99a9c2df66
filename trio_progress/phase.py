"""`Phase`: what the author of a pipeline holds while a part of the work runs."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, NoReturn, Self, TypeVar, cast, final, overload

import trio

from .endings import leaves
from .errors import PhaseError
from .null import NULL_PHASE, NullPhase
from .state.guard import REFUSED, UNSET, Unset
from .state.phase import PhaseNode
from .state.session import SessionState
from .state.snapshot import PhaseStatus
from .state.tree import PhaseTree
from .threads import ThreadTicker, TickerHost
from .tracking import track

T = TypeVar("T")


def phase_end(error: BaseException | None) -> PhaseStatus:
    """What becomes of a phase whose scope is left with `error`."""
    if error is None:
        return "completed"
    soft = (trio.Cancelled, KeyboardInterrupt, SystemExit, GeneratorExit)
    return "cancelled" if all(isinstance(leaf, soft) for leaf in leaves(error)) else "failed"


@final
class Phase(PhaseNode):
    """A phase of a session: counts, fields, children. Entered by `with session.phase(...)`.

    Leaving the `with` block ends it: completed when the block returned, failed when it raised,
    cancelled when it was cancelled. Counting works from any task; from threads by `from_thread()`.
    """

    __slots__ = ()

    def phase(
        self,
        name: str,
        *,
        total: float | Unset | None = UNSET,
        weight: float | None = None,
        title: str | None = None,
        unit: str | None = None,
        again: bool = False,
    ) -> PhaseScope:
        """A child phase, to be entered by `with`.

        Args:
            name: Unique among its siblings.
            total: How much there is to do; None or not given: not known.
            weight: Its share among its siblings, at least 0; 1 unless given.
            title: What people are shown.
            unit: What is counted.
            again: Whether one that has completed is to be done once more, as a new attempt. To this phase it
                stays done meanwhile.

        Raises:
            ValueError, TypeError, PhaseError: A value is out of range; nothing was changed.
        """
        return PhaseScope.within(
            cast(PhaseTree, self.state), self, name, total=total, weight=weight, title=title, unit=unit, again=again
        )

    @overload
    def track(self, items: Iterable[T]) -> Iterator[T]: ...
    @overload
    def track(self, items: AsyncIterable[T]) -> AsyncIterator[T]: ...
    def track(self, items: Iterable[T] | AsyncIterable[T]) -> Iterator[T] | AsyncIterator[T]:
        """Iterates over `items` and counts each once its body is done.

        Where nobody has given the phase a total, the lengths of all its loops add up to one; it has none
        while one runs whose length is not known. An item whose body raises or breaks out is not counted.
        Has the checkpoints of `items`, and none else.
        """
        return track(self, items)

    @property
    def phases(self) -> Mapping[str, Phase]:
        """The children by name, in their order, as far as they have not been folded into this phase."""
        return cast("Mapping[str, Phase]", MappingProxyType(self.children))

    def from_thread(self) -> ThreadTicker:
        """What counts on this phase from any thread, without losing anything and without waiting.

        Call it in a Trio task and hand the result to the thread; each phase has one, shared by all threads.

        Raises:
            PhaseError: The phase is not open.
        """
        return self._host.ticker(self)  # type: ignore[return-value] # one that does nothing has the same methods

    def finish(self, status: PhaseStatus, now: float, wall: float) -> None:
        """Goes to one of the ended statuses, and lets a completed phase's time be counted."""
        super().finish(status, now, wall)
        if status == "completed":
            self._host.timed(self)

    @property
    def _host(self) -> TickerHost:
        return cast(TickerHost, cast(SessionState, self.state).host)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        cast(PhaseTree, self.state).leave(self, phase_end(error), error)

    async def __aenter__(self) -> NoReturn:
        raise _not_async()

    async def __aexit__(self, *_: object) -> None:
        raise AssertionError("never entered")

    def __repr__(self) -> str:
        of = "" if self.total is None else f"/{self.total}"
        return f"<Phase {self.label!r} {self.status} {self.done}{of}>"


def _not_async() -> TypeError:
    return TypeError("use `with`, not `async with`: entering and leaving a phase never waits")


@final
class PhaseScope:
    """A phase that begins when it is entered by `with`; until then nothing has happened."""

    __slots__ = ("_given", "_name", "_node", "_parent", "_tree")

    def __init__(self, tree: PhaseTree, parent: PhaseNode | None, name: str, given: dict[str, Any]) -> None:
        self._tree = tree
        self._parent = parent
        self._name = name
        self._given = given
        self._node: Phase | NullPhase | None = None

    @classmethod
    def within(cls, tree: PhaseTree, parent: PhaseNode, name: str, **given: Any) -> PhaseScope:
        """Checks the values at the call that gives them."""
        try:
            tree.check_phase(parent, name, **given)
        except REFUSED as error:
            if tree.strict:
                raise
            tree.drop(error)
            return cls(tree, None, name, given)
        return cls(tree, parent, name, given)

    def __enter__(self) -> Phase:
        if self._parent is None:
            self._node = NULL_PHASE
            return NULL_PHASE  # type: ignore[return-value]
        try:
            if self._node is not None:
                raise PhaseError(
                    f"phase {self._name!r} was entered by this scope already: ask the session for a new one"
                )
            node = self._tree.enter(self._parent, self._name, **self._given)
        except REFUSED as error:
            if self._tree.strict:
                raise
            self._tree.drop(error)
            self._node = NULL_PHASE
            return NULL_PHASE  # type: ignore[return-value]
        assert isinstance(node, Phase)
        self._node = node
        return node

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(self._node, Phase):
            self._node.__exit__(kind, error, traceback)

    async def __aenter__(self) -> NoReturn:
        raise _not_async()

    async def __aexit__(self, *_: object) -> None:
        raise AssertionError("never entered")

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise PhaseError(
            f"phase {self._name!r} has not begun: enter it by `with session.phase({self._name!r}) as phase:`"
        )
