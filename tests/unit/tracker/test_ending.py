"""Cancelling, deleting and waiting; and a tracker that is left keeps nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import pytest
import trio
import trio.testing

from tests.support import RecordingStore
from trio_progress import (
    MemoryStore,
    ProgressError,
    ProgressTracker,
    SessionClosedError,
    SessionNotFoundError,
    Snapshot,
    StoreError,
    open_tracker,
)
from trio_progress.tracker import runtime_of


async def test_a_session_that_is_being_entered_can_be_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(RecordingStore(delay=0.5)) as tracker, trio.open_nursery() as nursery:
        ended: list[tuple[str, float]] = []

        async def run() -> None:
            async with tracker.session("a") as session:
                await trio.sleep(100)
            ended.append((session.status, trio.current_time()))

        nursery.start_soon(run)
        await trio.sleep(0.2)
        await tracker.cancel("a", "changed my mind")
    assert [status for status, _ in ended] == ["cancelled"]
    assert ended[0][1] < 5


async def test_cancelling_twice_or_what_has_ended_changes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        async with tracker.session("a") as session:
            await tracker.cancel("a", "first")
            with trio.CancelScope(shield=True):
                await tracker.cancel("a", "second")
            await trio.sleep(1)
        ended = await tracker.snapshot("a")
        await tracker.cancel("a", "third")
        assert await tracker.snapshot("a") == ended
        assert ended.status == session.status == "cancelled"


async def test_whoever_waits_for_the_end_gets_it_when_nothing_is_left(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore(delay=0.3)
    async with open_tracker(store) as tracker, trio.open_nursery() as nursery:
        waited: list[Snapshot] = []

        async def wait() -> None:
            waited.append(await tracker.wait_ended("a"))
            assert tracker.statistics().sessions_open == 0
            assert store.leases == {}
            async with tracker.session("a"):
                pass

        async with tracker.session("a") as session:
            nursery.start_soon(wait)
            await trio.sleep(2)
            session.set_result({"answer": 42})
        await trio.testing.wait_all_tasks_blocked()
    assert [(snapshot.status, snapshot.result) for snapshot in waited] == [("completed", {"answer": 42})]


async def test_who_waits_for_the_end_does_not_wait_for_the_next_run(autojump_clock: trio.testing.MockClock) -> None:
    waited: list[tuple[float, int, str]] = []
    async with open_tracker() as tracker, trio.open_nursery() as nursery:

        async def wait() -> None:
            snapshot = await tracker.wait_ended("a")
            waited.append((trio.current_time(), snapshot.attempt, snapshot.status))

        for attempt in (1, 2):
            with pytest.raises(ValueError, match="again"):
                async with tracker.session("a", resume="always"):
                    if attempt == 1:
                        nursery.start_soon(wait)
                    await trio.sleep(10)
                    raise ValueError("again")
    assert waited == [(10, 1, "failed")]


async def test_who_waits_for_an_end_is_told_where_there_is_none(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore()
    raised: dict[str, type[BaseException]] = {}

    async def wait(tracker: ProgressTracker, session_id: str) -> None:
        try:
            await tracker.wait_ended(session_id)
        except ProgressError as error:
            raised[session_id] = type(error)

    async with open_tracker(store) as owner, owner.session("running"), trio.open_nursery() as nursery:
        await owner.declare("deleted")
        await owner.declare("queued")
        async with open_tracker(store) as tracker:
            for session_id in ("running", "deleted", "queued"):
                nursery.start_soon(wait, tracker, session_id)  # noqa: ASYNC111 - it is left while they wait
            await trio.sleep(1)
            await tracker.delete("deleted")
            await trio.sleep(1)
            assert raised == {"deleted": SessionNotFoundError}
    assert raised == {"deleted": SessionNotFoundError, "running": SessionClosedError, "queued": SessionClosedError}


async def test_being_cancelled_while_waiting_leaves_no_listener(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("open"):
        await tracker.declare("queued")

        async def all_snapshots(session_id: str) -> None:
            async with tracker.watch(session_id, wait=True) as snapshots:
                async for _ in snapshots:
                    pass

        async def all_messages(session_id: str) -> None:
            async with tracker.subscribe(session_id, wait=True) as messages:
                async for _ in messages:
                    pass

        for session_id in ("open", "queued", "not-there"):
            for wait in (all_snapshots, all_messages):
                with trio.move_on_after(3) as scope:
                    await wait(session_id)
                assert scope.cancelled_caught
        with trio.move_on_after(3):
            await tracker.wait_ended("open")
        assert tracker.statistics().subscribers == 0


async def test_being_cancelled_while_entering_leaves_nothing_registered(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore()
    async with open_tracker(store) as other, other.session("elsewhere"), open_tracker(store) as tracker:
        for n in range(40):
            await other.declare(f"q{n}")
        for checkpoints in range(60):
            for stream in (tracker.watch_all(), tracker.watch("elsewhere"), tracker.subscribe("elsewhere")):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(drain, stream)
                    for _ in range(checkpoints):
                        await trio.lowlevel.checkpoint()
                    nursery.cancel_scope.cancel()
                assert tracker.statistics().subscribers == 0
                assert not runtime_of(tracker).hub.observers


LATE: dict[str, Callable[[ProgressTracker], Awaitable[object]]] = {
    "declare": lambda tracker: tracker.declare("new"),
    "cancel": lambda tracker: tracker.cancel("queued"),
    "delete": lambda tracker: tracker.delete("queued"),
    "session": lambda tracker: tracker.session("new").__aenter__(),
    "wait_ended": lambda tracker: tracker.wait_ended("queued"),
}


async def drain(stream: AbstractAsyncContextManager[AsyncIterator[object]]) -> None:
    """Reads on until the stream ends, or says that the tracker has been left."""
    try:
        async with stream as items:
            async for _ in items:
                pass
    except SessionClosedError:
        pass


@pytest.mark.parametrize("call", LATE)
async def test_a_tracker_that_was_left_refuses_and_keeps_nobody_waiting(
    call: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker:
        await tracker.declare("queued")
    with trio.fail_after(60), pytest.raises(SessionClosedError, match="left"):
        await LATE[call](tracker)


async def test_who_waits_for_a_write_that_a_tracker_gives_up_is_told(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore(delay=4)
    raised: dict[str, float] = {}

    async def declare(tracker: ProgressTracker, session_id: str) -> None:
        with pytest.raises(StoreError, match="left"):
            await tracker.declare(session_id)
        raised[session_id] = trio.current_time()

    with trio.fail_after(60):
        async with trio.open_nursery() as outside:
            async with open_tracker(store, flush_timeout=2) as tracker:
                outside.start_soon(declare, tracker, "under-way")  # noqa: ASYNC111 - it outlives it
                await trio.sleep(0.5)
                outside.start_soon(declare, tracker, "waiting")  # noqa: ASYNC111 - it outlives it
                await trio.sleep(0.5)
    assert raised == {"under-way": 3, "waiting": 3}


@pytest.mark.parametrize("session_id", ["queued", "not-there"])
async def test_no_stream_of_a_tracker_that_was_left_goes_on_for_ever(
    session_id: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker:
        await tracker.declare("queued")
    with trio.fail_after(60):
        await drain(tracker.watch(session_id, wait=True))
        await drain(tracker.subscribe(session_id, wait=True))
        await drain(tracker.watch_all())


async def test_whoever_still_waits_when_the_tracker_is_left_is_let_go(autojump_clock: trio.testing.MockClock) -> None:
    with trio.fail_after(60):
        async with trio.open_nursery() as outside:
            async with open_tracker() as tracker:
                await tracker.declare("queued")
                streams: list[AbstractAsyncContextManager[AsyncIterator[object]]] = [
                    tracker.watch("queued"),
                    tracker.subscribe("queued"),
                    tracker.watch("not-there", wait=True),
                    tracker.subscribe("not-there", wait=True),
                    tracker.watch_all(),
                ]
                for stream in streams:
                    outside.start_soon(drain, stream)
                await trio.sleep(1)
            await trio.testing.wait_all_tasks_blocked()


async def test_a_busy_reader_of_all_sessions_still_sees_how_they_ended(autojump_clock: trio.testing.MockClock) -> None:
    seen: list[tuple[str, str]] = []
    async with trio.open_nursery() as outside:
        async with open_tracker() as tracker:

            async def follow() -> None:
                async with tracker.watch_all() as snapshots:
                    async for snapshot in snapshots:
                        seen.append((snapshot.id, snapshot.status))
                        await trio.sleep(50)

            async def run(session_id: str) -> None:
                async with tracker.session(session_id):
                    await trio.sleep_forever()

            outside.start_soon(follow)
            outside.start_soon(run, "a")
            outside.start_soon(run, "b")
            await trio.sleep(1)
    assert dict(seen) == {"a": "cancelled", "b": "cancelled"}
