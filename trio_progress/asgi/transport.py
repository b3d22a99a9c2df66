"""The two transports of an app: what our wire writes, as the events of an ASGI server.

So the one `Wire`, with its rules on who waits, who is dropped and what is made when, serves here as well, and a message
is encoded once for the clients of all doors.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Final, final

import trio

from ..server.encoder import CLOSE, TEXT
from ..server.transport import SocketlessTransport

if TYPE_CHECKING:
    from .requests import Receive, Send

GONE: Final = ("http.disconnect", "websocket.disconnect")


class AsgiTransport(SocketlessTransport):
    """What both have in common.

    Args:
        receive: What gives the server's events.
        send: What takes them.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._closed = False
        self._sending_since: float | None = None

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Hands it to the server.

        Raises:
            trio.ClosedResourceError: It is closed.
            OSError: The client has gone.
        """
        if self._closed:
            raise trio.ClosedResourceError
        self._sending_since = trio.current_time()
        try:
            await self._hand(bytes(data))
        finally:
            self._sending_since = None

    async def stuck(self, patience: float) -> None:
        """Waits until the server has not come back from one write for so many seconds.

        Whoever waits for a write to end is told in time by being cancelled; but a server may shield its writes, as
        Hypercorn does on Trio.
        """
        while True:
            since = self._sending_since
            now = trio.current_time()
            if since is not None and now - since >= patience:
                return
            await trio.sleep(patience if since is None else since + patience - now)

    @abstractmethod
    async def _hand(self, data: bytes) -> None: ...

    async def wait_send_all_might_not_block(self) -> None:
        """A checkpoint: only the server knows."""
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Nothing more is sent. Does not wait; the server closes when the app has returned."""
        self._closed = True

    async def aclose(self) -> None:
        """The same, and a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()


@final
class EventTransport(AsgiTransport):
    """Of a response that goes on: its body, piece by piece."""

    async def _hand(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def send_eof(self) -> None:
        """Ends the response.

        Raises:
            trio.ClosedResourceError: It is closed.
            OSError: The client has gone.
        """
        if self._closed:
            raise trio.ClosedResourceError
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Empty, once the client has gone: the request was read before."""
        del max_bytes
        while (await self._receive())["type"] not in GONE:
            pass
        return b""


@final
class MessageTransport(AsgiTransport):
    """Of a WebSocket: the messages in the frames that the wire writes, which are ours, whole and not masked."""

    def __init__(self, receive: Receive, send: Send) -> None:
        super().__init__(receive, send)
        self._begun = bytearray()
        """What has come of a frame that is not whole."""

    async def _hand(self, data: bytes) -> None:
        self._begun += data
        while (found := _first_frame(self._begun)) is not None:
            first, payload, size = found
            del self._begun[:size]
            if first == TEXT:
                await self._send({"type": "websocket.send", "text": payload.decode("utf-8")})
            elif first == CLOSE:
                code, reason = int.from_bytes(payload[:2], "big"), payload[2:].decode("utf-8")
                await self._send({"type": "websocket.close", "code": code, "reason": reason})

    async def send_eof(self) -> None:
        """A checkpoint: a CLOSE has said it."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Nobody reads bytes from it; see `receive_message()`."""
        raise NotImplementedError

    async def receive_message(self) -> str | bytes:
        """The next message.

        Raises:
            trio.BrokenResourceError: The client has gone.
        """
        event = await self._receive()
        if event["type"] in GONE:
            self.close()
            raise trio.BrokenResourceError("the client has gone")
        text = event.get("text")
        return bytes(event["bytes"]) if text is None else str(text)


def _first_frame(data: bytearray) -> tuple[int, bytes, int] | None:
    """The first byte of a frame, which has its opcode, its payload, and its size; None where it is not whole."""
    if len(data) < 2:
        return None
    extended = {126: 2, 127: 8}.get(data[1], 0)
    start = 2 + extended
    if len(data) < start:
        return None
    size = start + (int.from_bytes(data[2:start], "big") if extended else data[1])
    return (data[0], bytes(data[start:size]), size) if len(data) >= size else None
