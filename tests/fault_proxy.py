"""A TCP proxy that does to connections what networks, load balancers and dying servers do to them.

A fault is in force from `begin` to `end`; what it has done to a connection stays done.

| fault | |
|---|---|
| `delay` | every piece is passed on late |
| `split` | in pieces of a few bytes |
| `stall` | nothing is passed on; afterwards all of it, late |
| `black_hole` | what is sent is lost for ever, and the connection stays |
| `half_close` | one direction ends, the other goes on |
| `reset` | connections are reset |
| `refuse` | connections are reset, and no new ones are taken |
| `cut` | the connection ends within the next reply, after some of its bytes |
"""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio

FAULTS: Final = ("delay", "split", "stall", "black_hole", "half_close", "reset", "refuse", "cut")

DIRECTIONS: Final = ("up", "down")
"""From the client to the server, and back."""

_LINGER_NONE: Final = struct.pack("ii", 1, 0)


class _Link:
    """One connection through the proxy."""

    def __init__(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        self.ends = {"up": (client, server), "down": (server, client)}
        self.scope = trio.CancelScope()
        self.lost: set[str] = set()
        """Directions in which everything is lost from now on: a hole in the middle would be no TCP."""
        self.cut_after: int | None = None

    def reset(self) -> None:
        for stream, _ in self.ends.values():
            with suppress(OSError):
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        self.scope.cancel(reason="the connection is reset")


class FaultProxy:
    """Made by `open_fault_proxy`."""

    def __init__(self, target: tuple[str, int], rng: random.Random, nursery: trio.Nursery) -> None:
        self._target = target
        self._rng = rng
        self._nursery = nursery
        self._links: dict[_Link, None] = {}
        self._listening: trio.CancelScope | None = None
        self._healed = trio.Event()
        self._fault: str | None = None
        self._direction = "down"
        self.port = 0
        self.taken = 0
        """Connections that were taken."""
        self.passed = 0
        """Bytes that were passed on."""
        self.latency = 0.0
        """Seconds by which every reply is late, fault or not."""

    async def _listen(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.CancelScope() as self._listening:
            listeners = await trio.open_tcp_listeners(self.port, host="127.0.0.1")
            self.port = listeners[0].socket.getsockname()[1]
            task_status.started()
            await trio.serve_listeners(self._serve, listeners, handler_nursery=self._nursery)

    async def _serve(self, client: trio.SocketStream) -> None:
        self.taken += 1
        try:
            server = await trio.open_tcp_stream(*self._target)
        except OSError:
            await trio.aclose_forcefully(client)
            return
        link = _Link(client, server)
        self._links[link] = None
        if self._fault in ("reset", "refuse"):
            link.reset()
        elif self._fault in ("black_hole", "half_close", "cut"):
            self._strike(link)
        try:
            with link.scope:
                async with trio.open_nursery() as nursery:
                    for direction in DIRECTIONS:
                        nursery.start_soon(self._pump, link, direction)
        finally:
            del self._links[link]
            for stream in (client, server):
                stream.socket.close()

    async def _pump(self, link: _Link, direction: str) -> None:
        source, sink = link.ends[direction]
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := bytes(await source.receive_some(65536)):
                await self._pass(link, direction, sink, data)
            await sink.send_eof()
            return
        link.scope.cancel(reason="one end is gone")

    async def _pass(self, link: _Link, direction: str, sink: trio.SocketStream, data: bytes) -> None:
        if direction == "down" and self.latency:
            await trio.sleep(self.latency)
        while self._fault == "stall":
            await self._healed.wait()
        if direction in link.lost:
            return
        if direction == "down" and link.cut_after is not None:
            await sink.send_all(data[: link.cut_after])
            link.scope.cancel(reason="cut within a reply")
            await trio.lowlevel.checkpoint()
        if self._fault == "delay":
            await trio.sleep(self._rng.uniform(0.0, 0.08))
        if self._fault == "split":
            while data and self._fault == "split":
                size = self._rng.randint(1, 40)
                await sink.send_all(data[:size])
                data = data[size:]
                await trio.sleep(self._rng.choice((0.0, 0.0, 0.0, 0.001)))
        if data:
            await sink.send_all(data)
            self.passed += len(data)

    def _strike(self, link: _Link) -> None:
        if self._fault == "black_hole":
            link.lost |= set(DIRECTIONS) if self._rng.random() < 0.5 else {self._direction}
        elif self._fault == "cut":
            link.cut_after = self._rng.randint(0, 30)
        elif self._fault == "half_close":
            link.lost.add(self._direction)
            with suppress(OSError):
                link.ends[self._direction][1].socket.shutdown(socket.SHUT_WR)

    async def begin(self, fault: str) -> None:
        """From now on the fault is in force."""
        assert fault in FAULTS
        self._fault = fault
        self._direction = self._rng.choice(DIRECTIONS)
        self._healed = trio.Event()
        if fault == "refuse" and self._listening is not None:
            self._listening.cancel(reason="new connections are refused")
        for link in list(self._links):
            if fault in ("reset", "refuse"):
                link.reset()
            else:
                self._strike(link)

    async def end(self) -> None:
        """The network is sound again; connections that were lost stay so."""
        refused = self._fault == "refuse"
        self._fault = None
        self._healed.set()
        if refused:
            await self._nursery.start(self._listen)


@asynccontextmanager
async def open_fault_proxy(target: tuple[str, int], rng: random.Random) -> AsyncIterator[FaultProxy]:
    """A proxy to `target` on a port of its own."""
    async with trio.open_nursery() as nursery:
        proxy = FaultProxy(target, rng, nursery)
        await nursery.start(proxy._listen)
        yield proxy
        nursery.cancel_scope.cancel(reason="the proxy is left")
