"""What messages make of a state, over the recorded streams; the twin in JavaScript: `test_merge_twins.py`."""

from __future__ import annotations

import json

import msgspec
import pytest

from tests.streams import record
from trio_progress import Bookmark, CustomEvent, Gap, ProtocolError, Snapshot, Subscribed, Update
from trio_progress.protocol.merge import merge
from trio_progress.protocol.messages import Message

KEPT: dict[str, list[str | None]] = json.loads(record.DIGESTS.read_text("utf-8"))
STREAMS: dict[str, list[Message]] = {name: record.read(name) for name in record.names()}


def kinds(kind: type[Message]) -> list[Message]:
    return [message for messages in STREAMS.values() for message in messages if isinstance(message, kind)]


def test_the_streams_have_what_is_hard() -> None:
    assert set(KEPT) == set(STREAMS)
    updates = [update for update in kinds(Update) if isinstance(update, Update)]
    assert any(update.folded for update in updates), "folding"
    assert any(len(phase.path) > 2 for update in updates for phase in update.phases), "nesting"
    assert any(phase.attempt > 1 for update in updates for phase in update.phases), "phases that are entered again"
    assert any(update.seq > update.from_ + 1 for update in updates), "updates that stand for several states"
    assert len({update.head.epoch for update in updates if update.session == "r"}) > 2, "epochs"
    reasons = {message.reason for message in kinds(Subscribed) if isinstance(message, Subscribed)}
    assert {None, "new", "epoch"} <= reasons, "streams that go on, and that do not"
    liveness = {message.liveness for message in kinds(Bookmark) if isinstance(message, Bookmark)}
    assert {"ok", "stalled"} <= liveness
    assert kinds(Gap)
    assert kinds(CustomEvent)
    assert KEPT["disturbed"].count(None) >= 10, "updates that do not fit"
    kept = {name for update in updates for name in update.kept or ()}
    assert {"result", "fields.note"} <= kept, "updates that leave out what the state before has"
    kept = {name for update in updates for phase in update.phases for name in phase.kept}
    assert {"fields.log", "fields.__proto__"} <= kept
    assert KEPT["large-disturbed"].count(None) >= 10, "updates that leave out what the state before has not"


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_a_recorded_stream_comes_to_the_recorded_states(name: str) -> None:
    for position, (made, kept) in enumerate(zip(record.digests(STREAMS[name]), KEPT[name], strict=True)):
        assert made == kept, f"after message {position} of {name}: {STREAMS[name][position]!r:.300}"


def test_an_update_applies_as_it_merges_and_the_state_before_stays_as_it_was() -> None:
    for messages in STREAMS.values():
        for message, (before, _), (after, taken) in zip(
            messages[1:], record.states(messages), record.states(messages)[1:], strict=False
        ):
            if not isinstance(message, Update) or before is None:
                continue
            kept = msgspec.json.encode(before)
            if taken:
                assert message.apply(before) == after
            else:
                with pytest.raises(ProtocolError):
                    message.apply(before)
            assert msgspec.json.encode(before) == kept


def test_what_says_nothing_of_the_state_leaves_the_very_same() -> None:
    state = next(message for message in kinds(Snapshot) if isinstance(message, Snapshot))
    bookmark = next(message for message in kinds(Bookmark) if isinstance(message, Bookmark))
    other = msgspec.structs.replace(bookmark, seq=state.seq + 1)
    for message in (*kinds(CustomEvent), *kinds(Gap), *kinds(Subscribed), other):
        assert merge(state, message) is state
        assert merge(None, message) is None


def test_an_update_onto_nothing_is_refused_with_what_to_do() -> None:
    with pytest.raises(ProtocolError, match="does not fit onto nothing: ask for a new snapshot"):
        merge(None, kinds(Update)[0])


def test_a_bookmark_moves_the_clocks_and_the_resume_token_of_its_state() -> None:
    state = next(message for message in kinds(Snapshot) if isinstance(message, Snapshot))
    bookmark = next(message for message in kinds(Bookmark) if isinstance(message, Bookmark))
    about = msgspec.structs.replace(bookmark, seq=state.seq, liveness="stalled", resume="1.2.3")
    moved = merge(state, about)
    assert (moved.liveness, moved.heartbeat_at, moved.progressed_at, moved.resume) == (
        "stalled",
        about.heartbeat_at,
        about.progressed_at,
        "1.2.3",
    )
    assert moved.phases is state.phases
