"""The sweep: a scenario that leaves something when it is cancelled at the worst moment is caught, and named."""

from __future__ import annotations

import socket
import threading
from collections.abc import Awaitable, Callable

import pytest
import trio

from benchmarks._scenarios import leaving_while_being_cancelled, one_session_two_workers
from trio_progress import Pipeline, ProgressTracker, open_tracker
from trio_progress.session.runtime import Reservation
from trio_progress.testing import LeftoverError, ScheduleError, StuckError, cancel_everywhere
from trio_progress.testing.failure import SEED_VARIABLE
from trio_progress.tracker import runtime_of

PIPELINE = Pipeline("research", {"search": 3, "report": 1})


async def flat() -> None:
    async with open_tracker() as tracker, tracker.session("a", PIPELINE) as session:
        with session.phase("search", total=4) as phase:
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(work, phase.advance)
        session.advance_to("report").advance()


async def nested() -> None:
    async with open_tracker() as tracker:
        async with tracker.session("a", PIPELINE) as outer, tracker.session("b") as inner:
            with outer.phase("search"), inner.phase("part") as part:
                await work(part.advance)


async def watched() -> None:
    async with open_tracker() as tracker, trio.open_nursery() as nursery:
        nursery.start_soon(read, tracker)
        async with tracker.session("a") as session:
            await work(lambda: session.increment("n"))


async def read(tracker: ProgressTracker) -> None:
    async with tracker.subscribe("a", wait=True) as messages:
        async for _ in messages:
            await trio.sleep(0.01)


async def work(count: Callable[[], None]) -> None:
    for _ in range(2):
        count()
        await trio.sleep(0.05)


@pytest.mark.parametrize(
    ("scenario", "kind"),
    [
        (flat, "cancel"),
        (nested, "interrupt"),
        (watched, "cancel"),
        pytest.param(flat, "interrupt", marks=pytest.mark.exhaustive),
        pytest.param(nested, "cancel", marks=pytest.mark.exhaustive),
        pytest.param(watched, "interrupt", marks=pytest.mark.exhaustive),
    ],
)
def test_our_sessions_leave_nothing_wherever_they_are_cancelled(
    scenario: Callable[[], Awaitable[None]], kind: str, seed: int
) -> None:
    swept = cancel_everywhere(scenario, kind=kind, seed=seed)  # type: ignore[arg-type]
    assert swept.steps > 20
    assert swept.outcomes.get({"cancel": "cancelled", "interrupt": "interrupted"}[kind], 0) > 10
    assert sum(swept.outcomes.values()) == swept.steps


def caught(scenario: Callable[[], Awaitable[None]], **options: int) -> ScheduleError:
    with pytest.raises(ScheduleError) as failure:
        cancel_everywhere(scenario, **options)  # type: ignore[arg-type]
    return failure.value


def test_a_task_that_goes_on_is_left() -> None:
    async def starts_a_system_task() -> None:
        try:
            await trio.sleep(1)
        except trio.Cancelled:
            trio.lowlevel.spawn_system_task(trio.sleep, 5)
            raise

    error = caught(starts_a_system_task).error
    assert isinstance(error, LeftoverError)
    assert error.found == ("the task 'trio.sleep' still runs",)


def test_a_channel_that_somebody_still_holds_is_left() -> None:
    kept = []

    async def forgets_one_end() -> None:
        send, receive = trio.open_memory_channel[None](1)
        kept.append(receive)
        with send:
            await trio.sleep(1)
            receive.close()

    error = caught(forgets_one_end).error
    assert isinstance(error, LeftoverError)
    assert error.found == ("a MemoryReceiveChannel is still open: close it, best by `with`",)


def test_a_socket_that_was_thrown_away_open_is_left() -> None:
    async def closes_too_late() -> None:
        one, other = socket.socketpair()
        with one:
            await trio.sleep(1)
            other.close()

    error = caught(closes_too_late).error
    assert isinstance(error, LeftoverError)
    assert "socket" in error.found[0]


def test_a_thread_that_goes_on_is_left() -> None:
    over = threading.Event()

    async def starts_a_thread() -> None:
        thread = threading.Thread(target=over.wait, name="helper", daemon=True)
        thread.start()
        try:
            await trio.sleep(1)
        finally:
            pass
        over.set()
        thread.join()
        over.clear()

    try:
        error = caught(starts_a_thread).error
    finally:
        over.set()
    assert isinstance(error, LeftoverError)
    assert error.found == ("the thread 'helper' still runs",)


def test_a_worker_thread_that_was_abandoned_is_left() -> None:
    over = threading.Event()

    async def abandons() -> None:
        await trio.to_thread.run_sync(over.wait, abandon_on_cancel=True)

    async def gives_up_on_it() -> None:
        with trio.move_on_after(1):
            await abandons()

    try:
        error = caught(gives_up_on_it).error
    finally:
        over.set()
    assert isinstance(error, LeftoverError)
    assert error.found == ("1 threads of `trio.to_thread` still work",)


def test_a_session_that_is_still_open_is_left() -> None:
    trackers = []

    async def keeps_it() -> None:
        # What a scope looks like that somebody has entered by hand, and never left.
        async with open_tracker() as tracker:
            trackers.append(tracker)
        runtime_of(tracker).open["a"] = Reservation()

    error = caught(keeps_it).error
    assert isinstance(error, LeftoverError)
    assert error.found == ("1 sessions of a tracker are still open",)


def test_who_swallows_the_cancel_and_waits_is_stuck() -> None:
    async def swallows() -> None:
        try:
            await trio.sleep(1)
        except trio.Cancelled:  # noqa: ASYNC103 - what is tested
            with trio.CancelScope(shield=True):
                await trio.sleep_forever()

    assert isinstance(caught(swallows, horizon=100).error, StuckError)


def test_cleanup_that_fails_is_told_with_the_step_and_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def half_open() -> None:
        connection = None
        try:
            await trio.sleep(0.1)
            connection = "open"
            await trio.sleep(0.1)
        finally:
            assert connection is not None, "closed before it was open"

    error = caught(half_open, seed=3)
    assert "cancelled at step" in str(error)
    assert "closed before it was open" in str(error)
    assert error.deterministic
    variable, _, rest = error.replay.partition(" ")
    assert rest.startswith("python -m pytest")
    monkeypatch.setenv(SEED_VARIABLE, variable.partition("=")[2])
    again = caught(half_open)
    assert again.replay == error.replay
    assert again.timeline == error.timeline


def test_a_check_of_ones_own_comes_after_each_run() -> None:
    runs = []

    async def short() -> None:
        await trio.sleep(1)

    swept = cancel_everywhere(short, check=lambda: runs.append(1))
    assert len(runs) == swept.steps + 1

    def refuse() -> None:
        runs.append(1)
        assert len(runs) < swept.steps + 3

    with pytest.raises(ScheduleError):
        cancel_everywhere(short, check=refuse)


def test_bad_input_is_refused_at_the_call() -> None:
    with pytest.raises(ValueError, match="kind must be"):
        cancel_everywhere(flat, kind="kill")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="async function"):
        cancel_everywhere(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "scenario",
    [one_session_two_workers, pytest.param(leaving_while_being_cancelled, marks=pytest.mark.exhaustive)],
)
def test_our_scenarios_can_be_swept_too(scenario: Callable[[], Awaitable[None]]) -> None:
    async def tolerant() -> None:
        await scenario()

    assert cancel_everywhere(tolerant).steps > 30
