"""The stream under it all: no frame is ever torn, nothing follows a CLOSE, and a stop ends whatever the clients do."""

from __future__ import annotations

import json
import random
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing
import trustme
from trio_websocket import ConnectionClosed, HandshakeError, wrap_server_stream
from wsproto.utilities import LocalProtocolError

from tests.doors import open_door, opened, talk
from tests.raw import UPGRADE, masked
from tests.support import PATIENCE, Cases
from trio_progress import open_tracker
from trio_progress.server import open_server
from trio_progress.server.encoder import close_frame, frame, write_many_nowait
from trio_progress.server.transport import Transport, close_now
from trio_progress.server.wire import MOST_QUEUED, Source, Wire

pytestmark = pytest.mark.integration

BROKEN = (
    OSError,
    trio.BrokenResourceError,
    trio.ClosedResourceError,
    ConnectionClosed,
    HandshakeError,
    LocalProtocolError,
)


class Newest:
    """What one connection is still to be told: the newest frame, as an outbox has it."""

    def __init__(self, transport: Transport, head: bytes) -> None:
        self.frame = b""
        self.wire = Wire(transport, Source(self.take), patience=5.0, replay=head)

    def take(self) -> bytes:
        data, self.frame = self.frame, b""
        return data

    def put(self, data: bytes) -> None:
        if self.frame or not self.wire.write_nowait(data):
            self.frame = data
            self.wire.schedule()


async def converse(transport: Transport, told: set[Newest], rng: random.Random, seen: Counter[str]) -> None:
    """A server's connection whose pings are cancelled all the time, and which closes by itself in the end, or not."""
    try:
        async with trio.open_nursery() as nursery:
            head = b""
            while b"\r\n\r\n" not in head:
                head += await transport.receive_some(4096)
            newest = Newest(transport, head)
            wire = newest.wire
            nursery.start_soon(wire.pump)
            request = await wrap_server_stream(nursery, wire)
            connection = await request.accept(subprotocol="trio-progress.v1")
            wire.open()
            told.add(newest)

            async def ping() -> None:
                while True:
                    await trio.sleep(rng.random() * 0.02)
                    with trio.move_on_after(0.002) as scope:
                        await connection.ping()
                    seen["pings cancelled"] += scope.cancelled_caught

            async def close() -> None:
                await trio.sleep(1 + rng.random())
                wire.finish(close_frame(4008, "slow"))

            nursery.start_soon(ping)
            if rng.random() < 0.5:
                nursery.start_soon(close)
            try:
                while True:
                    await connection.get_message()
            except ConnectionClosed:
                if wire.closing:
                    with trio.move_on_after(0.5):
                        await wire.flushed.wait()
            finally:
                told.discard(newest)
                wire.kill()
                nursery.cancel_scope.cancel()
    except* BROKEN:
        pass


async def read(transport: trio.abc.Stream, rng: random.Random, seen: Counter[str]) -> None:
    """A client that checks every frame, reads slowly or not, pings, and may close first."""
    await transport.send_all(UPGRADE)
    data = b""
    while b"\r\n\r\n" not in data:
        data += await transport.receive_some(4096)
    data = data.split(b"\r\n\r\n", 1)[1]
    last, closed, sent = 0, False, False
    slow = rng.random() < 0.7
    closes_at = trio.current_time() + 1.2 + rng.random()
    while True:
        while (taken := whole(data)) is not None:
            opcode, payload, data = taken
            if closed:
                seen["after CLOSE"] += 1
            if opcode == 0x81:
                try:
                    told = json.loads(payload)
                except ValueError:
                    seen["corrupt"] += 1
                    return
                if told["seq"] <= last or len(told["pad"]) != told["n"]:
                    seen["corrupt"] += 1
                    return
                last = told["seq"]
                seen["frames"] += 1
            elif opcode in (0x89, 0x8A):
                seen["control"] += 1
            elif opcode == 0x88:
                closed = True
                seen["closes"] += 1
                await transport.send_all(masked(payload[:2], 8))
            else:
                seen["corrupt"] += 1
                return
        if not closed and rng.random() < 0.2:
            await transport.send_all(masked(b"p%d" % rng.randrange(9), 9))
        if not sent and trio.current_time() > closes_at:
            sent = True
            await transport.send_all(masked(b"\x03\xe8", 8))
        if slow:
            await trio.sleep(rng.random() * 0.03)
        more = await transport.receive_some(20_000 if slow else 65_536)
        if not more:
            seen["ends"] += 1
            return
        data += more


def whole(data: bytes) -> tuple[int, bytes, bytes] | None:
    """The first frame in what has come, and the rest; None where it is not whole yet."""
    if len(data) < 2:
        return None
    size, start = data[1], 2
    if size in (126, 127):
        width = 2 if size == 126 else 8
        if len(data) < 2 + width:
            return None
        size, start = int.from_bytes(data[2 : 2 + width], "big"), 2 + width
    if len(data) < start + size:
        return None
    return data[0], data[start : start + size], data[start + size :]


@pytest.fixture(scope="module")
def contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's."""
    authority = trustme.CA()
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(serving)
    asking = ssl.create_default_context()
    authority.configure_trust(asking)
    return serving, asking


@pytest.mark.parametrize(
    "encrypted", [pytest.param(False, id="plain"), pytest.param(True, id="TLS", marks=pytest.mark.exhaustive)]
)
async def test_frames_are_whole_and_nothing_follows_a_close(
    encrypted: bool,
    rng: random.Random,
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    cases: Cases,
    pytestconfig: pytest.Config,
) -> None:
    frames: int = pytestconfig.getoption("--frames") or cases(250, exhaustive=1000)
    seen: Counter[str] = Counter()
    told: set[Newest] = set()
    serving, asking = contexts
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    listeners[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
    wrap: Callable[[trio.SocketStream], Transport] = (
        (lambda stream: trio.SSLStream(stream, serving, server_side=True, https_compatible=True))
        if encrypted
        else (lambda stream: stream)
    )

    async def serve(stream: trio.SocketStream) -> None:
        transport = wrap(stream)
        try:
            await converse(transport, told, rng, seen)
        finally:
            close_now(transport)

    async def client() -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            transport: trio.abc.Stream = stream
            if encrypted:
                transport = trio.SSLStream(stream, asking, server_hostname="localhost", https_compatible=True)
            try:
                await read(transport, rng, seen)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                seen["broken"] += 1

    async def broadcast() -> None:
        seq = 0
        while True:
            seq += 1
            size = rng.choice((10, 500, 30_000, 60_000))
            data = frame(json.dumps({"seq": seq, "n": size, "pad": "x" * size}).encode())
            # As an encoder does it: all at once who can be, and the others one by one.
            alike = [newest for newest in told if newest.wire.direct and not newest.frame]
            rest = [newest for newest in told if newest not in alike]
            for place, outcome in write_many_nowait([newest.wire.fileno() for newest in alike], data):
                if not alike[place].wire.continue_write(data, outcome):
                    rest.append(alike[place])
            for newest in rest:
                newest.put(data)
            seen["at once"] += len(alike)
            await trio.sleep(0.003)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        nursery.start_soon(broadcast)
        with trio.fail_after(60 + frames / 100):
            while seen["frames"] < frames or seen["pings cancelled"] <= 20 or seen["closes"] <= 5:
                async with trio.open_nursery() as clients:
                    for _ in range(40):
                        clients.start_soon(client)
        nursery.cancel_scope.cancel()
    assert seen["corrupt"] == 0, seen
    assert seen["after CLOSE"] == 0, seen
    assert encrypted or seen["at once"] > frames / 10, seen
    print(dict(seen))


@pytest.mark.parametrize("by", ["leaving", "cancelling"])
async def test_a_stop_ends_in_time_with_stalled_pinging_and_half_open_clients(by: str) -> None:
    stopped: list[float] = []
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            async with open_door(
                drain_timeout=0.5, write_timeout=30.0, tracker_settings={"flush_timeout": 0.4}
            ) as door:
                session = await nursery.start(_keep_open, door.tracker)  # noqa: ASYNC111 - leaving the door ends it
                stalled = [await opened(door.port) for _ in range(5)]
                half = [await opened(door.port) for _ in range(5)]
                idle = [await trio.open_tcp_stream("127.0.0.1", door.port) for _ in range(5)]
                for stream in (*stalled, *half):
                    await stream.send_all(masked(b'{"type":"subscribe","session":"r-1"}'))
                for stream in half:
                    await stream.send_eof()
                nursery.start_soon(_ping_without_end, door.port)  # noqa: ASYNC111 - it has the port alone
                for n in range(50):
                    session.set(**{f"f{n % 10}": "x" * 10_000})
                    await trio.sleep(0.01)
                stopped.append(trio.current_time())
                if by == "cancelling":
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    took = trio.current_time() - stopped[0]
    print(f"stopped after {took:.2f} s")
    assert took < 0.5 + 1.0 + 20.0  # The last is a slow machine's; whoever waited for a client would take 30 s.
    for stream in (*stalled, *half, *idle):
        await trio.aclose_forcefully(stream)


@pytest.mark.parametrize("sent", [b"", b"GET /sess", b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_a_request_that_does_not_come_holds_up_no_stop(sent: bytes) -> None:
    async with open_door(drain_timeout=30.0, request_timeout=30.0) as door:
        stream = await trio.open_tcp_stream("127.0.0.1", door.port)
        await stream.send_all(sent)
        async with talk(door.port):  # A connection that came later is served, so the other one is as well.
            pass
        stopped = trio.current_time()
    assert trio.current_time() - stopped < 15.0  # Whoever waited for it would take 30 s.
    await trio.aclose_forcefully(stream)


async def _keep_open(tracker, *, task_status) -> None:  # type: ignore[no-untyped-def]
    async with tracker.session("r-1") as session:
        task_status.started(session)
        await trio.sleep_forever()


async def _ping_without_end(port: int) -> None:
    stream = await opened(port)
    async with stream:
        try:
            while True:
                await stream.send_all(masked(struct.pack("!I", 7), 9))
                await trio.sleep(0.06)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


async def test_who_watches_sees_the_end_of_a_run_that_is_stopped_with_its_server() -> None:
    async with trio.open_nursery() as nursery:
        told: list[str] = []

        async def watch(port: int, task_status: trio.TaskStatus[None]) -> None:
            async with talk(port) as client:
                await client.say(type="subscribe", session="r-1")
                await client.until("snapshot")
                task_status.started()
                told.append((await client.until("end"))["status"])
                told.append(str((await client.closed())[0]))

        with trio.CancelScope() as run:
            async with open_door() as door:
                async with trio.open_nursery() as work:
                    session = await work.start(_keep_open, door.tracker)
                    await nursery.start(watch, door.port)  # noqa: ASYNC111 - it reads to the end that the server brings
                    session.set(x=1)
                    run.cancel()
    assert told == ["cancelled", "1001"]


async def test_a_close_that_is_asked_for_before_the_101_comes_behind_it() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        wire = Wire(trio.SocketStream(trio.socket.from_stdlib_socket(ours)), patience=5.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.pump)
            await trio.testing.wait_all_tasks_blocked()
            wire.finish(close_frame(4001, "the server stops"))
            await trio.testing.wait_all_tasks_blocked(0.05)
            with pytest.raises(BlockingIOError):
                theirs.recv(100)
            await wire.send_all(b"HTTP/1.1 101 \r\n\r\n")
            wire.open()
            with trio.fail_after(PATIENCE):
                await wire.flushed.wait()
            assert theirs.recv(100) == b"HTTP/1.1 101 \r\n\r\n" + close_frame(4001, "the server stops")
            wire.kill()


async def test_who_watches_what_goes_on_is_told_to_come_back_when_the_server_stops() -> None:
    told: list[tuple[int, str]] = []

    async def watch(port: int, *, task_status: trio.TaskStatus[None]) -> None:
        async with talk(port) as client:
            await client.say(type="subscribe", session="r-1")
            await client.until("snapshot")
            task_status.started()
            told.append(await client.closed())

    async with open_tracker() as tracker, tracker.session("r-1"), trio.open_nursery() as nursery:
        async with open_server(tracker, port=0, drain_timeout=0.1) as server:
            await nursery.start(watch, server.port)  # noqa: ASYNC111 - it reads to the end that the server brings
    assert told == [(4001, "the server stops")]


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
async def test_who_has_asked_for_nothing_keeps_no_server_from_stopping(encrypted: bool) -> None:
    context = None
    if encrypted:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with open_tracker() as tracker, AsyncExitStack() as clients:
        with trio.fail_after(30):  # Of the sixty that a stop may wait.
            async with open_server(tracker, port=0, drain_timeout=60.0, ssl_context=context) as server:
                for _ in range(3):
                    await clients.enter_async_context(await trio.open_tcp_stream("127.0.0.1", server.port))
                await trio.sleep(0.1)


async def test_control_frames_that_pile_up_end_the_connection() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        wire = Wire(trio.SocketStream(trio.socket.from_stdlib_socket(ours)), patience=5.0)
        wire.open()
        failed: list[int] = []

        async def send(number: int) -> None:
            try:
                await wire.send_all(frame(b"", 0x8A))
            except trio.BrokenResourceError:
                failed.append(number)

        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for number in range(MOST_QUEUED):
                    nursery.start_soon(send, number)
                await trio.testing.wait_all_tasks_blocked()
                assert (failed, wire.dead) == ([], False)
                nursery.start_soon(send, MOST_QUEUED)
        assert (sorted(failed), wire.dead) == (list(range(MOST_QUEUED + 1)), True)
