"""What anybody may send, read strictly; and the schema, which says the same as the types, both ways."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import trio
import trio.testing

import trio_progress
from tests.support import Cases
from trio_progress import ProtocolError, Settings, decode_message, encode_message, open_tracker
from trio_progress.protocol import messages, snapshot
from trio_progress.protocol.requests import Ping, Request, Subscribe, decode_cancel, decode_request
from trio_progress.protocol.snapshot import Head
from trio_progress.server.schema import FROM_CLIENT, FROM_SERVER, encoded, schema

SCHEMA = schema()
SERVER = Path(trio_progress.__file__).parent / "server"


def judge(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": SCHEMA["$defs"]})


def unordered(data: Any) -> Any:
    """The same, with all arrays in one order: which alternative stands first is different in older msgspecs."""
    if isinstance(data, dict):
        return {key: unordered(value) for key, value in data.items()}
    if isinstance(data, list):
        return sorted(map(unordered, data), key=lambda one: json.dumps(one, sort_keys=True))
    return data


def test_the_schema_that_is_shipped_is_the_types() -> None:
    assert unordered(json.loads((SERVER / "schema.json").read_bytes())) == unordered(json.loads(encoded()))
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


async def recorded() -> list[dict[str, Any]]:
    """Messages of all kinds, from a real session."""
    found: list[dict[str, Any]] = []
    async with open_tracker(heartbeat_interval=1.0, lost_after=5.0, event_limit=3) as tracker:
        async with tracker.subscribe("r-1", wait=True) as stream:
            async with tracker.session("r-1", labels={"user": "ü"}) as session:
                with session.phase("a", total=3) as phase:
                    for n in range(8):
                        session.emit("found", {"n": n})
                    await trio.sleep(0.3)
                    with phase.phase("below"):
                        phase.advance()
                        session.set(x=[1, None, {"y": 2.5}])
                        await trio.sleep(0.3)
                        while True:
                            found.append(json.loads(encode_message(await stream.__anext__())))
                            if found[-1]["type"] == "bookmark":
                                break
                session.set_result({"report": "<b>"})
            found += [json.loads(encode_message(message)) async for message in stream]
        snapshot = await tracker.snapshot("r-1")
    head = Head(**{name: getattr(snapshot, name) for name in Head.__struct_fields__})
    others: list[messages.WireMessage] = [
        messages.Listed(session="r-1", head=head, verbs=("read",)),
        messages.Listing(complete=False, cursor="x"),
        messages.Unlisted(session="r-1"),
        messages.ErrorMessage(code="not_found", message="m", session="r-1"),
        messages.Pong(data="d"),
    ]
    return found + [json.loads(encode_message(other)) for other in others]


@pytest.fixture(scope="module")
def told() -> list[dict[str, Any]]:
    return trio.run(recorded, clock=trio.testing.MockClock(autojump_threshold=0))


def test_every_kind_of_message_is_valid_by_the_schema_and_decoded_by_the_types(told: list[dict[str, Any]]) -> None:
    kinds = {kind.__struct_config__.tag for kind in FROM_SERVER}
    assert {message["type"] for message in told} == kinds
    for message in told:
        judge("ServerMessage").validate(message)


AnyMessage = (
    Request
    | messages.Subscribed
    | messages.SnapshotFrame
    | messages.Update
    | messages.CustomEvent
    | messages.Bookmark
    | messages.Gap
    | messages.End
    | messages.Listed
    | messages.Listing
    | messages.Unlisted
    | messages.ErrorMessage
    | messages.Pong
)


def accepted(message: object) -> bool:
    try:
        msgspec.convert(message, AnyMessage)
    except msgspec.ValidationError:
        return False
    return True


REQUESTS: list[dict[str, Any]] = [
    {"type": "subscribe", "session": "r-1", "since": "1.1.0", "max_hz": 2.5, "events": 3, "wait": True, "close": False},
    {"type": "subscribe", "session": "*", "labels": {"a": "b"}},
    {"type": "unsubscribe", "session": "*"},
    {"type": "auth", "token": "t"},
    {"type": "cancel", "session": "r-1", "reason": None},
    {"type": "ping", "data": ""},
]


def broken(message: Any, rng: random.Random) -> Any:
    """The message with one thing changed, somewhere in it."""
    message = copy.deepcopy(message)
    at = message
    while True:
        key = rng.choice(list(at)) if isinstance(at, dict) else rng.randrange(len(at))
        below = at[key]
        if isinstance(below, (dict, list)) and below and rng.random() < 0.6:
            at = below
            continue
        if isinstance(at, dict) and rng.random() < 0.4:
            del at[key]
        else:
            at[key] = rng.choice([None, 5, -1, 0.5, "x", "*", "", [], {}, True, ["x"], {"x": 1}, "running", 10**6])
        return message


def test_schema_and_types_agree_on_what_is_a_message_and_what_is_none(
    told: list[dict[str, Any]], rng: random.Random, cases: Cases
) -> None:
    everything = jsonschema.Draft202012Validator(SCHEMA)
    verdicts = {True: 0, False: 0}
    tries = cases(300, exhaustive=1500)
    for _ in range(tries):
        message = broken(rng.choice([*told, *REQUESTS]), rng)
        by_types = accepted(message)
        assert by_types is everything.is_valid(strict_times(message)), message
        verdicts[by_types] += 1
    assert min(verdicts.values()) > tries / 15


def strict_times(message: Any) -> Any:
    """What the types call a time, the schema calls a text with a format: texts that are no times are made no texts."""
    if isinstance(message, dict):
        return {
            name: ["no time"] if name in TIMES and isinstance(value, str) and len(value) < 9 else strict_times(value)
            for name, value in message.items()
        }
    return [strict_times(item) for item in message] if isinstance(message, list) else message


# The members that hold a time, as the types' own annotations say.
TIMES = {
    name
    for module in (messages, snapshot)
    for kind in vars(module).values()
    if isinstance(kind, type(msgspec.Struct))
    for name, annotation in kind.__annotations__.items()
    if "datetime" in annotation
}


@pytest.mark.parametrize("request_", REQUESTS)
def test_every_kind_of_request_is_valid_and_decoded(request_: dict[str, Any]) -> None:
    judge("ClientMessage").validate(request_)
    assert type(decode_request(json.dumps(request_))) in FROM_CLIENT


def test_what_is_not_given_has_its_default() -> None:
    assert decode_request('{"type":"subscribe","session":"r-1"}') == Subscribe(session="r-1")
    assert decode_request(b'{"type":"ping"}') == Ping()
    assert decode_cancel(b"").reason is None
    assert decode_cancel('{"reason":"é"}'.encode()).reason == "é"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b"[]", "Expected `object`"),
        (b"[[[[[1]]]]]", "nested too deeply"),
        (b'{"type":"ping","data":"' + b"[" * 100 + b'"', "not JSON"),
        (b'{"a":' * 50_000, "nested too deeply"),
        (b'{"type":"ping","type":"ping"}', "'type' is there twice"),
        (b'{"type":"subscribe","session":"*","labels":{"a":"1","a":"2"}}', "'a' is there twice"),
        (b'{"type":"subscribe","session":"a","max_hz":NaN}', "NaN is no JSON"),
        (b'{"type":"subscribe","session":"a","max_hz":Infinity}', "Infinity is no JSON"),
        (b'{"type":"subscribe","session":"a","max_hz":1e999}', "max_hz"),
        (b'{"type":"subscribe","session":"a","events":' + b"1" * 5000 + b"}", "5000 digits"),
        (b'{"type":"subscribe","session":"a","events":1.5}', "Expected `int | null`"),
        (b'{"type":"ping","data":"\\udc00"}', "half of a surrogate pair"),
        (b'{"type":"ping","data":1}', "Expected `str`"),
        (b'{"type":"ping","more":1}', "unknown field `more`"),
        (b'{"type":"admin"}', "Invalid value 'admin'"),
        (b'{"session":"a"}', "missing required field `type`"),
    ],
)
def test_what_is_no_request_is_refused_and_the_text_says_why(text: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why.replace("|", r"\|")):
        decode_request(text)


def test_brackets_within_texts_do_not_count_as_depth() -> None:
    text = json.dumps({"type": "ping", "data": '[[[[[{{{{"\\[[[['})
    assert decode_request(text) == Ping(data='[[[[[{{{{"\\[[[[')


def test_random_texts_are_refused_or_read_and_never_anything_else(rng: random.Random) -> None:
    alphabet = '{}[]",:\\ truefalsn0123.-eE\x00é"type""ping"'
    for _ in range(3000):
        text = "".join(rng.choices(alphabet, k=rng.randrange(60)))
        try:
            decode_request(text)
        except ProtocolError:
            pass
        with pytest.raises(ProtocolError):
            decode_message(text)


def test_the_settings_a_snapshot_is_made_by_are_not_part_of_the_schema() -> None:
    assert not set(Settings.__dataclass_fields__) & set(SCHEMA["$defs"])
