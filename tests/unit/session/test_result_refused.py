"""A result that cannot be kept is an error at the call, and does not change how work ended that was done."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing

from tests.support import RecordingStore
from trio_progress import Pipeline, Session, open_tracker

PIPELINE = Pipeline("train", {"fit": 3, "report": 1})
BAD: list[Any] = [math.nan, {"loss": math.inf}, {1}, object(), "x" * 2**21]


def worked(session: Session) -> None:
    with session.phase("fit", total=2) as fit:
        fit.advance(2)
    with session.phase("report"):
        pass


def told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.__dict__.get("event") == "result_refused"]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: type(bad).__name__)
async def test_as_the_last_line_of_what_is_done_it_leaves_that_completed(
    bad: Any, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = RecordingStore()
    async with open_tracker(store) as tracker:
        with pytest.raises((ValueError, TypeError), match="the result"):
            async with tracker.session("a", PIPELINE) as session:
                worked(session)
                session.set_result(bad)
        (end,) = store.ends("a")[session.epoch]
    assert (session.status, end.status, end.progress, end.result, end.error) == (
        "completed",
        "completed",
        1,
        None,
        None,
    )
    assert end.message is not None
    assert end.message.startswith("The result could not be kept: ")
    (record,) = told(caplog)
    assert (record.levelno, record.__dict__["session"]) == (logging.ERROR, "a")


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: type(bad).__name__)
async def test_without_strict_the_work_goes_on_and_the_end_says_so(
    bad: Any, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_tracker(strict=False) as tracker, tracker.session("a", PIPELINE) as session:
        session.update(message="all well")
        session.set_result(bad)
        worked(session)
    assert session.status == "completed"
    message = session.snapshot().message
    assert message is not None
    assert message.startswith("The result could not be kept: ")
    assert message.endswith("all well")
    assert len(told(caplog)) == 1


async def test_a_good_one_after_it_makes_up_for_it(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with pytest.raises(ValueError, match="the result"):
            session.set_result(math.nan)
        session.set_result(None)
    assert (session.status, session.snapshot().message) == ("completed", None)


async def in_a_nursery(session: Session) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 9)
        await trio.sleep(1)
        session.set_result(math.nan)


async def in_the_last_phase(session: Session) -> None:
    with session.phase("fit", total=1) as fit:
        fit.advance()
    with session.phase("report") as report, report.phase("write"):
        session.set_result(math.nan)


async def after_a_hand_over(session: Session) -> None:
    session.advance_to("fit").advance()
    session.advance_to("report", total=1).advance()
    session.set_result(math.nan)


async def with_work_left(session: Session) -> None:
    with session.phase("fit", total=1) as fit:
        fit.advance()
    session.set_result(math.nan)


async def in_the_middle_of_a_phase(session: Session) -> None:
    with session.phase("fit", total=2) as fit:
        fit.advance()
        session.set_result(math.nan)


async def in_the_middle_of_the_last_phase(session: Session) -> None:
    session.skip_phase("fit")
    with session.phase("report", total=2) as report:
        report.advance()
        session.set_result(math.nan)


async def beside_another_error(session: Session) -> None:
    worked(session)
    try:
        session.set_result(math.nan)
    except ValueError as error:
        raise ExceptionGroup("both", [error, OSError()]) from None


async def by_another_error(session: Session) -> None:
    worked(session)
    try:
        session.set_result(math.nan)
    except ValueError:
        raise RuntimeError("no result") from None


async def after_it_was_said_to_have_failed(session: Session) -> None:
    worked(session)
    session.fail("no")
    session.set_result(math.nan)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (in_the_last_phase, "completed"),
        (after_a_hand_over, "completed"),
        (with_work_left, "failed"),
        (in_the_middle_of_a_phase, "failed"),
        (in_the_middle_of_the_last_phase, "failed"),
        (beside_another_error, "failed"),
        (by_another_error, "failed"),
        (after_it_was_said_to_have_failed, "failed"),
    ],
)
async def test_only_what_is_known_to_be_done_is_completed_by_it(
    body: Callable[[Session], Any], status: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker:
        with suppress(Exception):
            async with tracker.session("a", PIPELINE) as session:
                await body(session)
    assert session.status == status
    if status == "completed":
        assert {phase.status for phase in session.snapshot().phases} == {"completed"}


async def test_from_a_task_of_the_session_it_is_the_same(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        with pytest.RaisesGroup(ValueError):
            async with tracker.session("a") as session:
                await in_a_nursery(session)
    assert session.status == "completed"
