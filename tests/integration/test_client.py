"""`connect()` against a server that follows a script: what it does about every way in which a connection can end."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
import trustme
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from tests.support import PATIENCE
from trio_progress import (
    Bookmark,
    CustomEvent,
    End,
    Pipeline,
    ProtocolError,
    SessionNotFoundError,
    Snapshot,
    Subscribed,
    Update,
    encode_message,
    open_tracker,
)
from trio_progress.client import connection as client
from trio_progress.client import subscription
from trio_progress.client.subscription import RemoteSubscription, connect
from trio_progress.protocol.messages import SPARSE, SUBPROTOCOL

pytestmark = pytest.mark.integration

PIPELINE = Pipeline("p", ["search", "analysis"])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "FIRST_PAUSE", 0.002)


@pytest.fixture
async def messages() -> list[bytes]:
    """All that a session of ours tells a subscriber: a snapshot, updates, events, the end."""
    told: list[bytes] = []
    async with open_tracker(broadcast_interval=0.001) as tracker, trio.open_nursery() as nursery:

        async def follow(task_status: trio.TaskStatus[None]) -> None:
            async with tracker.subscribe("a") as subscription:
                task_status.started()
                told.extend([encode_message(message) async for message in subscription])

        async with tracker.session("a", PIPELINE) as session:
            await nursery.start(follow)
            with session.phase("search", total=4) as phase:
                for number in range(4):
                    phase.advance()
                    session.emit("found", number)
                    await trio.sleep(0.01)
    return told


Say = Callable[["Script", WebSocketConnection, dict[str, Any]], Awaitable[None]]


class Script:
    """A server that does one thing after the other, one a connection, and what it was told in each."""

    def __init__(self, *steps: Say | int) -> None:
        self.steps = list(steps)
        self.asked: list[dict[str, Any]] = []
        self.headers: list[str | None] = []
        self.offered: list[list[str]] = []

    async def handle(self, request: WebSocketRequest) -> None:
        given = dict(request.headers)
        self.headers.append(given.get(b"authorization", b"").decode() or None)
        self.offered.append(list(request.proposed_subprotocols))
        step = self.steps.pop(0)
        if isinstance(step, int):
            await request.reject(step)
            return
        connection = await request.accept(subprotocol=SUBPROTOCOL)
        try:
            asked = json.loads(await connection.get_message())
            self.asked.append(asked)
            await step(self, connection, asked)
        except ConnectionClosed:
            pass


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        serve = functools.partial(serve_websocket, script.handle, "127.0.0.1", 0, ssl_context=None)
        server = await nursery.start(serve)
        yield f"ws://127.0.0.1:{server.port}"
        nursery.cancel_scope.cancel()


def send(told: list[bytes], *, close: int | None = None, drop: bool = False) -> Any:
    async def step(script: Script, connection: WebSocketConnection, asked: dict[str, Any]) -> None:
        for message in told:
            await connection.send_message(message.decode())
        if drop:
            await trio.aclose_forcefully(connection._stream)
        elif close is not None:
            await connection.aclose(close)
        else:
            await trio.sleep_forever()

    return step


def subscribed(*, recovered: bool) -> bytes:
    return json.dumps(
        {
            "type": "subscribed",
            "session": "a",
            "recovered": recovered,
            "reason": None if recovered else "new",
            "server_time": "2026-01-01T00:00:00Z",
            "verbs": ["read"],
        }
    ).encode()


async def test_a_session_is_followed_to_its_end_and_merged(messages: list[bytes]) -> None:
    script = Script(send(messages))
    async with serving(script) as url, connect(url, "a", max_hz=5, events=3) as stream:
        found = [message async for message in stream]
        assert [encode_message(message) for message in found] == messages
        assert isinstance(found[-1], End)
        assert stream.state is not None
        assert stream.state.status == "completed"
        assert stream.state.phase("search").done == 4
    assert script.asked == [{"type": "subscribe", "session": "a", "max_hz": 5, "events": 3}]


@pytest.mark.parametrize("how", ["drop", 1000, 1001, 4001, 4008, 4013, 4005])
async def test_a_connection_that_ends_is_followed_by_one_that_goes_on(how: str | int, messages: list[bytes]) -> None:
    cut = 5
    first = send(messages[:cut], drop=True) if how == "drop" else send(messages[:cut], close=int(how))
    script = Script(first, send([subscribed(recovered=True), *messages[cut:]]))
    async with serving(script) as url, connect(url, "a") as stream:
        found = [message async for message in stream if not isinstance(message, Subscribed)]
        assert stream.reconnects == 1
    assert [encode_message(message) for message in found] == messages[1:], "nothing twice, nothing left out"
    resume = json.loads(messages[cut - 1])["resume"]
    assert script.asked[1] == {"type": "subscribe", "session": "a", "since": resume}


@pytest.mark.parametrize("since", [None, "7.1.0"])
async def test_updates_may_leave_out_what_the_state_has_where_that_is_here(
    since: str | None, messages: list[bytes]
) -> None:
    """Who has given a resume token has a state of their own, which is not."""
    cut = 5
    told = messages if since is None else [subscribed(recovered=True), *messages[2:]]
    script = Script(send(told[:cut], drop=True), send([subscribed(recovered=True), *told[cut:]]))
    async with serving(script) as url, connect(url, "a", since=since) as stream:
        assert [message async for message in stream]
    assert script.offered == [[SUBPROTOCOL, SPARSE] if since is None else [SUBPROTOCOL]] * 2


async def test_a_lost_connection_is_warned_of_once_and_a_renewed_token_is_not(
    messages: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    script = Script(send(messages[:3], close=4005), send(messages[:3], drop=True), 503, 503, send(messages))
    async with serving(script) as url, connect(url, "a", token=lambda: "token") as stream:
        async for _ in stream:
            pass
        assert stream.reconnects == 4
    told = [record for record in caplog.records if record.levelname == "WARNING" and record.name == "trio_progress"]
    assert ["is lost, another one is made" in record.getMessage() for record in told] == [True]


async def test_events_that_a_new_connection_repeats_are_not_handed_over_again(messages: list[bytes]) -> None:
    script = Script(send(messages[:-1], drop=True), send(messages))
    async with serving(script) as url, connect(url, "a") as stream:
        found = [message async for message in stream]
    assert [message.n for message in found if isinstance(message, CustomEvent)] == [1, 2, 3, 4]
    assert sum(isinstance(message, Snapshot) for message in found) == 2


async def test_an_update_that_does_not_fit_is_not_handed_over_but_a_whole_state_asked_for(
    messages: list[bytes],
) -> None:
    updates = [message for message in messages if b'"type":"update"' in message]
    broken = [message for message in messages if message != updates[0]]

    async def step(script: Script, connection: WebSocketConnection, asked: dict[str, Any]) -> None:
        for message in broken[: broken.index(updates[1]) + 1]:
            await connection.send_message(message.decode())
        script.asked.append(json.loads(await connection.get_message()))
        await send(messages)(script, connection, asked)

    script = Script(step)
    async with serving(script) as url, connect(url, "a") as stream:
        state: Snapshot | None = None
        async for message in stream:
            if isinstance(message, Snapshot):
                state = message
            elif isinstance(message, Update):
                assert state is not None
                state = message.apply(state)
        assert state == stream.state
        assert state is not None
        assert state.status == "completed"
    assert "since" not in script.asked[1]


async def test_a_token_is_asked_for_anew_for_each_connection_and_stands_in_no_address(messages: list[bytes]) -> None:
    script = Script(send(messages[:3], close=4005), send(messages))
    tokens = iter(["first", "second"])

    async def token() -> str:
        await trio.lowlevel.checkpoint()
        return next(tokens)

    async with serving(script) as url, connect(url, "a", token=token) as stream:
        async for _ in stream:
            pass
    assert script.headers == ["Bearer first", "Bearer second"]


async def test_a_token_that_is_a_text_and_has_expired_ends_it(messages: list[bytes]) -> None:
    async with serving(Script(send(messages[:3], close=4005))) as url, connect(url, "a", token="first") as stream:
        with pytest.raises(ProtocolError, match=r"4005.*callable"):
            async for _ in stream:
                pass


async def test_what_the_token_callable_raises_is_raised_as_itself() -> None:
    class NoTokenError(Exception):
        pass

    def token() -> str:
        raise NoTokenError

    async with serving(Script()) as url:
        with pytest.raises(NoTokenError):
            async with connect(url, "a", token=token):
                pass


@pytest.mark.parametrize("code", [4500, 4501, 4504, 4507, 1009])
async def test_what_will_not_become_better_is_raised(code: int, messages: list[bytes]) -> None:
    script = Script(send(messages[:3], close=code))
    async with serving(script) as url, connect(url, "a") as stream:
        with pytest.raises(ProtocolError, match=str(code)):
            async for _ in stream:
                pass
    assert script.steps == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [("not_found", SessionNotFoundError), ("not_allowed", ProtocolError), ("bad_request", ProtocolError)],
)
async def test_a_refusal_is_raised_when_entering(code: str, kind: type[Exception]) -> None:
    error = json.dumps({"type": "error", "code": code, "message": "because", "session": "a"}).encode()
    async with serving(Script(send([error]))) as url:
        with pytest.raises(kind, match="a"):
            async with connect(url, "a"):
                pytest.fail("it was refused")


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_rejected_upgrade_is_raised_and_one_that_may_pass_is_tried_again(
    status: int, messages: list[bytes]
) -> None:
    async with serving(Script(status)) as url:
        with pytest.raises(ProtocolError, match=str(status)):
            async with connect(url, "a"):
                pass
    script = Script(send(messages[:3], drop=True), 503, 429, send(messages))
    async with serving(script) as url, connect(url, "a") as stream:
        async for _ in stream:
            pass
        assert stream.reconnects == 3


async def test_no_server_at_first_is_an_error_and_later_is_waited_for(messages: list[bytes]) -> None:
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:1"):
        async with connect("ws://127.0.0.1:1", "a"):
            pass
    async with trio.open_nursery() as nursery:
        script = Script(send(messages[:3]), send(messages))
        up = trio.CancelScope()
        serve = functools.partial(serve_websocket, script.handle, "127.0.0.1", 0, ssl_context=None)

        async def first(task_status: trio.TaskStatus[Any]) -> None:  # noqa: ASYNC128 - the server says it
            with up:
                await serve(task_status=task_status)

        server = await nursery.start(first)
        port = server.port
        async with connect(f"http://127.0.0.1:{port}", "a") as stream:
            await anext(stream)
            up.cancel()
            await trio.sleep(0.1)
            again = functools.partial(serve_websocket, script.handle, "127.0.0.1", port, ssl_context=None)
            await nursery.start(again)
            found = [message async for message in stream]
            assert isinstance(found[-1], End)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_certificate_that_is_not_to_be_trusted_is_named_at_once(trusted: bool) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("right.example").configure_cert(context)
    own = ssl.create_default_context()
    if trusted:
        authority.configure_trust(own)
    async with trio.open_nursery() as nursery:
        serve = functools.partial(trio.serve_ssl_over_tcp, ssl_context=context, host="127.0.0.1")
        listeners = await nursery.start(serve, _say_nothing, 0)
        port = listeners[0].transport_listener.socket.getsockname()[1]
        with (
            trio.fail_after(PATIENCE),
            pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for|unable to get"),
        ):
            async with connect(f"wss://127.0.0.1:{port}", "a", ssl_context=own if trusted else None):
                raise AssertionError("entered")
        nursery.cancel_scope.cancel()


async def _say_nothing(stream: trio.SSLStream[trio.SocketStream]) -> None:
    with suppress(trio.BrokenResourceError):
        await stream.receive_some()


SWITCHED = "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest.mark.parametrize(
    ("answer", "kind", "says"),
    [
        (SWITCHED + "Sec-WebSocket-Accept: {accept}\r\n\r\n", ProtocolError, r"does not speak trio-progress\.v1"),
        (
            SWITCHED + "Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: other\r\n\r\n",
            ConnectionError,
            "does not answer as a WebSocket",
        ),
        (SWITCHED + "\r\n", ConnectionError, "does not answer as a WebSocket"),
        ("SSH-2.0-OpenSSH_9.2\r\n", ConnectionError, r"does not answer (within 0\.5 s|as a WebSocket)"),
    ],
    ids=["no subprotocol", "another", "not accepted", "SSH"],
)
async def test_what_answers_otherwise_is_named(
    answer: str, kind: type[Exception], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "CONNECT", 0.5)

    async def handle(stream: trio.SocketStream) -> None:
        key = re.search(rb"(?i)sec-websocket-key: *(\S+)", await stream.receive_some())
        assert key is not None
        digest = hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        with suppress(trio.BrokenResourceError):
            await stream.send_all(answer.format(accept=base64.b64encode(digest).decode()).encode())
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(functools.partial(trio.serve_tcp, host="127.0.0.1"), handle, 0)
        with trio.fail_after(PATIENCE), pytest.raises(kind, match=says):
            async with connect(f"ws://127.0.0.1:{listeners[0].socket.getsockname()[1]}", "a"):
                raise AssertionError("entered")
        nursery.cancel_scope.cancel()


async def test_a_server_that_vanishes_without_a_word_is_noticed(
    messages: list[bytes], idle_clock: trio.testing.MockClock
) -> None:
    async def vanish(script: Script, connection: WebSocketConnection, asked: dict[str, Any]) -> None:
        await connection.send_message(messages[0].decode())
        await connection.send_message(messages[1].decode())
        connection._reader_running = False  # It neither reads nor answers pings from here on.
        await trio.sleep_forever()

    script = Script(vanish, send(messages))
    with trio.fail_after(10 * client.SILENCE):
        async with serving(script) as url, connect(url, "a") as stream:
            found = [message async for message in stream]
            assert isinstance(found[-1], End)


async def test_a_reader_that_is_busy_for_long_keeps_its_connection_and_misses_nothing(
    messages: list[bytes], idle_clock: trio.testing.MockClock
) -> None:
    events = [message for message in messages if json.loads(message)["type"] == "event"]
    found: list[Any] = []
    with trio.fail_after(10 * client.SILENCE):
        async with serving(Script(send([*messages[:2], *events, messages[-1]]))) as url, connect(url, "a") as stream:
            async for message in stream:
                found.append(message)
                if isinstance(message, CustomEvent) and message.n == 1:
                    await trio.sleep(4 * client.SILENCE)  # What waits for the reader keeps an answer from being read.
            assert stream.reconnects == 0
    assert [message.n for message in found if isinstance(message, CustomEvent)] == list(range(1, len(events) + 1))


async def test_the_merged_state_is_that_of_the_message_which_was_given_last(messages: list[bytes]) -> None:
    async with serving(Script(send(messages))) as url, connect(url, "a") as stream:
        seqs = []
        async for message in stream:
            await trio.sleep(0.01)  # In which the next one has come.
            if isinstance(message, Snapshot | Update):
                assert stream.state is not None
                assert stream.state.seq == message.seq
                seqs.append(message.seq)
    assert len(seqs) > 2


async def test_the_merged_state_says_how_alive_the_session_is_as_bookmarks_tell_it(messages: list[bytes]) -> None:
    snapshot = json.loads(messages[1])
    stalled = {
        "type": "bookmark",
        "session": "a",
        "seq": snapshot["seq"],
        "resume": "1.2.3",
        "liveness": "stalled",
        "heartbeat_at": "2026-01-01T00:00:07Z",
        "progressed_at": "2026-01-01T00:00:01Z",
        "server_time": "2026-01-01T00:00:08Z",
    }
    told = [json.dumps(message).encode() for message in (stalled, {**stalled, "seq": 0, "liveness": "lost"})]
    async with serving(Script(send([*messages[:2], *told]))) as url, connect(url, "a") as stream:
        assert isinstance(await anext(stream), Subscribed)
        assert isinstance(await anext(stream), Snapshot)
        assert snapshot["state"]["liveness"] == "ok"
        for _ in told:  # The second is of another state.
            assert isinstance(await anext(stream), Bookmark)
            assert stream.state is not None
            assert stream.state.liveness == "stalled"
            assert str(stream.state.heartbeat_at) == "2026-01-01 00:00:07+00:00"
            assert (stream.state.seq, stream.state.resume) == (snapshot["seq"], "1.2.3")


async def test_leaving_ends_all_of_it_and_the_bodys_exception_leaves_as_itself(messages: list[bytes]) -> None:
    script = Script(send(messages[:3]), send(messages[:3]))
    kept: list[RemoteSubscription] = []
    async with serving(script) as url:
        with pytest.raises(KeyError):
            async with connect(url, "a") as stream:
                kept.append(stream)
                raise KeyError
        with trio.move_on_after(0.1) as scope:
            async with connect(url, "a") as stream:
                async for _ in stream:
                    pass
        assert scope.cancelled_caught


@pytest.mark.parametrize(
    ("url", "given", "says"),
    [
        ("127.0.0.1:8765", {}, "url must be like"),
        ("ftp://x", {}, "url must be like"),
        ("ws://x/?token=abc", {}, "never in an address"),
        ("ws://user:secret@x/", {}, "never in an address"),
        ("ws://x", {"max_hz": 0}, "max_hz"),
        ("ws://x", {"max_hz": 1001}, "max_hz must be at most 1000"),
        ("ws://x", {"since": "x" * 201}, "since"),
        ("ws://x", {"max_hz": float("nan")}, "max_hz"),
        ("ws://x", {"events": -1}, "events"),
        ("ws://x", {"token": "a b"}, "token"),
        ("ws://x", {"token": ""}, "token"),
    ],
)
async def test_bad_input_is_refused_at_the_call(url: str, given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        async with connect(url, "a", **given):
            pass
    with pytest.raises(ValueError, match="id"):
        async with connect("ws://x", "no id"):
            pass
    with pytest.raises(TypeError, match="since must be"):
        async with connect("ws://x", "a", since=5):  # type: ignore[arg-type]
            pass
