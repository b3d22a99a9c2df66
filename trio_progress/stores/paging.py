"""Going through lists of sessions, however long they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Final, TypeVar

import trio

from .base import Query, Store, Stored

T = TypeVar("T")

TURN: Final = 20
"""Sessions between two checkpoints: decoding them must not hold up the pipelines of this process for longer."""


async def every(store: Store, query: Query, most: int) -> AsyncIterator[Stored]:
    """All sessions that `query` names, newest first, but no more than `most` and a page; `limit` is a page's length.

    Raises:
        StoreError: The store did not answer.
    """
    taken = 0
    while True:
        page = await store.list(query)
        for stored in page.sessions:
            yield stored
        taken += len(page.sessions)
        if page.next is None or taken >= most:
            return
        query = replace(query, after=page.next)


async def in_turns(items: Iterable[T]) -> AsyncIterator[T]:
    """The items, with a checkpoint now and then."""
    for number, item in enumerate(items, 1):
        if number % TURN == 0:
            await trio.lowlevel.checkpoint()
        yield item
