"""The ASGI app: where it is mounted, who is let in, and what of a request is bounded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
import trio.testing

from tests.asgi_calls import Call, ask, calling, scope_of
from tests.doors import SECRET, bearer
from trio_progress import ProgressTracker, asgi, open_tracker
from trio_progress.server import Credentials, Grant


@pytest.fixture
async def tracker() -> AsyncIterator[ProgressTracker]:
    async with open_tracker() as tracker:
        yield tracker


def lower(headers: dict[str, str]) -> Any:
    return {name.lower(): value for name, value in headers.items()}


# Where it is mounted


@pytest.mark.parametrize("before", ["/tools/progress", ""], ids=["root_path in the path", "not in it"])
async def test_under_a_path_everything_is_where_the_page_looks_for_it(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker, before: str
) -> None:
    app = asgi.app(tracker, auth=None)
    root: dict[str, Any] = {"root_path": "/tools/progress"}
    async with tracker.session("r-1"):
        for path, kind in (("/", "text/html"), ("/static/trio-progress.js", "text/javascript")):
            answer = await ask(app, before + path, **root)
            assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, kind)
        assert json.loads((await ask(app, f"{before}/sessions/r-1", **root)).body)["id"] == "r-1"
        assert (await ask(app, f"{before}/nothing", **root)).status == 404
        async with calling(app, Call(scope_of(f"{before}/sessions/r-1/events", **root))) as stream:
            await stream.until(lambda: b'"type":"snapshot"' in stream.body)
        async with calling(app, Call(scope_of(f"{before}/ws", kind="websocket", **root))) as socket:
            socket.say(type="subscribe", session="r-1")
            assert (await socket.of("snapshot"))["session"] == "r-1"


async def test_without_its_slash_the_page_is_elsewhere_for_its_links_are_relative(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker
) -> None:
    answer = await ask(asgi.app(tracker, auth=None), "/é", root_path="/é")
    assert (answer.status, answer.headers["location"]) == (308, "/%C3%A9/")
    page = (await ask(asgi.app(tracker, auth=None), "/a/", root_path="/a")).body.decode()
    assert 'src="static/' in page
    assert 'href="/' not in page


async def test_a_servers_lifespan_is_taken_part_in(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker
) -> None:
    app = asgi.app(tracker, auth=None)
    server = Call({"type": "lifespan"})
    server.tell("lifespan.startup")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(app, server.scope, server.receive, server.send)
        await server.until(lambda: server.sent)
        assert server.sent == [{"type": "lifespan.startup.complete"}]
        async with calling(app, Call(scope_of("/ws", kind="websocket"))) as socket:
            await socket.until(lambda: socket.sent)
            server.tell("lifespan.shutdown")
            await socket.until(lambda: socket.closed)
            assert socket.closed == (4001, "the server stops")
    assert server.over
    assert (await ask(app, "/readyz")).status == 503
    with pytest.raises(ValueError, match="http, websocket or lifespan"):
        await app({"type": "smtp"}, server.receive, server.send)


def test_under_asyncio_it_says_what_to_do() -> None:
    async def refused() -> None:
        app = trio.run(made)
        with pytest.raises(RuntimeError, match="hypercorn --worker-class trio"):
            await app(scope_of("/"), None, None)

    async def made() -> asgi.App:
        async with open_tracker() as tracker:
            return asgi.app(tracker, auth=None)

    asyncio.run(refused())


def test_a_setting_that_is_none_of_an_apps_is_refused_at_the_call() -> None:
    async def refused() -> None:
        async with open_tracker() as tracker:
            with pytest.raises(TypeError, match="admin_port"):
                asgi.app(tracker, auth=None, admin_port=1)  # type: ignore[call-arg]
            with pytest.raises(ValueError, match="secret"):
                asgi.app(tracker, auth="short")

    trio.run(refused)


# Who is let in


@pytest.mark.parametrize("client", [("192.0.2.1", 1), ("testclient", 50000), None])
async def test_without_auth_only_this_machine_is_let_in(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker, client: Any
) -> None:
    app = asgi.app(tracker, auth=None)
    assert (await ask(app, "/")).status == 200
    for path in ("/", "/sessions", "/healthz"):
        refused = await ask(app, path, client=client)
        assert (refused.status, json.loads(refused.body)["code"]) == (403, "not_allowed")
    socket = Call(scope_of("/ws", kind="websocket", client=client))
    async with calling(app, socket):
        await socket.until(lambda: socket.over)
        assert socket.closed == (4507, "")
    assert (
        await ask(asgi.app(tracker, auth=SECRET), "/sessions", headers=lower(bearer(SECRET)), client=client)
    ).status == 200


async def test_a_function_of_ones_own_sees_whom_the_app_around_it_knows(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker
) -> None:
    async def mine(credentials: Credentials) -> Grant | None:
        await trio.lowlevel.checkpoint()
        assert credentials.scope is not None
        user = credentials.scope.get("user")
        return None if user is None else Grant(labels={"user": user})

    app = asgi.app(tracker, auth=mine)
    async with tracker.session("r-1", labels={"user": "ada"}):
        for user, status in ((None, 401), ("ada", 200), ("bob", 404)):
            assert (await ask(app, "/sessions/r-1", user=user)).status == status


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}])
async def test_foreign_hosts_and_origins_are_refused(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker, headers: Any
) -> None:
    app = asgi.app(tracker, auth=None)
    assert (await ask(app, "/sessions", headers=headers)).status in (403, 421)
    socket = Call(scope_of("/ws", kind="websocket", headers=headers, extensions={"websocket.http.response": {}}))
    async with calling(app, socket):
        await socket.until(lambda: socket.over)
    assert socket.status in (403, 421)
    assert json.loads(socket.body)["code"] == "not_allowed"


async def test_over_http_2_too_and_without_headers_that_are_forbidden_there(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker
) -> None:
    app = asgi.app(tracker, auth=None)
    answer = await ask(app, "/ws", http_version="2")
    assert answer.status == 426
    assert not {"connection", "upgrade"} & set(answer.headers)
    assert (await ask(app, "/ws")).headers["upgrade"] == "websocket"
    async with tracker.session("r-1"):
        stream = Call(scope_of("/events"))
        async with calling(app, stream):
            await stream.until(lambda: stream.body)
        assert "connection" not in stream.headers
    other = Call(scope_of("/ws", kind="websocket", subprotocols=["chat"], extensions={"websocket.http.response": {}}))
    async with calling(app, other):
        await other.until(lambda: other.over)
    assert other.status == 400


@pytest.mark.parametrize("path", ["/sessions", "/events", "/nothing", "/static/trio-progress.js"])
async def test_a_websocket_to_another_path_is_refused(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker, path: str
) -> None:
    socket = Call(scope_of(path, kind="websocket", extensions={"websocket.http.response": {}}))
    async with calling(asgi.app(tracker, auth=None), socket):
        await socket.until(lambda: socket.over)
    assert socket.status == 404


# What is bounded


async def test_a_body_is_bounded_in_size_and_time_and_may_break_off(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker
) -> None:
    app = asgi.app(tracker, auth=None, request_timeout=3.0)
    given: dict[str, Any] = {
        "path": "/sessions/r-1/cancel",
        "method": "POST",
        "headers": {"content-type": "application/json"},
    }
    async with tracker.session("r-1") as session:
        assert (await ask(app, body=b" " * 65_537, **given)).status == 413
        began, call = trio.current_time(), Call(scope_of(**given))
        call.tell("http.request", body=b'{"rea', more_body=True)
        await app(call.scope, call.receive, call.send)
        assert call.status == 408
        assert trio.current_time() - began == pytest.approx(3.0)
        gone = Call(scope_of(**given))
        gone.tell("http.request", body=b"{", more_body=True)
        gone.leave()
        await app(gone.scope, gone.receive, gone.send)
        assert gone.sent == []
        assert session.status == "running"
        assert (await ask(app, body=b'{"reason": "enough"}', **given)).status == 202
        await trio.sleep(1)
    assert session.status == "cancelled"


async def test_headers_are_bounded_and_of_some_there_is_one(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker
) -> None:
    app = asgi.app(tracker, auth=SECRET)
    assert (await ask(app, "/sessions", headers={f"x-{n}": "" for n in range(101)})).status == 431
    scope = scope_of("/sessions", headers=lower(bearer(SECRET)))
    scope["headers"] += [(b"authorization", b"Bearer else")]
    call = Call(scope)
    call.tell("http.request")
    await app(scope, call.receive, call.send)
    assert call.status == 400
    assert (await ask(app, "/sessions?" + "&".join(f"a{n}=1" for n in range(60)))).status == 400
    odd = scope_of("/sessions", headers=lower(bearer(SECRET)))
    odd["headers"] += [(b"\xff\xfe", b"\xff")]
    answered = Call(odd)
    answered.tell("http.request")
    await app(odd, answered.receive, answered.send)
    assert answered.status == 200, "a name that is no text is that of no header of ours"


async def test_requests_at_once_are_bounded_in_all_and_of_an_address(
    autojump_clock: trio.testing.MockClock, tracker: ProgressTracker
) -> None:
    app = asgi.app(tracker, auth=SECRET, max_connections=3, max_connections_per_address=2)
    from_two: dict[str, Any] = {"headers": lower(bearer(SECRET)), "client": ("192.0.2.2", 1)}
    async with (
        calling(app, Call(scope_of("/events", **from_two))) as one,
        calling(app, Call(scope_of("/events", **from_two))) as two,
    ):
        await one.until(lambda: one.body)
        await two.until(lambda: two.body)
        assert (await ask(app, "/sessions", **from_two)).status == 429
        from_three = {**from_two, "client": ("192.0.2.3", 1)}
        async with calling(app, Call(scope_of("/events", **from_three))) as three:
            await three.until(lambda: three.body)
            full = await ask(app, "/sessions", **{**from_two, "client": ("192.0.2.4", 1)})
            assert (full.status, full.headers["retry-after"]) == (503, "5")
    assert (await ask(app, "/sessions", **from_two)).status == 200
