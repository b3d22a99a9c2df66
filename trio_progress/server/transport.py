"""What a connection's bytes go over: TCP, TLS over it, or a stream in memory; and what a WebSocket's client sends."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Final, TypeAlias, final

import trio

PIECE: Final = 64 * 1024
"""Bytes that are written at a time: for each the peer has the whole of its time again."""


class SocketlessTransport(trio.abc.HalfCloseableStream):
    """A transport without a socket, such as one in memory; written to by the pump alone, as TLS is."""

    @abstractmethod
    def close(self) -> None:
        """Closes both ways, now and without a word. Does not wait."""


Transport: TypeAlias = "trio.SocketStream | trio.SSLStream[trio.SocketStream] | SocketlessTransport"


def socket_of(transport: Transport) -> trio.SocketStream | None:
    """The TCP stream under a transport, if there is one."""
    if isinstance(transport, SocketlessTransport):
        return None
    if isinstance(transport, trio.SSLStream):
        return transport.transport_stream
    return transport


def close_now(transport: Transport) -> None:
    """Closes it, without a word. Does not wait."""
    if isinstance(transport, SocketlessTransport):
        transport.close()
    elif (tcp := socket_of(transport)) is not None:
        tcp.socket.close()


async def half_close(transport: Transport) -> None:
    """Says that nothing more will come; the peer may go on sending.

    Raises:
        trio.BrokenResourceError, trio.ClosedResourceError: The connection is gone.
    """
    if isinstance(transport, trio.abc.HalfCloseableStream):
        await transport.send_eof()
    else:
        await trio.lowlevel.checkpoint()  # TLS would have to wait for the peer; closing says it as well.


@final
class Inbound:
    """What the peer sends behind its request's head, metered, until nobody reads it any more.

    Args:
        transport: Where it comes from.
        early: What came together with the head.
        inspect: Called with all that is received, and the seconds for which it was waited for; returns for how long
            not to read on, to slow a peer down, or raises `BrokenResourceError`.
        left: For how many seconds more may be waited for now.
        late: Called when nothing has come in that time; nothing more is read.
    """

    __slots__ = ("_early", "_ended", "_inspect", "_late", "_left", "_reading", "_transport", "heard_at")

    def __init__(
        self,
        transport: Transport,
        early: bytes = b"",
        inspect: Callable[[bytes, float], float] = lambda data, waited: 0.0,
        left: Callable[[], float] = lambda: math.inf,
        late: Callable[[], None] = lambda: None,
    ) -> None:
        self._transport = transport
        self._early = early
        self._inspect = inspect
        self._left = left
        self._late = late
        self._ended = trio.Event()
        """Set when nothing more is read: the peer has closed, or the connection is broken."""
        self._reading = False
        self.heard_at = trio.current_time()
        """When the last bytes came."""

    async def receive_some(self, max_bytes: int | None) -> bytes:
        """What has come; empty where nothing more will, or where `discard()` reads the rest.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: The connection is gone, or sends too much or too slowly.
        """
        waited = 0.0
        if self._early:
            data, self._early = self._early, b""
            await trio.lowlevel.checkpoint()
        elif self._reading:
            await self._ended.wait()
            return b""
        else:
            self._reading = True
            try:
                data, waited = await self._received(max_bytes)
                self._reading = False
            finally:
                if self._reading:
                    self._ended.set()  # It is broken, or nobody reads any more.
        if not data:
            self._ended.set()
        else:
            self.heard_at = trio.current_time()
            pause = self._inspect(data, waited)
            if pause > 0:
                await trio.sleep(pause)
        return data

    async def _received(self, max_bytes: int | None) -> tuple[bytes, float]:
        """What has come, and for how many seconds it was waited for."""
        asked, left = trio.current_time(), self._left()
        with trio.move_on_after(left):
            data = bytes(await self._transport.receive_some(max_bytes))
            waited = trio.current_time() - asked
            return data, waited if waited < left else 0.0  # It was there by then, and this process was held up.
        self._reading = False  # Or it would be closed with something unread, which takes back what is said last.
        self._late()
        raise trio.BrokenResourceError("the peer is too slow")

    async def discard(self) -> None:
        """Says that nothing more will come, and reads what the peer still sends until it has closed.

        Closing while something unread is left would take back what was sent last. Where trio-websocket still
        reads, as it does after some errors and not after others, that is left to it.

        Raises:
            trio.BrokenResourceError, trio.ClosedResourceError: The connection is gone.
        """
        await half_close(self._transport)
        if self._reading:
            await self._ended.wait()
            return
        self._reading = True
        try:
            while await self._transport.receive_some(PIECE):
                pass
        finally:
            self._ended.set()
