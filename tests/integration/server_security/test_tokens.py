"""Tokens: which let in, by which way, until when, and what is logged of them."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jwt
import pytest
import trio
import trio.testing

from tests.doors import OTHER_SECRET, SECRET, SUBPROTOCOL, ask, bearer, both_doors, open_door, talk
from trio_progress.server import Credentials, Grant, SharedSecret, SignedTokens, issue_token

pytestmark = pytest.mark.integration


# Tokens


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
@both_doors
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
@both_doors
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


@both_doors
async def test_who_does_not_say_who_asks_is_closed_in_time() -> None:
    async with open_door(auth=SECRET, auth_timeout=0.2) as door:
        async with talk(door.port) as client:
            started = trio.current_time()
            assert (await client.closed())[0] == 4500
            assert trio.current_time() - started < 4.5  # By default it would be 5 s.
        async with talk(door.port) as client:
            await client.say(type="subscribe", session="r-1")
            assert (await client.closed())[0] == 4500
            assert client.seen == []


@both_doors
async def test_who_decides_has_a_patience_of_its_own_where_the_first_message_says_who_asks(
    idle_clock: trio.testing.MockClock,
) -> None:
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


@both_doors
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
            short = issue_token(SECRET, ttl=2.0, everything=True)  # In which three come in, on a busy machine too.
            expired = trio.Event()
            async with trio.open_nursery() as nursery:

                async def stays() -> None:
                    async with talk(door.port, headers=bearer(short)) as client:
                        await client.say(type="auth", token=issue_token(SECRET, everything=True))
                        await client.say(type="subscribe", session="r-1")
                        await expired.wait()
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
                expired.set()
            assert (await ask(door.port, "GET", "/sessions", bearer(short))).status == 401


@both_doors
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


# Logs


@both_doors
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


@both_doors
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
