"""Sizes, rates and caps, broken requests and noise, and clients that do not read."""

from __future__ import annotations

import logging
import random
import ssl
from contextlib import AsyncExitStack

import pytest
import trio
import trio.testing
import trustme

from tests.doors import ask, drained, open_door, opened, raw, read_answer, talk, until_unwatched
from tests.raw import UPGRADE, close_code, masked
from tests.support import PATIENCE
from trio_progress.server.connection import LINGER, MOST_TURNED_AWAY

pytestmark = pytest.mark.integration


# Sizes, rates and caps


@pytest.mark.parametrize("fragments", [1, 2, 700])
async def test_a_message_above_64_kib_closes_with_1009_fragments_included(fragments: int) -> None:
    async with open_door(message_burst=10_000) as door:
        async with await opened(door.port) as stream:
            piece = b"x" * (70_000 // fragments)
            for n in range(fragments):
                with trio.fail_after(PATIENCE):
                    try:
                        await stream.send_all(masked(piece, 1 if n == 0 else 0, final=n == fragments - 1))
                    except trio.BrokenResourceError:
                        break
            assert close_code(await drained(stream)) == 1009


async def test_multibyte_text_is_counted_in_bytes() -> None:
    async with open_door() as door:
        async with await opened(door.port) as stream:
            await stream.send_all(masked("é".encode() * 40_000))
            assert close_code(await drained(stream)) == 1009


@pytest.mark.parametrize("opcode", [1, 9, 10, 0])
async def test_a_flood_of_frames_closes_with_4013_pings_included(opcode: int) -> None:
    async with open_door(message_burst=50) as door:
        payload = b'{"type":"ping"}' if opcode == 1 else b""
        async with await opened(door.port) as stream:
            if opcode == 0:
                await stream.send_all(masked(b"", 1, final=False))
            await stream.send_all(masked(payload, opcode, final=opcode != 0) * 60)
            assert close_code(await drained(stream)) == 4013


async def let_in(port: int) -> None:
    """Waits until the server has seen that those are gone who kept this one out."""
    with trio.fail_after(PATIENCE):
        while True:
            async with await raw(port) as stream:
                await stream.send_all(b"GET /sessions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                if (await drained(stream)).startswith(b"HTTP/1.1 200 "):
                    return


async def test_connections_of_one_address_and_of_all_are_bounded() -> None:
    async with open_door(max_connections_per_address=2) as door:
        async with talk(door.port), talk(door.port):
            answer = await ask(door.port, "GET", "/sessions")
            assert (answer.status, answer.json["code"]) == (429, "too_many")
        await let_in(door.port)
    async with open_door(max_connections=2) as door:
        async with talk(door.port), talk(door.port):
            async with await raw(door.port) as stream:
                assert await drained(stream) == b""
        await let_in(door.port)


async def test_who_opens_many_connections_and_says_nothing_keeps_nobody_else_out() -> None:
    async with open_door(max_connections=8, max_connections_per_address=3) as door:
        async with AsyncExitStack() as silent:
            for _ in range(20):
                await silent.enter_async_context(await raw(door.port))
            await trio.sleep(0.2)
            other = trio.socket.socket()
            await other.bind(("127.0.0.2", 0))
            await other.connect(("127.0.0.1", door.port))
            async with trio.SocketStream(other) as stream:
                await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = await read_answer(stream)
            assert answer is not None
            assert answer.status == 200


async def test_only_so_many_at_once_are_told_that_they_are_too_many(idle_clock: trio.testing.MockClock) -> None:
    async def told(port: int) -> bytes:
        async with await raw(port) as stream:
            await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return await drained(stream)

    async with open_door(max_connections_per_address=1) as door, await raw(door.port):
        await trio.sleep(0.1)
        with trio.fail_after(PATIENCE):
            async with AsyncExitStack() as silent:
                for _ in range(MOST_TURNED_AWAY):
                    await silent.enter_async_context(await raw(door.port))
                assert await told(door.port) == b""
            while not (said := await told(door.port)):  # noqa: ASYNC110 - a server tells nobody
                await trio.sleep(LINGER)
        assert said.startswith(b"HTTP/1.1 429 ")


async def test_behind_a_proxy_connections_count_as_the_clients_own() -> None:
    async with open_door(max_connections_per_address=2, trusted_proxies=["127.0.0.1"]) as door:
        one, other = {"X-Forwarded-For": "203.0.113.1"}, {"X-Forwarded-For": "203.0.113.2"}
        async with talk(door.port, headers=one), talk(door.port, headers=one), talk(door.port, headers=other):
            assert (await ask(door.port, "GET", "/sessions", one)).status == 429
            assert (await ask(door.port, "GET", "/sessions", other)).status == 200


# Heads, bodies, drips and noise


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: 1\r\n" * 200 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nOrigin: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /%ff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /?a=%ff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /static/..%2fhouse.py HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /static/../server/runtime.py HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"POST /sessions/a/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999999\r\n\r\n" + b"x" * 70_000, 413),
        (b"POST /sessions/a/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST /sessions/a/cancel HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"POST /sessions/a/cancel HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nab", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n", 417),
        (b"PUT /sessions HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"TRACE /sessions/a HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        (b"POST /sessions/a/cancel HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
         b"ffff\r\n" + b"x" * 65535 + b"\r\nffff\r\n" + b"x" * 65535 + b"\r\n0\r\n\r\n", 413),
        (UPGRADE[:-2] + b"Content-Length: 5\r\n\r\nhello", 400),
        (b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n", 426),
        (UPGRADE.replace(b": 13", b": 8"), 426),
        (UPGRADE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"short"), 400),
        (UPGRADE.replace(b"trio-progress.v1", b"chat"), 400),
        (UPGRADE.replace(b"GET", b"POST"), 426),
    ],
)  # fmt: skip
async def test_what_is_no_request_of_ours_is_refused_and_the_server_lives(request_bytes: bytes, status: int) -> None:
    async with open_door() as door:
        async with await raw(door.port) as stream:
            try:
                await stream.send_all(request_bytes)
            except trio.BrokenResourceError:
                pass
            with trio.fail_after(PATIENCE):
                answer = await read_answer(stream)
            assert answer is not None
            assert answer.status == status
        assert (await ask(door.port, "GET", "/healthz")).status == 200


@pytest.mark.parametrize(
    "sent", [b"", b"G", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"]
)
async def test_idle_and_dripping_connections_are_closed_in_time(sent: bytes) -> None:
    async with open_door(request_timeout=0.5) as door:
        started = trio.current_time()
        async with await raw(door.port) as stream:
            async with trio.open_nursery() as nursery:

                async def drip() -> None:
                    try:
                        for n in range(len(sent)):
                            await stream.send_all(sent[n : n + 1])
                            await trio.sleep(0.02)
                    except trio.BrokenResourceError:
                        pass

                nursery.start_soon(drip)
                data = await drained(stream)
            assert data == b"" if not sent else data.startswith(b"HTTP/1.1 4")
        assert trio.current_time() - started < 8.0, "not only after the usual ten seconds"


@pytest.mark.parametrize("sent", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n"])
async def test_over_tls_too_idle_half_open_and_senseless_connections_are_closed_in_time_and_quietly(
    sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with open_door(request_timeout=0.3, ssl_context=context) as door:
        async with await raw(door.port) as stream:
            await stream.send_all(sent)
            await drained(stream, within=8)  # The usual is ten.
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_tls_and_the_first_request_share_one_patience(idle_clock: trio.testing.MockClock) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    theirs = ssl.create_default_context()
    authority.configure_trust(theirs)
    async with open_door(request_timeout=5.0, ssl_context=context) as door:
        started = trio.current_time()
        async with await raw(door.port) as stream:
            await trio.sleep(3.0)
            client = trio.SSLStream(stream, theirs, server_hostname="localhost", https_compatible=True)
            await client.do_handshake()
            with trio.fail_after(PATIENCE):
                try:
                    assert await client.receive_some(1) == b""
                except trio.BrokenResourceError:
                    pass
            assert trio.current_time() - started < 5.0 + 2.5, "the handshake and the request have one deadline"


async def test_a_connection_that_has_been_answered_is_closed_when_it_stays_idle(
    idle_clock: trio.testing.MockClock,
) -> None:
    async with open_door(request_timeout=0.3) as door:
        async with await raw(door.port) as stream:
            for _ in range(3):
                await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                answer = await read_answer(stream)
                assert answer is not None
                assert answer.status == 200
            assert await drained(stream, within=8) == b""  # The usual is ten.


async def test_bytes_behind_the_upgrade_are_the_first_frames_and_harm_nobody() -> None:
    async with open_door() as door:
        async with await raw(door.port) as stream:
            await stream.send_all(UPGRADE + masked(b'{"type":"ping","data":"early"}') + masked(b"", 9))
            answer = await read_answer(stream, head_only=True)
            assert answer is not None
            assert answer.status == 101
            data = answer.body
            with trio.fail_after(PATIENCE):
                while b"early" not in data:
                    data += await stream.receive_some(4096)
        async with await raw(door.port) as stream:
            await stream.send_all(UPGRADE + b"\xff" * 5000)
            await drained(stream)
        assert (await ask(door.port, "GET", "/healthz")).status == 200


async def test_what_is_none_of_the_protocol_closes_with_4501_and_bad_utf8_with_1007() -> None:
    bad = [
        b"not json",
        b"[]",
        b"{}",
        b'{"type":"nonsense"}',
        b'{"type":"ping","type":"ping"}',
        b'{"type":"ping","data":NaN}',
        b'{"type":"ping","extra":1}',
        b'{"type":"subscribe","session":"r-1","max_hz":1e999}',
        b'{"type":"subscribe","session":"r-1","max_hz":-1}',
        b'{"type":"subscribe","session":"r-1","events":' + b"9" * 400 + b"}",
        b'{"type":"subscribe","session":"../etc"}',
        b'{"type":"subscribe","session":"' + b"x" * 129 + b'"}',
        b"[" * 30_000,
        b'{"a":' * 5000,
        b'{"type":"ping","data":"\\ud800"}',
        b'{"type":"cancel","session":1}',
    ]
    async with open_door() as door:

        async def refused(text: bytes) -> None:
            async with await opened(door.port) as stream:
                await stream.send_all(masked(text))
                assert close_code(await drained(stream)) == 4501, text[:80]

        async with trio.open_nursery() as nursery:
            for text in bad:
                nursery.start_soon(refused, text)
        async with await opened(door.port) as stream:
            await stream.send_all(masked(b"\xff\xfe"))
            assert close_code(await drained(stream)) == 1007
        async with await opened(door.port) as stream:
            await stream.send_all(masked(b"binary", 2))
            assert close_code(await drained(stream)) == 1003


async def test_frames_against_the_standard_close_with_1002_and_leave_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wrong = {
        "a ping of 126 bytes": masked(b"x" * 126, 9),
        "a ping in parts": bytes([0x09]) + masked(b"", 9)[1:],
        "a reserved bit": bytes([0xC1]) + masked(b"{}")[1:],
        "a reserved opcode": masked(b"{}", 3),
        "a continuation of nothing": masked(b"{}", 0),
    }
    async with open_door() as door:
        for what, frame in wrong.items():
            async with await opened(door.port) as stream:
                await stream.send_all(frame)
                assert close_code(await drained(stream)) == 1002, what
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.exhaustive
async def test_random_bytes_kill_nothing_and_the_others_notice_nothing(rng: random.Random) -> None:
    async with open_door(message_burst=100_000, message_rate=10_000.0) as door:
        async with door.tracker.session("r-1") as session:
            async with talk(door.port) as bystander:
                await bystander.say(type="subscribe", session="r-1")
                await bystander.until("snapshot")

                async def noise() -> None:
                    stream = await (opened(door.port) if rng.random() < 0.6 else raw(door.port))
                    async with stream:
                        try:
                            for _ in range(rng.randrange(1, 6)):
                                data = rng.randbytes(rng.randrange(1, 300))
                                if rng.random() < 0.5:
                                    data = masked(data[:125], rng.choice([0, 1, 2, 8, 9, 10, 3, 11]))
                                elif rng.random() < 0.3:
                                    request = bytearray(UPGRADE)
                                    for _ in range(rng.randrange(1, 5)):
                                        request[rng.randrange(len(request))] = rng.randrange(256)
                                    data = bytes(request)
                                await stream.send_all(data)
                            if rng.random() < 0.5:
                                await stream.send_eof()
                            with trio.move_on_after(0.05):
                                await stream.receive_some(65536)
                        except (trio.BrokenResourceError, trio.ClosedResourceError):
                            pass

                for _ in range(40):
                    async with trio.open_nursery() as nursery:
                        for _ in range(10):
                            nursery.start_soon(noise)
                session.set(still="here")
                while (await bystander.until("update"))["head"]["fields"].get("still") != "here":
                    pass
            with trio.fail_after(PATIENCE):
                await until_unwatched(door)
        assert (await ask(door.port, "GET", "/healthz")).status == 200


# Those who do not read


async def test_who_does_not_read_delays_no_other_no_stop_and_no_cancel_and_is_dropped() -> None:
    async with open_door(write_timeout=6.0, drain_timeout=1.0) as door:
        async with await opened(door.port) as stuck, await opened(door.port) as half:
            async with door.tracker.session("r-1") as session:
                for stream in (stuck, half):
                    await stream.send_all(masked(b'{"type":"subscribe","session":"r-1"}'))
                await half.send_eof()
                async with talk(door.port) as client, trio.open_nursery() as nursery:
                    await client.say(type="subscribe", session="r-1")
                    delays: list[float] = []

                    async def read() -> None:
                        while True:
                            message = await client.until("update")
                            delays.append(trio.current_time() - message["head"]["fields"]["at"])
                            if message["head"]["fields"].get("last"):
                                return

                    await client.until("snapshot")
                    nursery.start_soon(read)
                    for n in range(200):
                        session.set(**{f"f{n % 20}": "x" * 10_000, "at": trio.current_time()})
                        await trio.sleep(0.01)
                    session.set(last=True)
                assert max(delays) < 5.5
                assert sorted(delays)[len(delays) // 2] < 3.0
                with trio.fail_after(PATIENCE):
                    await until_unwatched(door)
                session.cancel("enough")
                stopping = trio.current_time()
            assert trio.current_time() - stopping < 5.5
            stopping = trio.current_time()
    assert trio.current_time() - stopping < 8.0
