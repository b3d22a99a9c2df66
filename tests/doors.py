"""What the tests of the server stand on: a server with a tracker, and clients that say just what they are told to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream

from tests.raw import UPGRADE
from tests.support import PATIENCE
from trio_progress import ProgressTracker, open_tracker
from trio_progress.server import Server, open_server

SECRET = "s" * 16 + "ecret-of-the-tests-0123456789"
OTHER_SECRET = "another-secret-of-the-tests-0123456789"
SUBPROTOCOL = "trio-progress.v1"


@dataclass
class Door:
    """A server, its tracker, and what it is reached by."""

    tracker: ProgressTracker
    server: Server

    @property
    def port(self) -> int:
        return self.server.port


@dataclass
class Kind:
    """Which kind of door is opened."""

    asgi: bool = False


KIND = Kind()
"""That of this test; the fixture `each_door` sets it."""

both_doors = pytest.mark.usefixtures("each_door")
"""A test that must hold for our own port and for the ASGI app."""


@asynccontextmanager
async def open_door(*, tracker_settings: Mapping[str, Any] | None = None, **settings: Any) -> AsyncIterator[Door]:
    """A tracker in memory and its server on a free port: our own, or Hypercorn with the ASGI app."""
    async with open_tracker(**{"broadcast_interval": 0.02, **(tracker_settings or {})}) as tracker:
        if KIND.asgi:
            from trio_progress import asgi

            async with open_hypercorn(asgi.app(tracker, **{"auth": None, **settings})) as server:
                yield Door(tracker, server)
        else:
            async with open_server(tracker, **{"port": 0, **settings}) as server:
                yield Door(tracker, server)


@asynccontextmanager
async def open_hypercorn(app: Any) -> AsyncIterator[Server]:
    """A Hypercorn that serves an ASGI app on Trio, as long as the block lasts."""
    import hypercorn.trio
    from hypercorn.config import Config

    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = None
    config.graceful_timeout = 0.5
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(hypercorn.trio.serve, app, config, shutdown_trigger=trio.sleep_forever))
        host, port = url.removeprefix("http://").rsplit(":", 1)
        yield Server(host=host, port=int(port), url=url + "/")
        nursery.cancel_scope.cancel()


@dataclass
class Answer:
    """An HTTP response, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def read_answer(stream: trio.abc.ReceiveStream, *, head_only: bool = False) -> Answer | None:
    """The next response; None where the server closes instead."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some(65536)
        if not more:
            assert not data, data
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    if head_only:
        return Answer(int(first.split()[1]), headers, body)
    if headers.get("transfer-encoding") == "chunked":
        while not body.endswith(b"0\r\n\r\n"):
            body += await stream.receive_some(65536)
        return Answer(int(first.split()[1]), headers, _dechunked(body))
    length = headers.get("content-length")
    while length is None or len(body) < int(length):
        if length is None and int(first.split()[1]) in (204, 304):
            break
        more = await stream.receive_some(65536)
        if not more:
            break
        body += more
    return Answer(int(first.split()[1]), headers, body)


def _dechunked(body: bytes) -> bytes:
    whole, size = b"", -1
    while size:
        line, _, body = body.partition(b"\r\n")
        size = int(line, 16)
        whole, body = whole + body[:size], body[size + 2 :]
    return whole


async def ask(port: int, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
    """One request on a connection of its own."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        given = {"Host": "localhost", "Connection": "close", **(headers or {})}
        if body:
            given["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
        await stream.send_all(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
        with trio.fail_after(PATIENCE):
            answer = await read_answer(stream, head_only=method == "HEAD")
    assert answer is not None
    return answer


@dataclass
class Talk:
    """A WebSocket on which JSON is spoken."""

    connection: WebSocketConnection
    seen: list[dict[str, Any]] = field(default_factory=list)

    async def say(self, **message: Any) -> None:
        await self.connection.send_message(json.dumps(message))

    async def next(self, within: float = PATIENCE) -> dict[str, Any]:
        with trio.fail_after(within):
            message: dict[str, Any] = json.loads(await self.connection.get_message())
        self.seen.append(message)
        return message

    async def until(self, kind: str, within: float = PATIENCE) -> dict[str, Any]:
        """The next message of a type; those before it are in `seen`."""
        with trio.fail_after(within):
            while True:
                message = await self.next()
                if message["type"] == kind:
                    return message

    async def closed(self, within: float = PATIENCE) -> tuple[int, str]:
        """How the server closes it; what it says before is in `seen`."""
        with trio.fail_after(within):
            while True:
                try:
                    self.seen.append(json.loads(await self.connection.get_message()))
                except ConnectionClosed as closed:
                    assert closed.reason is not None  # noqa: PT017 - for the type checker
                    return closed.reason.code, closed.reason.reason or ""


@asynccontextmanager
async def talk(
    port: int,
    *,
    path: str = "/ws",
    headers: Mapping[str, str] | None = None,
    subprotocols: tuple[str, ...] = (SUBPROTOCOL,),
) -> AsyncIterator[Talk]:
    """A WebSocket to the server."""
    extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    # trio-websocket's client leaves the socket open where the server closes first.
    async with stream, trio.open_nursery() as nursery:
        connection = await wrap_client_stream(
            nursery, stream, f"127.0.0.1:{port}", path, subprotocols=list(subprotocols), extra_headers=extra
        )
        yield Talk(connection)
        with trio.move_on_after(1):
            await connection.aclose()
        nursery.cancel_scope.cancel()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def raw(port: int) -> trio.SocketStream:
    """A connection on which nothing has been said."""
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
    """Waits until nobody watches a session."""
    while door.tracker.statistics().subscribers:  # noqa: ASYNC110 - nobody tells of it
        await trio.sleep(0.02)
