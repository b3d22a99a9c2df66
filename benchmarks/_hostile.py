"""Input that means harm, from a seed: heads of requests, WebSocket frames, tokens, and what a store may hold.

Most of it is something valid with a few things changed: what is noise from its first byte on gets nowhere.
"""

from __future__ import annotations

import base64
import json
import random
import re
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final

SECRET: Final = "the-secret-of-a-server-that-is-fuzzed-0123456789"  # noqa: S105 - of no server that anybody has

PATHS: Final = (
    "/", "/healthz", "/readyz", "/metrics", "/config", "/schema.json", "/sessions", "/sessions?limit=5&label=user:u1",
    "/sessions/r-1", "/sessions/r-1/events?since=1.1.0&max_hz=5", "/sessions/r-1/cancel", "/events", "/ws",
    "/static/link.js",
)  # fmt: skip

HEADERS: Final = (
    "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4",
    "Authorization: Bearer " + SECRET,
    "Authorization: Bearer abc.def.ghi",
    "Cookie: a=b; c=d",
    "Origin: http://localhost",
    "Origin: https://evil.example",
    "Sec-Fetch-Site: cross-site",
    'If-None-Match: W/"1.1.ok", "x"',
    "Last-Event-ID: 1.1.0",
    "X-Forwarded-For: 1.2.3.4, 10.0.0.1:80, [::1]:5",
    "Content-Type: application/json",
    "Transfer-Encoding: chunked",
    "Content-Length: 5",
    "Expect: 100-continue",
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol: trio-progress.v1, bearer.YWJj",
)

REQUESTS: Final[tuple[dict[str, Any], ...]] = (
    {"type": "subscribe", "session": "r-1", "since": "1.1.0", "max_hz": 2.5, "events": 3, "wait": True, "close": False},
    {"type": "subscribe", "session": "*", "labels": {"user": "u1"}},
    {"type": "unsubscribe", "session": "*"},
    {"type": "auth", "token": "abc.def.ghi"},
    {"type": "cancel", "session": "nobody", "reason": "enough"},
    {"type": "ping", "data": "x"},
)

PIECES: Final = (
    b"\x00", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\r\n", b"\n", b"\r\n\r\n", b"\x9d", b"\xc2\x9d", b"\x1b]0;", b"%",
    b"%ff",
    b"..", b"/", b"?", b"&", b";", b",", b'"', b"\\", b"\\ud800", b"[", b"{", b"}", b"NaN", b"1e999", b"-1", b"9" * 30,
    b":", b"null", b"\xe2\x80\xae", b"*", b"'", b"<b>", b"${x}", b"\t", b" " * 50, b"HTTP/9.9",
)  # fmt: skip


def changed(rng: random.Random, data: bytes, most: int = 4) -> bytes:
    """The data with up to so many places cut, doubled, replaced or added to."""
    made = bytearray(data)
    for _ in range(rng.randint(0, most)):
        at = rng.randrange(len(made) + 1)
        upto = min(len(made), at + rng.choice((0, 1, 1, 2, 8, 40)))
        what = rng.randrange(6)
        if what == 0:
            del made[at:upto]
        elif what == 1:
            made[at:at] = made[at:upto] * rng.choice((1, 1, 2, 50))
        elif what == 2:
            made[at:upto] = rng.randbytes(upto - at)
        elif what == 3:
            made[at:at] = rng.choice(PIECES) * rng.choice((1, 1, 1, 3, 500))
        elif what == 4 and made:
            made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
        else:
            del made[at:]
    return bytes(made[:200_000])


def head(rng: random.Random) -> bytes:
    """One request or more, with what may follow."""
    said = b""
    for _ in range(rng.choice((1, 1, 1, 2))):
        method = rng.choice(("GET", "GET", "GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "get"))
        version = rng.choice(("1.1", "1.1", "1.1", "1.1", "1.0", "9.9", "2.0"))
        lines = [
            f"{method} {rng.choice(PATHS)} HTTP/{version}",
            "Host: localhost",
            *rng.sample(HEADERS, rng.randrange(6)),
        ]
        said += changed(rng, "\r\n".join(lines).encode() + b"\r\n\r\n", 3)
        if rng.random() < 0.3:
            said += changed(
                rng, rng.choice((b'{"reason":"x"}', b"5\r\nhello\r\n0\r\n\r\n", b"1\r\na\r\n" * 200, b"x" * 70_000))
            )
    return said


def frame(rng: random.Random, payload: bytes, opcode: int = 1, *, final: bool = True) -> bytes:
    """A client's frame, with a mask."""
    mask, size = rng.randbytes(4), len(payload)
    first = (0x80 if final else 0) | opcode
    if size < 126:
        start = struct.pack("!BB", first, 0x80 | size)
    elif size < 65536:
        start = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        start = struct.pack("!BBQ", first, 0x80 | 127, size)
    key = int.from_bytes(mask * (size // 4 + 1), "big") >> (8 * (4 - size % 4))
    return start + mask + (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def large(rng: random.Random, size: int = 60_000) -> bytes:
    """A message that may keep a parser busy."""
    names = [b'"%x":0' % n for n in range(size // 10)]
    return rng.choice(
        (
            lambda: b"{" + b",".join([*names, names[-1]]) + b"}",
            lambda: b"[" * size,
            lambda: b"[]" * (size // 2),
            lambda: b'{"a":' * (size // 5),
            lambda: b"[" + b"{}," * (size // 3) + b"0]",
            lambda: b'{"type":"ping"' + b',"type":"ping"' * (size // 14) + b"}",
            lambda: b'{"type":"ping","data":"' + b"\\ud83d" * (size // 6) + b'"}',
            lambda: b'{"type":"cancel","session":"r-1","reason":"' + b"\xc2\x9d" * (size // 2) + b'"}',
            lambda: b'{"type":"auth","token":"' + b"a." * (size // 2) + b'"}',
            lambda: b'{"type":"subscribe","session":"*","max_hz":0.' + b"9" * size + b"}",
            lambda: b'{"type":"ping","' + b"x" * size + b'":1}',
            lambda: b'"' + b"\\" * size,
        )
    )()


def message(rng: random.Random) -> bytes:
    """The text of a message."""
    if rng.random() < 0.05:
        return large(rng, rng.choice((500, 5000, 60_000)))
    return changed(rng, json.dumps(rng.choice(REQUESTS)).encode(), 3)


def frames(rng: random.Random) -> bytes:
    """What a client sends over a WebSocket."""
    said = b""
    for _ in range(rng.choice((1, 1, 2, 4))):
        text = message(rng)
        what = rng.random()
        if what < 0.6:
            said += frame(rng, text)
        elif what < 0.75:
            cut = rng.randrange(len(text) + 1)
            said += frame(rng, text[:cut], 1, final=False) + frame(rng, text[cut:], 0)
        elif what < 0.85:
            said += frame(rng, text[:120], rng.choice((2, 8, 9, 10, 3, 11)), final=rng.random() < 0.9)
        else:
            said += changed(rng, frame(rng, text))
    return said


def token(rng: random.Random, valid: Sequence[str]) -> str:
    """A token; some are good."""
    good = rng.choice(valid)
    what = rng.random()
    if what < 0.5:
        return changed(rng, good.encode()).decode("latin-1")
    parts = [
        json.dumps(rng.choice(CLAIMS)),
        json.dumps({**rng.choice(CLAIMS), "exp": rng.choice((0, 1e18, "x", None))}),
    ]
    coded = [base64.urlsafe_b64encode(changed(rng, part.encode(), 2)).decode().rstrip("=") for part in parts]
    if what < 0.8:
        return ".".join([*coded, good.rpartition(".")[2]])
    pieces = good.split(".")
    pieces[rng.randrange(len(pieces))] = rng.choice(coded)
    return ".".join(pieces)


CLAIMS: Final[tuple[dict[str, Any], ...]] = (
    {"alg": "none"},
    {"alg": "HS256", "typ": "JWT", "crit": ["x"]},
    {"alg": "HS256", "b64": False},
    {"aud": "trio-progress", "tp": {"verbs": ["read"]}},
    {"aud": ["trio-progress"], "tp": {"verbs": [], "sessions": [1]}},
    {"aud": 5, "nbf": "soon", "tp": None},
)


def record(rng: random.Random, valid: bytes) -> bytes:
    """What may stand in a store as a session's record or an event."""
    what = rng.random()
    if what < 0.6:
        return changed(rng, valid)
    if what < 0.9:
        return _NESTED.sub(nested, json.dumps(broken(rng, json.loads(valid)))).encode()
    return large(rng, rng.choice((100, 3000)))


def broken(rng: random.Random, value: Any) -> Any:
    """The value with one thing in it changed to another type or size."""
    at, steps = value, 0
    while isinstance(at, (dict, list)) and at:
        key = rng.choice(list(at)) if isinstance(at, dict) else rng.randrange(len(at))
        below = at[key]
        steps += 1
        if isinstance(below, (dict, list)) and below and rng.random() < 0.8:
            at = below
            continue
        if isinstance(at, dict) and rng.random() < 0.2:
            del at[key]
        elif key == "phases" and rng.random() < 0.5:
            at[key] = f"phases, {rng.choice((2, 7, 20, 150, 320, 900))} deep"
        else:
            at[key] = rng.choice(
                (None, 5, -1, 0.5, 1e308, 2**63, "x" * 500, "", [], {}, True, ["x"], {"x": 1}, "\x9d\r\n")
            )
        break
    return value


_NESTED: Final = re.compile(r'"phases, (\d+) deep"')


def nested(deep: re.Match[str]) -> str:
    """Phases in phases in phases, as text: Python's own encoder does not go as deep."""
    opening = '[{"name":"p","title":"p","status":"pending","phases":'
    return opening * int(deep[1]) + "[]" + "}]" * int(deep[1])


def column(rng: random.Random, valid: object) -> object:
    """What may stand in a column of a row, or in a reply."""
    if rng.random() < 0.7:
        return valid
    makers: tuple[Callable[[], object], ...] = (
        lambda: None,
        lambda: rng.getrandbits(63) - 2**62,
        lambda: rng.choice((-1.0, 0.0, 1e308, float("inf"), 5e18)),
        lambda: rng.randbytes(rng.randrange(40)),
        lambda: "x\x9d\r\n" * rng.choice((1, 100)),
        lambda: changed(rng, valid if isinstance(valid, bytes) else str(valid).encode()),
    )
    return rng.choice(makers)()
