"""Going through lists of sessions, however long they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Generic, TypeVar, final

import trio

if TYPE_CHECKING:
    from .base import Page, Query, Store, Stored

T = TypeVar("T")

TURN: Final = 20
"""Sessions between two checkpoints: decoding them must not hold up the pipelines of this process for longer."""


async def pages(store: Store, query: Query, most: int) -> AsyncIterator[Page]:
    """All sessions that `query` names, newest first, but no more than `most` and a page; `limit` is a page's length.

    Raises:
        StoreError: The store did not answer.
    """
    taken = 0
    while True:
        page = await store.list(query)
        yield page
        taken += len(page.sessions) + len(page.known)
        if page.next is None or taken >= most:
            return
        query = replace(query, after=page.next)


async def every(store: Store, query: Query, most: int) -> AsyncIterator[Stored]:
    """The same one by one, without those that `query.known` knows.

    Raises:
        StoreError: The store did not answer.
    """
    async for page in pages(store, query, most):
        for stored in page.sessions:
            yield stored


@final
class InTurns(Generic[T]):
    """Items, with a checkpoint now and then. No generator: a loop over it can be left at any time."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = enumerate(items, 1)

    def __aiter__(self) -> InTurns[T]:
        return self

    async def __anext__(self) -> T:
        found = next(self._items, None)
        if found is None:
            raise StopAsyncIteration
        number, item = found
        if number % TURN == 0:
            await trio.lowlevel.checkpoint()
        return item
