"""Listing sessions: what the store has, with what is open or followed here as it is now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from ..errors import StoreError
from ..protocol.page import SessionPage, check_page
from ..protocol.snapshot import Head, Snapshot
from ..stores.base import Query, Stored
from ..stores.paging import InTurns
from .remote import RemoteState, found_head

if TYPE_CHECKING:
    from .hub import Hub

HeadT = TypeVar("HeadT", bound=Head)


async def list_sessions(
    hub: Hub, labels: Mapping[str, str], status: str | None, limit: int, cursor: str | None
) -> SessionPage:
    """See `ProgressTracker.sessions()`; `labels` are what is listed by, see `listed_labels()`."""

    def whole(stored: Stored) -> Snapshot:
        feed = hub.feed(stored.id)
        return (RemoteState(stored, hub.clock, 1, hub.tally) if feed is None else feed).snapshot()

    limit = check_page(status, limit, cursor)
    found, after = await _list(hub, Query(labels, limit=limit, after=cursor), status, whole)
    return SessionPage(tuple(found), after)


async def list_heads(hub: Hub, labels: dict[str, str], limit: int) -> tuple[list[Head], str | None]:
    """The newest sessions, of which the stored phases are not looked at; and the cursor of the next page.

    Raises:
        StoreError: The store did not answer.
    """

    def head(stored: Stored) -> Head:
        feed = hub.feed(stored.id)
        return found_head(stored, hub.clock) if feed is None else feed.snapshot()

    return await _list(hub, Query(labels, limit=limit), None, head)


async def named_sessions(hub: Hub, ids: Iterable[str]) -> list[Snapshot]:
    """Those of these sessions that there are, in no order.

    Raises:
        StoreError: The store did not answer.
    """
    found: list[Snapshot] = []
    for session_id in ids:
        feed = hub.feed(session_id)
        if feed is None:
            stored = await hub.store.read(session_id)
            if stored is None:
                continue
            try:
                feed = hub.found(stored)
            except StoreError as error:
                hub.tally.pass_over(session_id, error)
                continue
        found.append(feed.snapshot())
    return found


async def _list(
    hub: Hub, query: Query, status: str | None, read: Callable[[Stored], HeadT]
) -> tuple[list[HeadT], str | None]:
    asked = None if status is None else frozenset({status})
    limit, found = query.limit, list[HeadT]()
    while True:
        page = await hub.store.list(replace(query, shown=asked, limit=limit - len(found)))
        async for stored in InTurns(page.sessions):
            try:
                state = read(stored)
            except StoreError as error:
                hub.tally.pass_over(stored.id, error)
                continue
            if status is None or state.status == status:  # What is open here may have gone on since.
                found.append(state)
        if page.next is None or len(found) >= limit:
            return found, page.next
        query = replace(query, after=page.next)
