"""`phase.track(items)`: the items of a loop, each of which is counted once its body is done."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, final, overload

from ..state.loops import Loop, length_of

if TYPE_CHECKING:
    from ..state.phase import PhaseNode

T = TypeVar("T")


@overload
def track(phase: PhaseNode, items: Iterable[T]) -> Iterator[T]: ...
@overload
def track(phase: PhaseNode, items: AsyncIterable[T]) -> AsyncIterator[T]: ...
def track(phase: PhaseNode, items: Iterable[T] | AsyncIterable[T]) -> Iterator[T] | AsyncIterator[T]:
    """What iterates over the items and counts; see `Phase.track`."""
    if isinstance(items, AsyncIterable):
        return _Async(phase, items)
    # The loop is to be known from the call on, and that it was left by the generator's being gone.
    given: list[Loop | None] = []
    tracked = _items(phase, items, given)
    given.append(phase.begin_loop(tracked, length_of(items)))
    return tracked


def _items(phase: PhaseNode, items: Iterable[T], of: list[Loop | None]) -> Iterator[T]:
    loop = of.pop()
    advance = phase.advance
    if loop is None:
        for item in items:
            yield item
            advance()
        return
    given = 0
    iterator = iter(items)
    try:
        if loop.length is not None:
            for item in islice(iterator, loop.length):
                yield item
                advance()
                given += 1
            loop.given = given
        for item in iterator:
            if loop.length is not None:
                loop.exceed()
            yield item
            advance()
            given += 1
    finally:
        loop.given = given
    loop.end()


@final
class _Async(AsyncIterator[T]):
    """Items that are counted once their body is done. No generator: a loop over it can be left at any time."""

    __slots__ = ("__weakref__", "_given", "_items", "_loop", "_phase")

    def __init__(self, phase: PhaseNode, items: AsyncIterable[T]) -> None:
        self._phase = phase
        self._items = aiter(items)
        self._given = False
        self._loop: Loop | None = phase.begin_loop(self, length_of(items))

    async def __anext__(self) -> T:
        loop: Any = self._loop
        if self._given:
            self._given = False
            self._phase.advance()
            if loop is not None:
                loop.given += 1
        try:
            item = await anext(self._items)
        except StopAsyncIteration:
            if loop is not None:
                loop.end()
            raise
        if loop is not None and loop.length is not None and loop.given >= loop.length:
            loop.exceed()
        self._given = True
        return item

    if not TYPE_CHECKING:  # Type checkers know without this that there is no such use.

        def __iter__(self) -> NoReturn:
            raise TypeError("use `async for`, not `for`: what is tracked is iterated asynchronously")
