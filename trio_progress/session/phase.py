"""`Phase`: what the author of a pipeline holds while a part of the work runs."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, NoReturn, Self, TypeVar, final, overload

from ..errors import PhaseError
from ..state.guard import REFUSED, UNSET, Unset
from .current import NULL_PHASE, NullPhase
from .from_processes import CountingScope
from .one_process import OneProcess
from .outcome import phase_end
from .read_only import PHASE_INSTEAD, PhaseReading
from .threaded_items import ThreadedItems
from .tqdm_bars import counting_bars
from .tracking import track

if TYPE_CHECKING:
    from ..protocol.snapshot import Snapshot
    from ..state.phase import PhaseNode
    from ..state.quantities import Number
    from .core import SessionCore
    from .thread_ticker import ThreadTicker

T = TypeVar("T")
_ONE: Final[float] = 1


@final
class Phase(PhaseReading):
    """A phase of a session: counts, fields, children. Entered by `with session.phase(...)`.

    Leaving the `with` block ends it: completed when the block returned, failed when it raised,
    cancelled when it was cancelled. Counting works from any task; from threads by `from_thread()`.
    Its values are read-only: `update()` and `set()` change them.
    """

    __slots__ = ()

    def __init__(self, core: SessionCore, node: PhaseNode) -> None:
        object.__setattr__(self, "_core", core)
        object.__setattr__(self, "_node", node)

    # Counting

    def advance(self, n: Number = 1) -> None:
        """Counts `n` more units as done; finite, at least 0. Never waits, and costs tens of nanoseconds.

        Any real number counts by its value. On a phase that has ended it changes nothing and is counted as late.

        Raises:
            ValueError, TypeError: `n` is not a number of at least 0; nothing was counted.
            PhaseError: The phase has not begun.
            RuntimeError: Called from a foreign thread (use `from_thread()`), or from another process.
        """
        node = self._node
        # The form was measured: most calls give nothing, and CPython has one 1; it compares an int quickly where it is
        # of one digit of 30 bits, and a float only with floats (the last is MAX_UNITS: a constant is quicker than a
        # global). All else, and what is larger, goes the long way.
        if n is _ONE and not node.slow:
            node.done += 1
        elif not node.slow and (
            (type(n) is int and n > 0 and n < 1073741824) or (type(n) is float and 0.0 < n < 9007199254740992.0)
        ):
            node.done += n
        else:
            node.advance(n)

    def skip(self, n: Number = 1) -> None:
        """Counts `n` units as done that needed no work, as on resuming: they are not in the rate.

        Raises:
            ValueError, TypeError: `n` is not a number of at least 0.
            PhaseError: The phase has not begun.
        """
        self._node.skip(n)

    def extend(self, n: Number) -> None:
        """Adds `n` units to what there is to do. An indeterminate phase then knows: what is done, and `n` more.

        Raises:
            ValueError, TypeError: `n` is not a number of at least 0.
            PhaseError: The phase has not begun.
        """
        self._node.extend(n)

    def update(
        self,
        *,
        done: Number | Unset = UNSET,
        total: Number | Unset | None = UNSET,
        message: str | Unset | None = UNSET,
    ) -> None:
        """Sets absolute values; what is not given stays. `total=None` makes the phase indeterminate.

        Raises:
            ValueError, TypeError: A value is out of range; nothing was changed.
            PhaseError: The phase has not begun.
        """
        self._node.update(done=done, total=total, message=message)

    def set(self, **fields: Any) -> None:
        """Sets fields: JSON values by name, shown beside the phase; the newest value of each wins.

        Raises:
            ValueError, TypeError: A value is no JSON data or too large, or there are too many fields.
            PhaseError: The phase has not begun.
        """
        self._node.set(fields)

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
        return track(self._node, items)

    def track_threaded(self, items: Iterable[T], *, abandon_on_cancel: bool = False) -> AsyncIterator[T]:
        """`async for` over items that are waited for in a thread: `pool.imap_unordered(...)`, a file, a cursor.

        Counts as `track()` does. The items are asked for one at a time, each in some thread of `trio.to_thread`;
        between two there is a checkpoint.

        Args:
            items: What would block the event loop.
            abandon_on_cancel: Whether cancelling leaves the thread to itself, with the item that it waits for. Else it
                waits for that item.

        Raises:
            TypeError: `items` cannot be iterated.
        """
        return track(self._node, ThreadedItems(items, abandon_on_cancel))

    def from_thread(self) -> ThreadTicker:
        """What counts on this phase from any thread, without losing anything and without waiting.

        Call it in a Trio task and hand the result to the thread; each phase has one, shared by all threads.

        Raises:
            PhaseError: The phase is not open.
        """
        return self._core.ticker(self._node)  # type: ignore[return-value] # one that does nothing has the same methods

    def from_processes(self) -> CountingScope:
        """`async with phase.from_processes() as counter`: the counter works in any process of this machine.

        It is sent to workers as an argument. While the block is open, the phase takes in what they have counted each
        0.1 s (0.25 s while nobody watches), and the last of it when the block is left or the phase ends; what they
        count later is late. See `ProcessCounter`, and the guide "Many processes". Entering has no checkpoint.

        Raises:
            PhaseError: When entering: the phase is not open.
            OSError: When entering: the file of counts, of 1.6 MB in the folder for temporary files, cannot be made.
            NotImplementedError: When entering: this is Windows.
        """
        return CountingScope(self._core, self._node)

    def tqdm(self) -> AbstractContextManager[None]:
        """In its `with` block the bars of libraries that use tqdm count on this phase: see the guide "Bridges"."""
        return counting_bars(self._core.ticker(self._node), sums=self._node.total is None)

    # Children

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
        return phase_scope(
            self._core, self._node, name, total=total, weight=weight, title=title, unit=unit, again=again
        )

    async def follow(
        self, session_id: str, *, weight: float | None = None, title: str | None = None, detach: bool = False
    ) -> Snapshot:
        """Shows another session of any process as one child phase, named by its id, until that has completed.

        The child's fraction is the session's `progress`, and what is left of it the session's `eta`. A session that
        there is not yet, or that was interrupted or lost, is waited for: somebody may begin it, or go on with it.
        Cancelling the call cancels nothing else. But where this session ends as failed, cancelled or timed out, those
        that it follows, and that were declared with `parent=` its id, are cancelled as well; leaving it then waits for
        their ends, within `flush_timeout`.

        Args:
            session_id: The session.
            weight: Its share among its siblings, as that of any child.
            title: What people are shown; the session's title unless given.
            detach: Whether it is never cancelled with this session.

        Returns:
            Its last state. One that completed in an earlier attempt of this session is not waited for again.

        Raises:
            SessionEndedError: It has failed, was cancelled or timed out; `status` says which.
            SessionNotFoundError: It was deleted, or has expired, before it had completed.
            PhaseError: It follows this session in turn; or a child of that name is open.
            ValueError, TypeError: A value is out of range.
        """
        return await self._core.parts.follow(self._node, session_id, weight=weight, title=title, detach=detach)

    @property
    def phases(self) -> Mapping[str, Phase]:
        """The children by name, in their order, as far as they have not been folded into this phase."""
        return Children(self._core, self._node)

    # Entering and leaving

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._core.foreign and error is not None:
            return  # A forked process ends, or fails, in the middle of the parent's block: that is what it says.
        self._core.state.leave(self._node, phase_end(error), error)
        if self._core.tracing is not None:
            self._core.tracing.left(self._node, error)

    def _read_only(self) -> tuple[str, Mapping[str, str]]:
        return self.label, PHASE_INSTEAD

    def __repr__(self) -> str:
        of = "" if self.total is None else f"/{self.total}"
        return f"<Phase {self.label!r} {self.status} {self.done}{of}>"

    if not TYPE_CHECKING:  # Type checkers know without these that there is no such use.

        async def __aenter__(self) -> NoReturn:
            raise _not_async()

        async def __aexit__(self, *_: object) -> None:
            raise AssertionError("never entered")


def phase_of(core: SessionCore, node: PhaseNode) -> Phase:
    """What authors hold of a phase: the same object each time."""
    held = node.handle
    if not isinstance(held, Phase):
        held = node.handle = Phase(core, node)
    return held


class Children(Mapping[str, Phase]):
    """The children of a phase by name, in their order."""

    __slots__ = ("_core", "_parent")

    def __init__(self, core: SessionCore, parent: PhaseNode) -> None:
        self._core = core
        self._parent = parent

    def __getitem__(self, name: str) -> Phase:
        return phase_of(self._core, self._parent.children[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._parent.children)

    def __len__(self) -> int:
        return len(self._parent.children)

    def __repr__(self) -> str:
        return repr(dict(self))


def _not_async() -> TypeError:
    return TypeError("use `with`, not `async with`: entering and leaving a phase never waits")


@final
class PhaseScope(OneProcess):
    """A phase that begins when it is entered by `with`; until then nothing has happened."""

    __slots__ = ("_core", "_given", "_name", "_parent", "_phase")

    def __init__(self, core: SessionCore, parent: PhaseNode | None, name: str, given: dict[str, Any]) -> None:
        self._core = core
        self._parent = parent
        self._name = name
        self._given = given
        self._phase: Phase | NullPhase | None = None

    def __enter__(self) -> Phase:
        if self._parent is None:
            self._phase = NULL_PHASE
            return NULL_PHASE  # type: ignore[return-value]
        try:
            if self._phase is not None:
                raise PhaseError(
                    f"phase {self._name!r} was entered by this scope already: ask the session for a new one"
                )
            node = self._core.state.enter(self._parent, self._name, **self._given)
        except REFUSED as error:
            self._core.refuse(error)
            self._phase = NULL_PHASE
            return NULL_PHASE  # type: ignore[return-value]
        if self._core.tracing is not None:
            self._core.tracing.entered(node)
        self._phase = phase = phase_of(self._core, node)
        return phase

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(self._phase, Phase):
            self._phase.__exit__(kind, error, traceback)

    if not TYPE_CHECKING:

        async def __aenter__(self) -> NoReturn:
            raise _not_async()

        async def __aexit__(self, *_: object) -> None:
            raise AssertionError("never entered")

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):
                raise AttributeError(name)
            raise PhaseError(
                f"phase {self._name!r} has not begun: enter it by `with session.phase({self._name!r}) as phase:`"
            )


def phase_scope(core: SessionCore, parent: PhaseNode, name: str, **given: Any) -> PhaseScope:
    """A phase below `parent` that is to be entered; its values are checked here, at the call that gives them."""
    try:
        core.state.check_phase(parent, name, **given)
    except REFUSED as error:
        core.refuse(error)
        return PhaseScope(core, None, name, given)
    return PhaseScope(core, parent, name, given)
