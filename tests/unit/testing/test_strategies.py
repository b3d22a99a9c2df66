"""The portfolio: who runs and when time passes are drawn apart, from the seed alone, within a budget."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import pytest
import trio

from trio_progress.testing import ScheduleError, explore, note, strategies
from trio_progress.testing.running import Limits, run_schedule
from trio_progress.testing.schedule import TimePasses
from trio_progress.testing.strategies import CHANGES, ORDERS, STRATEGIES, Drawn, Hold, Priorities, Walk


async def three_times_three() -> None:
    async def one(number: int) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            note(str(number))

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(one, number)


async def a_before_b() -> None:
    """Depth 1: twenty steps of one task before the first of another."""
    done = False

    async def slow() -> None:
        nonlocal done
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        done = True

    async def fast() -> None:
        await trio.lowlevel.checkpoint()
        assert not done

    async with trio.open_nursery() as nursery:
        nursery.start_soon(slow)
        nursery.start_soon(fast)


async def deadlock() -> None:
    """Depth 2: two locks in two orders, among others that have nothing to do with it."""
    one, other = trio.Lock(), trio.Lock()

    async def takes(first: trio.Lock, second: trio.Lock, after: int) -> None:
        for _ in range(after):
            await trio.lowlevel.checkpoint()
        async with first, second:
            pass

    async def idle() -> None:
        for _ in range(15):
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(takes, one, other, 3)
        nursery.start_soon(takes, other, one, 18)
        nursery.start_soon(idle)


async def impatient(patience: float) -> None:
    """Fails where its patience ends before a task that only makes steps."""

    async def works() -> None:
        for _ in range(6):
            await trio.lowlevel.checkpoint()

    with trio.move_on_after(patience) as scope:
        await works()
    assert not scope.cancelled_caught


@pytest.mark.parametrize("scenario", [a_before_b, deadlock])
def test_bugs_of_known_depth_are_found_within_500_schedules(scenario: object) -> None:
    for seed in (1, 1000):
        with pytest.raises(ScheduleError):
            explore(scenario, schedules=500, seed=seed, horizon=1000, shrink=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("patience", [0.0005, 0.0025, 0.25])
def test_a_deadline_of_any_size_below_the_budget_passes_before_what_only_makes_steps(patience: float) -> None:
    with pytest.raises(ScheduleError):
        explore(impatient, patience, schedules=300, seed=1, shrink=0)


@pytest.mark.parametrize("patience", [1.0, 5.0])
def test_a_deadline_of_a_second_or_more_never_does(patience: float) -> None:
    explore(impatient, patience, schedules=300, seed=1)


def test_no_time_is_injected_where_no_jitter_or_no_stall_is_wanted() -> None:
    explore(impatient, 1e-6, schedules=100, seed=1, jitter=0)
    explore(impatient, 1e-6, schedules=100, seed=1, stall=0)


def test_what_is_injected_stays_below_the_budget_in_sum() -> None:
    spent = []
    for seed in range(150):
        run = run_schedule(impatient, (1e5,), seed, Limits(stall=0.2))
        spent.append(sum(mark.seconds or 0 for _, mark in run.record.marks if isinstance(mark, TimePasses)))
    assert 0 < max(spent) < 0.2
    assert 0 in spent


def test_what_has_passed_is_no_more_there_to_be_spent() -> None:
    async def many_steps() -> None:
        for _ in range(300):
            await trio.lowlevel.checkpoint()

    spent = []
    for seed in range(60):
        run = run_schedule(many_steps, (), seed, Limits(stall=0.01))
        spent.append(sum(mark.seconds or 0 for _, mark in run.record.marks if isinstance(mark, TimePasses)))
    assert 0.005 < max(spent) < 0.01


def test_a_seed_means_the_same_schedule_whatever_ran_before() -> None:
    def histories(seeds: list[int]) -> dict[int, str]:
        return {seed: run_schedule(three_times_three, (), seed).history for seed in seeds}

    seeds = list(range(20))
    assert histories(seeds) == histories(seeds[::-1])


def test_each_strategy_makes_orders_of_its_own() -> None:
    by_strategy = {
        name: explore(three_times_three, schedules=30, seed=1, strategy=name).histories for name in STRATEGIES
    }
    assert len(set(by_strategy.values())) == len(STRATEGIES)
    assert {name for name, _ in ORDERS} == set(STRATEGIES) - {"auto"}


@pytest.mark.parametrize(("most", "least_again", "most_again"), [(1, 0.15, 0.35), (8, 0.5, 0.85), (30, 0.75, 0.97)])
def test_a_walk_goes_on_with_who_ran_last_for_as_long_as_it_may(
    most: int, least_again: float, most_again: float
) -> None:
    tasks: list[Any] = ["a", "b", "c", "d"]
    walk = Walk(Random(1), most)
    ran = [walk.choose(tasks)[0] for _ in range(4000)]
    assert least_again < sum(one == other for one, other in pairwise(ran)) / len(ran) < most_again


def test_who_is_held_back_changes_and_somebody_always_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies, "HOLDS", (0.98,))
    tasks: list[Any] = ["a", "b", "c"]
    hold = Hold(Random(1))
    passes = [hold.choose(tasks) for _ in range(3000)]
    assert all(passes)
    for task in tasks:
        windows = [sum(task in run for run in passes[at : at + 20]) for at in range(0, 3000, 20)]
        assert min(windows) <= 2
        assert max(windows) == 20


def test_priorities_change_at_a_few_steps_only() -> None:
    tasks: list[Any] = ["a", "b", "c", "d", "e"]
    switches = []
    for seed in range(100):
        order = Priorities(Random(seed))
        ran = [order.choose(tasks)[0] for _ in range(500)]
        switches.append(sum(one != other for one, other in pairwise(ran)))
    assert {0, CHANGES} <= set(switches) <= set(range(CHANGES + 1))


def test_an_order_of_events_is_counted_and_the_next_one_judged_by_it() -> None:
    explored = explore(three_times_three, schedules=200, seed=1)
    assert explored.orders.total() == 200
    assert 0 < explored.unseen.low < explored.unseen.chance < explored.unseen.high < 1
    assert "a new order of events" in str(explored)


def test_how_time_passes_does_not_depend_on_what_the_order_draws() -> None:
    def jumps(strategy: str) -> list[float]:
        source = Drawn(5, strategy, 0.001, 0.95)
        return [source.passes(lambda: 0.5, 0.9) for _ in range(200)]

    assert jumps("walk") == jumps("pct") == jumps("hold")


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(ValueError, match="strategy must be one of auto, hold, pct, walk, sticky"):
        explore(three_times_three, strategy="best")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="stall must be a time"):
        explore(three_times_three, stall=-1)
