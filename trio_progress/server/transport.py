"""What a connection's bytes go over: TCP, TLS over it, or a stream in memory."""

from __future__ import annotations

from abc import abstractmethod
from typing import Final, TypeAlias

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
