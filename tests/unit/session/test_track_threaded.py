"""`phase.track_threaded()`: items that block are waited for in threads, and counted as `track()` does."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from trio_progress import NullPhase, open_tracker


async def test_each_item_is_counted_once_its_body_is_done_and_the_loop_runs_meanwhile() -> None:
    gates = [threading.Event() for _ in range(3)]
    threads = set()

    def items() -> Iterator[int]:
        for number, gate in enumerate(gates):
            assert gate.wait(60)
            threads.add(threading.get_ident())
            yield number

    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x", total=3) as phase:
            counted = []
            async with trio.open_nursery() as nursery:

                async def release() -> None:
                    for gate in gates:
                        await trio.testing.wait_all_tasks_blocked()
                        gate.set()

                nursery.start_soon(release)
                counted += [(number, phase.done) async for number in phase.track_threaded(items())]
            assert counted == [(0, 0), (1, 1), (2, 2)]
            assert phase.done == 3
    assert threading.get_ident() not in threads


async def test_lengths_that_items_have_become_the_total() -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            async for _ in phase.track_threaded([1, 2, 3]):
                assert phase.total == 3
            assert [item async for item in phase.track_threaded(iter([4]))] == [4]
            assert (phase.done, phase.total) == (4, 4)


async def test_what_the_items_raise_comes_out_of_the_loop() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("bad")

    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x", total=2) as phase:
            with pytest.raises(KeyError, match="bad"):
                async for _ in phase.track_threaded(items()):
                    pass
            assert phase.done == 1
            with pytest.raises(TypeError, match="not iterable"):
                phase.track_threaded(7)  # type: ignore[arg-type]


async def test_a_thread_can_be_left_to_itself_when_it_is_cancelled() -> None:
    gate = threading.Event()

    def items() -> Iterator[int]:
        gate.wait(60)
        yield 1

    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x", total=2) as phase:
            with trio.CancelScope() as scope:
                scope.cancel()
                async for _ in phase.track_threaded(items(), abandon_on_cancel=True):
                    pass
            assert scope.cancelled_caught
            assert not gate.is_set()
            gate.set()


async def test_where_nobody_follows_the_items_come_all_the_same() -> None:
    assert [item async for item in NullPhase().track_threaded("abc")] == ["a", "b", "c"]
