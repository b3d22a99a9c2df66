"""A failure explains itself: who woke and cancelled whom, who waits for what, a circle by its names; and as a page."""

from __future__ import annotations

import re
import threading

import pytest
import trio

from trio_progress.testing import ScheduleError, explore
from trio_progress.testing.seen import chance_of_new
from trio_progress.testing.timeline import in_a_line


async def philosophers() -> None:
    left, right = trio.Lock(), trio.Lock()

    async def eats(first: trio.Lock, second: trio.Lock) -> None:
        async with first:
            await trio.lowlevel.checkpoint()
            async with second:
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(eats, left, right)
        nursery.start_soon(eats, right, left)


async def ends_badly() -> None:
    stopped, ready = trio.Event(), trio.Event()

    async def stops() -> None:
        await ready.wait()
        stopped.set()

    async def waits() -> None:
        ready.set()
        await stopped.wait()
        with trio.fail_after(0.5):
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(waits)
        nursery.start_soon(stops)


def failure(scenario: object) -> ScheduleError:
    with pytest.raises(ScheduleError) as caught:
        explore(scenario, schedules=200, seed=1, horizon=1000)  # type: ignore[arg-type]
    return caught.value


def test_a_circle_of_locks_is_named_with_who_holds_what() -> None:
    text = str(failure(philosophers))
    assert re.search(r"a circle: `eats \d` waits for `eats \d` waits for `eats \d`", text)
    assert re.search(r"eats waits: test_waiting.py:\d+ eats, for the Lock `(first|second)`, which `eats \d` has", text)
    assert len(text.splitlines()) <= 40


def test_who_waits_for_a_thread_is_said_to_do_so() -> None:
    released = threading.Event()

    async def waits_for_a_thread() -> None:
        await trio.to_thread.run_sync(released.wait, abandon_on_cancel=True)

    try:
        text = str(failure(waits_for_a_thread))
    finally:
        released.set()
    assert re.search(r"waits: test_waiting.py:\d+ \w+, for a thread, for which virtual time does not wait", text)


def test_who_wakes_whom_and_who_is_cancelled_by_what_is_told() -> None:
    text = str(failure(ends_badly))
    assert re.search(r"stops +.*wakes waits", text)
    assert "waits       its deadline passes" in text


def test_a_step_that_changes_much_is_a_line_that_counts_the_rest() -> None:
    changes = tuple(f"name_{number} = {'x' * 30}" for number in range(9))
    line = in_a_line((*changes, "balance: 1 -> 2"))
    assert line.startswith("balance: 1 -> 2; name_0 = ")
    assert line.endswith("; 7 more")
    assert len(line) < 140


def test_a_schedule_is_a_page_that_needs_nothing_else() -> None:
    error = failure(philosophers)
    page = error.page()
    assert page.startswith("<!doctype html>")
    assert page.count('class="name"') == 3
    assert 'class="wake"' in page
    assert not re.search(r"(src|href)=|<script|https?:", page)
    assert "<locals>" not in page
    assert str(error.seed) in page


def test_the_chance_of_something_new_is_what_good_and_turing_say() -> None:
    unseen = chance_of_new(["a", "a", "b", "c"])
    assert unseen.chance == 0.5
    assert unseen.low < 0.5 < unseen.high <= 1
    assert chance_of_new(["a"] * 300) == (0, 0, 0.01)
    assert "50.0%" in str(unseen)
    with pytest.raises(ValueError, match="no schedule was run"):
        chance_of_new([])
