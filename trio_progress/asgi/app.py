"""`app()`: all that `serve()` serves, as an ASGI 3 application.

What is asked, by whom, and what it is answered is decided by the code of our own port (`server/`). The server that
runs the app reads requests, frames messages, pings, and has the sockets: so what our own port writes to a thousand
sockets in one loop goes through that server message by message.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack, final

import trio

from ..protocol.messages import SUBPROTOCOL
from ..server import files
from ..server.answers import EventStream, RefusedError, Response, Upgrade, with_headers
from ..server.auth.origins import is_loopback
from ..server.capacity import PortLimit
from ..server.routes import Routes
from ..server.runtime import ServerRuntime
from ..server.settings import ServerSettings
from ..server.sse import SseConnection
from ..settings import check_names
from .requests import base_of, peer_of, read_body, request_of
from .responses import deny, head_of, respond
from .transport import EventTransport, MessageTransport
from .websocket import AsgiWebSocket

if TYPE_CHECKING:
    from ..server.answers import Request
    from ..server.runtime import ServerConnection
    from ..tracker import ProgressTracker
    from .requests import Receive, Scope, Send
    from .transport import AsgiTransport

BROKEN: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)
"""What a connection that breaks raises; `OSError` is how ASGI says it (its HTTP and WebSocket, version 2.4)."""


LATER: Final = 1.0
"""Seconds that a write may take longer than `write_timeout`, at which it is cancelled, until that has not helped."""


class AsgiOptions(TypedDict, total=False):
    """Those keywords of `ServerSettings` that are for an app: the rest is the business of the server that runs it."""

    origins: Iterable[str]
    hosts: Iterable[str]
    trusted_proxies: Iterable[str]
    request_timeout: float
    auth_timeout: float
    write_timeout: float
    max_connections: int
    max_connections_per_address: int | None
    max_subscriptions: int
    message_rate: float
    message_burst: int


def app(tracker: ProgressTracker, *, auth: object, **settings: Unpack[AsgiOptions]) -> App:
    """The tracker's sessions as an ASGI 3 app: page, JSON, server-sent events, WebSocket, cancel.

    For a server that runs on Trio, such as Hypercorn's `trio` worker: alone, or mounted under a path in Starlette,
    FastAPI or Quart-Trio. It needs no lifespan events. Reads the page's files, and waits for nothing.

    Args:
        tracker: Whose sessions. Requests that come once it was left are answered 503.
        auth: Who is let in; see `Auth`. A function of your own also sees what the app around it knows of a request, as
            `credentials.scope`. None asks nobody, and lets in clients of this machine only: all others get 403.
        settings: Of `ServerSettings` those that are not about sockets: `origins=()`, `hosts=()`,
            `trusted_proxies=()`, `request_timeout`, `auth_timeout`, `write_timeout`, `max_connections`,
            `max_connections_per_address`, `max_subscriptions`, `message_rate`, `message_burst`. What counts as a
            connection is a request, as long as it is answered.

    Raises:
        ValueError, TypeError: A setting is unknown or out of range.
    """
    check_names("app()", settings, list(AsgiOptions.__annotations__))
    return App(tracker, ServerSettings(auth=auth, **settings))


@final
class App:
    """An ASGI 3 app; see `app()`.

    Args:
        tracker: Whose sessions.
        settings: Of a server; those that are about sockets mean nothing here.
    """

    def __init__(self, tracker: ProgressTracker, settings: ServerSettings) -> None:
        self._runtime = ServerRuntime(tracker, settings, files.load())
        self._routes = Routes(self._runtime)
        self._limit = PortLimit(self._runtime.most)

    def __repr__(self) -> str:
        return f"<trio_progress.asgi.app({self._runtime.tracker!r})>"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers what one scope stands for; each server and framework has types of its own for the three.

        Raises:
            RuntimeError: The server does not run on Trio.
            ValueError: The scope is of an unknown kind.
        """
        if not trio.lowlevel.in_trio_task():
            raise RuntimeError(
                "trio_progress.asgi.app() runs on Trio: serve it by `hypercorn --worker-class trio`; under an asyncio "
                "server, read sessions by trio_progress.blocking.Client, and have open_server() serve the page"
            )
        serve = {"http": self._http, "websocket": self._websocket, "lifespan": self._lifespan}.get(scope["type"])
        if serve is None:
            raise ValueError(f"a scope's type must be http, websocket or lifespan, not {scope['type']!r:.200}")
        try:
            await serve(scope, receive, send)
        except* BROKEN:
            pass  # The client has gone.

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Says that it is ready, and when the server stops that it is done: its tracker is opened by somebody else."""
        del scope
        while True:
            event = (await receive())["type"]
            if event == "lifespan.shutdown":
                self._runtime.draining = True
                self._runtime.connections.stop(watching=True)
            await send({"type": f"{event}.complete"})
            if event == "lifespan.shutdown":
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        settings = self._runtime.settings
        try:
            request = request_of(scope)
            with self._admitted(scope, request) as address:
                body = await read_body(receive, settings.request_timeout)
                if body is None:
                    return
                answer = await self._answer(scope, replace(request, body=body), address)
                if isinstance(answer, EventStream) and not answer.head_only:
                    headers = head_of(scope, answer.headers)
                    await send({"type": "http.response.start", "status": 200, "headers": headers})
                    events = EventTransport(receive, send)
                    await self._stream(SseConnection(self._runtime, events, answer), events)
                    return
        except RefusedError as refused:
            answer = with_headers(refused.response)
        assert not isinstance(answer, Upgrade)  # No HTTP request is `handshaken`.
        if isinstance(answer, EventStream):
            answer = Response(status=200, headers=answer.headers)
        await respond(scope, send, answer, settings.write_timeout)

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] != "websocket.connect":
            return
        try:
            request = request_of(scope)
            with self._admitted(scope, request) as address:
                answer = await self._answer(scope, request, address)
                if isinstance(answer, Upgrade):
                    await send({"type": "websocket.accept", "subprotocol": SUBPROTOCOL})
                    messages = MessageTransport(receive, send)
                    await self._stream(AsgiWebSocket(self._runtime, messages, answer), messages)
                    return
                if not isinstance(answer, Response) or answer.status < 400:
                    raise RefusedError(404, "not_found", "there is no WebSocket at this path")
        except RefusedError as refused:
            answer = with_headers(refused.response)
        await deny(scope, send, answer, self._runtime.settings.write_timeout)

    @contextmanager
    def _admitted(self, scope: Scope, request: Request) -> Iterator[str]:
        """Counts a request while it is answered, and gives the address that it comes from.

        Raises:
            RefusedError: There are too many, it comes from another machine and nobody is asked who it is, or the
                tracker was left.
        """
        runtime, peer = self._runtime, peer_of(scope)
        if runtime.settings.auth is None and not is_loopback(peer):
            text = "without `auth` only clients of this machine are let in: give trio_progress.asgi.app() an `auth`"
            raise RefusedError(403, "not_allowed", text)
        if runtime.tracker_left:
            raise RefusedError(503, "unavailable", "the tracker has been left")
        address = runtime.proxies.client(peer, request.headers)
        if not self._limit.room_for(address):
            text = "the server has as many connections as it can take; try again later"
            raise RefusedError(503, "too_many", text, Retry_After="5")
        with self._limit.counting(address), runtime.addresses.counting(address):
            yield address

    async def _answer(self, scope: Scope, request: Request, address: str) -> Response | EventStream | Upgrade:
        trusted = self._runtime.proxies.trusts(peer_of(scope))
        return await self._routes.dispatch(request, address, base=base_of(scope), trusted=trusted)

    async def _stream(self, connection: ServerConnection, transport: AsgiTransport) -> None:
        """Serves a client that is sent updates, until either side closes."""
        self._runtime.start_list_feed()
        with self._runtime.connections.counting(), self._runtime.connections.streaming(connection):
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._evict_stuck, connection, transport)
                    await connection.run()
                    nursery.cancel_scope.cancel(reason="the connection is over")
            finally:
                connection.kill()

    async def _evict_stuck(self, connection: ServerConnection, transport: AsgiTransport) -> None:
        """Drops a client that does not read where the server keeps its writes from being cancelled."""
        await transport.stuck(self._runtime.settings.write_timeout + LATER)
        connection.evict()
