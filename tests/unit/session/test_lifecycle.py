"""Entering once, late updates, and sessions of many tasks."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import trio
import trio.testing

from trio_progress import (
    Pipeline,
    ProgressTracker,
    Session,
    SessionClosedError,
    open_tracker,
)

PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})


async def test_entering_a_session_twice_or_with_the_wrong_with_gives_a_hint(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker:
        scope = tracker.session("a")
        with pytest.raises(TypeError, match="use `async with"):
            with scope:  # type: ignore[attr-defined]
                pass
        async with scope:
            pass
        with pytest.raises(SessionClosedError, match="entered before"):
            async with scope:
                pass


async def test_late_updates_change_nothing_and_are_logged_once(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with open_tracker() as tracker:
        async with tracker.session("a", PIPELINE) as session:
            with session.phase("search") as phase:
                phase.advance(2)
            phase.advance()
        before = session.snapshot()
        phase.advance(3)
        phase.update(done=9)
        phase.set(x=1)
        session.increment("n")
        session.emit("e")
        session.update(message="m")
        assert session.snapshot() == before
        assert tracker.statistics().late == 7
    assert len([record for record in caplog.records if "late" in record.message or "ended" in record.message]) == 1


async def test_what_opens_or_ends_after_the_end_is_an_error(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        async with tracker.session("a") as session:
            pass
        calls: list[Callable[[], object]] = [
            lambda: session.phase("x").__enter__(),
            lambda: session.advance_to("x"),
            lambda: session.set_result(1),
            lambda: session.save(1),
            lambda: session.fail("x"),
            session.cancel,
        ]
        for call in calls:
            with pytest.raises(SessionClosedError):
                call()
        with pytest.raises(SessionClosedError):
            await session.flush()


async def test_sessions_of_many_tasks_each_know_their_own(autojump_clock: trio.testing.MockClock) -> None:
    from trio_progress import current_session

    async with open_tracker() as tracker:

        async def deep(expected: Session | None) -> None:
            await trio.sleep(0.01)
            assert current_session().id == ("" if expected is None else expected.id)

        async def one(session_id: str) -> None:
            async with tracker.session(session_id) as session, trio.open_nursery() as nursery:
                nursery.start_soon(deep, session)
                async with tracker.session(session_id + "-inner") as inner:
                    nursery.start_soon(deep, inner)  # noqa: ASYNC111 - the session has ended when it is asked for
                await deep(session)
            await deep(None)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(one, f"s{number}")


def _typed(tracker: ProgressTracker) -> None:
    """Not run: the type checker holds that a session's block may end quietly."""

    async def main() -> int:
        async with tracker.session("a") as session:
            session.cancel()
            return 1
        return 2

    assert main is not None
