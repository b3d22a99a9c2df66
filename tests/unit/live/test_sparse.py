"""Large values are sent once to who takes sparse updates; a random walk over the same: `test_cursor.py`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from tests.support import QuietHost
from trio_progress import Limits, ProtocolError, Snapshot, Update
from trio_progress.live import sparse
from trio_progress.live.cursor import Consumer
from trio_progress.live.feed import Feed
from trio_progress.live.remote import RemoteState
from trio_progress.protocol.clock import Clock
from trio_progress.protocol.merge import filled
from trio_progress.protocol.messages import Message, encode_message
from trio_progress.state.record import encode_record
from trio_progress.state.session import SessionState
from trio_progress.stores.base import Key, Stored
from trio_progress.telemetry.statistics import Tally

TEXT = "x" * 1000
CLOCK = Clock(lambda: 0.0, lambda: 1e9)


def begun(**limits: int) -> SessionState:
    state = SessionState("a", host=QuietHost(), clock=CLOCK, limits=Limits(**limits))
    state.begin(7)
    return state


class Reader:
    """A subscriber, and the state that it has come to."""

    def __init__(self, feed: Feed, *, sparse: bool = True, since: Snapshot | None = None) -> None:
        self.consumer = Consumer(
            since=None if since is None else since.resume, interval=0.0, tally=Tally(), sparse=sparse
        )
        self.consumer.attach(feed)
        self.view = since
        self.sent = 0

    def read(self) -> list[Message]:
        """All that it is owed."""
        messages = []
        while (message := self.consumer.next()) is not None:
            messages.append(message)
            self.sent += len(encode_message(message))
            if isinstance(message, Snapshot):
                self.view = message
            elif isinstance(message, Update):
                assert self.view is not None
                self.view = message.apply(self.view)
        return messages

    def update(self) -> Update:
        """The one update that it is owed."""
        (message,) = self.read()
        assert isinstance(message, Update)
        return message


def test_large_values_are_sent_once_and_what_is_small_each_time() -> None:
    state = begun()
    whole, reader = Reader(Feed(state, state.publish), sparse=False), Reader(Feed(state, state.publish))
    phase = state.enter(state.root, "fetch")
    for each in (whole, reader):
        each.read()
    state.set_result({"rows": [TEXT] * 10})
    state.set({"note": TEXT, "user": "u1"})
    phase.set({"log": TEXT, "host": "h1"})
    assert reader.update().kept is msgspec.UNSET
    whole.read()
    first = reader.sent
    for _ in range(19):
        phase.advance()
        update = reader.update()
        assert whole.update().kept is msgspec.UNSET
        assert set(update.kept or ()) == {"result", "fields.note"}
        assert update.head.result is None
        assert update.head.fields == {"note": None, "user": "u1"}
        assert [(each.kept, each.fields) for each in update.phases] == [(("fields.log",), {"log": None, "host": "h1"})]
    assert reader.view is not None
    assert whole.view is not None
    assert reader.view == whole.view == state.snapshot().resuming(reader.view.resume)
    assert whole.sent > 20 * 12 * len(TEXT)
    assert reader.sent - first < 20 * len(TEXT) * 1.5
    phase.set({"log": "y" * 1000})
    update = reader.update()
    assert update.phases[0].fields == {"log": "y" * 1000, "host": "h1"}
    assert set(update.kept or ()) == {"result", "fields.note"}


@pytest.mark.parametrize(
    "values", [([1] * 200, [1.0] * 200), ([1] * 200, [True] * 200), ({"a": TEXT}, {"a": TEXT + "y"})]
)
def test_what_is_other_json_is_sent_though_python_takes_it_for_the_same(values: tuple[Any, Any]) -> None:
    state = begun()
    reader = Reader(Feed(state, state.publish))
    for value in values:
        state.set({"a": value})
        reader.read()
    assert reader.view is not None
    assert repr(reader.view.fields["a"]) == repr(values[1])


def test_of_a_state_that_was_not_handed_out_here_nothing_is_taken_to_be_known() -> None:
    """As when another gateway has shown it, between two that are the same."""
    state = begun()
    feed = Feed(state, state.publish)
    state.set({"a": TEXT})
    reader = Reader(feed)
    reader.read()
    state.set({"a": "between"})
    elsewhere = state.snapshot()
    elsewhere = elsewhere.resuming(f"7.{elsewhere.seq:x}.0")
    state.set({"a": TEXT})
    assert reader.update().kept == ("fields.a",)
    comes = Reader(feed, since=elsewhere)
    message = comes.read()[-1]
    assert isinstance(message, Update)
    assert message.head.fields == {"a": TEXT}
    state.set({"b": 1})
    assert comes.update().kept == ("fields.a",)
    assert comes.view is not None
    assert comes.view.fields == {"a": TEXT, "b": 1}


def test_a_phase_that_was_folded_and_comes_again_is_sent_whole() -> None:
    state = begun(phases=2)
    reader = Reader(Feed(state, state.publish))

    def phase(name: str) -> None:
        node = state.enter(state.root, name)
        node.set({"log": TEXT})
        state.leave(node, "completed")
        reader.read()

    for name in ("a", "b", "c", "a"):  # For each one the oldest goes up into the session.
        phase(name)
    assert reader.view is not None
    assert reader.view.phase("a").fields == {"log": TEXT}
    assert reader.view.phases == state.snapshot().phases


def test_what_is_read_in_a_store_anew_is_known_again() -> None:
    state = begun()
    state.set({"text": TEXT, "rows": [[1, 2.5, None]] * 100})
    phase = state.enter(state.root, "fetch")
    phase.set({"log": TEXT})

    def stored() -> Stored:
        state.increment("n")
        seq = state.snapshot().seq
        return Stored("a", Key(7, seq), encode_record(state), True, 1e9)

    remote = RemoteState(stored(), CLOCK, 10)
    feed = Feed.found(remote)
    reader = Reader(feed)
    reader.read()
    for _ in range(3):
        phase.advance()
        remote.take_in(stored())
        update = reader.update()
        assert set(update.kept or ()) == {"fields.text", "fields.rows"}
        assert [each.kept for each in update.phases] == [("fields.log",)]
        assert reader.view is not None
        assert reader.view.fields == state.fields


def test_more_states_and_phases_than_are_remembered_cost_bytes_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sparse, "STATES", 3)
    monkeypatch.setattr(sparse, "PHASES", 2)
    state = begun()
    feed = Feed(state, state.publish)
    slow, fast = Reader(feed), Reader(feed)
    phases = [state.enter(state.root, name) for name in "abcd"]
    for phase in phases:
        phase.set({"log": TEXT})
    slow.read()
    for _ in range(5):
        for phase in phases:
            phase.advance()
        fast.read()
    for phase in phases:
        phase.advance()
    assert sum(bool(phase.kept) for phase in fast.update().phases) == 2
    assert not any(phase.kept for phase in slow.update().phases)
    assert slow.view is not None
    assert fast.view is not None
    assert slow.view.phases == fast.view.phases == state.snapshot().phases


def kept_wrongly(update: Update) -> Iterator[Update]:
    yield msgspec.structs.replace(update, kept=("fields.nobody",))
    yield msgspec.structs.replace(update, kept=("title",))
    phase = msgspec.structs.replace(update.phases[0], kept=("result",))
    yield msgspec.structs.replace(update, kept=(), phases=(phase,))
    phase = msgspec.structs.replace(update.phases[0], kept=("fields.log",), path=("nobody",))
    yield msgspec.structs.replace(update, kept=(), phases=(phase,))


def test_an_update_that_keeps_what_the_state_does_not_have_is_refused() -> None:
    state = begun()
    reader = Reader(Feed(state, state.publish))
    phase = state.enter(state.root, "fetch")
    phase.set({"log": TEXT})
    reader.read()
    before = reader.view
    assert before is not None
    phase.advance()
    update = reader.update()
    assert update.phases[0].kept == ("fields.log",)
    again = filled(before, update)
    assert again.kept is msgspec.UNSET
    assert (again.phases[0].kept, again.phases[0].fields) == ((), {"log": TEXT})
    assert again.apply(before) == reader.view
    for wrong in kept_wrongly(update):
        with pytest.raises(ProtocolError, match="ask for a new snapshot"):
            wrong.apply(before)
    with pytest.raises(ProtocolError, match="does not fit onto nothing"):
        filled(None, update)
