"""The front door: one connection, from its first byte to its last.

The head of each request is read by h11 under a deadline and caps. One that asks for a WebSocket is replayed to
trio-websocket through our own stream; all else is answered as HTTP. In this order, and before anything is
looked at: `Host`, origin, base path, credentials.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, TypeAlias, final

import h11
import trio
from trio_websocket import ConnectionClosed, HandshakeError
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from .auth.authenticator import AuthUnavailableError, UnauthorizedError, cookies_of, token_of
from .auth.grants import Credentials, Grant
from .capacity import Seats
from .http import BadRequestError, HttpConnection, Request, Response, error
from .routes import Routes
from .runtime import FullError, ServerRuntime
from .sse import EventConnection, EventStream
from .websocket import SUBPROTOCOL, WebSocketGuest
from .wire import Transport, close_now, socket_of

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

ALWAYS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of each response."""

IN_MEMORY: Final = "127.0.0.1"
"""The address of a client that has none, in this process."""

LINGER: Final = 1.0
"""Seconds in which a client whose request is refused may still send, so that it reads why."""

MOST_FOR_ADMIN: Final = 100
"""Connections at once of the port of the probes: its own, so that a full server is not taken for dead."""

MOST_TURNED_AWAY: Final = 100
"""Connections at once that are told that there are too many; more are closed without a word."""


class ServerFullError(FullError):
    """There are as many connections as there may be, whosever they are."""


Count: TypeAlias = Callable[[str], AbstractContextManager[None]]
"""Counts a connection of an address as long as the block lasts, or raises `FullError`."""


@final
@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request for a WebSocket that is taken, at least to be told why not."""

    credentials: Credentials
    grant: Grant | None
    turned_away: tuple[int, str] | None = None


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
        self.seats = Seats(MOST_FOR_ADMIN if admin else runtime.most)
        self._turned_away = 0

    async def __call__(self, transport: Transport) -> None:
        """Serves one connection. Raises nothing but `Cancelled`, whatever the client does."""
        runtime = self._runtime
        try:
            tcp = socket_of(transport)
            peer = IN_MEMORY if tcp is None else str(tcp.socket.getpeername()[0])
            runtime.connections += 1
            try:
                await self._admit(transport, peer)
            finally:
                runtime.connections -= 1
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
        direct: Count = runtime.counted
        each: Count = _for_nothing
        if self._admin:
            direct = _for_nothing
        elif runtime.proxies.trusts(peer):  # Whose it is, is told by each request.
            direct, each = _for_nothing, runtime.counted
        refusal = _server_full
        try:
            with direct(peer):
                if self.seats.room_for(peer):
                    with self.seats.taking(peer):
                        http = HttpConnection(transport, head_patience=patience, write_patience=settings.write_timeout)
                        await self._serve(transport, http, peer, patience, each)
                    return
        except FullError:
            refusal = _address_full
        if self._turned_away < MOST_TURNED_AWAY:
            self._turned_away += 1
            try:
                patience = min(patience, LINGER)
                http = HttpConnection(transport, head_patience=patience, write_patience=LINGER)
                await self._serve(transport, http, peer, patience, refusal)
            finally:
                self._turned_away -= 1

    async def _serve(
        self,
        transport: Transport,
        http: HttpConnection,
        peer: str,
        patience: float,
        count: Count,
    ) -> None:
        """Answers the requests of one connection, each of which `count` counts by its address while it is answered.

        Within `patience` TLS must be agreed on, and the first request come.
        """
        runtime = self._runtime
        came = trio.current_time()
        seated = count not in (_address_full, _server_full)
        with runtime.at_door(http) as scope, self.seats.silent(peer, http, scope) if seated else nullcontext():
            if isinstance(transport, trio.SSLStream):
                with trio.move_on_after(patience) as handshake:
                    await transport.do_handshake()
                if handshake.cancelled_caught:
                    return
            spent = trio.current_time() - came
            while True:
                try:
                    request = await http.request(spent=spent)
                except BadRequestError as refused:
                    await self._refuse(http, transport, refused.response)
                    return
                if request is None:
                    return
                spent = 0.0
                self.seats.spoke(peer, http)
                address = runtime.proxies.client(peer, request.headers)
                try:
                    with count(address):
                        again = await self._answer(transport, http, request, address, peer)
                except ServerFullError:
                    full = error(503, "too_many", "the server has as many connections as it can take: try again later")
                    full.headers["Retry-After"] = "5"
                    await self._refuse(http, transport, full)
                    return
                except FullError:
                    response = error(429, "too_many", "there are too many connections of your address")
                    await self._refuse(http, transport, response)
                    return
                if not again:
                    return

    async def _refuse(self, http: HttpConnection, transport: Transport, response: Response) -> None:
        """Answers what was never understood, and reads on for a moment: closing at once could take the answer back."""
        response.headers.update(ALWAYS)
        await http.respond(None, response)
        with trio.move_on_after(LINGER):
            if isinstance(transport, trio.abc.HalfCloseableStream):
                await transport.send_eof()
            for _ in range(64):
                if not await transport.receive_some(65536):
                    break

    async def _answer(
        self, transport: Transport, http: HttpConnection, request: Request, address: str, peer: str
    ) -> bool:
        """Answers one request; True where another may follow."""
        origins = self._runtime.origins
        trusted = self._runtime.proxies.trusts(peer)
        cors = {} if self._admin else origins.cors(request.headers)
        answer = await self._judged(request, address, trusted)
        if isinstance(answer, Response):
            answer.headers = {**ALWAYS, **answer.headers, **cors}
            return await http.respond(request, answer, last=self._runtime.draining)
        if isinstance(answer, EventStream):
            answer.headers.update({**ALWAYS, **cors})
            events = EventConnection(self._runtime, transport, answer)
            await self._host(events)
            return False
        connection = WebSocketGuest(
            self._runtime, transport, request, answer.credentials, answer.grant, answer.turned_away
        )
        await self._host(connection)
        return False

    async def _host(self, connection: WebSocketGuest | EventConnection) -> None:
        with self._runtime.serving_to(connection):
            try:
                await connection.run()
            finally:
                connection.kill()

    async def _judged(self, request: Request, address: str, trusted: bool) -> Response | EventStream | Upgrade:
        """What is to become of a request."""
        routes = self._routes
        if self._admin:
            await trio.lowlevel.checkpoint()
            return self._for_admin(request)
        headers, origins, settings = request.headers, self._runtime.origins, self._runtime.settings
        base = settings.base_path
        if not origins.hosted(headers):
            return error(421, "not_allowed", "this name is not served here: it must be among `hosts` (--hosts)")
        page = request.method == "GET" and request.path in (base, base.rstrip("/"), f"{base}index.html")
        if origins.foreign(headers, page=page):
            return error(403, "not_allowed", "this origin is not let in: it must be among `origins` (--origins)")
        if request.method == "OPTIONS":
            preflight = origins.preflight() if origins.allowed(headers.get("origin")) else {}
            return Response(status=204, headers=preflight)
        if request.path == base.rstrip("/") and base != "/":
            return Response(status=308, headers={"Location": base})
        if not request.path.startswith(base):
            return error(404, "not_found", "there is no such path")
        path = request.path[len(base) :]
        probe = None if settings.admin_port is not None else routes.probe(request, path)
        public = probe or routes.public(request, path)
        if public is not None:
            return public
        credentials = Credentials(
            token=token_of(headers),
            headers=headers,
            cookies=cookies_of(headers.get("cookie", "")),
            address=address,
            trusted=trusted,
        )
        if path == "ws":
            return await self._upgrade(request, credentials)
        try:
            grant = await self._runtime.auth.grant(credentials)
        except UnauthorizedError as problem:
            if path == "config":
                return routes.config(None)
            challenge = {"WWW_Authenticate": 'Bearer realm="trio-progress"'}
            return error(401, "unauthorized", str(problem), **challenge)
        except AuthUnavailableError as problem:
            return error(503, "unavailable", str(problem))
        if path == "config":
            return routes.config(grant)
        if path == "metrics" and settings.admin_port is not None:
            return error(404, "not_found", "there is no such path")
        return await routes.answer(request, path, grant, address)

    def _for_admin(self, request: Request) -> Response:
        path = request.path.removeprefix("/")
        if request.method not in ("GET", "HEAD"):
            return error(405, "bad_request", "this path takes GET, HEAD", Allow="GET, HEAD")
        if path == "metrics":
            return self._routes.metrics(request)
        return self._routes.probe(request, path) or error(404, "not_found", "there is no such path")

    async def _upgrade(self, request: Request, credentials: Credentials) -> Response | Upgrade:
        headers = request.headers
        if request.method != "GET" or not request.upgrades:
            return error(426, "bad_request", "this path takes WebSockets only", Upgrade="websocket")
        if headers.get("sec-websocket-version") != "13":
            return error(426, "bad_request", "version 13 is spoken here", Sec_WebSocket_Version="13")
        if not _is_key(headers.get("sec-websocket-key", "")):
            return error(400, "bad_request", "Sec-WebSocket-Key must be 16 bytes in base64")
        if SUBPROTOCOL not in map(str.strip, headers.get("sec-websocket-protocol", "").split(",")):
            return error(400, "bad_request", f"offer the subprotocol {SUBPROTOCOL}")
        if self._runtime.draining:
            return error(503, "unavailable", "the server stops")
        auth = self._runtime.auth
        try:
            return Upgrade(credentials, await auth.grant(credentials))
        except AuthUnavailableError as problem:
            return error(503, "unavailable", str(problem))
        except UnauthorizedError as problem:
            if problem.expired:
                return Upgrade(credentials, None, (4005, str(problem)))
            if credentials.token is None and auth.kind == "token":
                return Upgrade(credentials, None)
            if "authorization" in headers or auth.kind == "other":
                return error(401, "unauthorized", str(problem), WWW_Authenticate='Bearer realm="trio-progress"')
            return Upgrade(credentials, None, (4500, str(problem)))


def _for_nothing(address: str) -> AbstractContextManager[None]:
    """Counts nothing."""
    del address
    return nullcontext()


def _address_full(address: str) -> AbstractContextManager[None]:
    del address
    raise FullError


def _server_full(address: str) -> AbstractContextManager[None]:
    del address
    raise ServerFullError


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
