"""Who waits for a session, and is rung: the bell is heard, and who goes without looking costs the others no look."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from tests.support import PassingStore
from trio_progress import MemoryStore, ProgressTracker, SessionClosedError, open_tracker
from trio_progress.session.taking import LOOK
from trio_progress.stores.base import Changes, Seen

SOON = LOOK / 4
"""Seconds, below those after which anybody looks by itself."""


async def run_next(tracker: ProgressTracker) -> None:
    """The next session, which completes at once."""
    async with tracker.next_session():
        pass


async def completes_soon(tracker: ProgressTracker, session_id: str) -> None:
    await trio.sleep(SOON)
    assert (await tracker.snapshot(session_id)).status == "completed", "it waits until somebody looks by itself"


class DeafStore(PassingStore):
    """A store by which a process does not hear that it is rung."""

    hands_out = True

    async def changes(self, mark: str | None, seen: Mapping[str, Seen | None]) -> Changes:
        return replace(await super().changes(mark, seen), asked=())


@pytest.mark.parametrize("cancelled", [True, False])
async def test_who_was_rung_and_goes_before_it_looks_costs_the_others_no_look(
    cancelled: bool, autojump_clock: MockClock
) -> None:
    shared = MemoryStore()
    waits = trio.CancelScope()

    async def wait(tracker: ProgressTracker) -> None:
        with waits, suppress(SessionClosedError):
            await run_next(tracker)

    async with open_tracker(shared) as other, trio.open_nursery() as nursery:
        async with open_tracker(DeafStore(shared)) as rung:
            nursery.start_soon(wait, rung)  # noqa: ASYNC111 - leaving the tracker ends it
            await trio.sleep(0.1)
            nursery.start_soon(run_next, other)
            await trio.sleep(0.1)
            await other.declare("a")
            if cancelled:
                waits.cancel()
                await completes_soon(other, "a")
        await completes_soon(other, "a")


class SlowToListen(PassingStore):
    """A store that takes its time until it tells from when on it says what is asked."""

    hands_out = True

    async def changes(self, mark: str | None, seen: Mapping[str, Seen | None]) -> Changes:
        if mark is None:
            await trio.sleep(0.2)
        return await super().changes(mark, seen)


async def test_who_was_rung_before_it_could_hear_that_looks_once_it_can(autojump_clock: MockClock) -> None:
    shared = MemoryStore()
    async with open_tracker(shared) as front, open_tracker(SlowToListen(shared)) as worker, trio.open_nursery() as pool:
        pool.start_soon(run_next, worker)
        await trio.sleep(0.1)
        await front.declare("a")
        await trio.sleep(0.2)
        await completes_soon(front, "a")


async def test_the_next_session_is_entered_once(autojump_clock: MockClock) -> None:
    async with open_tracker() as tracker:
        await tracker.declare("a")
        await tracker.declare("b")
        manager = tracker.next_session()
        async with manager as session:
            assert session.id == "a"
            with pytest.raises(SessionClosedError, match="entered before"):
                await manager.__aenter__()
        with pytest.raises(SessionClosedError, match="entered before"):
            await manager.__aenter__()
        assert (await tracker.snapshot("b")).status == "queued"
