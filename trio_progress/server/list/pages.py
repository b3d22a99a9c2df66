"""The sessions that somebody may see, sent to one connection or by pages, and read so that no other one is looked at.

Filtering a page of all sessions would do for what is in it. But where a page ends, its cursor names the last one that
was looked at: whoever may see none could go through the ids of all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from ...errors import ProgressError
from ...live.listing import list_heads, list_sessions, named_sessions
from ...protocol.clock import utc
from ...protocol.labels import has_labels, listed_labels
from ...protocol.messages import Listing, Subscribed
from ...protocol.page import check_page
from ...protocol.snapshot import Head, Snapshot
from ..answers import unavailable
from .feed import ListFeed, ListView

if TYPE_CHECKING:
    from ...live.hub import Hub
    from ...protocol.requests import Subscribe
    from ..auth.grants import Grant
    from ..outbox import Outbox

HeadT = TypeVar("HeadT", bound=Head)
VisiblePage: TypeAlias = tuple[list[HeadT], str | None]
"""Sessions, newest first, and the cursor of those that follow."""

LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)

FIRST: Final = 1000
"""Sessions that a new subscriber is sent at once, ended ones included."""

MAX_HZ: Final = 4.0
"""Rounds a second, unless the client asks for another pace."""


async def send_list(feed: ListFeed, outbox: Outbox, request: Subscribe) -> None:
    """Sends all sessions that the client may see, and their changes, until it is cancelled or the tracker is left.

    What changes while the client does not read conflates: it is sent each session's newest state.

    Args:
        feed: The changes.
        outbox: The connection's; what its grant shows is sent.
        request: What the client asked for: sessions that have all of its labels, and its pace in rounds a second.

    Raises:
        trio.BrokenResourceError: The connection is over.
    """
    grant, hub, labels = outbox.grant, outbox.hub, request.labels
    view = ListView(grant.bare, tuple(sorted(labels.items())), outbox.encode)
    try:
        async with feed.subscribe(view, 1.0 / (request.max_hz or MAX_HZ)) as changes:
            found, cursor = await visible_heads(hub, grant, labels, FIRST)
            await outbox.give(Subscribed(session="*", recovered=False, reason="new", server_time=utc(hub.clock.wall())))
            for piece in changes.initial(found):
                await outbox.hand(piece)
            await outbox.give(Listing(complete=cursor is None, cursor=cursor))
            while (changed := await changes.next()) is not None:
                await outbox.hand(changed)
    except ProgressError:
        await outbox.give(unavailable("*"))


async def visible_sessions(
    hub: Hub, grant: Grant, labels: Mapping[str, str], status: str | None, limit: int, cursor: str | None
) -> VisiblePage[Snapshot]:
    """A page of the sessions that somebody may see. Those that are granted by their ids all come with the first one.

    `labels` are what is listed by, see `listed_labels()`.

    Raises:
        ValueError, TypeError: A value is out of range.
        StoreError: The store did not answer.
    """

    async def page(labels: dict[str, str]) -> tuple[Sequence[Snapshot], str | None]:
        found = await list_sessions(hub, labels, status, limit, cursor)
        return found.sessions, found.cursor

    limit = check_page(status, limit, cursor)
    found, after = await _with_labels(grant, labels, page)
    if cursor is None:
        named = await _named(hub, grant, labels)
        found = _merged(found, [one for one in named if status in (None, one.status)])
    return [one for one in found if cursor is None or one.id not in grant.sessions], after


async def visible_heads(hub: Hub, grant: Grant, labels: Mapping[str, str], limit: int) -> VisiblePage[Head]:
    """The newest sessions that somebody may see, of which the stored phases are not looked at.

    Raises:
        StoreError: The store did not answer.
    """

    async def page(labels: dict[str, str]) -> tuple[Sequence[Head], str | None]:
        return await list_heads(hub, labels, limit)

    found, after = await _with_labels(grant, labels, page)
    return _merged(found, await _named(hub, grant, labels)), after


async def _with_labels(
    grant: Grant,
    labels: Mapping[str, str],
    page: Callable[[dict[str, str]], Awaitable[tuple[Sequence[HeadT], str | None]]],
) -> tuple[Sequence[HeadT], str | None]:
    """What `page` gives of those that have these labels, and the grant's."""
    own = grant.labels
    compatible = all(labels.get(name, value) == value for name, value in own.items())
    if "read" not in grant.verbs or not (grant.everything or (own and compatible)):
        return [], None
    return await page({**labels, **own})


async def _named(hub: Hub, grant: Grant, labels: Mapping[str, str]) -> list[Snapshot]:
    """Those that are granted by their ids, and have these labels."""
    named = await named_sessions(hub, grant.sessions if "read" in grant.verbs else ())
    return [one for one in named if has_labels(listed_labels(one.labels, one.parent), labels)]


def _merged(some: Sequence[HeadT], others: Sequence[HeadT]) -> list[HeadT]:
    """Both, the newest first, and none twice."""
    by_id = {one.id: one for one in (*some, *others)}
    return sorted(by_id.values(), key=lambda one: one.queued_at or LONG_AGO, reverse=True)
