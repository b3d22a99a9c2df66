"""Going through a list of sessions, however many pages it has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from .base import Query, Store, Stored


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
