"""Waiting until a grant has ended, by the wall clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from .authenticator import Auth
    from .grants import Grant

LOOK_EVERY: Final = 30.0
"""Seconds after which the wall clock is looked at again: it may be set, and a machine may sleep."""


async def until_expired(auth: Auth, grant: Grant) -> None:
    """Waits until the grant has ended; for ever, if it does not end."""
    if grant.expires_at is None:
        await trio.sleep_forever()
    else:
        while not grant.expired(auth.now()):  # noqa: ASYNC110 - there is no event when a clock comes to a time
            await trio.sleep(min(max(grant.expires_at - auth.now(), 0.001), LOOK_EVERY))
        await trio.lowlevel.checkpoint()
