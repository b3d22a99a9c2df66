"""From what `open_tracker` is given to a store."""

from __future__ import annotations

from .base import Store
from .memory import MemoryStore


def open_store(store: str | Store, *, event_limit: int) -> tuple[Store, bool]:
    """The store for a URL, or the given one; and whether the tracker is to close it.

    Raises:
        ValueError, TypeError: The URL names no store that there is.
    """
    if not isinstance(store, str):
        if not isinstance(store, Store):
            raise TypeError(f"a store must be a URL such as 'memory:', or a trio_progress Store, not {store!r:.200}")
        return store, False
    if store == "memory:":
        return MemoryStore(event_limit=event_limit), True
    scheme = store.partition(":")[0]
    raise ValueError(f"there is no store for {scheme!r}: the URL must be 'memory:'")
