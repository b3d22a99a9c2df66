"""TRUST's security list, line by line: what people who mean harm may try."""

from __future__ import annotations

import base64
import json
import logging
import random
import ssl
import struct
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import jwt
import pytest
import trio
import trio.testing
import trustme

from tests.doors import OTHER_SECRET, SECRET, SUBPROTOCOL, Answer, Door, Talk, ask, bearer, open_door, read_answer, talk
from tests.support import PATIENCE
from trio_progress import Session, open_tracker
from trio_progress.protocol.messages import Verb
from trio_progress.server import Credentials, Grant, SharedSecret, SignedTokens, Trusted, issue_token, open_server
from trio_progress.server.connection import LINGER, MOST_TURNED_AWAY

pytestmark = pytest.mark.integration

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: trio-progress.v1\r\n\r\n"
)


def masked(payload: bytes, opcode: int = 1, *, final: bool = True) -> bytes:
    """A client's frame, with a mask of zeros."""
    first = (0x80 if final else 0) | opcode
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", first, 0x80 | size) + bytes(4) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 0x80 | 126, size) + bytes(4) + payload
    return struct.pack("!BBQ", first, 0x80 | 127, size) + bytes(4) + payload


async def raw(port: int) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", port)


async def opened(port: int) -> trio.SocketStream:
    """A WebSocket whose frames the test writes itself."""
    stream = await raw(port)
    await stream.send_all(UPGRADE)
    answer = await read_answer(stream, head_only=True)
    assert answer is not None
    assert answer.status == 101
    return stream


async def drained(stream: trio.SocketStream, within: float = PATIENCE) -> bytes:
    """All that the server still says until it closes."""
    data = b""
    with trio.fail_after(within):
        while True:
            try:
                more = await stream.receive_some(65536)
            except trio.BrokenResourceError:
                return data
            if not more:
                return data
            data += more


async def until_unwatched(door: Door) -> None:
    while door.tracker.statistics().subscribers:  # noqa: ASYNC110 - nobody tells of it
        await trio.sleep(0.02)


def close_code(data: bytes) -> int | None:
    """The code of the last CLOSE in what the server has sent, which is otherwise small text frames."""
    at, code = 0, None
    while at + 2 <= len(data):
        opcode, size = data[at] & 15, data[at + 1]
        start = at + 2
        if size == 126:
            size, start = struct.unpack("!H", data[at + 2 : at + 4])[0], at + 4
        if opcode == 8:
            code = struct.unpack("!H", data[start : start + 2])[0]
        at = start + size
    return code


# 1. Where it binds


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
async def test_a_host_that_others_can_reach_is_refused_without_auth(host: str) -> None:
    async with open_tracker() as tracker:
        with pytest.raises(ValueError, match="`auth` is required"):
            async with open_server(tracker, port=0, host=host):
                raise AssertionError("it must not start")


async def test_it_binds_to_loopback_unless_told_and_to_all_with_auth() -> None:
    async with open_door() as door:
        assert door.server.host == "127.0.0.1"
    async with open_door(host="0.0.0.0", auth=SECRET) as door:
        assert door.server.host == "0.0.0.0"
        assert (await ask(door.port, "GET", "/sessions")).status == 401


# 2. Origins and hosts

FOREIGN: list[Mapping[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:1"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "file://"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"},
]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/config"),
        ("GET", "/sessions"),
        ("GET", "/sessions/r-1"),
        ("GET", "/sessions/r-1/events"),
        ("GET", "/events"),
        ("GET", "/static/trio-progress.js"),
        ("POST", "/sessions/r-1/cancel"),
        ("DELETE", "/sessions/r-1"),
        ("GET", "/healthz"),
        ("OPTIONS", "/sessions"),
        ("GET", "/ws"),
    ],
)
async def test_a_foreign_origin_is_refused_on_every_path_before_anything_else(
    method: str, path: str, headers: Mapping[str, str]
) -> None:
    async with open_door(auth=SECRET) as door:
        answer = await ask(door.port, method, path, headers)
        assert answer.status == 403
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_websocket_of_a_foreign_origin_is_refused(headers: Mapping[str, str]) -> None:
    async with open_door() as door:
        extra = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
        async with await raw(door.port) as stream:
            await stream.send_all(UPGRADE[:-2] + extra + b"\r\n")
            answer = await read_answer(stream)
        assert answer is not None
        assert answer.status == 403


async def test_the_servers_own_page_may_ask_and_a_link_to_the_page_may_be_followed() -> None:
    async with open_door() as door:
        own = {"Host": f"localhost:{door.port}", "Origin": f"http://localhost:{door.port}"}
        assert (await ask(door.port, "GET", "/sessions", own)).status == 200
        followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        assert (await ask(door.port, "GET", "/", followed)).status == 200
        assert (await ask(door.port, "GET", "/sessions", followed)).status == 403


async def test_an_allowed_origin_gets_cors_with_preflight() -> None:
    async with open_door(origins=["https://app.example.org"]) as door:
        origin = {"Origin": "https://app.example.org"}
        answer = await ask(door.port, "GET", "/sessions", {**origin, "Sec-Fetch-Site": "cross-site"})
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example.org"
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in answer.headers
        preflight = {**origin, "Access-Control-Request-Method": "POST"}
        answer = await ask(door.port, "OPTIONS", "/sessions/r-1/cancel", preflight)
        assert answer.status == 204
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "Authorization" in answer.headers["access-control-allow-headers"]
        assert (await ask(door.port, "GET", "/sessions", {"Origin": "https://app.example.org.evil"})).status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evillocalhost", "localhost.evil.example", "", "127.0.0.1.evil.example", "a b"]
)
async def test_a_name_that_somebody_elses_dns_points_here_is_refused(host: str) -> None:
    async with open_door() as door:
        assert (await ask(door.port, "GET", "/sessions", {"Host": host})).status in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1", "[::1]:9", "app.localhost", "10.1.2.3"])
async def test_addresses_and_localhost_are_always_served(host: str) -> None:
    async with open_door() as door:
        assert (await ask(door.port, "GET", "/sessions", {"Host": host})).status == 200


async def test_over_tls_the_page_of_the_same_name_without_it_is_foreign() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    theirs = ssl.create_default_context()
    authority.configure_trust(theirs)
    async with open_door(ssl_context=context) as door:
        for scheme, status in (("http", 403), ("https", 200)):
            async with await raw(door.port) as stream:
                client = trio.SSLStream(stream, theirs, server_hostname="localhost", https_compatible=True)
                head = f"GET /sessions HTTP/1.1\r\nHost: localhost\r\nOrigin: {scheme}://localhost\r\n\r\n"
                await client.send_all(head.encode())
                answer = await read_answer(client)
                assert answer is not None
                assert answer.status == status


async def test_a_host_that_was_named_is_served() -> None:
    async with open_door(hosts=["progress.example.org"]) as door:
        assert (await ask(door.port, "GET", "/sessions", {"Host": "Progress.example.org:443"})).status == 200


async def test_forwarded_addresses_are_believed_from_trusted_proxies_only() -> None:
    seen: list[tuple[str, bool]] = []

    async def note(credentials: Credentials) -> Grant | None:
        await trio.lowlevel.checkpoint()
        seen.append((credentials.address, credentials.trusted))
        return None

    forwarded = {"X-Forwarded-For": "6.6.6.6, 203.0.113.9, 10.0.0.7"}
    async with open_door(auth=note) as door:
        await ask(door.port, "GET", "/sessions", forwarded)
    async with open_door(auth=note, trusted_proxies=["127.0.0.0/8", "10.0.0.0/8"]) as door:
        await ask(door.port, "GET", "/sessions", forwarded)
        await ask(door.port, "GET", "/sessions", {"X-Forwarded-For": "nonsense"})
    assert seen == [("127.0.0.1", False), ("203.0.113.9", True), ("127.0.0.1", True)]


async def test_a_header_that_names_the_user_is_believed_from_a_trusted_proxy_only() -> None:
    user = {"X-Forwarded-User": "u1"}
    for proxies, status in (((), 401), (("127.0.0.1",), 200)):
        async with open_door(auth=Trusted("X-Forwarded-User"), trusted_proxies=proxies) as door:
            async with door.tracker.session("mine", labels={"user": "u1"}):
                async with door.tracker.session("theirs", labels={"user": "u2"}):
                    answer = await ask(door.port, "GET", "/sessions", user)
        assert answer.status == status
        if status == 200:
            assert [one["id"] for one in answer.json["sessions"]] == ["mine"]


async def test_probes_and_metrics_can_have_a_port_of_their_own_that_asks_for_nothing() -> None:
    async with open_door(auth=SECRET, admin_port=0) as door:
        admin = door.server.admin_port
        assert admin is not None
        odd = {"Host": "10.2.3.4.cluster.example", "Origin": "null"}
        assert (await ask(admin, "GET", "/healthz", odd)).status == 200
        assert (await ask(admin, "GET", "/readyz", odd)).status == 200
        assert (await ask(admin, "GET", "/metrics", odd)).status in (200, 404)  # 404 without the extra
        for path in ("/", "/sessions", "/config", "/ws", "/static/trio-progress.js"):
            assert (await ask(admin, "GET", path)).status == 404
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await ask(door.port, "GET", path, bearer(SECRET))).status == 404


async def test_a_house_full_of_guests_is_not_taken_for_dead() -> None:
    settings: list[dict[str, Any]] = [{"max_connections": 3}, {"max_connections_per_address": 3}]
    for full in settings:
        async with open_door(admin_port=0, **full) as door:
            admin = door.server.admin_port
            assert admin is not None
            async with talk(door.port), talk(door.port), talk(door.port):
                assert (await ask(admin, "GET", "/healthz")).status == 200
                assert (await ask(admin, "GET", "/readyz")).status == 200


# 3. Tokens


def signed(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    given = {"aud": "trio-progress", "exp": 4e9, "tp": {"verbs": ["read"], "everything": True}, **claims}
    return jwt.encode({name: value for name, value in given.items() if value is not None}, secret, algorithm)


def unsigned() -> str:
    parts = (
        {"alg": "none", "typ": "JWT"},
        {"aud": "trio-progress", "exp": 4e9, "tp": {"verbs": ["read"], "everything": True}},
    )
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


BAD_TOKENS: dict[str, Callable[[], str]] = {
    "another secret": lambda: SECRET[:-1] + "!",
    "longer than any that is issued": lambda: signed(
        tp={"verbs": ["read"], "sessions": [f"r-{n:0100}" for n in range(70)]}
    ),
    "a part of the secret": lambda: SECRET[:-1],
    "signed by another": lambda: signed(OTHER_SECRET),
    "another audience": lambda: signed(aud="else"),
    "no audience": lambda: signed(aud=None),
    "no expiry": lambda: signed(exp=None),
    "an expiry that is none": lambda: signed(exp="soon"),
    "an expiry that never comes": lambda: signed(exp=float("nan")),
    "expired": lambda: signed(exp=1),
    "no grant": lambda: signed(tp=None),
    "an unknown verb": lambda: signed(tp={"verbs": ["everything"]}),
    "names nothing, as an older version made for all sessions": lambda: signed(tp={"verbs": ["read"]}),
    "empty lists": lambda: signed(tp={"verbs": ["read"], "sessions": [], "labels": {}}),
    "not everything": lambda: signed(tp={"verbs": ["read"], "everything": False}),
    "everything by a word": lambda: signed(tp={"verbs": ["read"], "everything": "yes"}),
    "everything and a session": lambda: signed(tp={"verbs": ["read"], "everything": True, "sessions": ["r-1"]}),
    "an empty label": lambda: signed(tp={"verbs": ["read"], "labels": {"user": ""}}),
    "an unset label": lambda: signed(tp={"verbs": ["read"], "labels": {"user": None}}),
    "no verb": lambda: signed(tp={"verbs": []}),
    "an id that is none": lambda: signed(tp={"verbs": ["read"], "sessions": ["../x"]}),
    "not yet": lambda: signed(nbf=4e9),
    "no signature": unsigned,
    "another algorithm": lambda: signed(SECRET * 2, "HS512"),
    "cut off": lambda: signed()[:-4],
    "changed": lambda: signed()[:-20] + "A" * 20,
    "nothing of the kind": lambda: "a.b.c",
    "long": lambda: "x" * 9000,
    "deep": lambda: base64.urlsafe_b64encode(b"[" * 3000).decode() + ".e30.x",
}


@pytest.mark.parametrize("what", BAD_TOKENS)
async def test_a_token_that_is_not_valid_lets_nobody_in_by_any_way(what: str) -> None:
    token = BAD_TOKENS[what]()
    async with open_door(auth=SECRET) as door:
        for path in ("/sessions", "/sessions/r-1", "/sessions/r-1/events", "/events", "/metrics"):
            answer = await ask(door.port, "GET", path, bearer(token))
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert token not in answer.body.decode()
        expected = 4005 if what == "expired" else 4500
        encoded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
        async with talk(door.port, subprotocols=(SUBPROTOCOL, f"bearer.{encoded}")) as client:
            assert (await client.closed())[0] == expected
            assert client.seen == []
        async with talk(door.port) as client:
            await client.say(type="auth", token=token[:8192])
            assert (await client.closed())[0] == expected


@pytest.mark.parametrize("token", [SECRET, None], ids=["the secret", "a signed one"])
async def test_a_token_lets_in_by_header_by_subprotocol_and_by_the_first_message(token: str | None) -> None:
    token = issue_token(SECRET, everything=True) if token is None else token
    encoded = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    async with open_door(auth=SECRET) as door:
        async with door.tracker.session("r-1"):
            assert (await ask(door.port, "GET", "/sessions/r-1", bearer(token))).status == 200
            async with talk(door.port, headers=bearer(token)) as client:
                await client.say(type="subscribe", session="r-1")
                assert (await client.next())["type"] == "subscribed"
            async with talk(door.port, subprotocols=(SUBPROTOCOL, f"bearer.{encoded}")) as client:
                assert client.connection.subprotocol == SUBPROTOCOL
                await client.say(type="subscribe", session="r-1")
                assert (await client.next())["type"] == "subscribed"
            async with talk(door.port) as client:
                await client.say(type="auth", token=token)
                await client.say(type="subscribe", session="r-1")
                assert (await client.next())["type"] == "subscribed"


async def test_a_token_in_the_address_lets_nobody_in_and_is_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = issue_token(SECRET, everything=True)
    async with open_door(auth=SECRET) as door:
        for name in ("token", "access_token", "auth"):
            assert (await ask(door.port, "GET", f"/sessions?{name}={token}")).status == 401
        await ask(door.port, "GET", "/sessions", bearer(token))
        async with talk(door.port) as client:
            await client.say(type="auth", token=token)
            await client.say(type="ping")
            await client.until("pong")
        async with talk(door.port) as client:
            await client.say(type="auth", token=token[:-1] + "!")
            await client.closed()
    ours = [record.getMessage() for record in caplog.records if record.name == "trio_progress"]
    assert ours
    assert not any(token[:-1] in text or SECRET in text for text in ours)
    assert token not in repr(Credentials(token=token, headers=bearer(token), cookies={}, address="::1"))
    assert SECRET not in repr([SharedSecret(SECRET), SignedTokens(SECRET)])


async def test_who_does_not_say_who_asks_is_closed_in_time() -> None:
    async with open_door(auth=SECRET, auth_timeout=0.2) as door:
        async with talk(door.port) as client:
            started = trio.current_time()
            assert (await client.closed())[0] == 4500
            assert trio.current_time() - started < 3  # By default it would be 5 s.
        async with talk(door.port) as client:
            await client.say(type="subscribe", session="r-1")
            assert (await client.closed())[0] == 4500
            assert client.seen == []


async def test_who_decides_has_a_patience_of_its_own_where_the_first_message_says_who_asks() -> None:
    @dataclass
    class Slow:
        wants_token: bool = True

        async def __call__(self, credentials: Credentials) -> Grant | None:
            if credentials.token is None:
                await trio.lowlevel.checkpoint()
                return None
            await trio.sleep(0.5)
            return Grant(everything=True)

    async with open_door(auth=Slow(), auth_timeout=0.2) as door:
        async with talk(door.port) as client:
            await client.say(type="auth", token="t")
            await client.say(type="ping")
            assert (await client.next())["type"] == "pong"


async def test_two_secrets_are_good_at_once_while_they_are_changed() -> None:
    async with open_door(auth=[SharedSecret(SECRET, OTHER_SECRET), SignedTokens(SECRET, OTHER_SECRET)]) as door:
        for secret in (SECRET, OTHER_SECRET):
            assert (await ask(door.port, "GET", "/sessions", bearer(secret))).status == 200
            assert (
                await ask(door.port, "GET", "/sessions", bearer(issue_token(secret, everything=True)))
            ).status == 200


async def test_expiry_closes_live_sockets_and_streams_and_a_newer_token_keeps_them() -> None:
    async with open_door(auth=SECRET) as door:
        async with door.tracker.session("r-1"):
            short = issue_token(SECRET, ttl=0.4, everything=True)
            async with trio.open_nursery() as nursery:

                async def stays() -> None:
                    async with talk(door.port, headers=bearer(short)) as client:
                        await client.say(type="auth", token=issue_token(SECRET, everything=True))
                        await client.say(type="subscribe", session="r-1")
                        await trio.sleep(0.8)
                        await client.say(type="ping")
                        await client.until("pong")

                async def streams() -> None:
                    answer = await ask(door.port, "GET", "/sessions/r-1/events", bearer(short))
                    assert answer.status == 200
                    assert b"snapshot" in answer.body

                nursery.start_soon(stays)
                nursery.start_soon(streams)
                async with talk(door.port, headers=bearer(short)) as client:
                    await client.say(type="subscribe", session="r-1")
                    assert (await client.closed())[0] == 4005
            assert (await ask(door.port, "GET", "/sessions", bearer(short))).status == 401


async def test_an_authenticator_of_ones_own_sees_headers_and_cookies_and_its_failure_lets_nobody_in() -> None:
    async def mine(credentials: Credentials) -> Grant | None:
        await trio.lowlevel.checkpoint()
        if credentials.headers.get("x-fail"):
            raise RuntimeError("the identity provider is down")
        name = credentials.cookies.get("who")
        return None if name is None else Grant(labels={"user": name}, name=name)

    async with open_door(auth=mine) as door:
        async with door.tracker.session("r-1", labels={"user": "u1"}):
            assert (await ask(door.port, "GET", "/sessions/r-1", {"Cookie": "a=b; who=u1"})).status == 200
            assert (await ask(door.port, "GET", "/sessions/r-1", {"Cookie": "who=u2"})).status == 404
            assert (await ask(door.port, "GET", "/sessions/r-1")).status == 401
            assert (await ask(door.port, "GET", "/sessions/r-1", {"X-Fail": "1"})).status == 503
            config = (await ask(door.port, "GET", "/config", {"Cookie": "who=u1"})).json
            assert (config["auth"], config["authenticated"], config["name"]) == ("other", True, "u1")


# 4. Each session, on every way in


async def ways(door_port: int, token: str, session: str) -> dict[str, str]:
    """What each way in says of a session, without what differs by nature."""
    header = bearer(token)

    def told(answer: Answer) -> str:
        return f"{answer.status} {answer.body.decode() if answer.status >= 400 else ''}"

    said = {
        "poll": told(await ask(door_port, "GET", f"/sessions/{session}", header)),
        "events": told(await ask(door_port, "HEAD", f"/sessions/{session}/events", header)),
        "cancel": told(await ask(door_port, "POST", f"/sessions/{session}/cancel", header)),
        "delete": told(await ask(door_port, "DELETE", f"/sessions/{session}", header)),
    }
    listed = (await ask(door_port, "GET", "/sessions", header)).json["sessions"]
    said["list"] = str(session in [one["id"] for one in listed])
    async with talk(door_port, headers=header) as client:
        for name, request in {
            "subscribe": {"type": "subscribe", "session": session},
            "resume": {"type": "subscribe", "session": session, "since": "1.1.0"},
            "ws cancel": {"type": "cancel", "session": session},
        }.items():
            await client.say(**request)
            message = await client.next()
            said[name] = f"{message['type']} {message.get('message', '')}"
            if message["type"] == "subscribed":
                await client.next()
                await client.say(type="unsubscribe", session=session)
        await client.say(type="subscribe", session="*")
        await client.until("listing")
        said["ws list"] = str(session in [one["session"] for one in client.seen if one["type"] == "listed"])
    return {name: text.replace(session, "ID") for name, text in said.items()}


async def test_unknown_and_forbidden_look_the_same_on_every_way_in() -> None:
    everything: tuple[Verb, ...] = ("read", "cancel", "delete")
    async with open_door(auth=SECRET) as door:
        async with door.tracker.session("theirs", labels={"user": "u2"}):
            for token in (
                issue_token(SECRET, everything, labels={"user": "u1"}),
                issue_token(SECRET, everything, sessions=["mine"]),
            ):
                forbidden = await ways(door.port, token, "theirs")
                assert forbidden == await ways(door.port, token, "nobodys")
                assert not any("subscribed" in text for text in forbidden.values())
                assert forbidden["poll"].startswith("404")
            admin = await ways(door.port, issue_token(SECRET, everything=True), "theirs")
            assert admin["subscribe"].startswith("subscribed")
            assert admin["poll"].startswith("200")
            assert (admin["list"], admin["ws list"]) == ("True", "True")


async def test_owners_see_theirs_and_admins_see_all() -> None:
    async with open_door(auth=SECRET) as door:
        async with door.tracker.session("a", labels={"user": "u1", "team": "x"}):
            async with door.tracker.session("b", labels={"user": "u2"}):
                for labels, sessions, expected in (
                    ({"user": "u1"}, (), {"a"}),
                    ({"user": "u1", "team": "y"}, (), set()),
                    ({"user": "u1"}, ("b",), {"a", "b"}),
                    ({}, ("b",), {"b"}),
                    ({}, (), {"a", "b"}),
                ):
                    everything = not labels and not sessions
                    token = issue_token(SECRET, labels=labels, sessions=sessions, everything=everything)
                    listed = (await ask(door.port, "GET", "/sessions", bearer(token))).json["sessions"]
                    assert {one["id"] for one in listed} == expected


@pytest.mark.parametrize(
    ("labels", "sessions", "expected"),
    [
        ({"user": "ada"}, (), {"ada-0", "ada-1", "ada-2"}),
        ({}, ("ada-1", "nobodys"), {"ada-1"}),
        ({"user": "ada"}, ("bob-5", "ada-1"), {"ada-0", "ada-1", "ada-2", "bob-5"}),
        ({"user": "carol"}, (), set()),
    ],
)
async def test_a_list_looks_at_nothing_that_may_not_be_seen_and_its_cursor_names_none(
    labels: dict[str, str], sessions: tuple[str, ...], expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_progress.server.list.pages.FIRST", 3)
    headers = bearer(issue_token(SECRET, labels=labels, sessions=sessions))
    everybodys = {f"{user}-{n}" for user in ("bob", "ada") for n in range(3)} | {f"bob-{n}" for n in range(3, 9)}
    async with open_door(auth=SECRET) as door:
        for name in sorted(everybodys):
            await door.tracker.declare(name, labels={"user": name[:3], "kind": name[-1]})
        for asked in ("", "&status=queued", "&label=kind:1"):
            found: list[str] = []
            path: str | None = f"/sessions?limit=1{asked}"
            said = ""
            while path is not None:
                answer = await ask(door.port, "GET", path, headers)
                said += answer.body.decode()
                found += [one["id"] for one in answer.json["sessions"]]
                cursor = answer.json["cursor"]
                path = None if cursor is None else f"/sessions?limit=1{asked}&cursor={quote(cursor)}"
            assert sorted(found) == sorted(one for one in expected if "label" not in asked or one[-1] == "1")
            assert not any(name in said for name in everybodys - expected)
        async with talk(door.port, headers=headers) as client:
            await client.say(type="subscribe", session="*")
            listing = await client.until("listing")
            said = json.dumps(client.seen)
            assert {one["session"] for one in client.seen if one["type"] == "listed"} == expected
            assert not any(name in said for name in everybodys - expected), listing


async def test_the_deletion_of_a_session_is_told_to_those_who_could_see_it_only() -> None:
    mine, admin = issue_token(SECRET, labels={"user": "u1"}), issue_token(SECRET, ("read", "delete"), everything=True)
    async with open_door(auth=SECRET) as door:
        for name, user in (("mine", "u1"), ("theirs", "u2")):
            async with door.tracker.session(name, labels={"user": user}):
                pass
        async with (
            talk(door.port, headers=bearer(mine)) as client,
            talk(door.port, headers=bearer(admin)) as other,
            await raw(door.port) as events,
        ):
            head = f"GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {mine}\r\n\r\n"
            await events.send_all(head.encode())
            told = b""
            with trio.fail_after(PATIENCE):
                while b'"listing"' not in told:
                    told += await events.receive_some(65536)
            for one in (client, other):
                await one.say(type="subscribe", session="*")
                await one.until("listing")
            for name in ("theirs", "mine"):
                assert (await ask(door.port, "DELETE", f"/sessions/{name}", bearer(admin))).status == 204
            assert (await client.until("unlisted"))["session"] == "mine"
            assert [(await other.until("unlisted"))["session"] for _ in range(2)] == ["theirs", "mine"]
            with trio.fail_after(PATIENCE):
                while b'"unlisted"' not in told:
                    told += await events.receive_some(65536)
            assert b"theirs" not in told


async def test_who_sends_much_where_events_are_streamed_to_him_is_not_listened_to() -> None:
    async with open_door() as door, await raw(door.port) as stream:
        await stream.send_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await read_answer(stream, head_only=True)
        assert answer is not None
        assert answer.status == 200
        with trio.fail_after(PATIENCE), pytest.raises(trio.BrokenResourceError):
            for _ in range(1000):
                await stream.send_all(b"x" * 4096)
                await trio.sleep(0.001)


async def test_who_does_not_read_a_large_answer_is_dropped() -> None:
    async with open_door(write_timeout=0.3) as door:
        for name in range(12):
            async with door.tracker.session(f"r-{name}") as session:
                session.set_result("x" * 1_000_000)
        sock = trio.socket.socket()
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        await sock.connect(("127.0.0.1", door.port))
        async with trio.SocketStream(sock) as stream:
            await stream.send_all(b"GET /sessions HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await trio.sleep(1.0)
            received = 0
            with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):
                while data := await stream.receive_some(1 << 20):
                    received += len(data)
            assert 0 < received < 12_000_000


async def test_who_cancels_or_deletes_is_noted_whichever_way_they_came(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="trio_progress")
    async with open_door() as door:
        for name in ("http", "ws"):
            async with door.tracker.session(name), talk(door.port) as client:
                if name == "ws":
                    await client.say(type="cancel", session=name)
                else:
                    assert (await ask(door.port, "POST", f"/sessions/{name}/cancel")).status == 202
                await trio.sleep_forever()
        assert (await ask(door.port, "DELETE", "/sessions/http")).status == 204
    noted = [
        (vars(one)["event"], vars(one)["session"]) for one in caplog.records if "a client at 127.0.0.1" in one.message
    ]
    assert noted == [("cancel_asked", "http"), ("cancel_asked", "ws"), ("delete_asked", "http")]


async def test_a_list_is_told_anew_to_who_may_see_something_else_by_a_newer_token() -> None:
    everything = issue_token(SECRET, ttl=600, everything=True)
    mine, theirs = (issue_token(SECRET, labels={"user": user}, ttl=600) for user in ("u1", "u2"))
    async with open_door(auth=SECRET) as door:
        for name, user in {"mine": "u1", "theirs": "u2"}.items():
            async with door.tracker.session(name, labels={"user": user}):
                pass

        async def listed(client: Talk) -> set[str]:
            """What a whole list names."""
            await client.until("subscribed")
            before = len(client.seen)
            await client.until("listing")
            return {message["session"] for message in client.seen[before:] if message["type"] == "listed"}

        async with talk(door.port, headers=bearer(mine)) as client:
            await client.say(type="subscribe", session="*")
            assert await listed(client) == {"mine"}
            for token, expected in ((everything, {"mine", "theirs"}), (theirs, {"theirs"})):
                await client.say(type="auth", token=token)
                assert await listed(client) == expected
            # The same for longer is nothing new, and what changes is told by what is granted now.
            await client.say(type="auth", token=issue_token(SECRET, labels={"user": "u2"}, ttl=900))
            seen = len(client.seen)
            for user in ("u1", "u2"):
                async with door.tracker.session(f"later-{user}", labels={"user": user}):
                    pass
            assert (await client.until("listed"))["session"] == "later-u2"
            assert "subscribed" not in {message["type"] for message in client.seen[seen:]}


async def test_who_waits_is_not_told_of_a_session_that_is_not_for_him() -> None:
    async with open_door(auth=SECRET) as door:
        token = issue_token(SECRET, labels={"user": "u1"})
        async with talk(door.port, headers=bearer(token)) as client:
            await client.say(type="subscribe", session="r-1", wait=True)
            async with door.tracker.session("r-1", labels={"user": "u2"}) as session:
                session.emit("secret", 1)
                await trio.sleep(0.1)
            await client.say(type="ping")
            assert (await client.next())["type"] == "pong"
            async with door.tracker.session("r-1", labels={"user": "u1"}):
                assert (await client.next())["type"] == "subscribed"
                # The id is run again, for somebody else: what is told of it ends there.
            await client.until("end")


async def test_a_newer_token_that_grants_less_ends_what_it_does_not_grant() -> None:
    async with open_door(auth=SECRET) as door:
        async with door.tracker.session("a") as session, door.tracker.session("b"):
            async with talk(door.port, headers=bearer(issue_token(SECRET, everything=True))) as client:
                for name in ("a", "b"):
                    await client.say(type="subscribe", session=name)
                    await client.until("snapshot")
                await client.say(type="auth", token=issue_token(SECRET, sessions=["b"]))
                error = await client.until("error")
                assert (error["code"], error["session"]) == ("not_found", "a")
                session.set(secret=1)
                await client.say(type="ping")
                assert (await client.next())["type"] == "pong"


async def test_who_waits_is_told_once_a_newer_token_lets_him_see_it() -> None:
    async with open_door(auth=SECRET) as door:
        async with door.tracker.session("ended"):
            pass
        async with door.tracker.session("runs"):
            async with talk(door.port, headers=bearer(issue_token(SECRET, sessions=["else"]))) as client:
                for name in ("ended", "runs", "comes"):
                    await client.say(type="subscribe", session=name, wait=True)
                await client.say(type="ping")
                assert (await client.next())["type"] == "pong"
                await client.say(type="auth", token=issue_token(SECRET, everything=True))
                assert (await client.until("end"))["session"] == "ended"
                assert (await client.until("snapshot"))["session"] == "runs"
                async with door.tracker.session("comes"):
                    assert (await client.until("snapshot"))["session"] == "comes"


async def test_a_newer_token_does_not_show_for_which_of_those_waited_for_there_is_a_session() -> None:
    async with open_door(auth=SECRET) as door:
        async with door.tracker.session("theirs"):
            async with talk(door.port, headers=bearer(issue_token(SECRET, sessions=["mine"]))) as client:
                for name in ("theirs", "nobodys"):
                    await client.say(type="subscribe", session=name, wait=True)
                for sessions in (["mine"], ["mine", "more"]):
                    await client.say(type="auth", token=issue_token(SECRET, sessions=sessions))
                    await client.say(type="ping")
                    assert (await client.next())["type"] == "pong"


# 5. Sizes, rates and caps


@pytest.mark.parametrize("fragments", [1, 2, 700])
async def test_a_message_above_64_kib_closes_with_1009_fragments_included(fragments: int) -> None:
    async with open_door(message_burst=10_000) as door:
        async with await opened(door.port) as stream:
            piece = b"x" * (70_000 // fragments)
            for n in range(fragments):
                with trio.fail_after(PATIENCE):
                    try:
                        await stream.send_all(masked(piece, 1 if n == 0 else 0, final=n == fragments - 1))
                    except trio.BrokenResourceError:
                        break
            assert close_code(await drained(stream)) == 1009


async def test_multibyte_text_is_counted_in_bytes() -> None:
    async with open_door() as door:
        async with await opened(door.port) as stream:
            await stream.send_all(masked("é".encode() * 40_000))
            assert close_code(await drained(stream)) == 1009


@pytest.mark.parametrize("opcode", [1, 9, 10, 0])
async def test_a_flood_of_frames_closes_with_4013_pings_included(opcode: int) -> None:
    async with open_door(message_burst=50) as door:
        payload = b'{"type":"ping"}' if opcode == 1 else b""
        async with await opened(door.port) as stream:
            if opcode == 0:
                await stream.send_all(masked(b"", 1, final=False))
            await stream.send_all(masked(payload, opcode, final=opcode != 0) * 60)
            assert close_code(await drained(stream)) == 4013


async def test_connections_of_one_address_and_of_all_are_bounded() -> None:
    async with open_door(max_connections_per_address=2) as door:
        async with talk(door.port), talk(door.port):
            answer = await ask(door.port, "GET", "/sessions")
            assert (answer.status, answer.json["code"]) == (429, "too_many")
        await trio.sleep(0.1)
        assert (await ask(door.port, "GET", "/sessions")).status == 200
    async with open_door(max_connections=2) as door:
        async with talk(door.port), talk(door.port):
            async with await raw(door.port) as stream:
                assert await drained(stream) == b""
        await trio.sleep(0.1)
        assert (await ask(door.port, "GET", "/sessions")).status == 200


async def test_who_opens_many_connections_and_says_nothing_keeps_nobody_else_out() -> None:
    async with open_door(max_connections=8, max_connections_per_address=3) as door:
        async with AsyncExitStack() as silent:
            for _ in range(20):
                await silent.enter_async_context(await raw(door.port))
            await trio.sleep(0.2)
            other = trio.socket.socket()
            await other.bind(("127.0.0.2", 0))
            await other.connect(("127.0.0.1", door.port))
            async with trio.SocketStream(other) as stream:
                await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = await read_answer(stream)
            assert answer is not None
            assert answer.status == 200


async def test_only_so_many_at_once_are_told_that_they_are_too_many() -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with open_door(max_connections_per_address=1) as door, await raw(door.port):
        async with AsyncExitStack() as silent:
            await trio.sleep(0.1)
            for _ in range(MOST_TURNED_AWAY):
                await silent.enter_async_context(await raw(door.port))
            async with await raw(door.port) as stream:
                await stream.send_all(request)
                assert await drained(stream) == b""
        await trio.sleep(LINGER + 0.3)
        async with await raw(door.port) as stream:
            await stream.send_all(request)
            assert (await drained(stream)).startswith(b"HTTP/1.1 429 ")


async def test_behind_a_proxy_connections_count_as_the_clients_own() -> None:
    async with open_door(max_connections_per_address=2, trusted_proxies=["127.0.0.1"]) as door:
        one, other = {"X-Forwarded-For": "203.0.113.1"}, {"X-Forwarded-For": "203.0.113.2"}
        async with talk(door.port, headers=one), talk(door.port, headers=one), talk(door.port, headers=other):
            assert (await ask(door.port, "GET", "/sessions", one)).status == 429
            assert (await ask(door.port, "GET", "/sessions", other)).status == 200


# 6. Heads, bodies, drips and noise


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: 1\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nOrigin: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /%ff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /?a=%ff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /static/..%2fhouse.py HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /static/../server/runtime.py HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"POST /sessions/a/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n\r\n" + b"x" * 70_000, 413),
        (b"POST /sessions/a/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST /sessions/a/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"POST /sessions/a/cancel HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nab", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", 417),
        (b"PUT /sessions HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"TRACE /sessions/a HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"POST /sessions/a/cancel HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
         b"ffff\r\n" + b"x" * 65535 + b"\r\nffff\r\n" + b"x" * 65535 + b"\r\n0\r\n\r\n", 413),
        (UPGRADE[:-2] + b"Content-Length: 5\r\n\r\nhello", 400),
        (b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n", 426),
        (UPGRADE.replace(b": 13", b": 8"), 426),
        (UPGRADE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"short"), 400),
        (UPGRADE.replace(b"trio-progress.v1", b"chat"), 400),
        (UPGRADE.replace(b"GET", b"POST"), 426),
    ],
)  # fmt: skip
async def test_what_is_no_request_of_ours_is_refused_and_the_server_lives(request_bytes: bytes, status: int) -> None:
    async with open_door() as door:
        async with await raw(door.port) as stream:
            try:
                await stream.send_all(request_bytes)
            except trio.BrokenResourceError:
                pass
            with trio.fail_after(PATIENCE):
                answer = await read_answer(stream)
            assert answer is not None
            assert answer.status == status
        assert (await ask(door.port, "GET", "/healthz")).status == 200


@pytest.mark.parametrize(
    "sent", [b"", b"G", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"]
)
async def test_idle_and_dripping_connections_are_closed_in_time(sent: bytes) -> None:
    async with open_door(request_timeout=0.5) as door:
        started = trio.current_time()
        async with await raw(door.port) as stream:
            async with trio.open_nursery() as nursery:

                async def drip() -> None:
                    try:
                        for n in range(len(sent)):
                            await stream.send_all(sent[n : n + 1])
                            await trio.sleep(0.02)
                    except trio.BrokenResourceError:
                        pass

                nursery.start_soon(drip)
                data = await drained(stream)
            assert data == b"" if not sent else data.startswith(b"HTTP/1.1 4")
        assert trio.current_time() - started < 8.0, "not only after the usual ten seconds"


@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"])
async def test_over_tls_too_idle_half_open_and_senseless_connections_are_closed_in_time_and_quietly(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with open_door(request_timeout=0.3, ssl_context=context) as door:
        async with await raw(door.port) as stream:
            await stream.send_all(sent)
            await drained(stream, within=8)  # The usual is ten.
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_tls_and_the_first_request_share_one_patience() -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    theirs = ssl.create_default_context()
    authority.configure_trust(theirs)
    async with open_door(request_timeout=3.0, ssl_context=context) as door:
        async with await raw(door.port) as stream:
            await trio.sleep(2.0)
            started = trio.current_time()
            client = trio.SSLStream(stream, theirs, server_hostname="localhost", https_compatible=True)
            await client.do_handshake()
            with trio.fail_after(PATIENCE):
                try:
                    assert await client.receive_some(1) == b""
                except trio.BrokenResourceError:
                    pass
            assert trio.current_time() - started < 2.7, "the handshake and the request have one deadline"


async def test_a_connection_that_has_been_answered_is_closed_when_it_stays_idle() -> None:
    async with open_door(request_timeout=0.3) as door:
        async with await raw(door.port) as stream:
            for _ in range(3):
                await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = await read_answer(stream)
                assert answer is not None
                assert answer.status == 200
            assert await drained(stream, within=8) == b""  # The usual is ten.


async def test_bytes_behind_the_upgrade_are_the_first_frames_and_harm_nobody() -> None:
    async with open_door() as door:
        async with await raw(door.port) as stream:
            await stream.send_all(UPGRADE + masked(b'{"type":"ping","data":"early"}') + masked(b"", 9))
            answer = await read_answer(stream, head_only=True)
            assert answer is not None
            assert answer.status == 101
            data = answer.body
            with trio.fail_after(PATIENCE):
                while b"early" not in data:
                    data += await stream.receive_some(4096)
        async with await raw(door.port) as stream:
            await stream.send_all(UPGRADE + b"\xff" * 5000)
            await drained(stream)
        assert (await ask(door.port, "GET", "/healthz")).status == 200


async def test_what_is_none_of_the_protocol_closes_with_4501_and_bad_utf8_with_1007() -> None:
    bad = [
        b"not json",
        b"[]",
        b"{}",
        b'{"type":"nonsense"}',
        b'{"type":"ping","type":"ping"}',
        b'{"type":"ping","data":NaN}',
        b'{"type":"ping","extra":1}',
        b'{"type":"subscribe","session":"r-1","max_hz":1e999}',
        b'{"type":"subscribe","session":"r-1","max_hz":-1}',
        b'{"type":"subscribe","session":"r-1","events":' + b"9" * 400 + b"}",
        b'{"type":"subscribe","session":"../etc"}',
        b'{"type":"subscribe","session":"' + b"x" * 129 + b'"}',
        b"[" * 30_000,
        b'{"a":' * 5000,
        b'{"type":"ping","data":"\\ud800"}',
        b'{"type":"cancel","session":1}',
    ]
    async with open_door() as door:

        async def refused(text: bytes) -> None:
            async with await opened(door.port) as stream:
                await stream.send_all(masked(text))
                assert close_code(await drained(stream)) == 4501, text[:80]

        async with trio.open_nursery() as nursery:
            for text in bad:
                nursery.start_soon(refused, text)
        async with await opened(door.port) as stream:
            await stream.send_all(masked(b"\xff\xfe"))
            assert close_code(await drained(stream)) == 1007
        async with await opened(door.port) as stream:
            await stream.send_all(masked(b"binary", 2))
            assert close_code(await drained(stream)) == 1003


async def test_frames_against_the_standard_close_with_1002_and_leave_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong = {
        "a ping of 126 bytes": masked(b"x" * 126, 9),
        "a ping in parts": bytes([0x09]) + masked(b"", 9)[1:],
        "a reserved bit": bytes([0xC1]) + masked(b"{}")[1:],
        "a reserved opcode": masked(b"{}", 3),
        "a continuation of nothing": masked(b"{}", 0),
    }
    async with open_door() as door:
        for what, frame in wrong.items():
            async with await opened(door.port) as stream:
                await stream.send_all(frame)
                assert close_code(await drained(stream)) == 1002, what
    assert [record for record in caplog.records if record.exc_info] == []


async def test_random_bytes_kill_nothing_and_the_others_notice_nothing(rng: random.Random) -> None:
    async with open_door(message_burst=100_000, message_rate=10_000.0) as door:
        async with door.tracker.session("r-1") as session:
            async with talk(door.port) as bystander:
                await bystander.say(type="subscribe", session="r-1")
                await bystander.until("snapshot")

                async def noise() -> None:
                    stream = await (opened(door.port) if rng.random() < 0.6 else raw(door.port))
                    async with stream:
                        try:
                            for _ in range(rng.randrange(1, 6)):
                                data = rng.randbytes(rng.randrange(1, 300))
                                if rng.random() < 0.5:
                                    data = masked(data[:125], rng.choice([0, 1, 2, 8, 9, 10, 3, 11]))
                                elif rng.random() < 0.3:
                                    request = bytearray(UPGRADE)
                                    for _ in range(rng.randrange(1, 5)):
                                        request[rng.randrange(len(request))] = rng.randrange(256)
                                    data = bytes(request)
                                await stream.send_all(data)
                            if rng.random() < 0.5:
                                await stream.send_eof()
                            with trio.move_on_after(0.05):
                                await stream.receive_some(65536)
                        except (trio.BrokenResourceError, trio.ClosedResourceError):
                            pass

                for _ in range(40):
                    async with trio.open_nursery() as nursery:
                        for _ in range(10):
                            nursery.start_soon(noise)
                session.set(still="here")
                while (await bystander.until("update"))["head"]["fields"].get("still") != "here":
                    pass
            with trio.fail_after(PATIENCE):
                await until_unwatched(door)
        assert (await ask(door.port, "GET", "/healthz")).status == 200


# 7. Those who do not read


async def test_who_does_not_read_delays_no_other_no_stop_and_no_cancel_and_is_dropped() -> None:
    async with open_door(write_timeout=3.0, drain_timeout=1.0) as door:
        async with await opened(door.port) as stuck, await opened(door.port) as half:
            async with door.tracker.session("r-1") as session:
                for stream in (stuck, half):
                    await stream.send_all(masked(b'{"type":"subscribe","session":"r-1"}'))
                await half.send_eof()
                async with talk(door.port) as client, trio.open_nursery() as nursery:
                    await client.say(type="subscribe", session="r-1")
                    delays: list[float] = []

                    async def read() -> None:
                        while True:
                            message = await client.until("update")
                            delays.append(trio.current_time() - message["head"]["fields"]["at"])
                            if message["head"]["fields"].get("last"):
                                return

                    await client.until("snapshot")
                    nursery.start_soon(read)
                    for n in range(200):
                        session.set(**{f"f{n % 20}": "x" * 10_000, "at": trio.current_time()})
                        await trio.sleep(0.01)
                    session.set(last=True)
                assert max(delays) < 2.5
                assert sorted(delays)[len(delays) // 2] < 1.0
                with trio.fail_after(PATIENCE):
                    await until_unwatched(door)
                session.cancel("enough")
                stopping = trio.current_time()
            assert trio.current_time() - stopping < 2.5
            stopping = trio.current_time()
    assert trio.current_time() - stopping < 8.0


# 8. The page


async def test_the_page_has_a_strict_policy_and_nothing_is_sniffed_or_framed() -> None:
    async with open_door() as door:
        page = await ask(door.port, "GET", "/")
        policy = page.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "*" not in policy
        for part in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
            assert part in policy
        assert b"<script>" not in page.body
        assert b" style=" not in page.body
        assert b" onclick" not in page.body
        for path in ("/", "/static/trio-progress.js", "/sessions", "/nope", "/config", "/healthz"):
            answer = await ask(door.port, "GET", path)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["referrer-policy"] == "no-referrer"


# 9. Cancel


async def owned(door: Door, name: str, *, task_status: trio.TaskStatus[Session]) -> None:
    """A session in a task of its own: its cancellation does not reach the one that asks for it."""
    async with door.tracker.session(name) as session:
        task_status.started(session)
        await trio.sleep_forever()


async def test_cancel_needs_its_verb_and_delete_its_own() -> None:
    async with open_door(auth=SECRET) as door, trio.open_nursery() as nursery:
        session: Session = await nursery.start(owned, door, "r-1")
        reader = bearer(issue_token(SECRET, ["read"], everything=True))
        assert (await ask(door.port, "POST", "/sessions/r-1/cancel", reader)).status == 403
        assert (await ask(door.port, "DELETE", "/sessions/r-1", reader)).status == 403
        async with talk(door.port, headers=reader) as client:
            await client.say(type="cancel", session="r-1")
            assert (await client.next())["code"] == "not_allowed"
        canceller = bearer(issue_token(SECRET, ["read", "cancel"], everything=True))
        assert (await ask(door.port, "DELETE", "/sessions/r-1", canceller)).status == 403
        reason = b'{"reason":"enough"}'
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            given = {**canceller, "Content-Type": kind}
            assert (await ask(door.port, "POST", "/sessions/r-1/cancel", given, reason)).status == 400
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert str(session.status) == "running"
        given = {**canceller, "Content-Type": "application/json"}
        assert (await ask(door.port, "POST", "/sessions/r-1/cancel", given, reason)).status == 202
        with trio.fail_after(PATIENCE):
            while str(session.status) != "cancelled":  # noqa: ASYNC110 - its task ends it
                await trio.sleep(0.01)
        deleter = bearer(issue_token(SECRET, ["read", "delete"], everything=True))
        assert (await ask(door.port, "POST", "/sessions/r-1/cancel", canceller)).status == 409
        with trio.fail_after(PATIENCE):
            while (await ask(door.port, "DELETE", "/sessions/r-1", deleter)).status == 409:  # noqa: ASYNC110 - as above
                await trio.sleep(0.01)
        assert (await ask(door.port, "GET", "/sessions/r-1", deleter)).status == 404


# 10. Logs


async def test_what_is_logged_has_no_line_breaks_of_others(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="trio_progress")
    async with open_door(trusted_proxies=["127.0.0.1"]) as door:
        async with door.tracker.session("r-1"):
            headers = {"X-Forwarded-For": "1.2.3.4", "User-Agent": "x\x1b[31m"}
            await ask(door.port, "GET", "/sessions/%0d%0aFAKE", headers)
            async with talk(door.port) as client:
                await client.say(type="cancel", session="r-1", reason="a\r\nFAKE: line\x1b[2J")
                await trio.sleep(0.05)
    texts = [record.getMessage() for record in caplog.records]
    assert texts
    assert not any(character in text for text in texts for character in "\r\n\x1b")


async def test_an_identity_provider_that_is_down_fills_no_log_and_its_key_is_in_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def ask_provider(key: str, credentials: Credentials) -> Grant | None:
        await trio.lowlevel.checkpoint()
        raise OSError("the provider is down")

    async with open_door(auth=partial(ask_provider, "key-of-the-provider")) as door:
        for _ in range(20):
            assert (await ask(door.port, "GET", "/sessions", bearer("token-of-somebody"))).status == 503
    records = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.__dict__.get("event") for record in records] == ["authenticator_failed"]
    assert "the provider is down" in caplog.text
    assert "key-of-the-provider" not in records[0].getMessage()
    assert "token-of-somebody" not in caplog.text


# 13. Ids


@pytest.mark.parametrize("path", ["..", ".", "%2e%2e", "a%2fb", "a%00b", "x" * 129, "a%0d%0ab", "*", "%F0%9F%92%A3"])
async def test_an_id_that_is_none_is_not_found_and_no_store_is_asked(path: str) -> None:
    async with open_door() as door:
        for what in ("", "/events", "/cancel"):
            method = "POST" if what == "/cancel" else "GET"
            assert (await ask(door.port, method, f"/sessions/{path}{what}")).status == 404


@pytest.mark.parametrize(
    "settings",
    [
        {"auth": "short"},
        {"auth": "ü" * 40},
        {"auth": []},
        {"auth": 5},
        {"origins": "https://a.example"},
        {"origins": ["a.example"]},
        {"origins": ["https://a.example/path"]},
        {"hosts": ["a.example:80"]},
        {"trusted_proxies": ["everybody"]},
        {"base_path": "progress"},
        {"base_path": "/pro gress?x=1#y"},
        {"base_path": "/a/../b"},
        {"base_path": "/%61"},
        {"keepalive": 0},
        {"max_connections": 0},
        {"port": 99999},
        {"nonsense": 1},
    ],
)
async def test_a_setting_that_is_none_is_refused_at_the_call(settings: dict[str, Any]) -> None:
    async with open_tracker() as tracker:
        with pytest.raises((ValueError, TypeError)) as caught:
            async with open_server(tracker, **{"port": 0, **settings}):
                raise AssertionError("it must not start")
        assert SECRET not in str(caught.value)
