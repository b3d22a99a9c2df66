"""Bytes to a server without a network, and in virtual time: for clients that keep to no protocol."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import trio
import trio.testing

from trio_progress import ProgressTracker
from trio_progress.server.connection import ConnectionHandler
from trio_progress.server.routes import Routes
from trio_progress.server.runtime import ServerRuntime
from trio_progress.server.settings import ServerSettings
from trio_progress.server.transport import SocketlessTransport

Ends: TypeAlias = "trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]"

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: trio-progress.v1\r\n\r\n"
)


class InMemory(SocketlessTransport):
    """The server's end of a pair of streams in memory."""

    def __init__(self, stream: trio.StapledStream[Any, Any]) -> None:
        self.stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.stream.send_all(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self.stream.receive_some(max_bytes))

    async def send_eof(self) -> None:
        await self.stream.send_eof()

    async def aclose(self) -> None:
        await self.stream.aclose()

    def close(self) -> None:
        self.stream.send_stream.close()
        self.stream.receive_stream.close()


@asynccontextmanager
async def raw_client(tracker: ProgressTracker, **settings: Any) -> AsyncIterator[Ends]:
    """The client's end of a connection to a server of the tracker; the server's end is over when the block is left."""
    runtime = ServerRuntime(tracker, ServerSettings(**settings), {})
    client, server = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(runtime.list_feed.run)
        nursery.start_soon(ConnectionHandler(runtime, Routes(runtime)), InMemory(server))
        yield client
        nursery.cancel_scope.cancel()


async def upgraded(client: Ends) -> None:
    """Makes a WebSocket of it."""
    await client.send_all(UPGRADE)
    data = b""
    while b"\r\n\r\n" not in data:
        data += await client.receive_some(1)
    assert data.startswith(b"HTTP/1.1 101"), data


async def rest_of(client: Ends) -> bytes:
    """All that the server still says until it closes."""
    data = b""
    try:
        while more := await client.receive_some():
            data += more
    except trio.BrokenResourceError:
        pass
    return data


def masked(payload: bytes, opcode: int = 1, *, final: bool = True) -> bytes:
    """A client's frame, with a mask of zeros."""
    first, size = (0x80 if final else 0) | opcode, len(payload)
    if size < 126:
        return struct.pack("!BB", first, 0x80 | size) + bytes(4) + payload
    if size < 65536:
        return struct.pack("!BBH", first, 0x80 | 126, size) + bytes(4) + payload
    return struct.pack("!BBQ", first, 0x80 | 127, size) + bytes(4) + payload


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    """The opcode and payload of each whole frame in what a server has sent."""
    found, at = [], 0
    while at + 2 <= len(data):
        opcode, size, start = data[at] & 15, data[at + 1], at + 2
        if size == 126:
            size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
        elif size == 127:
            size, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
        found.append((opcode, data[start : start + size]))
        at = start + size
    return found


def close_code(data: bytes) -> int | None:
    """The code of the last CLOSE in what a server has sent."""
    return next((int.from_bytes(said[:2], "big") for opcode, said in reversed(frames_of(data)) if opcode == 8), None)
