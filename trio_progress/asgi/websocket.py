"""One WebSocket whose frames, pings and handshake an ASGI server does."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, final

import trio

from ..server.messages import MessageConnection
from ..server.rate_limit import BYTES_BURST, BYTES_RATE, LARGEST_MESSAGE, RateLimit
from ..server.wire import Wire

if TYPE_CHECKING:
    from ..server.answers import Upgrade
    from ..server.runtime import ServerRuntime
    from .transport import MessageTransport

PARTING: Final = 1.0
"""Seconds that a CLOSE may take to be written, and the client to answer it."""


@final
class AsgiWebSocket(MessageConnection):
    """One client on a WebSocket over an ASGI server, which has accepted it.

    Args:
        transport: Its messages.
    """

    def __init__(self, runtime: ServerRuntime, transport: MessageTransport, asked: Upgrade) -> None:
        settings = runtime.settings
        super().__init__(runtime, partial(Wire, transport, patience=settings.write_timeout), asked)
        self._transport = transport
        self._messages = RateLimit(settings.message_rate, settings.message_burst, trio.current_time)
        self._volume = RateLimit(BYTES_RATE, BYTES_BURST, trio.current_time)

    async def run(self) -> None:
        """Serves the client until either side closes."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._pump)
            nursery.start_soon(self._expire)
            self._wire.open()
            with self._scope:
                try:
                    await self._handle_all(self._receive)
                except trio.BrokenResourceError:
                    self._wire.kill()
            await self._close_politely()
            nursery.cancel_scope.cancel(reason="the connection is over")

    async def _close_politely(self) -> None:
        """Lets the CLOSE out, and waits a moment for the client's: the server may hang up when the app returns."""
        self._outbox.close()
        with trio.move_on_after(PARTING):
            if self._wire.ending:
                await self._wire.flushed.wait()
                try:
                    while True:
                        await self._transport.receive_message()
                except trio.BrokenResourceError:
                    pass
        self._wire.kill()

    async def _pump(self) -> None:
        await self._wire.pump()
        self._scope.cancel(reason="nothing can be sent any more")

    async def _receive(self) -> str | bytes:
        """The next message; the bounds are those of our own port, but that the server has counted its frames.

        Raises:
            trio.BrokenResourceError: The client has gone.
        """
        message = await self._transport.receive_message()
        size = len(message) if isinstance(message, bytes) else len(message.encode("utf-8", "surrogatepass"))
        if size > LARGEST_MESSAGE:
            self._close(1009, f"a message is at most {LARGEST_MESSAGE} bytes")
        elif not self._messages.allows():
            self._close(4013, "too many messages: send fewer")
        await trio.sleep(self._volume.take(size))  # At once, where it was closed.
        return message
