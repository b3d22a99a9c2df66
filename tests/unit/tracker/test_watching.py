"""Watching one session or all of them, what the statistics and the debug view tell of it, and the session of a task."""

from __future__ import annotations

import gc
from typing import Literal

import pytest
import trio
import trio.testing

from tests.support import RecordingStore
from trio_progress import (
    End,
    NullSession,
    Pipeline,
    Session,
    SessionNotFoundError,
    Subscribed,
    current_session,
    open_tracker,
)
from trio_progress.state.session import SessionState
from trio_progress.tracker import runtime_of

PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})


# Watching


async def test_watching_all_shows_each_session_newest_first_of_each_and_filters(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker, trio.open_nursery() as nursery:
        states: dict[str, list[tuple[int, str]]] = {}

        async def follow() -> None:
            async with tracker.watch_all({"team": "red"}) as snapshots:
                async for snapshot in snapshots:
                    states.setdefault(snapshot.id, []).append((snapshot.attempt, snapshot.status))

        async with tracker.session("before", labels={"team": "red"}), tracker.session("other", labels={"team": "blue"}):
            nursery.start_soon(follow)
            await trio.sleep(1)
            resumes: list[Literal["never", "always"]] = ["never", "always"]
            for resume in resumes:
                async with tracker.session("again", labels={"team": "red"}, resume=resume) as session:
                    session.fail("x")
                    await trio.sleep(1)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert set(states) == {"before", "again"}
    assert states["before"] == [(1, "running"), (1, "completed")]
    assert states["again"] == [(1, "running"), (1, "failed"), (2, "running"), (2, "failed")]


async def test_what_who_watches_all_leaves_unread_is_bounded_and_its_loss_is_counted(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_progress.live.subscription.UNREAD", 10)
    async with open_tracker() as tracker, tracker.watch_all() as snapshots:
        async with tracker.session("open") as session:
            for n in range(30):
                async with tracker.session(f"s{n}", labels={"n": str(n)}) as ended:
                    ended.increment("n")
            gc.collect()
            kept = {found.id for found in gc.get_objects() if type(found) is SessionState}
            assert not kept & {f"s{n}" for n in range(29)}, "the last state is kept, and not the session"
            session.increment("n")
            seen = [snapshots.take_nowait() for _ in range(11)]
            with pytest.raises(trio.WouldBlock):
                snapshots.take_nowait()
    assert [(snapshot.id, snapshot.status) for snapshot in seen] == [
        ("open", "running"),
        *((f"s{n}", "completed") for n in range(20, 30)),
    ]
    assert tracker.statistics().ends_dropped == 20


async def test_a_watcher_sees_each_state_once_and_the_ended_one_last(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(broadcast_interval=0.05) as tracker, trio.open_nursery() as nursery:
        keys: list[tuple[int, int, str]] = []

        async def follow() -> None:
            async with tracker.watch("a", wait=True) as snapshots:
                async for snapshot in snapshots:
                    keys.append((snapshot.epoch, snapshot.seq, snapshot.status))
                    await trio.sleep(0.07)

        nursery.start_soon(follow)
        async with tracker.session("a") as session:
            for _ in range(50):
                session.increment("n")
                await trio.sleep(0.03)
    assert keys == sorted(set(keys))
    assert keys[-1] == (session.epoch, session.snapshot().seq, "completed")


# Statistics


async def test_statistics_count_what_was_late_refused_and_watched(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(strict=False) as tracker:
        async with tracker.session("a", PIPELINE) as session:
            with session.phase("search") as phase:
                pass
            phase.advance()
            session.advance_to("search")
            phase.advance(-1)
            session.increment("")
            with session.phase("unknown"):
                pass
            async with tracker.subscribe("a"), tracker.watch("a"), tracker.watch("b", wait=True):
                statistics = tracker.statistics()
                assert (statistics.late, statistics.refused, statistics.subscribers) == (2, 3, 3)
                assert (statistics.sessions_open, statistics.sessions_ended, statistics.store_up) == (1, 0, True)
            assert tracker.statistics().subscribers == 0
        statistics = tracker.statistics()
        assert (statistics.sessions_open, statistics.sessions_ended) == (0, 1)
        assert statistics.states == session.snapshot().seq


async def test_a_store_that_does_not_answer_is_seen_in_the_statistics(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore()
    async with open_tracker(store) as tracker, tracker.session("a") as session:
        await trio.sleep(1)
        store.mode = "down"
        session.set_result(1)
        await trio.sleep(1)
        statistics = tracker.statistics()
        assert not statistics.store_up
        assert statistics.persists_failed == len(store.tries) - statistics.persists > 0
        store.mode = "up"
        await session.flush()
        assert tracker.statistics().store_up


# The session of a task


async def test_the_innermost_session_is_current_in_a_task_and_in_what_it_starts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def current_id() -> str:
        await trio.lowlevel.checkpoint()
        return current_session().id

    seen: list[str] = []

    async def child() -> None:
        seen.append(await current_id())

    assert isinstance(current_session(), NullSession)
    async with open_tracker() as tracker, trio.open_nursery() as outside:
        async with tracker.session("outer") as outer, trio.open_nursery() as nursery:
            async with tracker.session("inner"):
                nursery.start_soon(child)  # It is started in the outer nursery, but here.
                assert await current_id() == "inner"
                assert await trio.to_thread.run_sync(lambda: current_session().id) == "inner"
                outside.start_soon(child)
                await trio.testing.wait_all_tasks_blocked()
            current = current_session()
            assert isinstance(current, Session)
            assert current is outer
        assert isinstance(current_session(), NullSession)
    assert seen == ["inner", "inner"]


async def test_who_was_not_there_is_not_found_and_wait_waits(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        for stream in (tracker.watch("a"), tracker.subscribe("a")):
            with pytest.raises(SessionNotFoundError, match="wait=True"):
                await stream.__aenter__()
        async with tracker.subscribe("a", wait=True) as messages:
            with pytest.raises(trio.WouldBlock):
                messages.take_nowait()
            async with tracker.session("a"):
                assert isinstance(await anext(messages), Subscribed)
            assert tracker.statistics().subscribers == 0
            rest = [message async for message in messages]
            assert isinstance(rest[-1], End)


async def test_the_debug_view_shows_what_a_tracker_holds_on_to_until_it_is_gone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker:
        held = runtime_of(tracker).held
        async with tracker.session("a") as session, tracker.watch_all(here=True) as everything:
            session.update(message="something to write")
            assert (held()["sessions"], held()["topics"], held()["observers"]) == (("a",), ("a",), (everything,))
            core = runtime_of(tracker).open["a"].core
            assert core is not None
            assert core.state.message == "something to write"
        assert held() == {"sessions": (), "topics": (), "observers": (), "writers": (), "takers": ()}
