"""Those who keep up are told together: what each of them gets is whole and in order, whatever the others do."""

from __future__ import annotations

import itertools
import json
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio
import trio.lowlevel
import trio.testing
from trio_websocket import WebSocketConnection, wrap_client_stream

from tests.doors import SUBPROTOCOL, Door, open_door
from tests.integration.test_server_wire import whole
from tests.support import PATIENCE
from trio_progress import Session, open_tracker
from trio_progress.protocol.messages import (
    Bookmark,
    CustomEvent,
    End,
    Gap,
    Position,
    Subscribed,
    Update,
    decode_message,
)
from trio_progress.protocol.requests import Subscribe
from trio_progress.protocol.snapshot import Snapshot
from trio_progress.server import Grant, encoder
from trio_progress.server.encoder import Encoder, close_frame, frame, write_many_nowait
from trio_progress.server.outbox import Outbox, Subscriber
from trio_progress.server.wire import Wire
from trio_progress.tracker import runtime_of

pytestmark = pytest.mark.integration

SEEDS = (11, 12)


class Viewer:
    """A client that stalls, asks for other things, leaves, and comes back; it checks all that it is told."""

    def __init__(self, door: Door, rng: random.Random, seen: Counter[str]) -> None:
        self._door = door
        self._rng = rng
        self._seen = seen
        self._restless = rng.choice((0.1, 1.0))
        self._event: int | None = None
        self.state: Snapshot | None = None
        self.ended = False

    async def run(self) -> None:
        while not self.ended:
            sock = trio.socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._rng.choice((4096, 1 << 20)))
            await sock.connect(("127.0.0.1", self._door.port))
            async with trio.SocketStream(sock) as stream, trio.open_nursery() as nursery:
                connection = await wrap_client_stream(
                    nursery, stream, "localhost", "/ws", subprotocols=[SUBPROTOCOL], message_queue_size=1
                )
                await self._converse(connection)
                nursery.cancel_scope.cancel()

    async def _subscribe(self, connection: WebSocketConnection) -> None:
        since = ""
        if self.state is not None:
            since = f', "since": "{self.state.resume}"'
            position = Position.parse(self.state.resume)
            assert position is not None
            self._event = position.event  # A gap that was told behind it is told again.
        await connection.send_message(f'{{"type": "subscribe", "session": "r-1", "wait": true{since}}}')

    async def _converse(self, connection: WebSocketConnection) -> None:
        rng = self._rng
        await self._subscribe(connection)
        left = False
        while not self.ended:
            dice = rng.random() / self._restless
            if dice < 0.01:
                return
            if dice < 0.03:
                await trio.sleep(rng.random() * 0.3)
            elif dice < 0.06:
                await connection.send_message('{"type": "ping"}')
            elif dice < 0.07 and not left:
                left = True
                await connection.send_message('{"type": "unsubscribe", "session": "r-1"}')
                await connection.send_message('{"type": "ping", "data": "left"}')
            text = await connection.get_message()
            assert isinstance(text, str)
            if text.startswith('{"type":"pong"'):
                if text.endswith('"left"}'):
                    left = False
                    await self._subscribe(connection)
                continue
            self._take(text)

    def _take(self, text: str) -> None:
        message = decode_message(text)
        self._seen[type(message).__name__] += 1
        if isinstance(message, Subscribed):
            if not message.recovered:
                self._event = None
            else:
                self._seen["recovered"] += 1
        elif isinstance(message, Snapshot):
            assert self.state is None or message.seq >= self.state.seq
            self.state = message
        elif isinstance(message, Update):
            assert self.state is not None
            self.state = message.apply(self.state)  # Which refuses what does not fit.
        elif isinstance(message, CustomEvent):
            assert self._event in (None, message.n - 1)
            assert message.data == {"n": message.n}
            self._event = message.n
        elif isinstance(message, Gap):
            self._event = None if self._event is None else self._event + message.dropped
        elif isinstance(message, End):
            assert self.state is not None
            assert self.state.seq == message.seq
            self.ended = True
        if isinstance(message, (CustomEvent, Bookmark)) and self.state is not None:
            position = Position.parse(message.resume)
            assert position is not None
            assert position.seq == self.state.seq
        if isinstance(message, (CustomEvent, Update)) and self.state is not None:
            self.state = self.state.resuming(message.resume)


async def work(session: Session, rng: random.Random, steps: int, enough: Callable[[], bool]) -> None:
    """So many steps, and more until there is enough: how often a kernel refuses something is not ours to say."""
    events = 0
    with session.phase("crawl") as phase:
        for step in itertools.count():
            if step >= steps and enough():
                return
            phase.advance()
            session.set(step=step)
            if rng.random() < 0.05:
                session.set(pad="x" * rng.randrange(8000), more="y" * rng.randrange(8000))
            if rng.random() < 0.1:
                with session.phase(f"page-{step}"):
                    pass
            for _ in range(rng.choice((0, 0, 0, 0, 1, 2, 30))):
                events += 1
                session.emit("found", {"n": events})
            await trio.sleep(rng.choice((0, 0.002, 0.006)))


def counting(seen: Counter[str]) -> Callable[..., list[tuple[int, int]]]:
    """`write_many_nowait`, with what it came to."""

    def offered(descriptors: Sequence[int], data: bytes) -> list[tuple[int, int]]:
        troubled = write_many_nowait(descriptors, data)
        seen["at once"] += len(descriptors)
        seen["begun"] += sum(outcome >= 0 for _, outcome in troubled)
        seen["refused"] += sum(outcome < 0 for _, outcome in troubled)
        return troubled

    return offered


def was_tried(seen: Counter[str]) -> bool:
    """What the test is about came to pass: told at once, refused by the kernel, gone on with."""
    return seen["at once"] > 200 and seen["recovered"] > 3 and seen["begun"] + seen["refused"] > 0


@pytest.fixture
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel holds little of what a client does not read, so that it refuses some of it in each run."""
    listen = trio.open_tcp_listeners

    async def listening(port: int, **given: Any) -> list[trio.SocketListener]:
        listeners = await listen(port, **given)
        for listener in listeners:
            listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)  # Of what it accepts too.
        return listeners

    monkeypatch.setattr(trio, "open_tcp_listeners", listening)


@pytest.mark.usefixtures("small_buffers")
@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", SEEDS)
async def test_each_of_those_who_are_told_together_gets_all_in_order(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    seen: Counter[str] = Counter()
    monkeypatch.setattr(encoder, "write_many_nowait", counting(seen))
    settings = {"broadcast_interval": 0.005, "heartbeat_interval": 0.1, "event_limit": 50}
    async with open_door(tracker_settings=settings, write_timeout=30.0) as door:
        viewers = [Viewer(door, random.Random(rng.random()), seen) for _ in range(16)]
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                async with door.tracker.session("r-1") as session:
                    for viewer in viewers:
                        nursery.start_soon(viewer.run)
                    await work(session, rng, 300, lambda: was_tried(seen))
                    session.set_result("done")
        final = await door.tracker.snapshot("r-1")
        for viewer in viewers:
            assert viewer.ended
            assert viewer.state is not None
            assert (viewer.state.seq, viewer.state.fields, viewer.state.phases) == (
                final.seq,
                final.fields,
                final.phases,
            )
    print(seed, dict(seen))
    assert was_tried(seen)


@asynccontextmanager
async def standing_alike() -> AsyncIterator[tuple[Outbox, socket.socket, Callable[[int], None]]]:
    """One who watches a session and keeps up, the other end of its wire, and what tells it a number at once."""
    async with (
        open_tracker(broadcast_interval=0.005) as tracker,
        tracker.session("r-1") as session,
        trio.open_nursery() as nursery,
    ):
        hub = runtime_of(tracker).hub
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        encode = Encoder(hub.tally)
        open_wire = partial(Wire, stream, patience=5.0)
        outbox = Outbox(open_wire, hub, encode, Grant(everything=True), lambda subscriber, ended: None)
        wire = outbox.wire
        nursery.start_soon(wire.pump)
        wire.open()
        subscriber = Subscriber(outbox, Subscribe(session="r-1"))
        await outbox.subscribe(subscriber)
        with trio.fail_after(PATIENCE):
            while subscriber.group is None:
                session.increment("n")
                await trio.sleep(0.01)

        def tell(n: int) -> None:
            session.set(n=n)
            session.snapshot()
            topic = hub.topics.get("r-1")
            assert topic is not None
            topic.announce()

        tell(0)
        assert subscriber.group is not None
        theirs.recv(1 << 20)
        with theirs:
            yield outbox, theirs, tell
        nursery.cancel_scope.cancel()


async def test_what_is_written_in_part_is_finished_before_anything_is_told_at_once() -> None:
    async with standing_alike() as (outbox, theirs, tell):
        large = frame(b"x" * 4_000_000)
        outbox.head(large)
        await trio.testing.wait_all_tasks_blocked(0.05)
        data = theirs.recv(1 << 20)  # So there is room, and the pump has not seen it yet.
        tell(1)
        with trio.fail_after(PATIENCE):
            while (taken := whole(data[len(large) :])) is None:
                await trio.lowlevel.checkpoint()
                try:
                    data += theirs.recv(1 << 20)
                except BlockingIOError:
                    continue
        assert data.startswith(large)
        assert json.loads(taken[1])["head"]["fields"] == {"n": 1}


async def test_nothing_is_told_at_once_behind_a_close() -> None:
    async with standing_alike() as (outbox, theirs, tell):
        outbox.wire.finish(close_frame(1000, "that is all"))
        await trio.testing.wait_all_tasks_blocked(0.05)
        tell(1)
        assert theirs.recv(1 << 20) == close_frame(1000, "that is all")
