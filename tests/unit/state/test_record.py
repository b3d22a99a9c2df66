"""A session as it is stored, what a later attempt goes on from, and the tokens by which readers do."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import TEXT, QuietHost
from trio_progress import Limits, PhaseSpec, Pipeline, StoreError
from trio_progress.live.remote import RemoteState, found_head
from trio_progress.protocol.clock import Clock, moment
from trio_progress.protocol.messages import Position, resume_token
from trio_progress.protocol.snapshot import Head, SessionStatus, Snapshot
from trio_progress.state.events import LoggedEvent
from trio_progress.state.record import (
    decode_event,
    decode_head,
    decode_record,
    encode_event,
    encode_lost,
    encode_record,
    lost_state,
    resume_from,
)
from trio_progress.state.session import SessionState
from trio_progress.stores.base import Key, Stored


def state_of(**given: Any) -> SessionState:
    state = SessionState("a", host=QuietHost(), clock=Clock(lambda: 5.0, lambda: 1e9), **given)
    state.begin(1)
    return state


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b'{"format":1}',
        b'{"format":2,"state":{}}',
        b"[" * 100_000,
        b'{"format":1,"state":{"id":"a"},"saved":NaN}',
    ],
)
def test_a_record_that_cannot_be_read_is_refused_as_a_whole(data: bytes) -> None:
    with pytest.raises(StoreError, match="stored entry 3-4 of session 'a'"):
        decode_record("a", 3, 4, data)
    with pytest.raises(StoreError, match="stored entry 3-4 of session 'a'"):
        decode_head("a", 3, 4, data)
    with pytest.raises(StoreError, match="stored event"):
        decode_event(data)


def test_a_record_of_another_session_or_format_is_refused() -> None:
    data = encode_record(state_of())
    with pytest.raises(StoreError, match="of format 1 and session 'a'"):
        decode_record("b", 1, 1, data)
    with pytest.raises(StoreError, match="of format 9"):
        decode_record("a", 1, 1, data.replace(b'"format":1', b'"format":9'))
    with pytest.raises(StoreError, match="of format 1 and session 'a'"):
        decode_head("b", 1, 1, data)


def test_a_record_stands_under_the_key_that_was_fenced_whatever_it_says() -> None:
    state = state_of()
    state.emit("e")
    record = decode_record("a", 77, 88, encode_record(state))
    assert (record.state.epoch, record.state.seq) == (77, 88)
    assert Position.parse(record.state.resume) == Position(77, 88, 1)


@pytest.mark.parametrize("status", [None, "completed", "interrupted", "lost"])
@pytest.mark.parametrize("heartbeat", [None, 1e9 + 60])
@pytest.mark.parametrize("later", [0.0, 5000.0])
@pytest.mark.parametrize("alive", [True, False])
def test_a_head_says_what_the_whole_state_says_without_its_phases(
    status: SessionStatus | None, heartbeat: float | None, later: float, *, alive: bool
) -> None:
    state = state_of(pipeline=Pipeline("p", ["one", "two"]), stall_after=60.0)
    state.set({"n": 1})
    state.emit("e")
    if status not in (None, "lost"):
        state.end(status)
    record = encode_record(state)
    if status == "lost":
        record = encode_lost(decode_record("a", 3, 4, record), None)
    stored = Stored("a", Key(3, 4), record, alive, heartbeat)
    clock = Clock(lambda: 5.0, lambda: 1e9 + later)
    snapshot = RemoteState(stored, clock, 10).snapshot()
    assert found_head(stored, clock) == Head(**{name: getattr(snapshot, name) for name in Head.__struct_fields__})


@pytest.mark.parametrize(("heard", "ended"), [(None, 30), (10.0, 30), (45.0, 45)])
def test_what_is_lost_has_not_ended_before_what_its_owner_has_stored(heard: float | None, ended: int) -> None:
    wall = 1e9
    clock = Clock(lambda: wall, lambda: wall)
    state = SessionState("a", host=QuietHost(), clock=clock)
    state.begin(1)
    wall += 30
    state.enter(state.root, "p", total=3).advance()
    record = decode_record("a", 1, state.seq, encode_record(state))
    lost = lost_state(record, None if heard is None else 1e9 + heard)
    assert lost.ended_at == lost.phases[0].ended_at == moment(1e9 + ended)
    assert lost.elapsed == ended
    assert lost.phases[0].elapsed == ended - 30


def test_an_event_survives_its_encoding() -> None:
    event = LoggedEvent(3, 9, "source.found", {"url": ["x", None, 1.5]}, 1e9 + 0.25)
    assert decode_event(encode_event(event)) == event


def earlier(pipeline: Pipeline) -> SessionState:
    state = state_of(pipeline=pipeline)
    search = state.enter(state.root, "search", total=10)
    state.leave(state.enter(search, "site"), "completed")
    state.enter(search, "other", total=3).advance()
    search.advance(4)
    state.skip_phase("report", "not wanted")
    state.increment("found", 7)
    state.set({"mode": "fast"})
    state.emit("e", 1)
    state.save({"page": 4})
    state.update(message="half way")
    state.set_result({"draft": True})
    state.end("failed")
    return state


def resumed(pipeline: Pipeline) -> tuple[Snapshot, SessionState]:
    before = earlier(pipeline)
    after = SessionState("a", host=QuietHost(), clock=Clock(lambda: 5.0, lambda: 2e9), pipeline=pipeline)
    resume_from(after, decode_record("a", 1, before.seq, encode_record(before)), before.event_log.after(0), 10)
    after.begin(2)
    return before.snapshot(), after


def test_a_later_attempt_goes_on_from_what_was_left() -> None:
    before, state = resumed(Pipeline("p", ["search", "analysis", "report"]))
    after = state.snapshot()
    assert (after.epoch, after.seq, after.attempt, after.status) == (2, 1, 2, "running")
    assert {phase.name: phase.status for phase in after.phases} == {
        "search": "pending",
        "analysis": "pending",
        "report": "skipped",
    }
    assert after.phase("report") == before.phase("report")
    assert after.phase("search", "site").status == "completed"
    assert after.phase("search", "other").status == "pending"
    assert (after.counters, after.fields, state.saved) == ({"found": 7}, {"mode": "fast"}, {"page": 4})
    assert (after.message, after.result, after.error, after.ended_at) == (None, None, None, None)
    assert (after.events, after.queued_at) == (1, before.queued_at)
    assert after.progress == pytest.approx(1 / 3)
    search = state.enter(state.root, "search")
    assert (search.attempt, search.done, search.total) == (2, 0, search.total)
    state.emit("e", 2)
    assert state.event_log.newest == 2


def test_every_attempt_counts_and_what_completed_stays_completed_through_all_of_them() -> None:
    pipeline = Pipeline("p", ["one", "two", "three", "four"])
    state = state_of(pipeline=pipeline)
    for number, name in enumerate(["one", "two", "three"], 1):
        phase = state.enter(state.root, name, total=9)
        phase.advance(number)
        state.leave(phase, "completed")
        state.leave(state.enter(state.root, "four"), "failed")
        state.end("interrupted")
        again = SessionState("a", host=QuietHost(), clock=Clock(lambda: 5.0, lambda: 2e9), pipeline=pipeline)
        resume_from(again, decode_record("a", number, state.seq, encode_record(state)), (), 10)
        again.begin(number + 1)
        assert again.progress == pytest.approx(number / 4)
        state = again
    snapshot = state.snapshot()
    assert snapshot.attempt == 4
    assert [(phase.status, phase.done, phase.attempt) for phase in snapshot.phases] == [
        ("completed", 1, 1),
        ("completed", 2, 1),
        ("completed", 3, 1),
        ("pending", 0, 3),
    ]


def test_phases_that_folded_into_the_session_count_in_a_later_attempt_as_well() -> None:
    state = state_of(limits=Limits(phases=4))
    for number in range(9):
        state.leave(state.enter(state.root, f"done {number}"), "completed")
    state.enter(state.root, "open")
    before = state.snapshot()
    assert before.raw == pytest.approx(0.9)
    state.end("interrupted")
    record = decode_record("a", 1, state.seq, encode_record(state))
    assert record.folded == 6
    again = SessionState("a", host=QuietHost(), clock=Clock(lambda: 5.0, lambda: 2e9), limits=Limits(phases=4))
    resume_from(again, record, (), 10)
    again.begin(2)
    assert again.snapshot().raw == pytest.approx(0.9)
    assert decode_record("a", 2, again.seq, encode_record(again)).folded == 6


def test_what_was_left_pending_below_a_phase_that_completes_is_not_pending_for_ever() -> None:
    _, state = resumed(Pipeline("p", ["search", "analysis", "report"]))
    state.leave(state.enter(state.root, "search"), "completed")
    assert state.snapshot().phase("search", "other").status == "skipped"


def test_going_on_with_another_version_of_the_pipeline_spoils_no_other_session() -> None:
    old = Pipeline("p", [PhaseSpec("search", title="Old", total=5), PhaseSpec("gone"), PhaseSpec("report", title="R")])
    new = Pipeline("p", [PhaseSpec("search", title="New", total=7), "added", PhaseSpec("report", title="R2")])
    before = state_of(pipeline=old)
    before.end("failed")
    after = SessionState("a", host=QuietHost(), clock=Clock(lambda: 5.0, lambda: 2e9), pipeline=new)
    resume_from(after, decode_record("a", 1, before.seq, encode_record(before)), (), 10)
    after.begin(2)
    assert [phase.name for phase in after.snapshot().phases] == ["search", "added", "report"]
    fresh = state_of(pipeline=new).snapshot()
    assert [(phase.title, phase.total) for phase in fresh.phases] == [("New", 7), ("added", None), ("R2", None)]


@given(st.text(TEXT, max_size=60))
def test_no_token_breaks_its_reader(token: str) -> None:
    position = Position.parse(token)
    assert position is None or all(part >= 0 for part in position)


@given(st.integers(0, 2**53), st.integers(0, 2**53), st.integers(0, 2**53))
def test_a_token_leads_back_to_its_position(epoch: int, seq: int, event: int) -> None:
    assert Position.parse(resume_token(epoch, seq, event)) == Position(epoch, seq, event)
