"""A record in parts: however it changes, its parts are the whole, and a store that is sent the changes has them."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import examples
from trio_progress import CorruptEntryError
from trio_progress.stores.redis.parts import LARGE, Parts, joined, split

NAMES = ["a", "b", "c.d", "0", "=", 'phases":[', "\x00", "\u00e9\n", "result"]

values = st.integers(0, 3) | st.sampled_from(
    [None, "", "x" * (LARGE + 1), "y" * 5000, {"result": ["z" * 300]}, "\x00" * 60]
)

Tree = dict[str, Any]


def phase_of(name: str) -> Tree:
    return {"name": name, "done": 0, "fields": {}, "phases": []}


def encoded(state: Tree, saved: object, spent: object) -> bytes:
    """As a record is: without phases where there are none."""

    def shown(phase: Tree) -> Tree:
        below = [shown(each) for each in phase["phases"]]
        return {**phase, "phases": below} if below else {k: v for k, v in phase.items() if k != "phases"}

    whole = {**state, "phases": [shown(each) for each in state["phases"]]}
    return msgspec.json.encode({"format": 1, "state": whole, "saved": saved, "folded": 0, "spent": spent})


def anywhere(data: st.DataObject, state: Tree) -> Tree:
    """The session or one of its phases, as what phases are below."""
    level = state
    while level["phases"] and data.draw(st.booleans()):
        level = data.draw(st.sampled_from(level["phases"]))
    return level


def change(data: st.DataObject, record: dict[str, Any]) -> None:
    state = record["state"]
    level = anywhere(data, state)
    below = level["phases"]
    match data.draw(st.sampled_from(["add", "add", "remove", "insert", "order", "count", "field", "value"])):
        case "add" | "insert" as how:
            name = data.draw(st.sampled_from(NAMES))
            if all(each["name"] != name for each in below):
                below.insert(len(below) if how == "add" else 0, phase_of(name))
        case "remove" if below:
            below.pop(data.draw(st.integers(0, len(below) - 1)))
        case "order" if below:
            below.append(below.pop(0))
        case "count":
            level["done"] += 1
        case "field":
            name = data.draw(st.sampled_from(NAMES))
            level["fields"].pop(name, None)
            if data.draw(st.booleans()):
                level["fields"][name] = data.draw(values)
        case "value":
            where = data.draw(st.sampled_from(["saved", "spent", "result"]))
            (state if where == "result" else record)[where] = data.draw(values)
        case _:
            pass


@settings(max_examples=examples(100))
@given(st.data())
def test_parts_are_the_whole_record_and_changes_lead_from_any_state_to_any_later_one(data: st.DataObject) -> None:
    state: Tree = {"id": "a", "done": 0, "fields": {}, "result": None, "phases": []}
    record: dict[str, Any] = {"state": state, "saved": None, "spent": {}}
    before: Parts | None = None
    stored: dict[bytes, bytes] = {}
    """What is there, which now and then is behind by some states."""
    for _ in range(data.draw(st.integers(1, 12))):
        change(data, record)
        whole = encoded(state, record["saved"], record["spent"])
        parts = split(whole, before)
        assert parts is not None
        assert joined(parts.texts) == whole
        anew = split(whole)
        assert anew is not None
        assert joined(anew.texts) == whole
        before = parts
        if data.draw(st.booleans()):
            for name, text in parts.changed_from(stored).items():
                if text:
                    stored[name] = text
                else:
                    del stored[name]
            assert stored == parts.texts


def record_of(phases: list[Tree], **given: Any) -> bytes:
    return encoded(
        {"id": "a", "seq": given.pop("seq", 1), "fields": {}, "result": None, "phases": phases} | given, None, {}
    )


def test_what_has_not_changed_is_not_sent_again() -> None:
    below = [phase_of(f"item {n}") for n in range(50)]
    phases = [phase_of("first"), phase_of("many") | {"phases": below, "fields": {"log": "l" * 9000}}, phase_of("last")]
    before = split(record_of(phases, result="r" * 9000))
    assert before is not None
    below[7]["done"] = 1
    del below[3]
    below.append(phase_of("new"))
    after = split(record_of(phases, seq=2, result="r" * 9000), before)
    assert after is not None
    changed = after.changed_from(before.texts)
    assert {name: bool(text) for name, text in changed.items()} == {
        b".": True,
        b"1.7": True,
        b"1.50": True,
        b"1.3": False,
    }
    assert sum(map(len, changed.values())) < 500


def test_a_phase_that_has_moved_is_new_and_the_others_stay() -> None:
    phases = [phase_of(name) for name in "abcd"]
    before = split(record_of(phases))
    assert before is not None
    phases.append(phases.pop(0))
    after = split(record_of(phases), before)
    assert after is not None
    assert after.changed_from(before.texts).keys() == {b"0", b"4"}


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"state 1",
        b"[]",
        b'{"state":{"phases":[{}]}}',
        b'{"state":{"phases":[ {"name":"a"}]}}',
        b'{"state":{"phases":[{"name":"a"},{"name":"a"}]}}',
        b'{"state":{"fields":3},\0"saved":1}',
        b'{"state":' + b'{"phases":[{"name":"a",' * 1 + b'"phases":[' * 200 + b"]" * 200 + b"}]}}",
    ],
)  # fmt: skip
def test_what_no_encoder_has_written_is_left_whole(record: bytes) -> None:
    assert split(record) is None


@pytest.mark.parametrize(
    "texts",
    [
        {},
        {b"0": b"{}"},
        {b".": b"\0=result\0"},
        {b".": b"\0*\0\0*\0", b"0": b"{}", b"1.0": b"{}"},
        {b".": b"\0.\0"},
        {b".": b"\0*\0", b"0": b"\0.\0"},
        {b".": b"\0*", b"0": b"{}"},
        {b".": b"\0=x\0\0=x\0", b"=x": b"1"},
        {b".": b"{}", b"0": b"{}"},
        {b".": b"\0*\0", b".".join([b"0"] * 5000): b"{}"},
    ],
)
def test_what_are_not_the_parts_of_one_record_is_refused(texts: dict[bytes, bytes]) -> None:
    with pytest.raises(CorruptEntryError):
        joined(texts)


def test_parts_from_elsewhere_never_make_more_than_they_are() -> None:
    rng = random.Random(1)
    for _ in range(300):
        texts = {
            rng.choice([b".", b"0", b"1", b"0.0", b"=x", b"0=x"]): rng.choice(
                [b"{}", b"\0*\0", b"\0=x\0", b"a\0*\0\0=x\0"]
            )
            for _ in range(rng.randint(1, 6))
        }
        try:
            assert len(joined(texts)) <= sum(map(len, texts.values())) + len(texts)
        except CorruptEntryError:
            pass
