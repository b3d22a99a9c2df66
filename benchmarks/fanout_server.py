"""The contenders of the fan-out suites, each in a process of its own: one payload, told to many WebSockets.

Each binds a port, waits until all clients are there, and then tells `plan.rounds` payloads, one after the other: flat
out, or one every `plan.pace` seconds. Its CPU time (user and system, all threads) is what is measured.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, TypeAlias

import trio

from trio_progress import ProgressTracker
from trio_progress.server.encoder import frame

GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be told to how many."""

    clients: int
    rounds: int
    pace: float
    """Seconds between two payloads; 0 for flat out."""
    size: int
    """Bytes of a payload, about."""
    write_timeout: float = 10.0
    stuck: int = 0
    """So many of the clients never read."""
    interval: float | None = None
    """Our `broadcast_interval`, where it is not below the pace: then each payload is told, as the rivals do."""
    sessions: int = 1


@dataclass(slots=True)
class Result:
    """What telling it has cost."""

    cpu: float
    frames: float
    """How many reached a client, or were handed to a socket of one."""
    wall: float
    times: list[float]
    """When each payload was given, by the monotonic clock that all processes share."""
    memory: list[int]
    """Resident bytes, now and then."""
    evicted: float | None = None
    """Seconds until a client that does not read was dropped; None: it was not."""


Contender: TypeAlias = Callable[[Plan, Connection], Result]
"""Tells what is planned, says its port, waits for all clients, and gives what it has cost."""


def payload(plan: Plan, n: int) -> dict[str, Any]:
    """What the rivals tell: as large as an update of ours."""
    return {"type": "update", "n": n, "data": "x" * max(plan.size - 40, 0)}


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096


class Meter:
    """Measures between `start()` and `stop()`."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.memory: list[int] = []
        self.cpu = self.wall = 0.0

    def start(self) -> None:
        """From here on it counts."""
        self.wall, self.cpu = time.monotonic(), time.process_time()

    def tick(self) -> None:
        """A payload is given now."""
        self.times.append(time.monotonic())
        if len(self.times) % 50 == 0:
            self.memory.append(resident())

    def stop(self, frames: float, evicted: float | None = None) -> Result:
        """All is told."""
        cpu, wall = time.process_time() - self.cpu, time.monotonic() - self.wall
        return Result(cpu, frames, wall, self.times, self.memory, evicted)


def floor(plan: Plan, control: Connection) -> Result:
    """Bare `socket.send` in a loop: what nobody can be below."""
    socks = bare(plan, control)
    meter = Meter()
    meter.start()
    for n in paced(plan, time.sleep):
        meter.tick()
        data = frame(json.dumps(payload(plan, n)).encode())
        for sock in socks:
            sock.sendall(data)
    return meter.stop(plan.clients * plan.rounds)


def floor_on_trio(plan: Plan, control: Connection) -> Result:
    """The same loop in a task of Trio, whose pauses are Trio's: what nobody on Trio can be below."""
    return sending_on_trio(plan, control, lambda n: frame(json.dumps(payload(plan, n)).encode()))


def sending_on_trio(plan: Plan, control: Connection, made: Callable[[int], bytes]) -> Result:
    """A task of Trio that writes to each socket what is made for the payload of a number."""

    async def tell() -> Result:
        meter = Meter()
        meter.start()
        began = time.monotonic()
        for n in range(1, plan.rounds + 1):
            await trio.sleep(max(began + n * plan.pace - time.monotonic(), 0.0) if plan.pace else 0)
            meter.tick()
            data = made(n)
            for sock in socks:
                sock.sendall(data)
        return meter.stop(plan.clients * plan.rounds)

    socks = bare(plan, control)
    return trio.run(tell)


def bare(plan: Plan, control: Connection) -> list[socket.socket]:
    """The sockets of all clients, behind their handshakes, once it is time to begin."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    control.send(listener.getsockname()[1])
    socks = []
    for _ in range(plan.clients):
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(4096)
        key = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"sec-websocket-key:"))
        accept = base64.b64encode(hashlib.sha1(key.partition(b":")[2].strip() + GUID).digest())  # noqa: S324 - RFC 6455
        sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        socks.append(sock)
    control.recv()
    return socks


def paced(plan: Plan, sleep: Callable[[float], object]) -> Iterator[int]:
    """Numbers from 1 on, each when it is due."""
    began = time.monotonic()
    for n in range(1, plan.rounds + 1):
        if plan.pace:
            sleep(max(began + n * plan.pace - time.monotonic(), 0.0))
        yield n


def ours(plan: Plan, control: Connection) -> Result:
    """A session's updates, by `open_server`."""
    return trio.run(_ours, plan, control)


async def _ours(plan: Plan, control: Connection) -> Result:
    from trio_progress.server import open_server

    @asynccontextmanager
    async def own_port(tracker: ProgressTracker) -> AsyncIterator[int]:
        async with open_server(
            tracker,
            port=0,
            max_connections_per_address=plan.clients + 10,
            write_timeout=plan.write_timeout,
            drain_timeout=0.0,
        ) as server:
            yield server.port

    return await _session_told(plan, control, own_port)


def ours_by_hypercorn(plan: Plan, control: Connection) -> Result:
    """A session's updates, by `asgi.app` on Hypercorn."""
    return trio.run(_ours_by_hypercorn, plan, control)


async def _ours_by_hypercorn(plan: Plan, control: Connection) -> Result:
    import hypercorn.trio
    from hypercorn.config import Config

    from trio_progress import asgi

    config = Config()
    config.bind, config.errorlog, config.backlog, config.graceful_timeout = ["127.0.0.1:0"], None, 1024, 0.1

    @asynccontextmanager
    async def app(tracker: ProgressTracker) -> AsyncIterator[int]:
        served = asgi.app(tracker, auth=None, max_connections_per_address=plan.clients + 10)
        serve = partial(hypercorn.trio.serve, served, config, shutdown_trigger=trio.sleep_forever)
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(serve)
            yield int(address.rpartition(":")[2])
            nursery.cancel_scope.cancel()

    return await _session_told(plan, control, app)


async def _session_told(
    plan: Plan, control: Connection, served: Callable[[ProgressTracker], AbstractAsyncContextManager[int]]
) -> Result:
    """A session's updates, told to all clients of a server, whose port `served` gives."""
    from trio_progress import open_tracker

    interval = plan.interval or plan.pace / 2 or 1e-9
    result: Result
    async with (
        open_tracker(broadcast_interval=interval, persist_interval=60.0) as tracker,
        served(tracker) as port,
        tracker.session("measured") as session,
        trio.open_nursery() as nursery,
    ):
        session.set(data="x" * max(plan.size - FRAME, 0), n=0)
        control.send(port)
        with trio.fail_after(120):
            while tracker.statistics().subscribers < plan.clients:  # noqa: ASYNC110 - the tracker tells nobody
                await trio.sleep(0.02)
        await trio.to_thread.run_sync(control.recv)
        await trio.sleep(0.2)
        evicted: list[float] = []
        if plan.stuck:
            nursery.start_soon(_note_eviction, tracker, evicted)
        meter = Meter()
        before = tracker.statistics().broadcasts
        meter.start()
        began = time.monotonic()
        for n in range(1, plan.rounds + 1):
            if plan.pace:
                await trio.sleep(max(began + n * plan.pace - time.monotonic(), 0.0))
            meter.tick()
            session.set(n=n)
            if not plan.pace:
                for _ in range(2):  # in which the broadcaster wakes and tells it
                    await trio.lowlevel.checkpoint()
        await trio.sleep(interval)
        result = meter.stop(tracker.statistics().broadcasts - before, *evicted)
        nursery.cancel_scope.cancel()
    return result


async def _note_eviction(tracker: ProgressTracker, evicted: list[float]) -> None:
    """Notes after how many seconds the first client was dropped."""
    began = time.monotonic()
    while not tracker.statistics().subscribers_dropped:  # noqa: ASYNC110 - the tracker tells nobody
        await trio.sleep(0.05)
    evicted.append(time.monotonic() - began)


FRAME: Final = 640
"""Bytes of an update of ours beside the data in it."""


def websockets_broadcast(plan: Plan, control: Connection) -> Result:
    """`websockets.broadcast()`, on asyncio."""
    return broadcasting(plan, control, lambda n: [json.dumps(payload(plan, n))])


def broadcasting(plan: Plan, control: Connection, made: Callable[[int], Iterable[str]]) -> Result:
    """`websockets.broadcast()` of all that is made for the payload of a number."""

    async def run() -> Result:
        from websockets.asyncio.server import ServerConnection, broadcast, serve

        connections: set[ServerConnection] = set()

        async def handle(connection: ServerConnection) -> None:
            connections.add(connection)
            await connection.wait_closed()

        async with serve(handle, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
            control.send(next(iter(server.sockets)).getsockname()[1])
            await all_here(lambda: len(connections), plan, control)
            meter = Meter()
            meter.start()
            async for n in apaced(plan):
                meter.tick()
                for text in made(n):
                    broadcast(connections, text)
            result = meter.stop(plan.clients * plan.rounds)
            for connection in list(connections):
                connection.transport.abort()
            return result

    return asyncio.run(run())


async def all_here(number: Callable[[], int], plan: Plan, control: Connection) -> None:
    """Waits until all clients have come, and it is time to begin."""
    while number() < plan.clients:  # noqa: ASYNC110 - connections come one by one
        await asyncio.sleep(0.02)
    await asyncio.to_thread(control.recv)
    await asyncio.sleep(0.2)


async def apaced(plan: Plan) -> Any:
    """`paced` for asyncio."""
    began = time.monotonic()
    for n in range(1, plan.rounds + 1):
        await asyncio.sleep(max(began + n * plan.pace - time.monotonic(), 0.0) if plan.pace else 0)
        yield n


def trio_websocket(plan: Plan, control: Connection) -> Result:
    """trio-websocket's own `send_message`, one client after the other."""
    return trio.run(_trio_websocket, plan, control)


async def _trio_websocket(plan: Plan, control: Connection) -> Result:
    from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

    connections: list[WebSocketConnection] = []

    async def handle(request: WebSocketRequest) -> None:
        connection = await request.accept()
        connections.append(connection)
        try:
            while True:
                await connection.get_message()
        except ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, handle, "127.0.0.1", 0, None)
        control.send(server.port)
        while len(connections) < plan.clients:  # noqa: ASYNC110 - connections come one by one
            await trio.sleep(0.02)
        await trio.to_thread.run_sync(control.recv)
        meter = Meter()
        meter.start()
        began = time.monotonic()
        for n in range(1, plan.rounds + 1):
            if plan.pace:
                await trio.sleep(max(began + n * plan.pace - time.monotonic(), 0.0))
            meter.tick()
            text = json.dumps(payload(plan, n))
            for connection in connections:
                await connection.send_message(text)
        result = meter.stop(plan.clients * plan.rounds)
        nursery.cancel_scope.cancel()
    return result


def fastapi(plan: Plan, control: Connection) -> Result:
    """FastAPI's `send_json`, one client after the other, on uvicorn: what the seed of this project did."""

    async def run() -> Result:
        import uvicorn
        from fastapi import FastAPI, WebSocket, WebSocketDisconnect

        app = FastAPI()
        connections: list[WebSocket] = []

        async def told(websocket: Any) -> None:
            await websocket.accept()
            connections.append(websocket)
            try:
                while True:
                    await websocket.receive_text()
            except WebSocketDisconnect:
                pass

        told.__annotations__["websocket"] = WebSocket
        app.websocket("/")(told)
        async with _uvicorn(uvicorn, app, control):
            await all_here(lambda: len(connections), plan, control)
            meter = Meter()
            meter.start()
            async for n in apaced(plan):
                meter.tick()
                data = payload(plan, n)
                for websocket in connections:
                    await websocket.send_json(data)
            return meter.stop(plan.clients * plan.rounds)

    return asyncio.run(run())


def socket_io(plan: Plan, control: Connection) -> Result:
    """socket.io's `emit` to all, on uvicorn."""

    async def run() -> Result:
        import socketio
        import uvicorn

        server = socketio.AsyncServer(async_mode="asgi")
        there: list[str] = []

        async def connect(sid: str, environ: object, auth: object) -> None:
            there.append(sid)

        server.on("connect", connect)
        async with _uvicorn(uvicorn, socketio.ASGIApp(server), control):
            await all_here(lambda: len(there), plan, control)
            meter = Meter()
            meter.start()
            async for n in apaced(plan):
                meter.tick()
                await server.emit("update", payload(plan, n))
            return meter.stop(plan.clients * plan.rounds)

    return asyncio.run(run())


class _uvicorn:  # noqa: N801 - used as a function
    """An ASGI app on uvicorn, as long as the block lasts."""

    def __init__(self, uvicorn: Any, app: Any, control: Connection) -> None:
        config = uvicorn.Config(app, log_level="critical", ws="websockets-sansio", ws_per_message_deflate=False)
        self._server = uvicorn.Server(config)
        self._control = control
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=1024)

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._server.serve([self._sock]))
        while not self._server.started:  # noqa: ASYNC110 - uvicorn tells nobody
            await asyncio.sleep(0.02)
        self._control.send(self._sock.getsockname()[1])

    async def __aexit__(self, *_: object) -> None:
        self._server.force_exit = self._server.should_exit = True
        await asyncio.wait([self._task], timeout=5)  # noqa: ASYNC102 - asyncio; nobody cancels it


CONTENDERS: Final[dict[str, Contender]] = {
    "floor": floor,
    "floor on Trio": floor_on_trio,
    "ours": ours,
    "ours, by Hypercorn": ours_by_hypercorn,
    "websockets.broadcast": websockets_broadcast,
    "trio-websocket": trio_websocket,
    "FastAPI send_json": fastapi,
    "socket.io": socket_io,
}


def measure(name: str, plan: Plan, control: Connection) -> None:
    """Runs a contender; sends its port, and then its result."""
    run_contender(CONTENDERS[name], plan, control)


def run_contender(contender: Contender, plan: Plan, control: Connection) -> None:
    """The same, of one that is given."""
    try:
        control.send(contender(plan, control))
    except BaseException as error:  # noqa: ASYNC103 - the other process raises it
        control.send(error)
        sys.exit(1)
