"""Sending the list of sessions to one connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from ...errors import ProgressError
from ...protocol.clock import utc
from ...protocol.messages import Listing, Subscribed
from ..error_messages import unavailable
from .feed import ListFeed, ListView
from .pages import visible_heads

if TYPE_CHECKING:
    from ..outbox import Outbox

FIRST: Final = 1000
"""Sessions that a new subscriber is sent at once, ended ones included."""

MAX_HZ: Final = 4.0
"""Rounds a second, unless the client asks for another pace."""


async def send_list(feed: ListFeed, outbox: Outbox, labels: Mapping[str, str], max_hz: float | None) -> None:
    """Sends all sessions that the client may see, and their changes, until it is cancelled or the tracker is left.

    What changes while the client does not read conflates: it is sent each session's newest state.

    Args:
        feed: The changes.
        outbox: The connection's; what its grant shows is sent.
        labels: Only sessions that have all of these.
        max_hz: At most so many rounds a second.

    Raises:
        trio.BrokenResourceError: The connection is over.
    """
    grant, hub = outbox.grant, outbox.hub
    view = ListView(grant.bare, tuple(sorted(labels.items())), outbox.encode)
    try:
        async with feed.subscribe(view, 1.0 / (MAX_HZ if max_hz is None else max_hz)) as changes:
            found, cursor = await visible_heads(hub, grant, labels, FIRST)
            await outbox.give(Subscribed(session="*", recovered=False, reason="new", server_time=utc(hub.clock.wall())))
            for piece in changes.initial(found):
                await outbox.hand(piece)
            await outbox.give(Listing(complete=cursor is None, cursor=cursor))
            while (changed := await changes.next()) is not None:
                await outbox.hand(changed)
    except ProgressError:
        await outbox.give(unavailable("*"))
