"""Redis as a tracker's store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from ..threaded import ThreadedStore
from .backend import RedisBackend

if TYPE_CHECKING:
    import redis


@final
class RedisStore(ThreadedStore):
    """Sessions in Redis, for the trackers of all processes that open it.

    Blocking is done in threads of its own limits: one that writes, and some that read. It is opened by the first
    call, or by `open()`, and closed by `aclose()`, which leaves a client that was given as it is.

    Args:
        store: A URL such as `redis://HOST:6379/0` or `rediss://USER:PASSWORD@HOST:6380/0?prefix=tp`, or a
            `redis.Redis` client that says how to connect.
        prefix: What all keys begin with, 1 to 64 of `A-Z a-z 0-9 . _ : -`; the one of the URL, or `tp`, where it is
            None.
        event_limit: Events kept for each session, at least 1; the oldest go first.
        timeout: Seconds without an answer after which a call gives up, above 0; less than half of the tracker's
            `flush_timeout`.

    Raises:
        ValueError, TypeError: A value is out of range.
    """

    def __init__(
        self,
        store: str | redis.Redis,
        *,
        prefix: str | None = None,
        event_limit: int = 1000,
        timeout: float = 1.0,
    ) -> None:
        self.redis: Final = RedisBackend(store, prefix=prefix, event_limit=event_limit, timeout=timeout)
        super().__init__(self.redis)

    @property
    def looked_at(self) -> float:
        """When it was last known, by `time.monotonic()`, what news there was; long ago where nobody waits for any."""
        return self.redis.watcher.looked_at
