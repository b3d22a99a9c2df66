"""One connection, from its first byte to its last: whether there is room for it, TLS, and its requests.

The head of each request is read by h11 under a deadline and caps. One that asks for a WebSocket is replayed to
trio-websocket through our own stream; all else is answered as HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final, TypeAlias, final

import h11
import trio
from trio_websocket import ConnectionClosed, HandshakeError
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from .answers import EventStream, RefusedError, Request, Response, with_headers
from .capacity import AddressFullError, PortLimit
from .http_connection import HttpConnection
from .sse import SseConnection
from .transport import Transport, close_now, half_close, socket_of
from .websocket import WsConnection

if TYPE_CHECKING:
    from .routes import Routes
    from .runtime import ServerConnection, ServerRuntime

logger = logging.getLogger("trio_progress")

BROKEN: Final = (
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    ConnectionClosed,
    HandshakeError,
    LocalProtocolError,
    RemoteProtocolError,
    h11.LocalProtocolError,
)
"""What a connection that breaks raises, here or in trio-websocket's task."""

IN_MEMORY: Final = "127.0.0.1"
"""The address of a client that has none, in this process."""

LINGER: Final = 1.0
"""Seconds in which a client whose request is refused may still send, so that it reads why."""

MOST_FOR_ADMIN: Final = 100
"""Connections at once of the port of the probes: its own, so that a full server is not taken for dead."""

MOST_TURNED_AWAY: Final = 100
"""Connections at once that are answered that there are too many; more are closed without an answer."""


Count: TypeAlias = Callable[[str], AbstractContextManager[None]]
"""Counts a connection of an address as long as the block lasts, or raises `AddressFullError`."""


@final
class ConnectionHandler:
    """Takes the connections of one server.

    Args:
        admin: Whether this is the port of the probes and metrics.
    """

    def __init__(self, runtime: ServerRuntime, routes: Routes, *, admin: bool = False) -> None:
        self._runtime = runtime
        self._routes = routes
        self._admin = admin
        self.limit: Final = PortLimit(MOST_FOR_ADMIN if admin else runtime.most)
        self._turned_away = 0

    async def __call__(self, transport: Transport) -> None:
        """Serves one connection. Raises nothing but `Cancelled`, whatever the client does."""
        try:
            tcp = socket_of(transport)
            peer = IN_MEMORY if tcp is None else str(tcp.socket.getpeername()[0])
            with self._runtime.connections.counting():
                await self._admit(transport, peer)
        except* BROKEN:
            pass
        except* Exception:
            logger.exception("a connection has failed")
        finally:
            close_now(transport)

    async def _admit(self, transport: Transport, peer: str) -> None:
        """Serves a connection if there is room for one more: at all, and of its address.

        It counts from its first moment on: who opens many and says nothing would else take the places of all.
        """
        runtime, settings = self._runtime, self._runtime.settings
        patience = settings.request_timeout
        direct: Count = _uncounted
        each: Count = _uncounted
        if not self._admin:
            if runtime.proxies.trusts(peer):  # Each request says whose it is.
                each = runtime.addresses.counting
            else:
                direct = runtime.addresses.counting
        text = "the server has as many connections as it can take; try again later"
        full = RefusedError(503, "too_many", text, Retry_After="5")
        try:
            with direct(peer):
                if self.limit.room_for(peer):
                    with self.limit.counting(peer):
                        http = HttpConnection(transport, head_patience=patience, write_patience=settings.write_timeout)
                        await self._serve(http, peer, each)
                    return
        except AddressFullError as refused:
            full = refused
        if self._turned_away < MOST_TURNED_AWAY:
            self._turned_away += 1
            try:
                http = HttpConnection(transport, head_patience=min(patience, LINGER), write_patience=LINGER)
                await self._serve(http, peer, _uncounted, full)
            finally:
                self._turned_away -= 1

    async def _serve(self, http: HttpConnection, peer: str, count: Count, full: RefusedError | None = None) -> None:
        """Answers the requests of one connection, each of which `count` counts by its address while it is answered.

        Within its patience TLS must be agreed on, and the first request come. Where there is no room, it is refused.
        """
        runtime = self._runtime
        came = trio.current_time()
        with (
            runtime.connections.over_http(http) as scope,
            nullcontext() if full else self.limit.evictable(peer, http, scope),
        ):
            if isinstance(http.transport, trio.SSLStream):
                with trio.move_on_after(http.head_patience) as handshake:
                    await http.transport.do_handshake()
                if handshake.cancelled_caught:
                    return
            spent = trio.current_time() - came
            try:
                while (request := await http.request(spent=spent)) is not None:
                    if full is not None:
                        raise full
                    spent = 0.0
                    self.limit.keep(peer, http)
                    address = runtime.proxies.client(peer, request.headers)
                    with count(address):
                        if not await self._answer(http, request, address, peer):
                            return
            except RefusedError as refused:
                await self._refuse(http, refused.response)

    async def _refuse(self, http: HttpConnection, response: Response) -> None:
        """Answers what was never understood, and reads on for a moment: closing at once could take the answer back."""
        await http.respond(None, with_headers(response))
        with trio.move_on_after(LINGER):
            await half_close(http.transport)
            for _ in range(64):
                if not await http.transport.receive_some(65536):
                    break

    async def _answer(self, http: HttpConnection, request: Request, address: str, peer: str) -> bool:
        """Answers one request; True where another may follow."""
        runtime = self._runtime
        if self._admin:
            return await http.respond(request, with_headers(self._routes.admin(request)), last=runtime.draining)
        base, trusted = runtime.settings.base_path, runtime.proxies.trusts(peer)
        answer = await self._routes.dispatch(request, address, base=base, trusted=trusted)
        if isinstance(answer, Response):
            return await http.respond(request, answer, last=runtime.draining)
        connection: ServerConnection
        if isinstance(answer, EventStream):
            connection = SseConnection(runtime, http.transport, answer, _head_of(answer))
        else:
            connection = WsConnection(runtime, http.transport, request, answer)
        with runtime.connections.streaming(connection):
            try:
                await connection.run()
            finally:
                connection.kill()
        return False


def _head_of(stream: EventStream) -> bytes:
    """What comes before the events, as bytes; it ends with the connection, for it has no length."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in {**stream.headers, "Connection": "close"}.items())
    return f"HTTP/1.1 200 OK\r\n{lines}\r\n".encode("latin-1")


def _uncounted(address: str) -> AbstractContextManager[None]:
    """Counts nothing."""
    del address
    return nullcontext()
