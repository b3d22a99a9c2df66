"""One WebSocket to a server: opening it, reading it, and noticing that the server is not there any more."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, final

import trio

from ..errors import ProgressError, ProtocolError
from .credentials import Token, authorization
from .retry import RetryableError, classify, first_error

if TYPE_CHECKING:
    from trio_websocket import WebSocketConnection

    from .address import ServerAddress, SocketStream

SUBPROTOCOL: Final = "trio-progress.v1"

CONNECT: Final = 10.0
"""Seconds in which a connection is to be open, and what is sent is to be taken."""

SILENCE: Final = 20.0
"""Seconds between two looks whether the server is still there, and that it has to answer in."""

LARGEST: Final = 64 * 1024 * 1024
"""Characters of one message; a state is smaller by `Limits`."""


@final
class Connection:
    """An open WebSocket, of which one task reads."""

    def __init__(self, websocket: WebSocketConnection) -> None:
        self._websocket = websocket
        self._reading_since = float("inf")
        """When the reader began to wait for what comes next; infinite while it is busy with what came."""

    async def send(self, text: str) -> None:
        """Sends one message."""
        with trio.fail_after(CONNECT):
            await self._websocket.send_message(text)

    async def receive(self) -> str | bytes:
        """The next message; waits for it."""
        self._reading_since = trio.current_time()
        try:
            return await self._websocket.get_message()
        finally:
            self._reading_since = float("inf")

    async def close(self) -> None:
        """Closes it politely, as far as the server joins in."""
        with trio.move_on_after(1.0):
            await self._websocket.aclose()

    async def watch(self, scope: trio.CancelScope) -> None:
        """Cancels the scope once the server does not answer, which the network may never say."""
        from trio_websocket import ConnectionClosed

        try:
            while True:
                await trio.sleep(SILENCE)
                asked = trio.current_time()
                with trio.move_on_after(SILENCE) as patience:
                    await self._websocket.ping()
                # While the reader is busy nothing is read, an answer neither.
                if patience.cancelled_caught and self._reading_since <= asked:
                    scope.cancel(reason="the server does not answer")
        except ConnectionClosed:
            return  # The reader knows it as well.


@asynccontextmanager
async def open_connection(
    address: ServerAddress, token: Token, ssl_context: ssl.SSLContext | None
) -> AsyncIterator[Connection]:
    """A connection to the server for the length of a block; leaving drops it.

    Raises:
        RetryableError: It has failed, before or in the block, and another one may do better.
        ProtocolError, ssl.SSLCertVerificationError: It will not become better.
    """
    headers = await authorization(token)
    failure: Exception | None = RetryableError("it was closed")
    try:
        async with trio.open_nursery() as nursery:
            try:
                with trio.fail_after(CONNECT):
                    stream = await address.open_stream(ssl_context)
                try:
                    with trio.fail_after(CONNECT):
                        connection = Connection(await _shaken_hands(nursery, stream, address, headers))
                    nursery.start_soon(connection.watch, nursery.cancel_scope)
                    yield connection
                    failure = None
                finally:
                    await trio.aclose_forcefully(stream)  # noqa: ASYNC102 - it does not wait
            except Exception as error:
                failure = error
            nursery.cancel_scope.cancel()
    except* Exception as group:
        # What trio-websocket's own task has met; what was met here is said first.
        if not isinstance(failure, (ProgressError, ConnectionError)):
            failure = first_error(group)
    if failure is not None:
        raise classify(failure, token, CONNECT)


async def _shaken_hands(
    nursery: trio.Nursery, stream: SocketStream, address: ServerAddress, headers: list[tuple[bytes, bytes]]
) -> WebSocketConnection:
    from trio_websocket import wrap_client_stream

    websocket = await wrap_client_stream(
        nursery,
        stream,
        address.name,
        address.path,
        subprotocols=[SUBPROTOCOL],
        extra_headers=headers,
        max_message_size=LARGEST,
        receive_buffer_size=65536,
    )
    if websocket.subprotocol != SUBPROTOCOL:
        raise ProtocolError(f"the server at {address.name} does not speak {SUBPROTOCOL}")
    return websocket
