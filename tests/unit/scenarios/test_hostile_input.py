"""Whatever meets bytes of others takes at most 2.3 times as long for twice as many: no input stops the loop.

Nothing here is held against a clock. Each parser is given an input and one of twice its size, in turn, until the least
times of both are in that proportion: what is linear gets there however busy the machine is; what is quadratic takes
four times as long, and never does.
"""

from __future__ import annotations

import base64
import itertools
import json
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeAlias

import pytest
import trio
import trio.testing

from tests.raw import InMemory
from trio_progress import ProtocolError
from trio_progress.asgi.requests import request_of
from trio_progress.errors import StoreError
from trio_progress.protocol.messages import Position, decode_message
from trio_progress.protocol.requests import decode_cancel, decode_request
from trio_progress.server import Credentials, SignedTokens
from trio_progress.server.answers import RefusedError, Request
from trio_progress.server.auth.authenticator import cookies_of, token_of
from trio_progress.server.auth.origins import Origins, Proxies, checked_origin
from trio_progress.server.files import matches
from trio_progress.server.http_connection import HttpConnection, decode_path, parse_query
from trio_progress.server.rate_limit import ExcessError, FrameMeter, RateLimit
from trio_progress.state import checks
from trio_progress.state.history import given_history
from trio_progress.state.limits import Limits
from trio_progress.state.record import decode_event, decode_head, decode_record
from trio_progress.stores.decoding import CorruptEntries, decode_cursor, decode_id
from trio_progress.stores.redis import reads as redis_reads
from trio_progress.stores.redis.server import Server
from trio_progress.stores.sqlite import rows as sqlite_rows
from trio_progress.telemetry.logs import escaped
from trio_progress.telemetry.redaction import redacted, redacted_url
from trio_progress.terminal.printable import printable

PROPORTION: Final = 2.3
ROUNDS: Final = 60
"""Times at which the proportion is looked at before it counts as missed."""

Make: TypeAlias = Callable[[int], str]
Parse: TypeAlias = Callable[[str], object]

REFUSALS = (
    ProtocolError,
    StoreError,
    ValueError,
    TypeError,
    ExcessError,
    RefusedError,
)


def names(n: int) -> list[str]:
    """So many names, no two of them alike."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    return ["".join(each) for each in itertools.islice(itertools.product(letters, repeat=3), n // 8)]


def repeated(piece: str) -> Make:
    return lambda n: piece * (n // len(piece))


PHASE: Final = json.dumps({"name": "p", "title": "p", "status": "pending", "attempt": 0})
RECORD: Final = json.dumps({"format": 1, "state": {"id": "r-1", "phases": []}}, separators=(",", ":"))

FAMILIES: Final[dict[str, Make]] = {
    "a long run": repeated("a"),
    "a run of digits": repeated("1"),
    "spaces": repeated(" "),
    "tabs and line breaks": repeated("\t\n"),
    "openers of control strings": repeated("\x9d"),
    "openers of all control strings": repeated("\x90\x98\x9d\x9e\x9f"),
    "openers and text": repeated("\x9dab"),
    "openers by ESC": repeated("\x1b]"),
    "a CSI that does not end": lambda n: "\x9b" + "0;" * (n // 2),
    "many CSIs that do not end": repeated("\x1b[0;"),
    "an ESC that does not end": lambda n: "\x1b" + " " * n,
    "terminators": repeated("\x9c\x07"),
    "bidirectional controls": repeated("\u202e\u2066"),
    "wide and plain in turn": repeated("文a"),
    "half surrogates": repeated("\udc80"),
    "quotes": repeated('"'),
    "backslashes": lambda n: '"' + "\\" * n,
    "brackets that open": repeated("["),
    "braces that open": repeated('{"a":'),
    "brackets in turn": repeated("[]"),
    "objects in a list": lambda n: "[" + "{}," * (n // 3) + "0]",
    "percent signs": repeated("%"),
    "percent escapes": repeated("%41"),
    "equals and semicolons": repeated("a=;"),
    "commas": repeated(","),
    "commas and blanks": repeated(" ,"),
    "ampersands": repeated("&a=b"),
    "dots": repeated("."),
    "colons": repeated(":"),
    "a number and dots": repeated("1."),
    "slashes": repeated("/a"),
    "a name of a host, then something else": lambda n: "a" * n + "!",
    "an address of IPv6 that is too long": lambda n: "[" + "1:" * (n // 2) + "]",
    "addresses": repeated("127.0.0.1,"),
    "a token of many parts": repeated("abc."),
    "members, none twice": lambda n: "{" + ",".join(f'"{each}":0' for each in names(n)) + "}",
    "members, the last twice": lambda n: "{" + ",".join(f'"{each}":0' for each in [*names(n), names(n)[-1]]) + "}",
    "the same member": lambda n: '{"type":"ping"' + ',"type":"ping"' * (n // 14) + "}",
    "labels, the last twice": lambda n: (
        '{"type":"subscribe","session":"*","labels":{'
        + ",".join(f'"{each}":""' for each in [*names(n), names(n)[-1]])
        + "}}"
    ),
    "many objects of labels": lambda n: '{"type":"subscribe","session":"*"' + ',"labels":{}' * (n // 12) + "}",
    "a type that comes last": lambda n: '{"data":"' + "x" * n + '","type":"ping"}',
    "a list without an end": lambda n: '{"type":"ping","data":' + "[" * n,
    "a number without an end": lambda n: '{"type":"subscribe","session":"a","max_hz":0.' + "9" * n + "}",
    "half pairs": lambda n: '{"type":"ping","data":"' + "\\ud83d\\ude00" * (n // 12) + '\\ud83d"}',
    "a member that is not known": lambda n: '{"type":"ping","' + "x" * n + '":1}',
    "phases": lambda n: RECORD.replace('"phases":[]', '"phases":[' + ",".join([PHASE] * (n // len(PHASE))) + "]"),
    "phases of a history": lambda n: '{"phases":{' + ",".join(f'"{each}":{{"seconds":1}}' for each in names(n)) + "}}",
    "hosts of sentinels": lambda n: ",".join(["h:1"] * (n // 4)),
    "options of a URL": lambda n: "h/0?" + "&sentinel_password=a" * (n // 20),
    "passwords and hosts": repeated("redis:a@h"),
    "lines of a head": repeated("a:\r\n"),
    "folded lines of a head": repeated("\r\n b"),
    "empty lines": repeated("\r\n"),
    "chunks of a byte": repeated("1\r\na\r\n"),
    "media types": repeated("application/openmetrics-text;version=0.1,"),
    "parameters of a media type": lambda n: "application/openmetrics-text" + ";version=0" * (n // 10),
    "a version": lambda n: "application/openmetrics-text;version=" + "1." * (n // 2) + "0",
}


def request_with(**headers: str) -> Request:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request(
        method="GET",
        path="/",
        query={},
        labels=(),
        headers=given,
        body=b"",
        raw=b"",
        trailing=b"",
    )


ORIGINS = Origins(["https://a.example"], ["b.example"])
PROXIES = Proxies(["127.0.0.0/8"])
TOKENS = SignedTokens("a-secret-of-the-tests-0123456789-0123456789")


def signed(text: str) -> object:
    return trio.run(TOKENS, Credentials(token=text, headers={}, cookies={}, address=""))


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode("utf-8", "replace")).decode()


def store_url(text: str) -> object:
    """The text as what follows in a URL, and as a password in it."""
    return [
        refused(Server.of_url, f"redis-sentinel://{text}", None),
        refused(Server.of_url, f"redis://:{text}@h/0", None),
        redacted_url(f"redis-sentinel://:{text}@h/0"),
        redacted(text),
        redacted(f"{text} @"),
    ]


def asgi(text: str) -> object:
    """The text at each place that an ASGI server hands on."""
    data = text.encode("utf-8", "replace")
    scope = {"type": "http", "method": "GET", "path": f"/{text}", "query_string": data, "root_path": text}
    many = [(b"x", data[at : at + 100]) for at in range(0, len(data), 100)]
    return [refused(request_of, scope | {"headers": headers}) for headers in ([(b"x", data), (data, b"x")], many)]


def frames(text: str) -> object:
    meter = FrameMeter(RateLimit(1e9, 1e9, lambda: 0.0), RateLimit(1e9, 1e9, lambda: 0.0))
    return refused(meter.feed, text.encode("utf-8", "replace"))


def row(text: str) -> object:
    data = text.encode("utf-8", "replace")
    return [
        refused(sqlite_rows.head, (1, 1, None, data, 1.0, 1.0, 1.0)),
        refused(sqlite_rows.head, (text, 1, None, data, 1.0, 1.0, 1.0)),
        refused(decode_id, data),
        refused(redis_reads.key, data),
        refused(redis_reads.epoch, data),
        refused(redis_reads.stamp, "heartbeat", data),
        refused(redis_reads.found, "r-1", [data, data, [data, data], data, data, [data]]),
        refused(redis_reads.events_of, 1, [[b"1-1", [b"1", data]], [data, data]], ()),
        refused(redis_reads.history_in, "p", data, CorruptEntries("hostile")),
        refused(redis_reads.ask, [b"i", data, b"a", data, b"r", data]),
        refused(decode_cursor, text),
    ]


class Saying(InMemory):
    """A client that says this, a packet at a time, and goes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        said, self.data = self.data[:max_bytes], self.data[max_bytes:]
        return said


def asked(data: bytes) -> object:
    async def request() -> object:
        connection = HttpConnection(Saying(data), head_patience=10.0, write_patience=1.0)
        try:
            return await connection.request()
        except RefusedError as error:
            return error.response

    return trio.run(request)


def heads(text: str) -> object:
    """The text at each place of a head, and as a body."""
    data = text.encode("utf-8", "replace")
    host = b"Host: localhost\r\n"
    return [
        asked(data),
        asked(b"GET " + data + b" HTTP/1.1\r\n" + host + b"\r\n"),
        asked(b"GET /?" + data + b" HTTP/1.1\r\n" + host + b"\r\n"),
        asked(b"GET / HTTP/1.1\r\n" + host + b"X: " + data + b"\r\n\r\n"),
        asked(b"GET / HTTP/1.1\r\n" + host + data + b": x\r\n\r\n"),
        asked(b"GET / HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n" + data),
        asked(b"GET / HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n1;" + data),
    ]


def refused(parse: Callable[..., object], *given: object) -> object:
    """What it makes of it, or how it refuses it."""
    try:
        return parse(*given)
    except REFUSALS as error:
        return str(error)


def stored(text: str) -> object:
    data = text.encode("utf-8", "replace")
    return [
        refused(decode_record, "r-1", 1, 1, data),
        refused(decode_head, "r-1", 1, 1, data),
        refused(decode_event, data),
    ]


def request_target(text: str) -> object:
    plain = text.encode("ascii", "replace").decode()
    with suppress(RefusedError):
        parse_query(plain)
    with suppress(RefusedError):
        return decode_path(plain)
    return None


PARSERS: Final[dict[str, Parse]] = {
    "printable": printable,
    "log": escaped,
    "request": lambda text: refused(decode_request, text),
    "body of cancel": lambda text: refused(decode_cancel, text.encode("utf-8", "replace")),
    "message": lambda text: refused(decode_message, text.encode("utf-8", "replace")),
    "resume token": Position.parse,
    "cookies": cookies_of,
    "authorization": lambda text: token_of({"authorization": f"Bearer {text}"}),
    "subprotocols": lambda text: token_of({"sec-websocket-protocol": text}),
    "token in a subprotocol": lambda text: token_of({"sec-websocket-protocol": f"bearer.{encoded(text)}"}),
    "signed token": lambda text: signed(f"{text[:4000]}.{text[4000:8000]}.x"),
    "header of a signed token": lambda text: signed(f"{encoded(text)[:8000]}.e30.x"),
    "connection": lambda text: request_with(connection=text, upgrade=text).upgrades,
    "if-none-match": lambda text: matches(request_with(if_none_match=text), '"x"'),
    "host": lambda text: ORIGINS.hosted({"host": text}),
    "origin": lambda text: ORIGINS.foreign({"origin": f"http://{text}", "host": "localhost"}),
    "allowed origin": lambda text: refused(checked_origin, f"https://{text}"),
    "forwarded for": lambda text: PROXIES.client("127.0.0.1", {"x-forwarded-for": text}),
    "target": request_target,
    "session id": lambda text: refused(checks.session_id, text),
    "name": lambda text: refused(checks.name, "a name", text),
    "title": lambda text: refused(checks.title, "a title", text),
    "label": lambda text: refused(checks.labels, {text: text}, Limits()),
    "frames": frames,
    "heads": heads,
    "row": row,
    "record": stored,
    "history": lambda text: refused(given_history, text),
    "URL of a store": store_url,
    "ASGI": asgi,
}


def least(parse: Parse, text: str, before: float) -> float:
    began = time.process_time_ns()
    parse(text)
    return min(before, time.process_time_ns() - began)


def proportion(parse: Parse, make: Make, size: int, *, at_least: int = 2) -> float:
    """How many times as long twice the input takes, looked at so often or more."""
    one, two = make(size), make(2 * size)
    times = [float("inf"), float("inf")]
    found = float("inf")
    for nth in range(ROUNDS):
        times = [least(parse, one, times[0]), least(parse, two, times[1])]
        found = (times[1]) / (times[0] + NOISE)
        if (nth >= at_least - 1 and found <= PROPORTION) or (nth >= 25 and found > 3):
            break
    return found


NOISE: Final = 100_000
"""Nanoseconds that tell nothing: so much a call may cost by itself, or by where its memory comes from."""

SIZE: Final = 8 * 1024
"""Bytes of the smaller input, at which what is quadratic takes milliseconds; before a release four times as many."""


@pytest.mark.parametrize(
    ("size", "at_least"), [(SIZE, 1), pytest.param(4 * SIZE, 2, marks=pytest.mark.release)], ids=["small", "large"]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_twice_the_input_takes_no_more_than_twice_the_time(family: str, size: int, at_least: int) -> None:
    slow = {
        name: round(found, 1)
        for name, parse in PARSERS.items()
        if (found := proportion(parse, FAMILIES[family], size, at_least=at_least)) > PROPORTION
        # What is quadratic is so at any size; where memory comes from, or who else computes, is not.
        and (found := min(found, proportion(parse, FAMILIES[family], 3 * size))) > PROPORTION
    }
    assert slow == {}


def test_what_is_quadratic_is_found_by_this() -> None:
    def twice(text: str) -> object:
        return [each for each in text.split(",") if text.count(each) > 1]

    assert proportion(twice, lambda n: ",".join(names(n)), 4096) > 3
