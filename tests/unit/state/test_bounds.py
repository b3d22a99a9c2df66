"""Everything that a session holds has a bound with a name; what passes it is refused, cut, folded or told as lost."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import QuietHost
from trio_progress import Limits, PhaseError, PhaseSpec, Pipeline
from trio_progress.protocol.clock import Clock
from trio_progress.state import checks
from trio_progress.state.events import EventLog, LoggedEvent
from trio_progress.state.limits import MAX_JSON_DEPTH, MAX_UNITS
from trio_progress.state.record import decode_record, encode_record
from trio_progress.state.session import SessionState

LIMITS = Limits(
    phases=3,
    depth=2,
    counters=2,
    fields=2,
    labels=1,
    text=10,
    message=8,
    value_bytes=20,
    saved_bytes=30,
    result_bytes=40,
)


def state_of(**given: Any) -> SessionState:
    state = SessionState("a", host=QuietHost(), clock=Clock(lambda: 5.0, lambda: 1e9), **given)
    state.begin(1)
    return state


@pytest.fixture
def state() -> SessionState:
    return state_of(limits=LIMITS)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("bound", "fits", "passes"),
    [
        ("counters", lambda s: s.increment("b"), lambda s: s.increment("c")),
        ("fields", lambda s: s.set({"b": 1}), lambda s: s.set({"c": 1})),
        ("text", lambda s: s.update(title="x" * 10), lambda s: s.update(title="x" * 11)),
        ("text", lambda s: s.emit("x" * 10), lambda s: s.emit("x" * 11)),
        ("text", lambda s: s.set({"y" * 10: 1}), lambda s: s.set({"y" * 11: 1})),
        ("text", lambda s: s.increment("y" * 10), lambda s: s.increment("y" * 11)),
        ("value_bytes", lambda s: s.set({"a": "x" * 18}), lambda s: s.set({"a": "x" * 19})),
        ("value_bytes", lambda s: s.emit("e", ["x" * 16]), lambda s: s.emit("e", ["x" * 17])),
        ("value_bytes", lambda s: s.fail("x", {"k": "x" * 12}), lambda s: s.fail("x", {"k": "x" * 13})),
        ("saved_bytes", lambda s: s.save("x" * 28), lambda s: s.save("x" * 29)),
        ("result_bytes", lambda s: s.set_result("x" * 38), lambda s: s.set_result("x" * 39)),
    ],
)
def test_what_fits_is_taken_and_what_passes_a_bound_is_refused_by_its_name(
    bound: str, fits: Callable[[SessionState], None], passes: Callable[[SessionState], None], state: SessionState
) -> None:
    state.increment("a")
    state.set({"a": 1})
    fits(state)
    before = state.snapshot()
    with pytest.raises(ValueError, match=f"limit '{bound}'"):
        passes(state)
    assert state.snapshot() is before


def test_a_counter_or_field_that_is_there_is_no_new_one(state: SessionState) -> None:
    for _ in range(3):
        state.increment("a")
        state.increment("b")
        state.set({"a": 1, "b": 2})
    assert state.counters == {"a": 3, "b": 3}


def test_fields_of_a_phase_are_bounded_for_itself(state: SessionState) -> None:
    phase = state.enter(state.root, "x")
    phase.set({"a": 1, "b": 2})
    before = state.snapshot()
    with pytest.raises(ValueError, match="limit 'fields'"):
        phase.set({"c": 1})
    assert state.snapshot() is before


def test_a_message_is_cut_and_says_so(state: SessionState) -> None:
    state.update(message="12345678")
    assert state.message == "12345678"
    state.update(message="123456789")
    assert state.message == "1234567…"
    phase = state.enter(state.root, "x")
    phase.update(message="x" * 100)
    assert phase.message == "x" * 7 + "…"


def test_phases_nest_to_the_depth_and_no_deeper(state: SessionState) -> None:
    one = state.enter(state.root, "one")
    two = state.enter(one, "two")
    with pytest.raises(PhaseError, match="limit 'depth'"):
        state.enter(two, "three")


def test_a_full_tree_folds_the_oldest_finished_phase_and_refuses_where_none_has_finished(state: SessionState) -> None:
    one = state.enter(state.root, "one")
    state.leave(state.enter(one, "a"), "completed")
    state.leave(state.enter(one, "b"), "failed")
    state.enter(one, "c")
    assert list(one.children) == ["b", "c"]
    state.enter(one, "d")
    assert (list(one.children), one.folded) == (["c", "d"], 2)
    before = state.snapshot()
    with pytest.raises(PhaseError, match="limit 'phases'"):
        state.enter(one, "e")
    assert state.snapshot() is before
    assert [phase.name for phase in before.phase("one").phases] == ["c", "d"]


def test_declared_phases_are_never_folded() -> None:
    state = state_of(pipeline=Pipeline("p", {"x": 1, "y": 1}), limits=Limits(phases=2))
    state.leave(state.enter(state.root, "x"), "completed")
    y = state.enter(state.root, "y")
    with pytest.raises(PhaseError, match="limit 'phases'"):
        state.enter(y, "child")
    assert list(state.root.children) == ["x", "y"]


def test_tombstones_are_bounded_and_what_they_no_longer_tell_needs_a_snapshot() -> None:
    state = state_of(limits=Limits(phases=3))
    one = state.enter(state.root, "one")
    first = state.snapshot()
    for number in range(4):
        state.leave(state.enter(one, f"{number}"), "completed")
    assert state.oldest_delta <= first.seq
    assert state.update_since(first.seq, "").apply(first).phases == state.snapshot().phases
    for number in range(4, 20):
        state.leave(state.enter(one, f"{number}"), "completed")
    assert len(state.tombstones) == 3
    assert first.seq < state.oldest_delta < state.seq


@pytest.mark.parametrize("name", ["phases", "depth", "counters", "fields", "labels", "text", "message", "saved_bytes"])
@pytest.mark.parametrize("bad", [0, -1, 1.5, True, None, "9", math.inf])
def test_a_limit_is_a_whole_number_of_at_least_one(name: str, bad: Any) -> None:
    with pytest.raises(ValueError, match=f"limit '{name}' must be a whole number"):
        Limits(**{name: bad})


# Counts


def test_counts_stay_below_2_to_53_whatever_is_added(state: SessionState) -> None:
    phase = state.enter(state.root, "x", total=10)
    for _ in range(5):
        phase.advance(MAX_UNITS - 1)
        phase.skip(MAX_UNITS - 1)
    snapshot = state.snapshot()
    shown = snapshot.phase("x")
    assert shown.done == MAX_UNITS - 1
    assert 0 <= shown.skipped <= shown.done
    assert decode_record("a", 1, state.seq, encode_record(state)).state.phase("x").done == shown.done


def test_a_total_or_a_counter_that_would_pass_2_to_53_is_refused(state: SessionState) -> None:
    phase = state.enter(state.root, "x", total=MAX_UNITS - 1)
    state.increment("n", MAX_UNITS - 1)
    before = state.snapshot()
    with pytest.raises(ValueError, match=r"2\*\*53"):
        phase.extend(1)
    with pytest.raises(ValueError, match=r"2\*\*53"):
        state.increment("n", 1)
    assert state.snapshot() is before


@pytest.mark.parametrize("value", [3, 3.5, Decimal("3.5"), Fraction(7, 2)])
def test_numbers_of_other_kinds_are_plain_ones_in_what_is_published(value: Any, state: SessionState) -> None:
    phase = state.enter(state.root, "x")
    for _ in range(3):  # The first takes the slow path, the others the fast one.
        phase.advance(value)
    assert state.snapshot().phase("x").done == pytest.approx(3 * float(value))
    assert type(state.snapshot().phase("x").done) in (int, float)
    encode_record(state)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1, -0.1, MAX_UNITS, "1", None, [1], {}, object(), 1j, b"1"])
@pytest.mark.parametrize("warm", [False, True])
def test_what_is_no_count_is_refused_on_the_fast_path_as_on_the_slow_one(
    warm: bool, bad: Any, state: SessionState
) -> None:
    phase = state.enter(state.root, "x", total=5)
    if warm:
        phase.advance()
        assert not phase.slow
    before = (phase.done, phase.skipped, phase.total)
    for call in (phase.advance, phase.skip, phase.extend):
        with pytest.raises((ValueError, TypeError)):
            call(bad)
    assert (phase.done, phase.skipped, phase.total) == before


@pytest.mark.parametrize("bad", [Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), math.nan, "x", -1, 1j])
@pytest.mark.parametrize("warm", [False, True])
def test_bad_counts_are_dropped_and_told_where_the_session_is_not_strict(warm: bool, bad: Any) -> None:
    state = state_of(strict=False)
    phase = state.enter(state.root, "x", total=5)
    if warm:
        phase.advance()
    before = (phase.done, phase.total)
    phase.advance(bad)
    phase.skip(bad)
    phase.extend(bad)
    phase.update(done=bad)
    assert (phase.done, phase.total) == before
    assert isinstance(state.host, QuietHost)
    assert len(state.host.dropped) == 4


def test_a_bool_is_counted_alike_on_the_fast_path_and_on_the_slow_one(state: SessionState) -> None:
    phase = state.enter(state.root, "x")

    def outcome() -> object:
        before = phase.done
        try:
            phase.advance(True)
        except TypeError:
            return TypeError
        return phase.done - before

    slow = outcome()
    phase.advance()
    assert not phase.slow
    assert outcome() == slow


# Data and names


@pytest.mark.parametrize(
    "bad",
    [
        math.nan,
        [math.inf],
        {"a": -math.inf},
        2**53 + 1,
        {1: 2},
        {"a": {None: 1}},
        object(),
        {1, 2},
        b"bytes",
        [lambda: None],
        nested(MAX_JSON_DEPTH + 1),
        1j,
    ],
)
def test_what_is_no_json_data_is_refused_everywhere(bad: Any, state: SessionState) -> None:
    phase = state.enter(state.root, "x")
    before = state.snapshot()
    calls: list[Callable[[], object]] = [
        lambda: state.set({"a": bad}),
        lambda: phase.set({"a": bad}),
        lambda: state.emit("e", bad),
        lambda: state.save(bad),
        lambda: state.set_result(bad),
        lambda: state.fail("x", {"a": bad}),
    ]
    for call in calls:
        with pytest.raises((ValueError, TypeError)):
            call()
    assert state.snapshot() is before
    assert state.saved is None


def test_data_that_contains_itself_is_refused_and_does_not_hang(state: SessionState) -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(ValueError, match="must not nest deeper"):
        state.set_result(loop)


def test_data_may_nest_to_the_bound() -> None:
    state = state_of()
    state.set_result(nested(MAX_JSON_DEPTH))
    record = decode_record("a", 1, state.seq, encode_record(state))
    assert record.state.result == nested(MAX_JSON_DEPTH)


class Colour(str, enum.Enum):  # noqa: UP042 - its str() is not its value
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


def test_enum_members_are_their_values_as_json_has_them(state: SessionState) -> None:
    state.set({"a": [Colour.RED, Size.BIG], "b": Colour.RED})
    state.update(message=Colour.RED)
    state.set_result({Colour.RED: Colour.RED})
    snapshot = state.snapshot()
    assert snapshot.fields == {"a": ["red", 3], "b": "red"}
    assert (snapshot.message, snapshot.result) == ("red", {"red": "red"})
    assert type(snapshot.fields["a"][1]) is int


@pytest.mark.parametrize("bad", ["", "x" * 201, "a\nb", "a\x00", "\x1b[31m", "a\x85", "a\ud800", None, 5, b"x"])
def test_a_name_is_not_empty_bounded_and_without_control_characters(bad: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        checks.name("a name", bad)


@pytest.mark.parametrize("good", ["a", "0", "a.b_c:d-e", "A" * 128, "...", "-"])
def test_session_ids_that_are_allowed(good: str) -> None:
    assert checks.session_id(good) == good


@pytest.mark.parametrize("bad", ["", ".", "..", "a" * 129, "a b", "a/b", "ä", "a\n", "\u0661", None, 7, b"a", "*"])
def test_session_ids_that_are_not(bad: Any) -> None:
    with pytest.raises(ValueError, match="a session id must be 1 to 128"):
        checks.session_id(bad)


def test_new_ids_are_valid_and_differ() -> None:
    ids = {checks.new_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(checks.session_id(made) for made in ids)


@pytest.mark.parametrize(
    "given",
    [
        {},
        [],
        "abc",
        {"a": -1},
        {"a": 0},
        {"a": math.nan},
        {"a": "1"},
        {"": 1},
        ["a", "a"],
        [PhaseSpec("a", aliases=("b",)), "b"],
        [1],
        [None],
        {"a", "b"},
        frozenset({"a"}),
        Pipeline("q", ["a"], learn=False),
        7,
    ],
)
def test_a_pipeline_that_cannot_be_is_refused(given: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Pipeline("p", given)


# Events


@given(st.integers(1, 6), st.integers(0, 20), st.integers(0, 25))
def test_an_event_log_keeps_the_newest_and_knows_what_is_missing(limit: int, emitted: int, known: int) -> None:
    log = EventLog(limit)
    for n in range(1, emitted + 1):
        log.append(LoggedEvent(n, n, "e", n, 0.0))
    kept = list(range(max(emitted - limit, 0) + 1, emitted + 1))
    assert [event.n for event in log.after(0)] == kept
    assert (log.newest, log.oldest, len(log)) == (emitted, kept[0] if kept else emitted + 1, len(kept))
    assert [event.n for event in log.after(known)] == [n for n in kept if n > known]
    first = log.first_after(known)
    assert (None if first is None else first.n) == next((n for n in kept if n > known), None)
    again = EventLog(limit, log.after(0))
    assert list(again.after(0)) == list(log.after(0))


def test_what_comes_late_is_not_refused_for_want_of_room() -> None:
    host = QuietHost()
    limits = Limits(counters=1, fields=1)
    state = SessionState("a", host=host, clock=Clock(), pipeline=Pipeline("p", ["search"]), limits=limits)
    state.begin(1)
    node = state.enter(state.root, "search")
    state.increment("one")
    state.set({"one": 1})
    node.set({"one": 1})
    state.end("completed")
    late = host.lates
    state.increment("two")
    state.set({"two": 2})
    node.set({"two": 2})
    assert host.lates == late + 3
    assert (state.counters, state.fields, node.fields) == ({"one": 1}, {"one": 1}, {"one": 1})
