"""The parts of a session that ends: cancelled with it, by the store, and only where they are its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_progress import FencedError, MemoryStore, ProgressTracker, Session, open_tracker
from trio_progress.testing import FaultyStore

SETTINGS: dict[str, Any] = {"lost_after": 3.0, "heartbeat_interval": 1.0, "persist_interval": 0.5}


async def work(tracker: ProgressTracker, session_id: str) -> None:
    """A part that takes longer than any test."""
    async with tracker.session(session_id, resume="interrupted"):
        await trio.sleep(1000)


async def own_part(store: FaultyStore, settings: dict[str, Any]) -> None:
    """Works on the part `own`, in a process of its own."""
    async with open_tracker(store, **settings) as tracker:
        await work(tracker, "own")


async def follow_all(session: Session, ids: Sequence[str], *, detach: bool = False) -> None:
    with session.phase("shards", total=len(ids)) as phase:
        async with trio.open_nursery() as nursery:
            for session_id in ids:
                nursery.start_soon(partial(phase.follow, session_id, detach=detach))


async def job(
    tracker: ProgressTracker,
    how: str,
    ids: Sequence[str],
    *,
    detach: bool = False,
    session_id: str = "job",
    before: Callable[[], object] = lambda: None,
) -> Session:
    """A session that follows these for 5 s, and then ends as `how` says; `before` is called right before that."""
    opened: list[Session] = []
    try:
        async with tracker.session(session_id) as session, trio.open_nursery() as nursery:
            opened.append(session)
            nursery.start_soon(partial(follow_all, session, ids, detach=detach))
            await trio.sleep(5)
            before()
            if how == "failed":
                raise OSError("no disk")
            if how == "timed_out":
                raise trio.TooSlowError
            if how == "interrupted":
                raise KeyboardInterrupt
            if how == "cancelled":
                session.cancel()
            else:
                nursery.cancel_scope.cancel()
    except* (OSError, trio.TooSlowError, KeyboardInterrupt, FencedError):
        pass
    return opened[0]


async def status(tracker: ProgressTracker, *ids: str) -> list[str]:
    return [(await tracker.snapshot(session_id)).status for session_id in ids]


@pytest.mark.parametrize("how", ["failed", "cancelled", "timed_out", "interrupted", "completed"])
@pytest.mark.parametrize("same", [False, True], ids=["two processes", "one process"])
async def test_only_its_own_parts_are_cancelled_and_only_where_it_ends_without_success(
    how: str, same: bool, autojump_clock: MockClock
) -> None:
    store = MemoryStore()
    async with open_tracker(store, **SETTINGS) as tracker, open_tracker(store, **SETTINGS) as other:
        await other.declare("own", parent="job")
        await other.declare("queued", parent="job")
        await other.declare("others", parent="job-2")
        async with trio.open_nursery() as nursery:
            for session_id in ("own", "others", "nobodys"):
                nursery.start_soon(work, tracker if same else other, session_id)
            await trio.sleep(0.1)
            with trio.fail_after(7):
                session = await job(tracker, how, ["own", "queued", "others", "nobodys"])
            assert session.status == how
            cancelled = how in ("failed", "cancelled", "timed_out")
            assert await status(other, "own", "queued") == (["cancelled"] * 2 if cancelled else ["running", "queued"])
            if cancelled:
                own = await other.snapshot("own")
                assert own.error is not None
                assert str(own.error.message).startswith("session 'job', which it is a part of, ")
            assert await status(other, "others", "nobodys") == ["running", "running"]
            assert tracker.statistics().parts_left == 0
            nursery.cancel_scope.cancel()


async def test_a_detached_part_is_never_cancelled(autojump_clock: MockClock) -> None:
    async with open_tracker(MemoryStore(), **SETTINGS) as tracker, trio.open_nursery() as nursery:
        await tracker.declare("own", parent="job")
        nursery.start_soon(work, tracker, "own")
        await job(tracker, "failed", ["own"], detach=True)
        assert await status(tracker, "own") == ["running"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("stands", ["interrupted", "lost", "lost unnoticed"])
async def test_what_somebody_might_go_on_with_is_ended(stands: str, autojump_clock: MockClock) -> None:
    store = MemoryStore()
    dying = FaultyStore(store)
    async with open_tracker(store, **SETTINGS) as tracker, trio.open_nursery() as nursery:
        await tracker.declare("own", parent="job")

        async def owner() -> None:
            async with open_tracker(dying, **SETTINGS) as other:
                try:
                    async with other.session("own") as session:
                        session.emit("begun", 1)
                        await session.flush()
                        if stands == "interrupted":
                            raise KeyboardInterrupt
                        dying.mode = "down"
                        await trio.sleep(1000)
                except KeyboardInterrupt:
                    pass

        nursery.start_soon(owner)
        await trio.sleep(20 if stands == "lost" else 0.1)
        assert await status(tracker, "own") == [stands if stands != "lost unnoticed" else "running"]
        await job(tracker, "failed", ["own"])
        ended = await tracker.snapshot("own")
        assert (ended.status, ended.liveness, ended.parent, ended.events) == ("cancelled", "ok", "job", 1)
        assert tracker.statistics().parts_left == 0
        nursery.cancel_scope.cancel()


async def test_a_part_that_does_not_end_is_waited_for_no_longer_than_flush_timeout_and_ended_when_it_is_lost(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    dying = FaultyStore(store)
    settings = SETTINGS | {"lost_after": 30.0, "flush_timeout": 2.0}
    async with open_tracker(store, **settings) as tracker, trio.open_nursery() as nursery:
        await tracker.declare("own", parent="job")
        nursery.start_soon(own_part, dying, settings)

        def die() -> None:
            dying.mode = "down"

        with trio.fail_after(7.5):
            await job(tracker, "failed", ["own"], before=die)
        assert tracker.statistics().parts_left == 1
        (record,) = [one for one in caplog.records if getattr(one, "event", "") == "parts_not_ended"]
        assert "session 'job' has failed, and 1 of its parts had not ended 2 s later: 'own'" in record.getMessage()
        assert await status(tracker, "own") == ["running"]
        await trio.sleep(40)  # Its lease has run out.
        assert await status(tracker, "own") == ["cancelled"]
        nursery.cancel_scope.cancel()


async def test_what_a_later_attempt_of_the_job_follows_is_not_cancelled_by_the_one_before(
    autojump_clock: MockClock,
) -> None:
    store = MemoryStore()
    dying = FaultyStore(store)
    settings = SETTINGS | {"flush_timeout": 1.0}
    async with open_tracker(store, **settings) as tracker, trio.open_nursery() as nursery:
        await tracker.declare("own", parent="job")
        nursery.start_soon(own_part, dying, settings)

        def die() -> None:
            dying.mode = "down"

        await job(tracker, "failed", ["own"], before=die)
        async with tracker.session("job", resume="always"):
            await trio.sleep(20)
            assert await status(tracker, "own") == ["lost"]
        nursery.cancel_scope.cancel()


async def test_two_jobs_follow_one_part_and_only_its_parent_ends_it(autojump_clock: MockClock) -> None:
    async with open_tracker(MemoryStore(), **SETTINGS) as tracker, trio.open_nursery() as nursery:
        await tracker.declare("own", parent="job")
        nursery.start_soon(work, tracker, "own")
        ended: list[Session] = []

        async def second() -> None:
            ended.append(await job(tracker, "failed", ["own"], session_id="job-2"))

        nursery.start_soon(second)
        await trio.sleep(6)
        assert await status(tracker, "job-2", "own") == ["failed", "running"]
        await job(tracker, "failed", ["own"])
        assert await status(tracker, "own") == ["cancelled"]
        nursery.cancel_scope.cancel()


async def test_a_job_that_was_fenced_cancels_nothing(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    cut_off = FaultyStore(store)
    async with open_tracker(store, **SETTINGS) as other, trio.open_nursery() as nursery:
        await other.declare("own", parent="job")
        nursery.start_soon(work, other, "own")

        async def old() -> None:
            async with open_tracker(cut_off, **SETTINGS) as tracker:
                await job(tracker, "failed", ["own"], before=lambda: setattr(cut_off, "mode", "up"))

        nursery.start_soon(old)
        await trio.sleep(0.5)
        cut_off.mode = "down"
        await trio.sleep(4)
        async with other.session("job", resume="interrupted"):
            await trio.sleep(10)
            assert await status(other, "own") == ["running"]
        nursery.cancel_scope.cancel()


async def test_leaving_the_tracker_cancels_no_part(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with open_tracker(store, **SETTINGS) as other, trio.open_nursery() as nursery:
        await other.declare("own", parent="job")
        nursery.start_soon(work, other, "own")
        async with trio.open_nursery() as inside:

            async def open_job(task_status: trio.TaskStatus) -> None:
                async with tracker.session("job") as session:
                    task_status.started()
                    await follow_all(session, ["own"])

            async with open_tracker(store, **SETTINGS) as tracker:
                await inside.start(open_job)
                await trio.sleep(5)
        assert await status(other, "job", "own") == ["cancelled", "running"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("down_for", [1.0, 3.0])
async def test_the_request_is_made_again_until_the_store_takes_it(down_for: float, autojump_clock: MockClock) -> None:
    shared = MemoryStore()
    store = FaultyStore(shared)
    settings = SETTINGS | {"lost_after": 60.0}
    async with open_tracker(store, **settings) as tracker, open_tracker(shared, **settings) as other:
        await other.declare("own", parent="job")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, other, "own")

            async def back() -> None:
                await trio.sleep(5 + down_for)
                store.mode = "up"

            nursery.start_soon(back)
            with trio.fail_after(11):
                await job(tracker, "failed", ["own"], before=lambda: setattr(store, "mode", "down"))
            assert await status(other, "job", "own") == ["failed", "cancelled"]
            assert tracker.statistics().parts_left == 0
            nursery.cancel_scope.cancel()
