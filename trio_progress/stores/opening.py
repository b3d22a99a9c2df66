"""From what `open_tracker` is given to a store. What a kind of store needs is imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .base import Store

if TYPE_CHECKING:
    from .threaded import Backend

URLS: Final = "'memory:' or 'sqlite:PATH'"
"""What a store's URL can be."""

STORE_TIMEOUT: Final = 1.0
"""Seconds that a call to a store may take, where `flush_timeout` does not ask for less."""


async def open_store(store: str | Store, *, event_limit: int, flush_timeout: float) -> tuple[Store, bool]:
    """The store for a URL, opened, or the given one; and whether the tracker is to close it.

    Args:
        store: The URL, or the store.
        event_limit: Events kept for each session.
        flush_timeout: Seconds; calls that block get at most half of that.

    Raises:
        ValueError, TypeError: The URL names no store that there is.
        StoreError: The store cannot be opened.
    """
    if not isinstance(store, str):
        if not isinstance(store, Store):
            raise TypeError(f"a store must be a URL ({URLS}) or a trio_progress Store, not {store!r:.200}")
        return store, False
    if store == "memory:":
        from .memory import MemoryStore

        return MemoryStore(event_limit=event_limit), True
    if store.startswith("sqlite:"):
        from .sqlite_store import SqliteStore

        timeout = max(min(STORE_TIMEOUT, flush_timeout / 2), 0.01)
        opened = SqliteStore(store.removeprefix("sqlite:"), event_limit=event_limit, busy_timeout=timeout)
        await opened.open()
        return opened, True
    raise ValueError(f"there is no store for {store.partition(':')[0]!r:.200}: the URL must be {URLS}")


def open_backend(url: str) -> Backend:
    """The store for a URL, for code that may block; opened.

    Raises:
        ValueError, TypeError: The URL names no store that there is, or one within a process.
        StoreError: The store cannot be opened.
    """
    if not isinstance(url, str):
        raise TypeError(f"a store's URL must be a str such as 'sqlite:PATH', not {url!r:.200}")
    if url.startswith("sqlite:"):
        from .sqlite import SqliteBackend

        backend = SqliteBackend(url.removeprefix("sqlite:"))
        backend.open()
        return backend
    if url == "memory:":
        raise ValueError("what 'memory:' keeps belongs to one tracker; to share sessions open it on 'sqlite:PATH'")
    raise ValueError(f"there is no store for {url.partition(':')[0]!r:.200}: the URL must be 'sqlite:PATH'")
