"""From what `open_tracker` is given to a store. What a kind of store needs is imported when it is asked for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..errors import StoreError
from ..telemetry.logs import log_event
from ..telemetry.redaction import redacted
from .base import Store

if TYPE_CHECKING:
    from .redis.backend import RedisBackend
    from .threaded import Backend, ThreadedStore

SHARED_URLS: Final = (
    "'sqlite:PATH', 'redis://HOST:PORT/DB', 'redis-sentinel://HOST:PORT,HOST:PORT/DB?service=NAME' "
    "or 'redis-cluster://HOST:PORT,HOST:PORT/'"
)
"""What the URL of a store that processes share can be."""

URLS: Final = f"'memory:', {SHARED_URLS}"
"""What a store's URL can be."""

REDIS: Final = (
    *("redis://", "rediss://"),
    *("redis-sentinel://", "rediss-sentinel://"),
    *("redis-cluster://", "rediss-cluster://"),
)

STORE_TIMEOUT: Final = 1.0
"""Seconds that a call to a store may take, where `flush_timeout` does not ask for less."""


async def open_store(
    store: str | Store, *, event_limit: int, flush_timeout: float, required: bool = True
) -> tuple[Store, bool]:
    """The store for a URL, opened, or the given one; and whether the tracker is to close it.

    Args:
        store: The URL, or the store.
        event_limit: Events kept for each session.
        flush_timeout: Seconds; calls that block get at most half of that.
        required: Whether one that cannot be used now is refused. Otherwise that is logged, and it is tried again.

    Raises:
        ValueError, TypeError: The URL names no store that there is.
        StoreError: The store cannot be opened.
    """
    if not isinstance(store, str):
        if not isinstance(store, Store):
            raise TypeError(
                f"a store must be a URL ({URLS}) or a trio_progress Store, not {redacted(repr(store)):.200}"
            )
        return store, False
    if store == "memory:":
        from .memory import MemoryStore

        return MemoryStore(event_limit=event_limit), True
    timeout = max(min(STORE_TIMEOUT, flush_timeout / 2), 0.01)
    opened: ThreadedStore
    if store.startswith("sqlite:"):
        from .threaded import SqliteStore

        opened = SqliteStore(_path(store), event_limit=event_limit, busy_timeout=timeout)
    elif store.startswith(REDIS):
        _backend_class()
        from .threaded import RedisStore

        opened = RedisStore(store, event_limit=event_limit, timeout=timeout)
    else:
        raise ValueError(f"there is no store for {_kind(store)!r:.200}: the URL must be {URLS}")
    try:
        await opened.open()
    except StoreError as error:
        if required:
            await opened.aclose()
            raise
        log_event(
            logging.WARNING, "store_down", "the store cannot be used yet, it is tried again: %s", error, reason=error
        )
    return opened, True


def backend_of(store: str | ThreadedStore) -> tuple[Backend, bool]:
    """The store for a URL, or that of a `RedisStore` or `SqliteStore`, opened, and whether whoever asks is to close it.

    Raises:
        ValueError, TypeError: The URL names no store that there is, or one within a process.
        StoreError: The store cannot be opened.
    """
    if isinstance(store, str):
        return open_backend(store), True
    from .threaded import ThreadedStore

    if not isinstance(store, ThreadedStore):
        raise TypeError(
            "a store must be a URL such as 'sqlite:PATH', or a RedisStore or SqliteStore, "
            f"not {redacted(repr(store)):.200}"
        )
    store.backend.open()
    return store.backend, False


def open_backend(url: str) -> Backend:
    """The store for a URL, for code that may block; opened.

    Raises:
        ValueError: The URL names no store that there is, or one within a process.
        StoreError: The store cannot be opened.
    """
    if url.startswith("sqlite:"):
        from .sqlite.backend import SqliteBackend

        backend = SqliteBackend(_path(url))
        backend.open()
        return backend
    if url.startswith(REDIS):
        shared = _backend_class()(url)
        try:
            shared.open()
        except BaseException:
            shared.close()  # Some nodes of a Cluster may have answered.
            raise
        return shared
    if url == "memory:":
        raise ValueError(
            "what 'memory:' keeps belongs to one tracker; to share sessions open it on 'sqlite:PATH' or in Redis"
        )
    raise ValueError(f"there is no store for {_kind(url)!r:.200}: the URL must be {SHARED_URLS}")


def _path(url: str) -> str:
    """The path of a SQLite file, as it stands behind `sqlite:`."""
    path = url.removeprefix("sqlite:")
    if path.startswith("//") and not path.startswith("///"):
        # By the rules of URLs a host stands there. As a path it would be one in the root folder, which nobody means.
        raise ValueError(
            "behind 'sqlite:' stands a path, and no '//': 'sqlite:progress.db' is a file in the current folder, "
            "'sqlite:/srv/progress.db' one by its full path"
        )
    return path


def _kind(url: str) -> str:
    """What a URL names as its kind of store; of what has none it may all be a password."""
    kind, colon, _ = url.partition(":")
    return kind if colon or "@" not in url else ""


def _backend_class() -> type[RedisBackend]:
    """What needs redis-py; says so where that is missing."""
    try:
        from .redis.backend import RedisBackend
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "redis":
            raise
        raise ModuleNotFoundError(
            "a Redis store needs redis-py: pip install 'trio-progress[redis]'", name=error.name
        ) from None
    return RedisBackend
