"""What is begun has to come: frames, messages and heads that drip, and slow clients that mean well."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import trio
import trio.testing

from tests.raw import InMemory, close_code, frames_of, masked, raw_client, rest_of, upgraded
from trio_progress import open_tracker
from trio_progress.server.http_connection import CHUNKS_AT_ONCE, MOST_CHUNKS, MOST_HEADERS
from trio_progress.server.rate_limit import LARGEST_MESSAGE, SLOWEST
from trio_progress.server.transport import Inbound
from trio_progress.server.wire import Wire

PING = b'{"type":"ping","data":"here"}'


async def dripped(pieces: Iterable[bytes], pause: float) -> tuple[float, int | None]:
    """Sends the pieces to a WebSocket, one each `pause` seconds; tells when it was closed after the first, and how."""
    async with open_tracker() as tracker, raw_client(tracker, keepalive=3600.0) as client:
        await upgraded(client)
        began = trio.current_time()

        async def send() -> None:
            try:
                for piece in pieces:
                    await client.send_all(piece)
                    await trio.sleep(pause)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            with trio.fail_after(100):
                code = None
                data = b""
                while code is None:
                    more = await client.receive_some()
                    assert more, "it was closed without a word"
                    data += more
                    code = close_code(data)
            took = trio.current_time() - began
            nursery.cancel_scope.cancel()
    return took, code


def each_byte(data: bytes) -> list[bytes]:
    return [data[n : n + 1] for n in range(len(data))]


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"\x81"], id="one byte of a header, and no more"),
        pytest.param(each_byte(masked(b"x" * 60_000)), id="header and payload byte by byte"),
        pytest.param([masked(b"x" * 60_000)[:20]], id="the beginning of a payload"),
        pytest.param([masked(b"x", 1, final=False), *[masked(b"x", 0, final=False)] * 60], id="fragments of one byte"),
        pytest.param([masked(b"", 1, final=False), *[masked(b"", 9)] * 60], id="pings within a message"),
        pytest.param(each_byte(masked(b"x" * 125, 9)), id="a ping byte by byte"),
        pytest.param([masked(PING) + b"\x81"], id="one byte of a header behind a whole message"),
    ],
)
async def test_a_message_that_drips_is_held_to_the_time_of_a_head(
    pieces: list[bytes], autojump_clock: trio.testing.MockClock
) -> None:
    took, code = await dripped(pieces, 1.0)
    assert code == 4008
    assert 10.0 <= took <= 10.2


async def test_what_is_not_begun_has_all_the_time(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, raw_client(tracker, keepalive=3600.0) as client:
        await upgraded(client)
        for _ in range(4):
            await trio.sleep(100)
            await client.send_all(masked(PING))
            assert b'"pong"' in await client.receive_some()


@pytest.mark.parametrize("rate", [2600, 8000])
async def test_the_largest_message_is_served_over_a_slow_line(
    rate: int, autojump_clock: trio.testing.MockClock
) -> None:
    message = masked(PING[:-1] + b" " * (LARGEST_MESSAGE - len(PING)) + b"}")
    async with open_tracker() as tracker, raw_client(tracker, keepalive=3600.0) as client:
        await upgraded(client)
        for at in range(0, len(message), rate // 10):
            await client.send_all(message[at : at + rate // 10])
            await trio.sleep(0.1)
        (opcode, said) = frames_of(bytes(await client.receive_some()))[0]
        assert (opcode, said) == (1, b'{"type":"pong","data":"here"}')
        assert trio.current_time() > LARGEST_MESSAGE / rate > min(LARGEST_MESSAGE / SLOWEST, 8)


async def test_a_server_that_is_held_up_does_not_blame_the_client(autojump_clock: trio.testing.MockClock) -> None:
    waits: list[float] = []

    class Held(InMemory):
        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            autojump_clock.jump(15.0)  # What came lies there while something else has the loop.
            return b"\x81"

    def inspect(data: bytes, waited: float) -> float:
        waits.append(waited)
        return 0.0

    transport = Held(trio.testing.memory_stream_pair()[1])
    wire = Wire(transport, patience=5.0, inbound=Inbound(transport, inspect=inspect, left=lambda: 10.0))
    wire.open()
    assert await wire.receive_some() == b"\x81"
    assert waits == [0.0]


async def test_a_head_of_many_lines_is_refused_before_it_is_parsed(autojump_clock: trio.testing.MockClock) -> None:
    for line in (b"a:\r\n", b"a: b\r\n ", b"a:\n"):
        async with open_tracker() as tracker, raw_client(tracker) as client:
            head = b"GET / HTTP/1.1\r\nHost: localhost\r\n" + line * (MOST_HEADERS + 5)
            await client.send_all(head)  # Nobody waits for its end.
            assert (await rest_of(client)).startswith(b"HTTP/1.1 431 ")
            assert trio.current_time() < 5.0


async def test_as_many_headers_as_there_may_be_are_taken_and_counted_anew_for_each_request(
    autojump_clock: trio.testing.MockClock,
) -> None:
    lines = b"".join(b"a%d: b\r\n" % n for n in range(MOST_HEADERS - 1))
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + lines + b"\r\n"
    async with open_tracker() as tracker, raw_client(tracker) as client:
        await client.send_all(head * 3)
        data = b""
        while data.count(b"ok\n") < 3:
            data += await client.receive_some()
        assert data.count(b"HTTP/1.1 200 OK") == 3


async def test_while_a_body_comes_in_chunks_of_a_byte_others_have_their_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    head = b"POST /sessions/a/cancel HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with open_tracker() as tracker, raw_client(tracker) as client, trio.open_nursery() as nursery:
        nursery.start_soon(other)
        before = turns
        await client.send_all(head + b"1\r\na\r\n" * MOST_CHUNKS + b"0\r\n\r\n")
        assert (await client.receive_some()).startswith(b"HTTP/1.1 404 ")
        assert turns - before >= MOST_CHUNKS // CHUNKS_AT_ONCE
        nursery.cancel_scope.cancel()


async def test_a_body_in_too_many_chunks_is_refused_and_one_in_many_packets_is_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    head = b"POST /sessions/a/cancel HTTP/1.1\r\nHost: localhost\r\n"
    async with open_tracker() as tracker, raw_client(tracker) as client:
        await client.send_all(head + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * (MOST_CHUNKS + 1))
        assert (await rest_of(client)).startswith(b"HTTP/1.1 413 ")
    async with open_tracker() as tracker, raw_client(tracker) as client:
        await client.send_all(head + b"Content-Length: 2000\r\n\r\n")
        for _ in range(2000):
            await client.send_all(b"a")
        assert (await client.receive_some()).startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    ("version", "status"),
    [("1.0", 200), ("1.1", 200), ("1.2", 200), ("9.9", 505), ("2.0", 505), ("3.0", 505), ("0.9", 505),
     ("10.0", 400), ("1", 400), ("1.1.1", 400), ("x.y", 400), ("-1.1", 400), ("", 400)],
)  # fmt: skip
async def test_a_version_that_is_not_spoken_is_505_and_what_is_none_is_400(
    version: str, status: int, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker, raw_client(tracker) as client:
        await client.send_all(b"GET /healthz HTTP/%s\r\nHost: localhost\r\n\r\n" % version.encode())
        answer = await client.receive_some()
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer
        if status != 200:
            assert b"connection: close" in answer.lower()
            assert b'"code":"bad_request"' in answer
            assert b"HTTP/1.1" in answer.partition(b"\r\n\r\n")[2]
