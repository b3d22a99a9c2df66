"""Scenarios of several owners: of those who come at once, who are cut off, and who are fenced."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from trio_progress import (
    FencedError,
    MemoryStore,
    ProgressTracker,
    Session,
    SessionActiveError,
    SessionCompletedError,
    StoreError,
    open_tracker,
)
from trio_progress.session.persister import CLAIM_PATIENCE
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


@dataclass
class Owners:
    """Who has owned a session, by how many had it before."""

    epochs: list[int] = field(default_factory=list)
    fenced: dict[int, int] = field(default_factory=dict)
    """Who was fenced, and as the owner of which epoch; -1: somebody who never had it."""
    unanswered: set[int] = field(default_factory=set)
    """Who has waited for the store for as long as a session waits, and begun without its answer."""

    @asynccontextmanager
    async def one(self, tracker: ProgressTracker) -> AsyncIterator[Session]:
        """Goes on with the session until it is left, or its owner fenced."""
        number = -1
        asked = trio.current_time()
        try:
            async with tracker.session("a", PIPELINE, resume="interrupted") as session:
                number = len(self.epochs)
                self.epochs.append(session.epoch)
                if trio.current_time() - asked >= CLAIM_PATIENCE:
                    self.unanswered.add(number)
                yield session
        except FencedError as error:
            self.fenced[number] = error.epoch


async def fenced_by_two_who_ask_again() -> None:
    """An owner is cut off; two processes fence it, ask again where the answer was lost, and go on with it.

    Each owner is fenced by its own epoch alone: a fence that comes late touches no successor. Who has begun without the
    store's answer is fenced as well where that was a refusal.
    """
    shared = MemoryStore()
    first = FaultyStore(shared)
    owners = Owners()
    begun = trio.Event()

    async def is_cut_off() -> None:
        async with open_tracker(first, lost_after=1000.0) as tracker, owners.one(tracker) as session:
            session.increment("owners")
            await session.flush()
            first.mode = "down"
            begun.set()
            await trio.sleep(3)
            first.mode = "up"
            await trio.sleep(2000)

    async def takes_over() -> None:
        store = FaultyStore(shared, seed=seeded_random().getrandbits(32), trouble=0.4)
        async with open_tracker(store, lost_after=1000.0) as tracker:
            await jitter(0.3)
            while True:
                try:
                    await tracker.fence("a", epoch=owners.epochs[0], reason="it is dead")
                    break
                except StoreError:
                    await jitter(0.1)
            store.trouble = 0.0
            try:
                async with owners.one(tracker) as session:
                    session.increment("owners")
                    await session.flush()
                    await jitter(2.0)
            except (SessionActiveError, SessionCompletedError):
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(is_cut_off)
        await begun.wait()
        for _ in range(2):
            nursery.start_soon(takes_over)
    assert {0} <= owners.fenced.keys() <= {0, *owners.unanswered}, f"not the right ones: {owners}"
    assert all(epoch == owners.epochs[number] for number, epoch in owners.fenced.items()), (
        f"by another's epoch: {owners}"
    )
    assert len(owners.epochs) - len(owners.fenced) == 1, f"not one is left: {owners}"
    final = await stored(first)
    assert (final.status, final.counters) == ("completed", {"owners": 2})
    entry = await shared.read("a")
    assert entry is not None
    assert [decode_event(event).name for event in entry.events] == ["session.fenced"]
