"""What a store gets in one batch whose commits cost a thread's turn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from tests.support import PassingStore
from trio_progress import MemoryStore, open_tracker
from trio_progress.stores.base import Ask, Outcome, Write
from trio_progress.tracker import runtime_of

ROUND_TRIP = 0.01


class Far(PassingStore):
    """A store whose commits take a round trip each; notes what was in them."""

    hands_out = True

    def __init__(self, gathers: bool) -> None:
        super().__init__(MemoryStore())
        self.gathers = gathers
        self.batches: list[list[str]] = []

    async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        self.batches.append([type(write).__name__ for write in batch])
        await trio.sleep(ROUND_TRIP)
        return await super().commit(batch)


@pytest.mark.parametrize(("gathers", "sizes"), [(True, [1, 2, 2, 2, 1]), (False, [1] * 8)], ids=["gathers", "does not"])
async def test_writers_who_are_out_of_step_come_into_step(
    autojump_clock: MockClock, gathers: bool, sizes: list[int]
) -> None:
    store = Far(gathers)

    async def write(first: float) -> None:
        await trio.sleep(first)
        for n in range(4):
            await runtime_of(tracker).committer.write(Ask(f"job-{n}", "watch"))

    async with open_tracker(store) as tracker, trio.open_nursery() as nursery:
        nursery.start_soon(write, 0)
        nursery.start_soon(write, ROUND_TRIP / 2)
    assert [len(batch) for batch in store.batches] == sizes


async def test_a_worker_whose_session_ends_asks_for_the_next_one_in_the_batch_of_another(
    autojump_clock: MockClock,
) -> None:
    store = Far(gathers=True)

    async def work(first: float) -> None:
        await trio.sleep(first)
        for _ in range(3):
            async with tracker.next_session():
                pass

    async with open_tracker(store) as tracker:
        for n in range(6):
            await tracker.declare(f"job-{n}")
        store.batches.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, 0)
            nursery.start_soon(work, ROUND_TRIP / 2)
    writes = Counter(kind for batch in store.batches for kind in batch)
    # By the order of tasks, one wish may be for both workers.
    assert (writes["Claim"], writes["Append"]) == (6, 6)
    assert 3 <= writes["Take"] <= 6
    # Not gathered for, each of the eighteen is alone; gathered for, they are ten to fourteen.
    assert len(store.batches) < 18
