"""The explorer: every seed another schedule, the same in every process, and nothing of it where none is asked for."""

from __future__ import annotations

import itertools
import random
import re
import sys
import threading
from types import FrameType

import pytest
import trio
import trio._core._run as trio_run
import trio.testing

from benchmarks._scenarios import one_session_two_workers
from trio_progress import Pipeline, open_tracker
from trio_progress.testing import (
    ScheduleError,
    StuckError,
    UnsupportedTrioError,
    explore,
    jitter,
    note,
    seeded_random,
)
from trio_progress.testing.failure import SEED_VARIABLE
from trio_progress.testing.running import run_schedule


class Account:
    def __init__(self) -> None:
        self.balance = 0


async def deposit(account: Account, looking_up: int) -> None:
    seen = account.balance
    for _ in range(looking_up):
        await trio.lowlevel.checkpoint()
    account.balance = seen + 1


async def no_lost_update(looking_up: int = 1, apart: float = 0.0) -> None:
    account = Account()
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(deposit, account, looking_up)
            await trio.sleep(apart * (number < 2))
    assert account.balance == 3


async def orders() -> None:
    """Five tasks of three steps each: 168,168,000 histories."""

    async def one(number: int) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(one, number)


def test_seeds_make_distinct_histories_and_a_seed_makes_the_same_again(exhaustive: bool) -> None:
    schedules = 100 if exhaustive else 40
    first = explore(orders, schedules=schedules, seed=1)
    assert first.distinct == len(first.histories) > 0.95 * schedules
    assert explore(orders, schedules=schedules, seed=1).histories == first.histories
    assert explore(orders, schedules=schedules, seed=1000).histories != first.histories


def test_what_has_one_history_is_counted_once() -> None:
    async def alone() -> None:
        await trio.sleep(1)

    assert explore(alone, schedules=30, jitter=0).distinct == 1


def test_a_task_may_be_held_back_for_as_long_as_another_makes_many_steps() -> None:
    """Shuffled batches alone never let one task make twenty steps between two of another's."""

    async def overtakes() -> None:
        steps = 0
        fast_at = []

        async def slow() -> None:
            for _ in range(3):
                await trio.lowlevel.checkpoint()
                fast_at.append(steps)

        async def fast() -> None:
            nonlocal steps
            for _ in range(60):
                await trio.lowlevel.checkpoint()
                steps += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow)
            nursery.start_soon(fast)
        assert all(after - before < 20 for before, after in itertools.pairwise(fast_at))

    with pytest.raises(ScheduleError):
        explore(overtakes, schedules=500, seed=1)


def test_a_timer_may_overtake_what_could_have_run(exhaustive: bool) -> None:
    async def busy_machine() -> None:
        order = []

        async def soon() -> None:
            await trio.sleep(0.0005)
            order.append("timer")

        async def now() -> None:
            for _ in range(20):
                await trio.lowlevel.checkpoint()
            order.append("steps")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(soon)
            nursery.start_soon(now)
        assert order == ["steps", "timer"]

    with pytest.raises(ScheduleError):
        explore(busy_machine, schedules=200, seed=1)
    explore(busy_machine, schedules=200 if exhaustive else 50, seed=1, jitter=0)


def test_a_failure_says_seed_cause_history_and_command() -> None:
    with pytest.raises(ScheduleError) as caught:
        explore(no_lost_update, 2, schedules=50, seed=5)
    error = caught.value
    assert error.deterministic
    assert isinstance(error.error, AssertionError)
    assert error.__cause__ is error.error
    assert error.replay.startswith(f"{SEED_VARIABLE}={error.seed} python -m pytest ")
    assert "test_explorer.py::test_a_failure_says" in error.replay
    assert "deposit 2" in error.timeline
    assert "account.balance: 0 -> 1" in error.timeline
    assert "at 0x" not in error.timeline
    with pytest.raises(ScheduleError) as again:
        explore(no_lost_update, 2, schedules=1, seed=error.seed)
    assert (again.value.history, again.value.timeline) == (error.history, error.timeline)


def test_a_failure_says_where_it_was_raised_and_by_which_calls() -> None:
    def broken() -> None:
        raise ValueError("x")

    async def fails() -> None:
        await trio.sleep(1)
        broken()

    async def scenario() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails, name="fails")
            await trio.sleep(9)

    with pytest.raises(ScheduleError) as caught:
        explore(scenario, schedules=1)
    told = str(caught.value)
    assert re.search(r"  ValueError: x\n    raised at \S+:\d+ broken, from \S+:\d+ fails\n", told), told


def test_the_environment_variable_runs_that_seed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SEED_VARIABLE, "77")
    explored = explore(orders, schedules=40)
    assert (explored.seed, explored.schedules) == (77, 1)
    monkeypatch.setenv(SEED_VARIABLE, "seventy")
    with pytest.raises(ValueError, match="must be a seed"):
        explore(orders)


def test_what_the_seed_does_not_decide_is_told() -> None:
    calls = iter(range(10))

    async def flaky() -> None:
        for _ in range(next(calls)):
            await trio.lowlevel.checkpoint()
        raise ValueError("always")

    with pytest.raises(ScheduleError, match="not deterministic") as caught:
        explore(flaky, schedules=1)
    assert not caught.value.deterministic


def test_a_failure_that_is_gone_the_second_time_is_told_with_its_cause() -> None:
    first = iter([True])

    async def once() -> None:
        if next(first, False):
            raise ValueError("the first time only")

    with pytest.raises(ScheduleError, match="the first time only") as caught:
        explore(once, schedules=1)
    assert not caught.value.deterministic


def test_a_deadlock_is_a_failure_that_says_who_waits_where() -> None:
    async def deadlock() -> None:
        one, other = trio.Lock(), trio.Lock()

        async def philosopher(left: trio.Lock, right: trio.Lock) -> None:
            async with left:
                await trio.lowlevel.checkpoint()
                async with right:
                    pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(philosopher, one, other)
            nursery.start_soon(philosopher, other, one)

    with pytest.raises(ScheduleError, match="philosopher waits: test_explorer") as caught:
        explore(deadlock, schedules=50)
    assert isinstance(caught.value.error, StuckError)


def test_an_endless_scenario_is_broken_off() -> None:
    async def endless() -> None:
        while True:  # noqa: ASYNC110 - what is tested
            await trio.lowlevel.checkpoint()

    with pytest.raises(ScheduleError, match="more than 300 steps"):
        explore(endless, schedules=1, steps=300)


def test_a_scenario_that_shields_itself_from_being_broken_off_is_told() -> None:
    async def stubborn() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep_forever()

    with pytest.raises(ScheduleError, match="a shield without a deadline"):
        explore(stubborn, schedules=1, horizon=5)


def test_a_scenario_that_is_no_async_function_is_told_so() -> None:
    def plain() -> int:
        return 3

    with pytest.raises(ScheduleError, match=r"must be an async function: plain gave 3, which is nothing to await"):
        explore(plain, schedules=1)  # type: ignore[arg-type]


def test_notes_are_part_of_the_history_and_jitter_of_the_schedule() -> None:
    async def notes() -> None:
        begun = trio.current_time()
        await jitter(0.5)
        assert 0 <= trio.current_time() - begun <= 0.51
        note(f"drew {seeded_random().random()}")

    first = explore(notes, schedules=20, seed=3)
    assert first.distinct == 20
    assert explore(notes, schedules=20, seed=3).histories == first.histories

    async def noted() -> None:
        note("so far so good")
        raise ValueError

    with pytest.raises(ScheduleError, match="so far so good"):
        explore(noted, schedules=1)


def test_outside_of_a_schedule_notes_and_jitter_do_nothing(autojump_clock: trio.testing.MockClock) -> None:
    note("nobody listens")

    async def main() -> None:
        note("nobody listens")
        begun = trio.current_time()
        await jitter(5)
        assert trio.current_time() == begun

    trio.run(main, clock=autojump_clock)
    assert 0 <= seeded_random().random() < 1


def test_the_random_module_is_seeded_within_and_goes_on_as_before_outside() -> None:
    drawn: list[float] = []

    async def draws() -> None:
        drawn.append(random.random())

    random.seed(5)
    expected = random.random()
    random.seed(5)
    explore(draws, schedules=3, seed=9)
    assert random.random() == expected
    explore(draws, schedules=3, seed=9)
    assert drawn[:3] == drawn[3:]
    assert len(set(drawn)) == 3


def test_a_run_in_another_thread_keeps_its_own_order_while_schedules_are_explored() -> None:
    results: list[int] = []

    async def other() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(trio.lowlevel.checkpoint)
        results.append(1)

    async def with_a_thread() -> None:
        thread = threading.Thread(target=trio.run, args=(other,))
        thread.start()
        thread.join()

    run = run_schedule(with_a_thread, (), 1)
    assert run.error is None
    assert results == [1]
    assert run.steps < 40, "steps of another run are in this history"


def test_a_trio_that_has_changed_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(trio_run, "_r")
    with pytest.raises((UnsupportedTrioError, AttributeError)):
        explore(orders, schedules=1)
    monkeypatch.undo()
    with monkeypatch.context() as patch:
        patch.delattr(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING")
        with pytest.raises(UnsupportedTrioError, match=f"trio {trio.__version__} cannot be explored"):
            explore(orders, schedules=1)


def test_a_test_that_is_skipped_within_is_skipped() -> None:
    async def skips() -> None:
        pytest.skip("not here")

    with pytest.raises(pytest.skip.Exception):
        explore(skips, schedules=3)

    async def fails() -> None:
        pytest.fail("no good")

    with pytest.raises(ScheduleError, match="no good"):
        explore(fails, schedules=3)


def test_bad_input_is_refused_at_the_call() -> None:
    for bad in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="schedules"):
            explore(orders, schedules=bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="jitter"):
        explore(orders, jitter=-1)
    with pytest.raises(ValueError, match="horizon"):
        explore(orders, horizon=float("inf"))
    with pytest.raises(TypeError, match="give it the async function"):
        explore(orders())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be an async function"):
        explore(None)  # type: ignore[arg-type]


async def test_within_trio_it_says_where_to_call_it() -> None:
    with pytest.raises(RuntimeError, match="call it from a plain function"):
        explore(orders)


def test_a_schedule_of_a_session_takes_few_calls(exhaustive: bool) -> None:
    # Some 6,000, which are 4 ms of an old processor; in calls, for a busy machine is no reason to fail.
    explore(one_session_two_workers, schedules=5)
    schedules = 50 if exhaustive else 10
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        explored = explore(one_session_two_workers, schedules=schedules)
    finally:
        sys.setprofile(before)
    assert explored.distinct == schedules
    assert 1_000 < calls / explored.distinct < 9_000


def test_a_pipeline_of_simulated_hours_takes_few_steps(exhaustive: bool) -> None:
    # Some 17,000 for eight hours, which are 0.7 s of an old processor; in steps, for a busy machine is no reason to
    # fail.
    hours = 8 if exhaustive else 2
    nightly = Pipeline("nightly", {"fetch": 3, "build": 5})

    class Steps(trio.abc.Instrument):
        taken = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.taken += 1

    steps = Steps()

    async def all_hours() -> None:
        trio.lowlevel.add_instrument(steps)
        async with open_tracker() as tracker:
            async with tracker.session("nightly", nightly) as session:
                for name in ("fetch", "build"):
                    with session.phase(name, total=30 * hours) as phase:
                        for _ in range(30 * hours):
                            await trio.sleep(60)
                            phase.advance()
        assert trio.current_time() >= hours * 3600
        assert session.status == "completed"

    explore(all_hours, schedules=1)
    assert hours * 60 < steps.taken < hours * 3_125
