"""What a report shows of a failing schedule where it cannot show all: where it parts from what passes, and the end."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from trio_progress.testing import ScheduleError, explore
from trio_progress.testing.failure import LINES


def failure_of(scenario: object) -> ScheduleError:
    with pytest.raises(ScheduleError) as caught:
        explore(scenario, schedules=500, seed=3, shrink=30)  # type: ignore[arg-type]
    return caught.value


async def long_after() -> None:
    """The wrong order is in the first steps; what follows takes far more lines than a report has."""
    ready: list[bool] = []
    log: list[str] = []

    async def writer() -> None:
        await trio.lowlevel.checkpoint()
        ready.append(True)

    async def reader() -> None:
        await trio.lowlevel.checkpoint()
        log.append("ready" if ready else "early")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer)
        nursery.start_soon(reader)
    for count in range(25):
        await trio.sleep(1)
        log.append(str(count))
    assert log[0] == "ready"


async def raises() -> None:
    """One task fails, and the other is cancelled for it, if it has not ended."""

    async def fails() -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("no such shard")

    async def waits() -> None:
        await trio.sleep(5)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(fails)
        nursery.start_soon(waits)


def test_a_report_shows_where_it_parts_from_what_passes_however_much_follows() -> None:
    lines = str(failure_of(long_after)).splitlines()
    assert len(lines) <= LINES
    (parts,) = (at for at, line in enumerate(lines) if "up to here what passes is the same" in line)
    assert "goes on with: 0.0000 writer" in lines[parts]
    assert "reader" in lines[parts + 1], "the step that was too early"
    assert any("more lines" in line for line in lines[parts:]), "and what follows is left out"
    assert any("long_after  is over" in line for line in lines[parts:]), "but for the end"


def test_a_report_says_of_each_task_how_it_ended() -> None:
    text = str(failure_of(raises))
    assert "fails   is over with KeyError" in text
    assert "waits   is over, cancelled" in text
    assert "no task is interrupted" in text


async def step() -> None:
    await trio.lowlevel.checkpoint()


@asynccontextmanager
async def opened(log: list[str]) -> AsyncIterator[None]:
    log.append("opening")
    await step()
    log.append("open")
    yield
    await step()


async def in_a_manager() -> None:
    """Another task comes while a context manager is being entered."""
    log: list[str] = []

    async def opens() -> None:
        async with opened(log):
            pass

    async def comes() -> None:
        await trio.lowlevel.checkpoint()
        assert log != ["opening"]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(opens)
        nursery.start_soon(comes)


def test_a_step_in_a_helper_or_a_context_manager_is_told_with_who_has_called_it() -> None:
    told = [line for line in str(failure_of(in_a_manager)).splitlines() if "opens         test_report.py" in line]
    assert told
    assert all(re.search(r"test_report\.py:\d+ step, from test_report\.py:\d+ opened", line) for line in told)


def test_the_scenario_itself_is_told_to_have_failed() -> None:
    lines = str(failure_of(long_after)).splitlines()
    assert any(line.endswith("long_after  is over with AssertionError") for line in lines)
