"""How long the store in memory keeps a session."""

from __future__ import annotations

from contextlib import suppress

import trio
import trio.testing

from trio_progress import (
    MemoryStore,
    open_tracker,
)
from trio_progress.testing import FaultyStore


async def test_the_memory_store_keeps_sessions_for_the_retention_and_no_longer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = MemoryStore()
    async with open_tracker(store, retention=100) as tracker:
        async with tracker.session("a"):
            await trio.sleep(500)
        await trio.sleep(99)
        assert (await tracker.snapshot("a")).status == "completed"
        await trio.sleep(2)
        assert await store.read("a") is None


async def test_what_waits_or_can_be_gone_on_with_is_kept_longer_than_what_has_ended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = MemoryStore()
    day = 86_400.0
    async with open_tracker(store) as tracker:
        await tracker.declare("queued")
        for session_id in ("interrupted", "lost"):
            await leave_behind_as(store, session_id)
        async with tracker.session("completed"):
            pass
    await trio.sleep(6 * day)
    async with open_tracker(store) as tracker:
        assert {one.id for one in await tracker.sessions()} == {"queued", "interrupted", "lost"}
        async with tracker.session("interrupted", resume="interrupted") as session:
            assert session.saved == {"page": 7}
    await trio.sleep(3601)
    # Who is in no hurry to write off others wakes a thousand times in eight days, and not a hundred thousand.
    async with open_tracker(store, heartbeat_interval=300, lost_after=1800) as tracker:
        assert {one.id for one in await tracker.sessions()} == {"queued", "lost"}
        await trio.sleep(8 * day)  # On the seventh it was written off as lost.
        assert not list(await tracker.sessions())


async def leave_behind_as(store: MemoryStore, session_id: str) -> None:
    """A session that was interrupted, or whose process was killed."""
    faulty = FaultyStore(store)
    async with open_tracker(faulty, flush_timeout=0.1, spool=False) as tracker:
        with suppress(KeyboardInterrupt):
            async with tracker.session(session_id) as session:
                session.save({"page": 7})
                await session.flush()
                if session_id == "lost":
                    faulty.mode = "down"
                raise KeyboardInterrupt
