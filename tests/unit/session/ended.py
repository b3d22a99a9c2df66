"""How a session of a tracker in memory has ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
import trio.testing

from tests.support import RecordingStore
from trio_progress import (
    Pipeline,
    Session,
    Snapshot,
    open_tracker,
)

PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})

Body = Callable[[Session], Awaitable[object]]


def end_of(store: RecordingStore, session_id: str = "a") -> Snapshot:
    (ends,) = store.ends(session_id).values()
    (end,) = ends
    return end


async def ended(body: Body, wrap: Callable[[], trio.CancelScope] | None = None) -> tuple[Snapshot, Session]:
    store = RecordingStore()
    async with open_tracker(store) as tracker:
        with wrap() if wrap is not None else trio.CancelScope():
            async with tracker.session("a", PIPELINE) as session:
                await body(session)
    return end_of(store), session
