"""The scenario of workers that take what waits: they are cancelled, interrupted and killed, and their store fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import trio

from trio_progress import FencedError, MemoryStore, ProgressTracker, StoreError, open_tracker
from trio_progress.session.taking import LOOK
from trio_progress.stores.base import Append, Changes, Done, Outcome, Page, Query, Seen, Stored, Write
from trio_progress.testing import FaultyStore, jitter, seeded_random

from ._scenario_parts import listed_where_it_stands, nothing_left, stored

JOBS = ("a", "b", "c", "d")
LOST_AFTER = 20.0
ENOUGH = 1000.0
"""Virtual seconds in which all must be done, however often the store fails."""
SOON = 0.75 * LOOK
"""Virtual seconds in which a job ends that somebody was rung for: above the second in all by which the explorer may
hold a schedule up, below the time after which who waits looks by itself."""


class Counting:
    """A store in memory that knows under which epochs a session has completed.

    Args:
        pace: Seconds that a commit takes at most.
    """

    hands_out = True

    def __init__(self, pace: float = 0.0) -> None:
        self._store = MemoryStore()
        self._pace = pace
        self.completed: dict[str, set[int]] = {}
        self.all_done = trio.Event()

    async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        if self._pace:
            await jitter(self._pace)
        outcomes = await self._store.commit(batch)
        for write, outcome in zip(batch, outcomes, strict=True):
            if isinstance(write, Append) and write.index.status == "completed" and isinstance(outcome, Done):
                self.completed.setdefault(write.id, set()).add(write.key.epoch)
        if len(self.completed) == len(JOBS):
            self.all_done.set()
        return outcomes

    async def read(self, session_id: str) -> Stored | None:
        return await self._store.read(session_id)

    async def list(self, query: Query) -> Page:
        return await self._store.list(query)

    async def changes(self, mark: str | None, seen: Mapping[str, Seen | None]) -> Changes:
        return await self._store.changes(mark, seen)

    async def aclose(self) -> None:
        await self._store.aclose()


async def a_bell_reaches_somebody() -> None:
    """Some stop waiting at any moment, also when they were just rung: no job waits until somebody looks by itself."""
    store = Counting(pace=0.02)

    async def worker(leaves: bool) -> None:
        async with open_tracker(store) as tracker:
            while True:
                with trio.move_on_after(seeded_random().random() * 0.1 if leaves else ENOUGH):
                    async with tracker.next_session(max_attempts=100):
                        pass
                if leaves:
                    await trio.sleep(LOOK)

    async with open_tracker(store) as front:
        for job in JOBS[:2]:
            async with trio.open_nursery() as nursery:
                for leaves in (True, True, False):
                    nursery.start_soon(worker, leaves)
                await jitter(0.1)
                await front.declare(job)
                with trio.move_on_after(SOON) as patience:
                    await front.wait_ended(job)
                assert not patience.cancelled_caught, f"nobody was rung for {job!r}, or who was has left it"
                nursery.cancel_scope.cancel()


async def workers_take_what_waits() -> None:
    """None of the jobs is lost, and none completes twice; what is cut short is gone on with by somebody else."""
    rng = seeded_random()
    shared = Counting()
    running: set[str] = set()

    async def work(tracker: ProgressTracker, store: FaultyStore) -> None:
        rounds = 0
        while store.mode != "down":
            rounds += 1
            with trio.move_on_after(rng.choice([0.05, 0.5, 30.0]) if rounds < 6 else 30.0) as patience:
                try:
                    async with tracker.next_session(max_attempts=100) as session:
                        patience.deadline = float("inf")
                        await session.flush()
                        # From here on it is known that the claim was granted: nobody else has it.
                        assert session.id not in running, "two have it"
                        running.add(session.id)
                        try:
                            await trio.sleep(rng.random() * 0.2)
                            if rng.random() < 0.2:
                                raise KeyboardInterrupt  # A polite stop.
                        finally:
                            running.discard(session.id)
                except (KeyboardInterrupt, FencedError, StoreError):
                    pass

    async def process(killed: bool) -> None:
        store = FaultyStore(shared, seed=rng.getrandbits(32), trouble=rng.choice([0.0, 0.2]))
        tracker_of = open_tracker(store, lost_after=LOST_AFTER, heartbeat_interval=5.0)
        async with tracker_of as tracker, trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(work, tracker, store)
            if killed:
                await trio.sleep(rng.random() * 0.5)
                store.mode, store.trouble = "down", 0.0
            else:
                await shared.all_done.wait()
                await trio.sleep(LOST_AFTER + 5)
            nursery.cancel_scope.cancel()
        nothing_left(tracker)

    async with open_tracker(FaultyStore(shared)) as front:
        with trio.move_on_after(ENOUGH) as patience:
            async with trio.open_nursery() as processes:
                for killed in (False, True, False):
                    processes.start_soon(process, killed)
                for job in JOBS:
                    await front.declare(job)
                    await jitter(0.2)
        assert not patience.cancelled_caught, [(one.id, one.status, one.attempt) for one in await front.sessions()]
    for job in JOBS:
        assert (await stored(FaultyStore(shared), job)).status == "completed"
        await listed_where_it_stands(FaultyStore(shared), job)
        assert len(shared.completed[job]) == 1, f"{job} has completed {len(shared.completed[job])} times"
