"""`Phase` and `Session` as authors hold them: what they show, and what an assignment or a look inside can do."""

from __future__ import annotations

import copy
import logging
from typing import Any

import pytest
import trio
import trio.testing

from tests.support import RecordingStore
from trio_progress import NullPhase, Phase, ProgressTracker, Session, current_session, open_tracker

PHASE_NAMES = {
    *("name", "title", "label", "path", "status", "running", "attempt", "done", "skipped", "total", "unit", "weight"),
    *("fraction", "rate", "eta", "message", "fields", "phases"),
    *("advance", "skip", "extend", "update", "set", "track", "track_threaded", "phase", "follow"),
    *("from_thread", "from_processes", "tqdm"),
}
SESSION_NAMES = {
    *("id", "pipeline", "epoch", "attempt", "status", "saved", "phases"),
    *("phase", "advance_to", "skip_phase", "increment", "set", "update", "emit", "save", "set_result"),
    *("cancel", "fail", "flush", "snapshot"),
}


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


async def test_a_phase_and_a_session_show_what_an_author_may_use(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            assert public(phase) == PHASE_NAMES
            assert public(session) == SESSION_NAMES
            assert {name for name in dir(phase) if name.startswith("_") and not name.startswith("__")} <= {
                "_core",
                "_node",
                "_track",
                "_read_only",
            }
            assert not hasattr(phase, "__dict__")
            assert not hasattr(session, "__dict__")


@pytest.mark.parametrize("name", sorted(PHASE_NAMES | {"state", "colour"}))
async def test_no_attribute_of_a_phase_can_be_assigned_or_deleted(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x", total=9) as phase:
            phase.advance(2)
            before = session.snapshot()
            for value in (3, "129773", None, object()):
                with pytest.raises(AttributeError, match=rf"^'{name}' of phase 'x' cannot be assigned: "):
                    setattr(phase, name, value)
            with pytest.raises(AttributeError, match="cannot be assigned"):
                delattr(phase, name)
            assert session.snapshot() is before
            phase.advance()
        assert (phase.done, phase.total) == (3, 9)
    assert session.status == "completed"


@pytest.mark.parametrize("name", sorted(SESSION_NAMES | {"message", "title", "result", "state"}))
async def test_no_attribute_of_a_session_can_be_assigned_or_deleted(
    name: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        before = session.snapshot()
        with pytest.raises(AttributeError, match=rf"^'{name}' of session 'a' cannot be assigned: "):
            setattr(session, name, 3)
        with pytest.raises(AttributeError, match="cannot be assigned"):
            delattr(session, name)
        assert session.snapshot() is before


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("total", r"phase\.update\(total=\.\.\.\)"),
        ("done", r"phase\.update\(done=\.\.\.\)"),
        ("message", r"phase\.update\(message=\.\.\.\)"),
        ("colour", r"phase\.set\(colour=\.\.\.\)"),
    ],
)
async def test_what_is_assigned_to_a_phase_is_answered_by_what_to_call(
    name: str, instead: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase, pytest.raises(AttributeError, match=instead):
            setattr(phase, name, 3)


async def test_an_assignment_is_noted_and_dropped_where_the_tracker_is_not_strict(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_tracker(strict=False) as tracker, tracker.session("a") as session:
        with session.phase("x", total=9) as phase:
            for _ in range(3):
                phase.total = "129773"  # type: ignore[misc,assignment]
                phase.advance()
                await trio.sleep(0.2)
            session.title = "another"  # type: ignore[attr-defined]
        assert (phase.done, phase.total) == (3, 9)
        assert tracker.statistics().refused == 4
    assert session.status == "completed"
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "phase.update(total=...)" in record.getMessage()


async def test_nothing_that_is_read_leads_back_to_what_is_kept(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        session.save({"pages": [1, 2]})
        with session.phase("x") as phase, session.phase("y") as other:
            phase.set(seen=[1])
            phase.fields["seen"].append(object())
            phase.fields["colour"] = object()
            other.fields["colour"] = object()
            session.saved["pages"].append(object())
            for phases in (session.phases, phase.phases):
                with pytest.raises(TypeError):
                    phases["z"] = phase  # type: ignore[index]
            assert (phase.fields, other.fields, session.saved) == ({"seen": [1]}, {}, {"pages": [1, 2]})
            await session.flush()
    assert session.status == "completed"


async def test_a_phase_is_the_same_object_however_it_is_come_by(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase, phase.phase("child") as child:
            assert session.phases["x"] is phase
            assert session.phases.get("x") is phase
            assert phase.phases["child"] is child
            assert dict(phase.phases) == {"child": child}
            assert session.advance_to("x") is phase
        with pytest.raises(ZeroDivisionError):
            with session.phase("y") as first:
                raise ZeroDivisionError
        with session.phase("y") as second:
            assert second is first
        assert repr(session.phases) == "{'x': <Phase 'x' completed 0>, 'y': <Phase 'y' completed 0>}"


async def test_ones_and_other_numbers_are_counted_alike(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            phase.advance()
            phase.advance(1)
            phase.advance(1.0)
            phase.advance(True)
            phase.advance(2.5)
            phase.advance(n=1)
            assert phase.done == 7.5
        phase.advance()
        assert (phase.done, tracker.statistics().late) == (7.5, 1)


async def test_what_keeps_nothing_keeps_no_assignment_either() -> None:
    phase: Any
    session: Any = current_session()
    with session.phase("x") as phase:
        phase.total = "129773"
        session.message = 3
        del phase.total
        assert isinstance(phase, NullPhase)
    assert (phase.total, hasattr(session, "message")) == (None, False)


async def test_what_belongs_to_one_process_is_neither_pickled_nor_copied(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            things: list[Any] = [tracker, session, phase, phase.advance, phase.from_thread(), tracker.session("b")]
            for thing in [*things, session.phase("y")]:
                with pytest.raises(TypeError, match=r"counts do not travel between processes\. .* pool"):
                    copy.deepcopy(thing)
            assert copy.deepcopy(session.snapshot()) == session.snapshot()


async def test_the_classes_have_no_way_in(autojump_clock: trio.testing.MockClock) -> None:
    assert Phase.__mro__[-2].__name__ == Session.__mro__[-2].__name__ == "OneProcess"
    assert issubclass(ProgressTracker, Phase.__mro__[-2])


async def test_what_is_put_into_the_data_of_a_snapshot_does_not_end_the_work(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = RecordingStore()
    async with open_tracker(store, persist_interval=0.1) as tracker, tracker.session("a") as session:
        session.set(seen={"n": 1})
        session.set_result({"pages": [1]})
        with session.phase("x", total=3) as phase:
            phase.set(seen=[1])
            for number in range(3):
                snapshot = session.snapshot()
                snapshot.fields["seen"][f"odd {number}"] = snapshot.result["pages"] = object()
                snapshot.phases[0].fields["seen"].append(object())
                phase.advance()
                await session.flush()
    assert (session.status, phase.done) == ("completed", 3)
    assert store.taken["a"][-1][1].status == "completed"
