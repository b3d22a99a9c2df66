"""`memory_client()`: a client of the protocol over streams in memory, through all of the real server's code."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Self, final

import msgspec
import trio
import trio.testing
from trio_websocket import CloseReason, ConnectionClosed, ConnectionRejected, WebSocketConnection, wrap_client_stream

from ..contexts import BodyError
from ..errors import ProtocolError
from ..protocol.messages import SPARSE, SUBPROTOCOL, WireMessage, decode_wire_message
from ..protocol.requests import Auth, Cancel, Ping, Request, Subscribe, Unsubscribe
from ..server.connection import ConnectionHandler
from ..server.routes import Routes
from ..server.runtime import ServerRuntime
from ..server.settings import ServerSettings
from ..server.transport import SocketlessTransport
from ..tracker import ProgressTracker

LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a message that a client takes."""

PATIENCE: Final = 5.0
"""Virtual seconds that a server may take for the handshake, and for its part of a polite end."""


class RefusedError(Exception):
    """The server did not take the connection: `status` and `body` are its answer over HTTP."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"the server answers {status}: {body.decode(errors='replace')}")
        self.status = status
        self.body = body


@final
class _InMemory(SocketlessTransport):
    """One end of a pair of streams of which a sender waits until all was received: a network without any buffer."""

    def __init__(self, stream: trio.StapledStream[Any, Any]) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self._stream.send_stream.close()
        self._stream.receive_stream.close()


@final
class MemoryClient:
    """One connection to a server, without a network. Made by `memory_client()`; `async for` gives its messages.

    It reads one message ahead and no more: who does not `receive()` stalls, and the server drops it once its
    `write_timeout` is over.
    """

    def __init__(self, connection: WebSocketConnection, transport: SocketlessTransport) -> None:
        self._connection = connection
        self._transport = transport

    @property
    def closed(self) -> CloseReason | None:
        """The `code` and `reason` of its close; None while it is open. 1006: it broke."""
        reason: CloseReason | None = self._connection.closed
        return reason

    async def send(self, request: Request | str | bytes) -> None:
        """Sends a request; a text is sent as it is, so that a test can send an invalid one. A checkpoint.

        Raises:
            trio.BrokenResourceError: The connection is closed.
        """
        data = request if isinstance(request, (str, bytes)) else msgspec.json.encode(request).decode()
        try:
            await self._connection.send_message(data)
        except ConnectionClosed:
            raise trio.BrokenResourceError(f"the connection is closed: {self.closed}") from None

    async def subscribe(
        self,
        session_id: str,
        *,
        since: str | None = None,
        max_hz: float | None = None,
        events: int | None = None,
        wait: bool = False,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Asks for the messages of a session, or by "*" for the list. The arguments are the protocol's."""
        await self.send(
            Subscribe(
                session=session_id, since=since, max_hz=max_hz, events=events, wait=wait, labels=dict(labels or {})
            )
        )

    async def unsubscribe(self, session_id: str) -> None:
        """Asks for no more of them."""
        await self.send(Unsubscribe(session=session_id))

    async def cancel(self, session_id: str, reason: str | None = None) -> None:
        """Asks for a session's end."""
        await self.send(Cancel(session=session_id, reason=reason))

    async def ping(self, data: str = "") -> None:
        """Asks for a `Pong`."""
        await self.send(Ping(data=data))

    async def auth(self, token: str) -> None:
        """Says who asks."""
        await self.send(Auth(token=token))

    async def receive(self) -> WireMessage:
        """The next message; waits for it.

        Raises:
            trio.EndOfChannel: The connection has been closed; `closed` says why.
            ProtocolError: The message is not one of the protocol.
        """
        try:
            data = await self._connection.get_message()
        except ConnectionClosed:
            raise trio.EndOfChannel from None
        try:
            return decode_wire_message(data)
        except ProtocolError as error:
            raise ProtocolError(f"{error}: {data!r:.200}") from None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WireMessage:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def aclose(self, code: int = 1000) -> None:
        """Closes it politely."""
        with trio.move_on_after(PATIENCE):
            await self._connection.aclose(code)
        self.vanish()

    def vanish(self) -> None:
        """Breaks the connection, as when a cable is pulled that the kernel notices. Does not wait."""
        self._transport.close()


@asynccontextmanager
async def memory_client(
    tracker: ProgressTracker,
    *,
    token: str | None = None,
    headers: Sequence[tuple[str, str]] = (),
    sparse: bool = False,
    **settings: Any,
) -> AsyncIterator[MemoryClient]:
    """A WebSocket client of the tracker's sessions, of a server of its own that has no port; in virtual time as well.

    From the head of the request to the last frame all goes through the server's own code: its limits, its
    checks, its deadlines. Leaving the block closes the connection, politely unless it is being cancelled, and
    ends the server.

    Args:
        tracker: Whose sessions.
        token: Sent as a bearer token, as a page cannot do; another way is `auth()`.
        headers: More of the request, such as `[("Origin", "https://app.example.org")]`.
        sparse: Whether updates leave out large values that the state before has as well (`Update.kept`), as those to
            the page and to `connect()` do.
        settings: Of the server, as `open_server()` takes them: `auth=`, `write_timeout=`, `keepalive=`, ...

    Raises:
        RefusedError: The server answers the request over HTTP instead.
        ValueError, TypeError: A setting is out of range.
    """
    if not isinstance(tracker, ProgressTracker):
        raise TypeError(f"tracker must be a ProgressTracker, not {tracker!r:.200}")
    runtime = ServerRuntime(tracker, ServerSettings(**settings), {})
    near, far = map(_InMemory, trio.testing.lockstep_stream_pair())
    more = list(headers) if token is None else [*headers, ("Authorization", f"Bearer {token}")]
    refused: ConnectionRejected | None = None
    body = BodyError()
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            nursery.start_soon(runtime.list_feed.run)
            nursery.start_soon(ConnectionHandler(runtime, Routes(runtime)), far)
            with trio.fail_after(PATIENCE):
                connection = await wrap_client_stream(
                    nursery,
                    near,  # type: ignore[arg-type]  # Any stream will do.
                    "localhost",
                    f"{runtime.settings.base_path}ws",
                    subprotocols=[SUBPROTOCOL, SPARSE] if sparse else [SUBPROTOCOL],
                    extra_headers=[(name.encode(), value.encode()) for name, value in more],
                    message_queue_size=1,
                    max_message_size=LARGEST,
                )
            client = MemoryClient(connection, near)
            with body:
                yield client
                await client.aclose()
            near.close()
            nursery.cancel_scope.cancel(reason="the client has left")
    except* ConnectionRejected as group:
        refused = next(error for error in group.exceptions if isinstance(error, ConnectionRejected))
    finally:
        near.close()
    if refused is not None:
        raise RefusedError(refused.status_code, refused.body or b"")
    body.reraise()
