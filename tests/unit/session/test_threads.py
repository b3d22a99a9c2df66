"""Counting from foreign threads: nothing is lost, nothing waits, and what does not belong there is told so."""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from trio_progress import ForeignThreadError, PhaseError, ProgressTracker, Session, ThreadTicker, open_tracker


def in_thread(call: Callable[[], object]) -> Exception | None:
    """Runs `call` in a thread of its own and waits for it without giving the event loop a turn."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


async def test_what_threads_counted_before_the_phase_ended_is_in_it(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x", total=50) as phase:
            tick = phase.from_thread()

            def count() -> None:
                for _ in range(50):
                    tick.advance()

            in_thread(count)
        assert (phase.done, phase.status) == (50, "completed")
        assert session.snapshot().phase("x").done == 50
        assert tracker.statistics().late == 0


async def test_what_threads_count_is_seen_while_they_count(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            tick = phase.from_thread()
            for number in range(1, 5):
                in_thread(tick.advance)
                await trio.testing.wait_all_tasks_blocked()
                assert phase.done == number


async def test_a_hand_over_takes_in_what_threads_have_counted(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        first = session.advance_to("first")
        tick = first.from_thread()
        in_thread(lambda: tick.advance(7))
        in_thread(lambda: tick.update(message="done here"))
        session.advance_to("second")
        assert (first.done, first.message, first.status) == (7, "done here", "completed")
        assert tracker.statistics().late == 0


async def test_the_end_of_the_parent_and_of_the_session_take_in_what_was_counted_below(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker:
        async with tracker.session("a") as session:
            with session.phase("x") as phase:
                child = phase.phase("child").__enter__()
                tick = child.from_thread()
                in_thread(lambda: tick.advance(3))
            assert child.done == 3
            last = session.advance_to("last").from_thread()
            in_thread(lambda: last.advance(4))
        assert session.snapshot().phase("last").done == 4
        assert (await tracker.snapshot("a")).phase("last").done == 4
        assert tracker.statistics().late == 0


async def test_what_comes_after_the_phase_is_late_and_changes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            tick = phase.from_thread()
            tick.advance()
        before = session.snapshot()
        in_thread(lambda: tick.advance(5))
        in_thread(lambda: tick.update(done=5, total=6, message="late"))
        await trio.testing.wait_all_tasks_blocked()
        assert session.snapshot() == before
        assert tracker.statistics().late > 0


async def test_absolute_values_replace_what_was_added_before_them(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            tick = phase.from_thread()

            def work() -> None:
                tick.advance(100)
                tick.update(done=10, total=20)
                tick.advance(2)
                tick.update(message="one")
                tick.update(message="two")

            in_thread(work)
            assert phase.done == 0  # Nothing waits for the event loop, and nothing happens outside it.
            await trio.testing.wait_all_tasks_blocked()
            assert (phase.done, phase.total, phase.message) == (12, 20, "two")


async def test_a_phase_has_one_ticker_and_only_while_it_is_open(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            tick = phase.from_thread()
            assert phase.from_thread() is tick
            assert isinstance(tick, ThreadTicker)
        with pytest.raises(PhaseError, match="open phase only"):
            phase.from_thread()
        with session.phase("y") as other:
            assert other.from_thread() is not tick


async def test_a_further_attempt_is_counted_from_threads_as_well(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with pytest.raises(ZeroDivisionError):
            with session.phase("x") as phase:
                in_thread(lambda: phase.from_thread().advance(3))
                raise ZeroDivisionError
        assert phase.done == 3
        with session.phase("x") as phase:
            tick = phase.from_thread()
            in_thread(lambda: tick.advance(4))
        assert (phase.done, phase.attempt) == (4, 2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1, "1", None, 2**53, [1]])
async def test_bad_values_raise_in_the_thread_and_change_nothing(
    bad: Any, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            tick = phase.from_thread()
            before = session.snapshot()
            assert isinstance(in_thread(lambda: tick.advance(bad)), (ValueError, TypeError))
            assert isinstance(in_thread(lambda: tick.update(done=bad)), (ValueError, TypeError))
            assert isinstance(in_thread(lambda: tick.update(done=1, total=bad if bad is not None else -1)), Exception)
            await trio.testing.wait_all_tasks_blocked()
            assert session.snapshot() is before


async def test_bad_values_are_dropped_and_counted_where_the_tracker_is_not_strict(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker(strict=False) as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            tick = phase.from_thread()
            assert in_thread(lambda: tick.advance(-1)) is None
            assert in_thread(lambda: tick.update(done=math.nan)) is None
            tick.advance()
        await trio.testing.wait_all_tasks_blocked()
        assert phase.done == 1
        assert tracker.statistics().refused == 2
        phase.from_thread().advance()  # It has ended: one that counts nothing.
        assert tracker.statistics().refused == 3


def test_a_thread_that_outlives_the_run_is_not_hurt() -> None:
    async def main() -> tuple[Session, ThreadTicker]:
        async with open_tracker() as tracker, tracker.session("a") as session:
            with session.phase("x") as phase:
                tick = phase.from_thread()
        assert isinstance(tick, ThreadTicker)
        return session, tick

    session, tick = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    before = session.snapshot().seq
    assert in_thread(tick.advance) is None
    assert in_thread(lambda: tick.update(done=9)) is None
    assert session.snapshot().seq == before


async def test_many_threads_on_many_phases_lose_no_count_while_phases_end() -> None:
    async with open_tracker(broadcast_interval=0.001) as tracker, tracker.session("a") as session:

        async def phase(name: str) -> None:
            with session.phase(name) as opened:
                tick = opened.from_thread()

                def work() -> None:
                    for _ in range(700):
                        tick.advance()
                        tick.advance(2)

                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(trio.to_thread.run_sync, work)
            assert opened.done == 3 * 700 * 3

        async with tracker.watch("a") as snapshots, trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(phase, f"phase {number}")
            seen = 0.0
            async for snapshot in snapshots:
                counted = sum(shown.done for shown in snapshot.phases)
                assert counted >= seen
                seen = counted
                if counted == 4 * 6300:
                    break
        assert tracker.statistics().late == 0


def in_a_loop(call: Callable[..., Awaitable[object]], *args: object) -> None:
    async def bounded() -> None:
        with trio.fail_after(5):
            await call(*args)

    trio.run(bounded)


ASKED: dict[str, Callable[[ProgressTracker], Any]] = {
    "session": lambda tracker: tracker.session("b"),
    "next_session": lambda tracker: tracker.next_session(),
    "watch": lambda tracker: tracker.watch("a"),
    "watch_all": lambda tracker: tracker.watch_all(),
    "subscribe": lambda tracker: tracker.subscribe("a"),
    "declare": lambda tracker: in_a_loop(tracker.declare, "b"),
    "cancel": lambda tracker: in_a_loop(tracker.cancel, "a"),
    "delete": lambda tracker: in_a_loop(tracker.delete, "a"),
    "fence": lambda tracker: in_a_loop(tracker.fence, "a"),
    "snapshot": lambda tracker: in_a_loop(tracker.snapshot, "a"),
    "sessions": lambda tracker: in_a_loop(tracker.sessions),
    "wait_ended": lambda tracker: in_a_loop(tracker.wait_ended, "a"),
    "history": lambda tracker: in_a_loop(tracker.history, "import"),
}


@pytest.mark.parametrize("call", ASKED)
async def test_a_tracker_is_not_asked_by_the_event_loop_of_another_thread(
    call: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        error = in_thread(lambda: ASKED[call](tracker))
        assert isinstance(error, ForeignThreadError)
        assert "trio.from_thread.run()" in str(error)
        assert [listed.id for listed in await tracker.sessions()] == ["a"]
        assert in_thread(lambda: tracker.settings) is None
    assert session.status == "completed"


CALLS: dict[str, Callable[[Session], object]] = {
    "advance": lambda session: session.phases["x"].advance(),
    "skip": lambda session: session.phases["x"].skip(),
    "extend": lambda session: session.phases["x"].extend(1),
    "update": lambda session: session.phases["x"].update(done=3),
    "set": lambda session: session.phases["x"].set(a=1),
    "leave": lambda session: session.phases["x"].__exit__(None, None, None),
    "track": lambda session: list(session.phases["x"].track([1, 2])),
    "child": lambda session: session.phases["x"].phase("child").__enter__(),
    "phase": lambda session: session.phase("y").__enter__(),
    "advance_to": lambda session: session.advance_to("y"),
    "skip_phase": lambda session: session.skip_phase("failed"),
    "increment": lambda session: session.increment("n"),
    "session.set": lambda session: session.set(a=1),
    "session.update": lambda session: session.update(message="m"),
    "emit": lambda session: session.emit("e"),
    "save": lambda session: session.save(1),
    "set_result": lambda session: session.set_result(1),
    "cancel": lambda session: session.cancel("no"),
    "fail": lambda session: session.fail("no"),
    "snapshot": lambda session: session.snapshot(),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_from_a_foreign_thread_raises_names_the_way_and_changes_nothing(
    call: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with pytest.raises(ZeroDivisionError), session.phase("failed"):
            raise ZeroDivisionError
        with session.phase("x", total=3) as phase:
            phase.advance()
            before = session.snapshot()
            error = in_thread(lambda: CALLS[call](session))
            assert isinstance(error, RuntimeError)
            assert "from_thread()" in str(error)
            assert session.snapshot() is before
            phase.advance()  # And the session goes on.
            await trio.sleep(1)
            assert session.snapshot().phase("x").done == 2
    assert session.status == "completed"
    assert in_thread(session.snapshot) is None, "what has ended can be read by anybody"
