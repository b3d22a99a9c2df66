"""Clients that do not read, do not answer, or come and go: what it does to them, to the others, and to the counts."""

from __future__ import annotations

import contextlib
import json
import random
import select
import socket
from dataclasses import replace

import pytest
import trio
import trio.testing

from benchmarks.soak import soaked
from benchmarks.soak_server import Soak
from tests.doors import drained, open_door, opened, raw, talk
from tests.raw import UPGRADE, close_code, masked
from tests.support import PATIENCE

pytestmark = pytest.mark.integration


async def narrow(port: int) -> trio.SocketStream:
    """A connection whose own buffer is small, so that a server notices soon that nobody reads."""
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await sock.connect(("127.0.0.1", port))
    return trio.SocketStream(sock)


@pytest.mark.parametrize("way", ["WebSocket", "events"])
async def test_a_client_that_does_not_read_is_dropped_and_counted_and_the_others_are_told(way: str) -> None:
    async with open_door(write_timeout=0.3) as door:
        statistics = door.tracker.statistics
        async with door.tracker.session("r-1") as session, talk(door.port) as other:
            await other.say(type="subscribe", session="r-1")
            await other.until("snapshot")
            stuck = await narrow(door.port)
            if way == "WebSocket":
                await stuck.send_all(UPGRADE)
                while b"\r\n\r\n" not in await stuck.receive_some(4096):
                    pass
                await stuck.send_all(masked(json.dumps({"type": "subscribe", "session": "r-1"}).encode()))
            else:
                await stuck.send_all(b"GET /sessions/r-1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            with trio.fail_after(PATIENCE):
                while statistics().subscribers < 2:  # noqa: ASYNC110 - a tracker tells nobody of it
                    await trio.sleep(0.01)
                n = 0
                while statistics().subscribers == 2:
                    n += 1
                    session.set(n=n, **{f"f{place}": str(n) * 6000 for place in range(8)})
                    assert (await other.until("update"))["head"]["fields"]["n"] <= n
            assert statistics().subscribers_dropped == 1
            session.set(n=0)
            while (await other.until("update"))["head"]["fields"]["n"]:
                pass
            await trio.aclose_forcefully(stuck)
        assert statistics().subscribers_dropped == 1


async def test_a_client_that_answers_no_ping_is_dropped_with_4008_and_counted(
    idle_clock: trio.testing.MockClock,
) -> None:
    async with open_door(keepalive=0.1) as door:
        silent = await opened(door.port)
        async with silent, talk(door.port) as other:
            said = await drained(silent)
            assert close_code(said) == 4008
            assert b"pings" in said
            assert door.tracker.statistics().subscribers_dropped == 1
            await other.say(type="ping", data="still here")
            assert (await other.until("pong"))["data"] == "still here"


async def test_a_client_that_answers_is_not_dropped_because_the_pipeline_has_held_up_the_loop(
    mock_clock: trio.testing.MockClock,
) -> None:
    # Its answer lies in the kernel while the time for it runs out, and both are seen in the same turn of the loop.
    async with open_door(keepalive=0.1) as door:
        with contextlib.ExitStack() as stack:
            answering = [stack.enter_context(await trio.to_thread.run_sync(upgraded, door.port)) for _ in range(8)]
            answered = 0
            for _ in range(30):
                answered += answer_pings(answering)
                mock_clock.jump(0.15)  # As long as the pipeline keeps the loop from running.
                for _ in range(random.randrange(1, 6)):
                    await trio.lowlevel.checkpoint()
        mock_clock.autojump_threshold = 0.02
        assert answered > 8
        assert door.tracker.statistics().subscribers_dropped == 0


def upgraded(port: int) -> socket.socket:
    """A WebSocket, for a thread."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(UPGRADE)
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(1)
    return sock


def answer_pings(socks: list[socket.socket]) -> int:
    """Answers each ping that has come; how many."""
    answered = 0
    for sock in select.select(socks, [], [], 0.01)[0]:
        data = sock.recv(65536)
        if data and data[0] == 0x89:
            sock.sendall(masked(data[2 : 2 + data[1]], opcode=10))
            answered += 1
    return answered


async def test_a_client_that_goes_by_itself_is_not_counted_as_dropped() -> None:
    async with open_door() as door, door.tracker.session("r-1"):
        async with talk(door.port) as client:
            await client.say(type="subscribe", session="r-1")
            await client.until("snapshot")
        gone = await raw(door.port)
        await trio.aclose_forcefully(gone)
        with trio.fail_after(PATIENCE):
            while door.tracker.statistics().subscribers:  # noqa: ASYNC110 - a tracker tells nobody of it
                await trio.sleep(0.01)
        assert door.tracker.statistics().subscribers_dropped == 0


@pytest.mark.exhaustive
def test_all_of_a_hundred_clients_that_come_go_and_stall_end_on_one_state_and_nothing_of_them_is_left() -> None:
    soak = Soak(clients=100, seconds=4.0, leaving=0.1, write_timeout=0.5)
    shown = soaked(soak)
    if shown.outcome.seen["resumed"] <= 3 or not shown.after.dropped:  # On a busy machine little happens in four.
        shown = soaked(replace(soak, seconds=16.0))
    seen = shown.outcome.seen
    assert shown.astray == 0, seen
    assert seen["updates that do not fit"] == 0
    assert seen["connections"] > 120, seen
    assert seen["resumed"] > 3, seen
    assert shown.after.dropped >= 1
    assert (shown.after.tasks, shown.after.descriptors) == (shown.before.tasks, shown.before.descriptors)
    assert shown.after.memory < shown.before.memory + 30e6
