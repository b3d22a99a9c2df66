"""A child that completed is done once more where that is asked for; to its parent it stays done."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio.testing

from tests.support import QuietHost
from trio_progress import PhaseError, Pipeline, Snapshot, open_tracker
from trio_progress.protocol.clock import Clock
from trio_progress.state.phase import PhaseNode
from trio_progress.state.record import decode_record, encode_record, resume_from
from trio_progress.state.session import SessionState


def state_of(pipeline: Pipeline | None = None) -> SessionState:
    return SessionState("a", host=QuietHost(), clock=Clock(lambda: 5.0, lambda: 1e9), pipeline=pipeline)


@pytest.fixture
def state() -> SessionState:
    state = state_of(Pipeline("load", {"download": 1, "report": 1}))
    state.begin(1)
    return state


def done(state: SessionState, above: PhaseNode, name: str, **given: Any) -> PhaseNode:
    child = state.enter(above, name, total=10, **given)
    child.advance(10)
    state.leave(child, "completed")
    return child


@pytest.mark.parametrize("total", [None, 2])
def test_a_completed_child_runs_as_a_new_attempt_and_its_parent_goes_on_from_where_it_was(
    total: int | None, state: SessionState
) -> None:
    download = state.enter(state.root, "download", total=total)
    child = done(state, download, "file-1")
    done(state, download, "file-2")
    if total is not None:
        download.advance(2)
    fractions = [state.snapshot().phase("download").fraction]
    assert state.enter(download, "file-1", again=True) is child
    shown = state.snapshot().phase("download", "file-1")
    assert (shown.status, shown.attempt, shown.done, shown.total) == ("running", 2, 0, 10)
    for status in ("failed", "completed"):
        fractions.append(state.snapshot().phase("download").fraction)
        child.advance(4)
        fractions.append(state.snapshot().phase("download").fraction)
        state.leave(child, status)
        fractions.append(state.snapshot().phase("download").fraction)
        if status == "failed":
            state.enter(download, "file-1")
    assert len(set(fractions)) == 1
    assert (child.status, child.attempt, child.done) == ("completed", 3, 4)


def test_the_error_says_how_and_what_is_open_or_new_is_entered_as_ever(state: SessionState) -> None:
    download = state.enter(state.root, "download")
    child = state.enter(download, "file-1", again=True)
    assert (child.status, child.attempt) == ("running", 1)
    with pytest.raises(PhaseError, match="is open already"):
        state.enter(download, "file-1", again=True)
    state.leave(child, "completed")
    with pytest.raises(PhaseError, match=r"enter it by `phase.phase\('file-1', again=True\)`"):
        state.enter(download, "file-1")
    for wrong in (1, None, "yes"):
        with pytest.raises(TypeError, match="again must be True or False"):
            state.enter(download, "file-1", again=wrong)
    state.leave(download, "completed")
    with pytest.raises(PhaseError, match="cannot be entered within"):
        state.enter(download, "file-1", again=True)
    with pytest.raises(PhaseError, match="children can be done once more"):
        state.enter(state.root, "download")


def test_who_follows_merges_it_and_a_later_attempt_begins_it_anew(state: SessionState) -> None:
    download = state.enter(state.root, "download")
    child = done(state, download, "file-1")
    before = state.snapshot()
    state.enter(download, "file-1", again=True)
    child.advance(3)
    after = state.snapshot()
    merged = state.update_since(before.seq, after.resume).apply(before)
    assert merged.resuming("") == after.resuming("")
    assert msgspec.json.decode(msgspec.json.encode(after), type=Snapshot) == after
    later = state_of(state.pipeline)
    resume_from(later, decode_record("a", 1, state.seq, encode_record(state)), (), 10)
    later.begin(2)
    again = later.root.children["download"].children["file-1"]
    assert (again.status, again.attempt) == ("pending", 2)


@pytest.mark.parametrize("strict", [True, False])
async def test_a_unit_is_done_once_more_by_with(strict: bool, autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(strict=strict) as tracker, tracker.session("a") as session:
        with session.phase("download", total=2) as download:
            for attempt in (1, 2):
                with download.phase("file-1", total=10, again=attempt > 1) as file:
                    file.advance(10)
                assert (file.status, file.attempt, file.done) == ("completed", attempt, 10)
    assert session.status == "completed"
    assert tracker.statistics().refused == 0
