"""The list of sessions, as one connection is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ...errors import ProgressError
from ...protocol.clock import utc
from ...protocol.messages import Listing, Subscribed
from ..auth.grants import Grant
from ..outbox import Outbox, unavailable
from ..runtime import ServerRuntime
from .feed import Sight
from .pages import heads_shared

FIRST: Final = 1000
"""Sessions that a new subscriber is told of at once, ended ones included."""

PACE: Final = 4.0
"""Rounds a second, unless the client asks for another pace."""


async def tell_list(
    runtime: ServerRuntime, outbox: Outbox, grant: Grant, labels: Mapping[str, str], max_hz: float | None
) -> None:
    """Tells of all sessions that the client may see, until it is cancelled or the tracker is left.

    What changes while the client does not read conflates: it is told of each session's newest state.

    Args:
        runtime: The server's.
        outbox: The connection's.
        grant: What the client may see.
        labels: Only sessions that have all of these.
        max_hz: At most so many rounds a second.

    Raises:
        trio.BrokenResourceError: The connection is over.
    """
    sight = Sight(grant.bare, tuple(sorted(labels.items())), outbox.encode)
    try:
        async with runtime.board.reading(sight, 1.0 / (PACE if max_hz is None else max_hz)) as changes:
            found, cursor = await heads_shared(runtime.hub, grant, labels, FIRST)
            await outbox.give(
                Subscribed(session="*", recovered=False, reason="new", server_time=utc(runtime.hub.clock.wall()))
            )
            for piece in changes.listed(found):
                await outbox.hand(piece)
            await outbox.give(Listing(complete=cursor is None, cursor=cursor))
            while (news := await changes.next()) is not None:
                await outbox.hand(news)
    except ProgressError:
        await outbox.give(unavailable("*"))
