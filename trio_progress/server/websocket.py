"""One WebSocket connection: its handshake, its frames, and the tasks that end it.

trio-websocket does the handshake, pings and closes over our `Wire`; messages are written past it, through the
same wire. Facts about it (0.12) that this stands on: `get_message()` must be called all the time, or pings and
closes go unread; `ping()` may never return when the peer has vanished; `aclose()` waits behind a blocked send, so
closing is our own; its reader may raise `LocalProtocolError` after our close.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, final

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

from ..protocol.messages import SUBPROTOCOL
from .messages import MessageConnection
from .rate_limit import BYTES_BURST, BYTES_RATE, LARGEST_MESSAGE, ExcessError, FrameMeter, RateLimit
from .runtime import ServerRuntime
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


@final
class WsConnection(MessageConnection):
    """One client on a WebSocket over our own transport.

    Args:
        request: Its handshake.
        asked: Who it is, and what it may do; no grant where its first message must say who asks.
    """

    def __init__(self, runtime: ServerRuntime, transport: Transport, request: Request, asked: Upgrade) -> None:
        settings = runtime.settings
        self._unread = False
        """Whether nobody reads any more what the client sends."""
        meter = FrameMeter(
            RateLimit(settings.message_rate, settings.message_burst, trio.current_time),
            RateLimit(BYTES_RATE, BYTES_BURST, trio.current_time),
            settings.request_timeout,
        )
        self._meter = meter
        self._inbound = Inbound(transport, request.trailing, self._inspect, meter.left, self._too_slow)
        open_wire = partial(Wire, transport, patience=settings.write_timeout, replay=request.raw, inbound=self._inbound)
        super().__init__(runtime, open_wire, asked)

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
            await self._handle_all(connection.get_message)
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

    # What ends it

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
