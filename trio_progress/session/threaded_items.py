"""`phase.track_threaded(items)`: items that take time to come by, as the results of a pool do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Final, TypeVar, cast, final

import trio

T = TypeVar("T")

_END: Final = object()


@final
class ThreadedItems(AsyncIterator[T]):
    """Asks a plain iterator for each next item in a thread."""

    __slots__ = ("_abandon_on_cancel", "_items", "_iterator")

    def __init__(self, items: Iterable[T], abandon_on_cancel: bool) -> None:
        self._items = items
        self._iterator = iter(items)
        self._abandon_on_cancel = abandon_on_cancel

    def __len__(self) -> int:
        """How many items there are, where they say so."""
        return len(self._items)  # type: ignore[arg-type] # what has none raises

    async def __anext__(self) -> T:
        # A StopIteration cannot come out of a thread that is awaited.
        item = await trio.to_thread.run_sync(next, self._iterator, _END, abandon_on_cancel=self._abandon_on_cancel)
        if item is _END:
            raise StopAsyncIteration
        return cast(T, item)
