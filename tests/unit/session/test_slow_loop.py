"""An event loop that stands still while somebody watches a session is noticed, counted, and logged once."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from trio_progress import ProgressTracker, Session, open_tracker
from trio_progress.session.wake import SLOW


def slow(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.__dict__.get("event") == "slow_loop"]


async def look(
    tracker: ProgressTracker, session_id: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    async with tracker.watch(session_id) as snapshots:
        task_status.started()
        async for _ in snapshots:
            pass


def block(clock: trio.testing.MockClock, session: Session, seconds: float) -> None:
    """What an iterator that waits by itself does to the loop: updates come, and no task runs."""
    with session.phase(f"blocked at {trio.current_time()}", total=4) as phase:
        for _ in phase.track(range(4)):
            clock.jump(seconds / 4)


async def test_it_is_logged_once_for_a_session_and_each_time_is_counted(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_tracker() as tracker, trio.open_nursery() as nursery, tracker.session("a") as session:
        await nursery.start(look, tracker, "a")
        await trio.sleep(1)
        assert tracker.statistics().slow_loops == 0
        for _ in range(3):
            block(autojump_clock, session, 2)
            await trio.sleep(1)
        assert tracker.statistics().slow_loops == 3
        (record,) = slow(caplog)
        assert "track()" in record.getMessage()
        assert (record.__dict__["session"], record.levelno) == ("a", logging.WARNING)
    assert len(slow(caplog)) == 1


async def test_one_standstill_counts_once_however_many_sessions_it_held_up(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_tracker() as tracker, trio.open_nursery() as nursery:
        async with tracker.session("a") as one, tracker.session("b") as other:
            for session_id in ("a", "b"):
                await nursery.start(look, tracker, session_id)
            one.set(n=1)
            other.set(n=1)
            block(autojump_clock, one, 2)
            await trio.sleep(1)
            assert tracker.statistics().slow_loops == 1
    assert len(slow(caplog)) == 1


async def test_one_that_blocks_to_its_end_is_noticed(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_tracker() as tracker, trio.open_nursery() as nursery:
        async with tracker.session("a") as session:
            await nursery.start(look, tracker, "a")
            block(autojump_clock, session, 2)
        assert (session.status, tracker.statistics().slow_loops) == ("completed", 1)
    assert len(slow(caplog)) == 1


async def test_one_that_says_nothing_meanwhile_is_noticed_by_the_heartbeat(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker(heartbeat_interval=1) as tracker, trio.open_nursery() as nursery:
        async with tracker.session("a"):
            await nursery.start(look, tracker, "a")
            await trio.sleep(0.5)
            autojump_clock.jump(5)
            await trio.sleep(0.5)
            assert tracker.statistics().slow_loops == 1


async def test_it_is_no_matter_where_nobody_watches_or_it_is_short(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_tracker(broadcast_interval=3) as tracker, trio.open_nursery() as nursery:
        async with tracker.session("a") as session:
            block(autojump_clock, session, 5)
            await trio.sleep(1)

            await nursery.start(look, tracker, "a")
            for _ in range(20):  # The pause between two broadcasts is not taken for one.
                block(autojump_clock, session, SLOW * 0.9)
                await trio.sleep(0.4)
    assert tracker.statistics().slow_loops == 0
    assert slow(caplog) == []
