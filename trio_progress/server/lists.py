"""The list of sessions, as one connection is told of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import trio

from ..errors import ProgressError
from ..listing import list_heads
from ..state.clock import utc
from ..state.messages import Listed, Listing, Subscribed
from ..state.snapshot import Head, Snapshot
from .grants import Grant
from .house import ServerHouse
from .outbox import Outbox, unavailable

FIRST: Final = 1000
"""Sessions that a new subscriber is told of at once, ended ones included."""

PACE: Final = 4.0
"""Rounds a second, unless the client asks for another pace."""


async def tell_list(
    house: ServerHouse, outbox: Outbox, grant: Callable[[], Grant], labels: Mapping[str, str], max_hz: float | None
) -> None:
    """Tells of all sessions that the client may see, until it is cancelled or the tracker is left.

    What changes while the client does not read conflates: it is told of each session's newest state.

    Args:
        house: The server's.
        outbox: The connection's.
        grant: Gives what the client may see now.
        labels: Only sessions that have all of these.
        max_hz: At most so many rounds a second.

    Raises:
        trio.BrokenResourceError: The connection is over.
    """
    tracker = house.tracker
    pause = 1.0 / (PACE if max_hz is None else max_hz)
    try:
        async with tracker.watch_all(labels) as snapshots:
            found, cursor = await list_heads(house.hub, dict(labels), FIRST)
            await outbox.give(
                Subscribed(session="*", recovered=False, reason="new", server_time=utc(house.hub.clock.wall()))
            )
            for head in found:
                await _tell(outbox, grant(), head)
            await outbox.give(Listing(complete=cursor is None, cursor=cursor))
            async for snapshot in snapshots:
                await _tell(outbox, grant(), snapshot)
                for _ in range(FIRST):
                    try:
                        another = snapshots.take_nowait()
                    except (trio.WouldBlock, trio.EndOfChannel):
                        break
                    await _tell(outbox, grant(), another)
                await trio.sleep(pause)
    except ProgressError:
        await outbox.give(unavailable("*"))


async def _tell(outbox: Outbox, grant: Grant, state: Head) -> None:
    if grant.allows("read", state.id, state.labels):
        if isinstance(state, Snapshot):
            head = Head(**{name: getattr(state, name) for name in Head.__struct_fields__})
        else:
            head = state
        await outbox.give(Listed(session=state.id, head=head, verbs=grant.verbs_on(state.id, state.labels)))
