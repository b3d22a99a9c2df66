"""One WebSocket connection: what the client asks for, and the tasks that end it.

trio-websocket does the handshake, pings and closes over our `Wire`; messages are written past it, through the
same wire. Facts about it (0.12) that this stands on: `get_message()` must be called all the time, or pings and
closes go unread; `ping()` may never return when the peer has vanished; `aclose()` waits behind a blocked send, so
closing is our own; its reader may raise `LocalProtocolError` after our close.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final, final

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from ..errors import ProgressError, ProtocolError
from ..protocol.messages import SUBPROTOCOL, ErrorCode, ErrorMessage, Pong
from ..protocol.requests import Auth, Cancel, Ping, Subscribe, Unsubscribe, decode_request
from ..state import checks
from .answers import RefusedError, failed, not_found
from .auth.authenticator import AuthUnavailableError, UnauthorizedError
from .auth.grants import Grant
from .encoder import close_frame
from .list.pages import send_list
from .outbox import Subscriber
from .rate_limit import BYTES_BURST, BYTES_RATE, LARGEST_MESSAGE, ExcessError, FrameMeter, RateLimit
from .runtime import ServerConnection, ServerRuntime
from .transport import Inbound
from .wire import Wire

if TYPE_CHECKING:
    from .answers import Request, Upgrade
    from .transport import Transport

HANDSHAKE: Final = 5.0
"""Seconds that the 101 may take to be written."""

PARTING: Final = 1.0
"""Seconds that a CLOSE may take to be written, and the client to answer it."""

LATE_LOOKS: Final = 4
"""Times at which it is looked whether an answer to a ping has come after all, before its client is dropped."""

LATE_FOR: Final = 1.0
"""Seconds over which these are spread, at most."""

NO_SESSION: Final = Grant(verbs=frozenset({"read"}))
"""Nothing at all: a grant for no session."""


@final
class WsConnection(ServerConnection):
    """One client on a WebSocket.

    Args:
        request: Its handshake.
        asked: Who it is, and what it may do; no grant where its first message must say who asks.
    """

    def __init__(self, runtime: ServerRuntime, transport: Transport, request: Request, asked: Upgrade) -> None:
        settings = runtime.settings
        self._credentials = asked.credentials
        self._granted = asked.grant is not None
        self._turned_away = asked.turned_away
        self._until_expiry = trio.CancelScope()
        """Around the wait for the end of the grant."""
        self._unread = False
        """Whether nobody reads any more what the client sends."""
        self._scope = trio.CancelScope()
        meter = FrameMeter(
            RateLimit(settings.message_rate, settings.message_burst, trio.current_time),
            RateLimit(BYTES_RATE, BYTES_BURST, trio.current_time),
            settings.request_timeout,
        )
        self._meter = meter
        self._inbound = Inbound(transport, request.trailing, self._inspect, meter.left, self._too_slow)
        open_wire = partial(Wire, transport, patience=settings.write_timeout, replay=request.raw, inbound=self._inbound)
        super().__init__(runtime, open_wire, runtime.as_frames, asked.grant or NO_SESSION)
        self._list: trio.CancelScope | None = None
        self._list_request: Subscribe | None = None
        """How the list was asked for last."""
        self._nursery: trio.Nursery | None = None

    @property
    def listing(self) -> bool:
        """Whether it is sent the list of sessions."""
        return self._list is not None

    def stop(self, *, over: bool) -> None:
        """Closes it: what was watched has ended, or will not before the server does."""
        self._close(1001 if over else 4001, "the server stops")

    async def run(self) -> None:
        """Serves the client until either side closes.

        Raises:
            ExceptionGroup: Of what breaks when a connection does.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._wire.pump)
            connection = None
            with trio.move_on_after(HANDSHAKE):
                asked = await wrap_server_stream(
                    nursery,
                    self._wire,
                    message_queue_size=1,
                    max_message_size=LARGEST_MESSAGE,
                    receive_buffer_size=16384,
                )
                connection = await asked.accept(subprotocol=SUBPROTOCOL)
            if connection is not None:
                self._wire.open()
                nursery.start_soon(self._keep_alive, connection)
                nursery.start_soon(self._expire)
                with self._scope:
                    await self._read_requests(connection)
                await self._close_politely(connection)
            nursery.cancel_scope.cancel(reason="the connection is over")

    async def _read_requests(self, connection: WebSocketConnection) -> None:
        try:
            if self._turned_away is not None:
                self._close(*self._turned_away)
                return
            if not self._granted:
                first = None
                with trio.move_on_after(self._runtime.settings.auth_timeout):
                    first = await connection.get_message()
                if first is not None:  # Who decides has a patience of its own: the client has done its part.
                    await self._handle(first)
                if not self._granted:
                    self._close(4500, "the first message must be `auth`, sent in time")
                    return
            while True:
                await self._handle(await connection.get_message())
        except ConnectionClosed as closed:
            # What is wrong with its frames, trio-websocket leaves to its owner to be said.
            if closed.reason is not None and closed.reason.code in (1002, 1003, 1007, 1009):
                self._unread = True
                self._close(closed.reason.code, closed.reason.reason or "")
        except trio.BrokenResourceError:
            pass

    async def _close_politely(self, connection: WebSocketConnection) -> None:
        """Lets the CLOSE out, and waits a moment for the client's: closing at once could take it back."""
        self._outbox.close()
        with trio.move_on_after(PARTING):
            try:
                if self._wire.ending:
                    await self._wire.flushed.wait()
                    while not self._unread:
                        await connection.get_message()
                    await self._inbound.discard()
            except (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError):
                pass
        self._wire.kill()

    # What the client sends

    def _too_slow(self) -> None:
        self._unread = True
        self._close(4008, "a message arrived too slowly: send it faster")

    def _inspect(self, data: bytes, waited: float) -> float:
        try:
            return self._meter.feed(data, waited)
        except ExcessError as excess:
            self._unread = True
            self._close(excess.code, excess.reason)
            raise trio.BrokenResourceError("the client sends too much") from None

    async def _handle(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._close(1003, "text only")
            return
        try:
            request = decode_request(message)
        except ProtocolError as error:
            self._close(4501, str(error))
            return
        if isinstance(request, Auth):
            await self._authorise(request.token)
        elif not self._granted:
            return
        elif isinstance(request, Subscribe):
            await self._subscribe(request)
        elif isinstance(request, Unsubscribe):
            self._unsubscribe(request.session)
        elif isinstance(request, Cancel):
            await self._cancel(request)
        elif isinstance(request, Ping):
            self._outbox.say(Pong(data=request.data))

    async def _authorise(self, token: str) -> None:
        try:
            grant = await self._runtime.auth.grant(replace(self._credentials, token=token))
        except UnauthorizedError as error:
            self._close(4005 if error.expired else 4500, str(error))
        except AuthUnavailableError as error:
            self._close(4001, str(error))
        else:
            self._granted = True
            self._until_expiry.cancel(reason="there is a newer token")
            again = self._list is not None and not grant.grants_as(self._outbox.grant)
            for subscriber in self._outbox.regrant(grant):
                await self._subscribe_to(subscriber)
            if again and self._list_request is not None:
                self._begin_list(self._list_request)  # What may be seen now is more, or less.

    async def _subscribe(self, request: Subscribe) -> None:
        session = request.session
        known = session in self._outbox.subscribers or (session == "*" and self.listing)
        number = len(self._outbox.subscribers) + self.listing
        limit = self._runtime.settings.max_subscriptions
        if not known and number >= limit:
            self._refuse("too_many", f"a connection has at most {limit} subscriptions", session)
            return
        if session == "*":
            self._begin_list(request)
            return
        try:
            checks.session_id(session)
        except ValueError as error:
            self._refuse("bad_request", str(error), session)
            return
        if request.labels:
            self._refuse("bad_request", "labels are for the list only", session)
            return
        await self._subscribe_to(Subscriber(self._outbox, request))

    def _begin_list(self, request: Subscribe) -> None:
        self._unsubscribe("*")
        assert self._nursery is not None
        self._list, self._list_request = trio.CancelScope(), request
        self._nursery.start_soon(self._send_list, request, self._list)

    async def _send_list(self, request: Subscribe, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await send_list(self._runtime.list_feed, self._outbox, request)
            except trio.BrokenResourceError:
                pass
        if self._list is scope:
            self._list = None

    def _unsubscribe(self, session: str) -> None:
        if session != "*":
            self._outbox.unsubscribe(session)
        elif self._list is not None:
            self._list.cancel(reason="unsubscribed")
            self._list = None

    async def _cancel(self, request: Cancel) -> None:
        session = request.session
        try:
            checks.session_id(session)
            snapshot = await self._runtime.seen(self._outbox.grant, session, "cancel")
            await self._runtime.cancel(snapshot, request.reason, self._credentials.address)
        except RefusedError as refused:
            self._refuse(refused.code, str(refused), session)
        except ValueError:
            self._outbox.say(not_found(session))
        except ProgressError as problem:
            self._outbox.say(failed(problem, session))

    def _refuse(self, code: ErrorCode, message: str, session: str) -> None:
        self._outbox.say(ErrorMessage(code=code, message=message, session=session))

    # What ends it

    def _close(self, code: int, reason: str) -> None:
        """Closes the connection, behind what is on its way. Does not wait."""
        self._wire.finish(close_frame(code, reason))
        self._scope.cancel(reason=reason)

    def _subscription_over(self, subscriber: Subscriber, ended: bool) -> None:
        if subscriber.request.close and ended:
            # Behind the end, which the wire has or is about to be given.
            self._wire.finish_soon(close_frame(1000, "the session has ended"))
            self._scope.cancel(reason="what was asked for has ended")

    async def _keep_alive(self, connection: WebSocketConnection) -> None:
        """Pings a client that is silent, and drops one that does not answer."""
        interval = self._runtime.settings.keepalive
        try:
            while True:
                await trio.sleep(interval)
                asked = trio.current_time()
                if asked - self._inbound.heard_at < interval:
                    continue
                with trio.move_on_after(interval):
                    await connection.ping()
                if not await self._heard_since(asked):
                    self._wire.drop(4008, "you do not answer pings")
        except ConnectionClosed:
            pass

    async def _heard_since(self, asked: float) -> bool:
        """Whether anything has come since then.

        A pipeline may hold up the loop until the time for an answer is over: it lies there unread, or the ping has
        not even gone out. Whatever holds up the loop passes one look, and not all of them.
        """
        for _ in range(LATE_LOOKS):
            if self._inbound.heard_at >= asked:
                return True
            await trio.sleep(min(self._runtime.settings.keepalive, LATE_FOR) / LATE_LOOKS)
        return self._inbound.heard_at >= asked

    async def _expire(self) -> None:
        """Closes when the token expires, unless a newer one comes before."""
        while True:
            with trio.CancelScope() as self._until_expiry:
                await self._runtime.auth.until_expired(self._outbox.grant)
                self._close(4005, "the token has expired: get a new one")
                return
