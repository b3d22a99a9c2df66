"""What a token shows and lets one do: each session on every way in, the page's policy, cancelling."""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from urllib.parse import quote

import pytest
import trio
import trio.testing

from tests.doors import SECRET, Answer, Door, Talk, ask, bearer, both_doors, open_door, raw, read_answer, talk
from tests.support import PATIENCE
from trio_progress import Session
from trio_progress.protocol.messages import Verb
from trio_progress.server import issue_token

pytestmark = pytest.mark.integration


# Each session, on every way in


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


@both_doors
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


@both_doors
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
@both_doors
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


@both_doors
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


@both_doors
async def test_who_does_not_read_a_large_answer_is_dropped(idle_clock: trio.testing.MockClock) -> None:
    async with open_door(write_timeout=0.3) as door:
        for name in range(12):
            async with door.tracker.session(f"r-{name}") as session:
                session.set_result("x" * 1_000_000)
        sock = trio.socket.socket()
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        await sock.connect(("127.0.0.1", door.port))
        async with trio.SocketStream(sock) as stream:
            await stream.send_all(b"GET /sessions HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await trio.sleep(3.0)
            received = 0
            with trio.fail_after(PATIENCE), suppress(trio.BrokenResourceError):
                while data := await stream.receive_some(1 << 20):
                    received += len(data)
            assert 0 < received < 12_000_000


@both_doors
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


@both_doors
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


@both_doors
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


@both_doors
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


@both_doors
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


# The page


@both_doors
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


# Cancel


async def owned(door: Door, name: str, *, task_status: trio.TaskStatus[Session]) -> None:
    """A session in a task of its own: its cancellation does not reach the one that asks for it."""
    async with door.tracker.session(name) as session:
        task_status.started(session)
        await trio.sleep_forever()


@both_doors
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
