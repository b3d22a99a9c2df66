"""However many sessions are entered or left at once: each round of the event loop does a part of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from trio_progress import Pipeline, ProgressTracker, open_tracker
from trio_progress.session.turns import IN_A_ROUND, Turns

PIPELINE = Pipeline("p", ["a", "b"])


class Rounds(trio.abc.Instrument):
    """Counts the rounds of the event loop."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


async def rounds_and_most(tracker: ProgressTracker, number: int) -> tuple[int, int, int, int]:
    """The rounds in which so many are entered and left, and how many at most were in one of them."""
    rounds = Rounds()
    entered: dict[int, int] = {}
    left: dict[int, int] = {}
    all_in, release = trio.Event(), trio.Event()

    async def hold(n: int) -> None:
        async with tracker.session(f"{number}-{n}", PIPELINE):
            entered[rounds.count] = entered.get(rounds.count, 0) + 1
            if sum(entered.values()) == number:
                all_in.set()
            await release.wait()
        left[rounds.count] = left.get(rounds.count, 0) + 1

    trio.lowlevel.add_instrument(rounds)
    try:
        async with trio.open_nursery() as nursery:
            for n in range(number):
                nursery.start_soon(hold, n)
            await all_in.wait()
            entering, rounds.count = rounds.count, 0
            release.set()
        return entering, max(entered.values()), rounds.count, max(left.values())
    finally:
        trio.lowlevel.remove_instrument(rounds)


async def test_the_rounds_grow_with_the_sessions_and_none_has_more_to_do(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker:
        few = await rounds_and_most(tracker, 8 * IN_A_ROUND)
        many = await rounds_and_most(tracker, 16 * IN_A_ROUND)
    for entering, most_entered, leaving, most_left in (few, many):
        assert max(most_entered, most_left) <= IN_A_ROUND + 1
        assert entering >= 8
        assert leaving >= 8
    assert many[0] - few[0] == pytest.approx(8, abs=2)
    assert many[2] - few[2] == pytest.approx(8, abs=2)


async def test_one_alone_is_entered_in_one_round_and_left_in_two() -> None:
    rounds = Rounds()
    async with open_tracker() as tracker:
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.add_instrument(rounds)
        async with tracker.session("a", PIPELINE):
            assert rounds.count == 1
        assert rounds.count == 3
        trio.lowlevel.remove_instrument(rounds)


async def order_of(turns: Turns, number: int, after: Callable[[list[trio.CancelScope]], None]) -> list[int]:
    """In which order so many go on, of whom some are cancelled once all of them wait or have gone on."""
    went: list[int] = []
    scopes = [trio.CancelScope() for _ in range(number)]

    async def one(n: int) -> None:
        with scopes[n]:
            await turns.take(shielded=n % 2 == 1)
            went.append(n)

    async with trio.open_nursery() as nursery:
        for n in range(number):
            nursery.start_soon(one, n)
        await trio.lowlevel.checkpoint()
        after(scopes)
    return went


async def test_who_is_cancelled_while_it_waits_holds_up_nobody() -> None:
    def cancel_all(scopes: list[trio.CancelScope]) -> None:
        for scope in scopes:
            scope.cancel()

    turns = Turns()
    number = 6 * IN_A_ROUND
    went = await order_of(turns, number, cancel_all)
    assert set(range(1, number, 2)) <= set(went), "one that is shielded was cancelled"
    assert len(went) < number
    await turns.take()
    assert sorted(await order_of(turns, number, lambda _: None)) == list(range(number))
