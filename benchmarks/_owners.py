"""Scenarios of several owners: of those who come at once, who are cut off, and who are fenced."""

from __future__ import annotations

import trio

from trio_progress import (
    FencedError,
    MemoryStore,
    ProgressTracker,
    SessionActiveError,
    SessionCompletedError,
    StoreError,
    open_tracker,
)
from trio_progress.state.record import decode_event
from trio_progress.testing import FaultyStore, jitter, seeded_random

from ._scenario_parts import PIPELINE, listed_where_it_stands, stored


async def two_owners_and_fencing() -> None:
    """Of two processes on one session one is refused, or fenced; what the fenced one writes is refused."""
    shared = MemoryStore()
    stores = [FaultyStore(shared, delay=0.01), FaultyStore(shared, delay=0.01)]
    owners = 0
    fenced = refused = 0

    async def process(store: FaultyStore, cut_off: bool) -> None:
        nonlocal owners, fenced, refused
        await jitter(0.05)
        async with open_tracker(store, lost_after=1.0, heartbeat_interval=0.3, persist_interval=0.1) as tracker:
            try:
                async with tracker.session("a", PIPELINE) as session:
                    owners += 1
                    with session.phase("search", total=9) as phase:
                        for _ in range(9):
                            phase.advance()
                            if cut_off and phase.done == 3:
                                store.mode = "down"
                            if cut_off and phase.done == 7:
                                store.mode = "up"
                            await trio.sleep(0.5)
            except FencedError:
                fenced += 1
            except SessionActiveError:
                refused += 1

    async def second() -> None:
        await trio.sleep(2.6)
        await process(stores[1], cut_off=False)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(process, stores[0], True)
        nursery.start_soon(second)
    assert owners + refused == 2
    assert fenced == owners - 1, f"{owners} owners, of which {fenced} were fenced"
    assert (await stored(stores[1])).status == "completed"
    await listed_where_it_stands(stores[1])


async def fenced_by_two_who_ask_again() -> None:
    """An owner is cut off; two processes fence it, ask again where the answer was lost, and go on with it.

    Each owner is fenced by its own epoch alone: a fence that comes late touches no successor.
    """
    shared = MemoryStore()
    first = FaultyStore(shared)
    owners: list[int] = []
    fenced: list[int] = []
    begun = trio.Event()

    async def own(tracker: ProgressTracker, *, cut_off: bool) -> None:
        try:
            async with tracker.session("a", PIPELINE, resume="interrupted") as session:
                owners.append(session.epoch)
                session.increment("owners")
                await session.flush()
                if cut_off:
                    first.mode = "down"
                    begun.set()
                    await trio.sleep(3)
                    first.mode = "up"
                    await trio.sleep(2000)
                await jitter(2.0)
        except FencedError as error:
            fenced.append(error.epoch)

    async def is_cut_off() -> None:
        async with open_tracker(first, lost_after=1000.0) as tracker:
            await own(tracker, cut_off=True)

    async def takes_over() -> None:
        store = FaultyStore(shared, seed=seeded_random().getrandbits(32), trouble=0.4)
        async with open_tracker(store, lost_after=1000.0) as tracker:
            await jitter(0.3)
            while True:
                try:
                    await tracker.fence("a", epoch=owners[0], reason="it is dead")
                    break
                except StoreError:
                    await jitter(0.1)
            store.trouble = 0.0
            try:
                await own(tracker, cut_off=False)
            except (SessionActiveError, SessionCompletedError):
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(is_cut_off)
        await begun.wait()
        for _ in range(2):
            nursery.start_soon(takes_over)
    assert fenced == owners[:1], f"of the owners {owners} {fenced} were fenced"
    assert len(owners) == 2
    final = await stored(first)
    assert (final.status, final.counters) == ("completed", {"owners": 2})
    entry = await shared.read("a")
    assert entry is not None
    assert [decode_event(event).name for event in entry.events] == ["session.fenced"]
