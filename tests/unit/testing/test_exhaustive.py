"""All orders with few deviations: none is left out, the planted bug is found, and what is merged is said."""

from __future__ import annotations

import itertools
from collections import deque

import pytest
import trio

from trio_progress import open_tracker
from trio_progress.testing import (
    Exhaustion,
    ScheduleError,
    cancelled_somewhere,
    exhaust,
    explore,
    jitter,
    note,
    shared,
)

checkpoint = trio.lowlevel.checkpoint
COUNTER = 0


class Buffer:
    def __init__(self, most: int, *, broken: bool) -> None:
        self.items: deque[int] = deque()
        self.most = most
        self.broken = broken
        self.changed = trio.Condition()

    async def put(self, item: int) -> None:
        async with self.changed:
            while len(self.items) == self.most:
                await self.changed.wait()
                if self.broken:
                    break
            self.items.append(item)
            assert len(self.items) <= self.most
            self.changed.notify_all()

    async def get(self) -> int:
        async with self.changed:
            while not self.items:
                await self.changed.wait()
            self.changed.notify_all()
            return self.items.popleft()


async def bounded_buffer(broken: bool) -> None:
    buffer = Buffer(1, broken=broken)
    got: list[int] = []

    async def produce() -> None:
        for item in range(2):
            await buffer.put(item)

    async def consume() -> None:
        for _ in range(2):
            item = await buffer.get()
            got.append(item)

    async with trio.open_nursery() as nursery:
        for task in (produce, produce, consume, consume):
            nursery.start_soon(task)
    assert sorted(got) == [0, 0, 1, 1]


async def guarded(broken: bool, workers: int = 3) -> None:
    """By a lock, which the broken one lets go before it is done."""
    lock, inside = trio.Lock(), 0

    async def work() -> None:
        nonlocal inside
        await lock.acquire()
        inside += 1
        if broken:
            lock.release()
        await checkpoint()
        assert inside == 1
        inside -= 1
        if not broken:
            lock.release()

    async with trio.open_nursery() as nursery:
        for _ in range(workers):
            nursery.start_soon(work)


async def two_at_a_time(broken: bool) -> None:
    semaphore, inside = trio.Semaphore(2 + broken), 0

    async def work() -> None:
        nonlocal inside
        async with semaphore:
            inside += 1
            assert inside <= 2
            await checkpoint()
            inside -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(work)


async def a_session_left() -> None:
    async with open_tracker() as tracker:
        async with tracker.session("a") as session:
            session.increment("n")
    assert session.status == "completed"


@pytest.mark.parametrize("scenario", [bounded_buffer, guarded, two_at_a_time])
def test_all_orders_of_what_is_correct_pass_and_the_planted_bug_is_found(scenario: object) -> None:
    assert exhaust(scenario, False).complete  # type: ignore[arg-type]
    with pytest.raises(ScheduleError):
        exhaust(scenario, True)  # type: ignore[arg-type]


@pytest.mark.parametrize(("deviations", "most"), [(1, 400), pytest.param(2, 4000, marks=pytest.mark.exhaustive)])
def test_the_leaving_of_a_session_passes_in_all_orders_with_few_deviations(deviations: int, most: int) -> None:
    exhausted = exhaust(a_session_left, deviations=deviations)
    assert exhausted.complete
    assert 20 < exhausted.schedules < most


def test_no_order_is_left_out_and_none_is_run_twice() -> None:
    async def two_and_two() -> None:
        async def one(name: str) -> None:
            for _ in range(2):
                note(name)
                await checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "a")
            nursery.start_soon(one, "b")

    seen: list[tuple[str, ...]] = []

    async def told() -> None:
        try:
            await two_and_two()
        finally:
            from trio_progress.testing.within import current

            scheduler = current.get()
            assert scheduler is not None
            seen.append(tuple(text for _, text in scheduler.record.notes))

    exhaust(told, deviations=5)
    assert set(seen) == set(itertools.permutations("aabb"))


def test_fewest_deviations_come_first() -> None:
    async def needs_one() -> None:
        order: list[str] = []

        async def one(name: str) -> None:
            await checkpoint()
            order.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "a")
            nursery.start_soon(one, "b")
        assert order == ["a", "b"]

    assert exhaust(needs_one, deviations=0).schedules == 1
    with pytest.raises(ScheduleError, match="of the orders searched") as caught:
        exhaust(needs_one)
    assert "TRIO_PROGRESS_SEED" not in caught.value.replay
    assert caught.value.preemptions == 0


def test_a_deadline_that_passes_early_is_a_deviation() -> None:
    async def impatient(patience: float) -> None:
        with trio.move_on_after(patience) as scope:
            for _ in range(3):
                await checkpoint()
        assert not scope.cancelled_caught

    exhaust(impatient, 0.5, deviations=0)
    with pytest.raises(ScheduleError, match=r"to deadline|\+ 0\.5"):
        exhaust(impatient, 0.5, deviations=1)
    exhaust(impatient, 5.0, deviations=2)
    exhaust(impatient, 0.5, deviations=2, stall=0)


def test_a_cancel_at_each_step_is_a_deviation() -> None:
    async def keeps_a_lock() -> None:
        lock = trio.Lock()
        async with cancelled_somewhere():
            await lock.acquire()
            await checkpoint()
            lock.release()
        assert not lock.locked()

    with pytest.raises(ScheduleError, match="cancel keeps_a_lock"):
        exhaust(keeps_a_lock, deviations=1)
    with pytest.raises(ScheduleError, match="had nothing been cancelled there, it would have passed"):
        explore(keeps_a_lock, schedules=100, seed=1)


def test_a_scope_is_not_cancelled_twice() -> None:
    async def cancelled() -> None:
        async with cancelled_somewhere():
            await checkpoint()

    # Another cancel would be a deviation that cannot be made.
    assert exhaust(cancelled, deviations=3).schedules == exhaust(cancelled, deviations=1).schedules > 1


def test_merging_leaves_out_what_follows_on_equal_states_and_says_what_a_state_is() -> None:
    plain = exhaust(guarded, False, 4)
    merged = exhaust(guarded, False, 4, merge=True)
    assert merged.complete
    assert merged.proven
    assert merged.schedules < plain.schedules / 2
    assert merged.merged > 0
    assert "the state is what the tasks' frames reach" in str(merged)
    with pytest.raises(ScheduleError):
        exhaust(guarded, True, 4, merge=True)


def test_merging_sees_a_number_at_module_level() -> None:
    async def lost_update() -> None:
        global COUNTER  # noqa: PLW0603 - what is tested
        COUNTER = 0

        async def add() -> None:
            global COUNTER  # noqa: PLW0603 - what is tested
            seen = COUNTER
            await checkpoint()
            COUNTER = seen + 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(add)
            nursery.start_soon(add)
        assert COUNTER == 2

    with pytest.raises(ScheduleError):
        exhaust(lost_update, merge=True)


def test_what_is_shared_is_part_of_the_state_and_its_changes_are_events() -> None:
    hidden = {"n": 0}

    async def counts() -> None:
        hidden["n"] = 0
        shared(hidden, "hidden")
        for _ in range(2):
            await checkpoint()
            hidden["n"] += 1

    explored = explore(counts, schedules=1, seed=1)
    assert explored.distinct == 1
    assert isinstance(exhaust(counts, merge=True), Exhaustion)


def test_it_says_how_far_it_came() -> None:
    exhausted = exhaust(guarded, False, 4, most=10)
    assert not exhausted.complete
    assert exhausted.schedules == 10
    assert "then the budget was used up" in str(exhausted)
    assert "all 1 orders with at most 0 deviations pass; time passed early only within 1 s" in str(
        exhaust(guarded, False, deviations=0)
    )


def test_random_delays_are_the_same_in_all_orders() -> None:
    async def delays() -> None:
        await jitter(0.01)

    assert exhaust(delays, seed=3).complete


def test_bad_input_is_refused_at_the_call() -> None:
    for bad in (-1, 1.5, True):
        with pytest.raises(ValueError, match="deviations must be a whole number"):
            exhaust(guarded, False, deviations=bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="most must be"):
        exhaust(guarded, False, most=0)
    with pytest.raises(TypeError, match="async function"):
        exhaust(3)  # type: ignore[arg-type]
