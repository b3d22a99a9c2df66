"""What the store holds, and whether states are the same."""

from __future__ import annotations

from trio_progress import (
    Snapshot,
)
from trio_progress.state.record import decode_record
from trio_progress.stores.base import Store

NAMES = ("search", "analysis", "report")


async def kept(store: Store, session_id: str = "a") -> Snapshot:
    """What the store holds."""
    entry = await store.read(session_id)
    assert entry is not None
    return decode_record(session_id, *entry.key, entry.record).state


def same(*states: Snapshot | None) -> None:
    assert all(state is not None for state in states)
    plain = [state.resuming("") for state in states if state is not None]
    assert all(state == plain[0] for state in plain)
