"""Protocols with a state: the other side closes, resets or pings while something is being sent."""

from __future__ import annotations

from typing import Any

import trio
import trio.testing

from .entry import Entry, library, steps, together


class Writer:
    """A task that writes to the wire what others have given it; `want` and `sent` tell each other of it.

    Args:
        takes_over: Whether the flag is lowered as the data is taken, and each sender waits for its own.
    """

    def __init__(self, *, takes_over: bool) -> None:
        self.takes_over = takes_over
        self.pending: list[str] = []
        self.wire: list[str] = []
        self.want = trio.Event()
        self.sent = trio.Event()

    async def run(self) -> None:
        """Writes for ever."""
        while True:
            await self.want.wait()
            if self.takes_over:
                self.want = trio.Event()
            data, self.pending = self.pending, []
            await steps()
            self.wire += data
            if not self.takes_over:
                self.want = trio.Event()
            self.sent.set()
            self.sent = trio.Event()

    async def send(self, message: str) -> None:
        """Returns when it was written; so it says."""
        self.pending.append(message)
        self.want.set()
        if not self.takes_over:
            await self.sent.wait()
        while self.takes_over and message not in self.wire:
            await self.sent.wait()
        assert message in self.wire, f"send({message!r}) has returned, and nothing was written"


async def _two_senders(writer: Writer) -> None:
    async def one() -> None:
        await writer.send("one")

    async def other() -> None:
        await steps(2)
        await writer.send("other")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.run)
        await together(one, other)
        nursery.cancel_scope.cancel()


async def sent_unwritten() -> None:
    """The second one gives its message while the first one's is being written."""
    await _two_senders(Writer(takes_over=False))


async def sent_written() -> None:
    """The flag is lowered first."""
    await _two_senders(Writer(takes_over=True))


class ClosedError(Exception):
    """Nothing can be sent any more."""


class Connection:
    """A protocol that refuses to send once it was closed or reset."""

    def __init__(self) -> None:
        self.state = "open"
        self.sent: list[str] = []

    def send(self, event: str) -> None:
        """Sends, where that can be done."""
        if self.state != "open":
            raise ClosedError(f"{event} cannot be sent in state {self.state}")
        self.sent.append(event)


async def _server(*, forgives: bool) -> None:
    connection = Connection()

    async def application() -> None:
        for number in range(2):
            if connection.state != "open":
                return
            await steps()  # drains what went before
            try:
                connection.send(f"message {number}")
            except ClosedError:
                if not forgives:
                    raise

    async def peer() -> None:
        await steps(4)
        connection.state = "closed"

    await together(application, peer)


async def closed_by_peer() -> None:
    """The peer closes after the application has looked, and before it sends."""
    await _server(forgives=False)


async def closed_forgiven() -> None:
    """What is sent then is dropped."""
    await _server(forgives=True)


async def _reset(*, forgives: bool) -> None:
    connection = Connection()
    errors: list[str] = []

    async def application() -> None:
        try:
            await steps(2)
        finally:
            try:
                connection.send("end")
            except ClosedError as error:
                if not forgives:
                    errors.append(str(error))

    async def peer() -> None:
        await steps(3)
        connection.state = "reset"

    await together(application, peer)
    assert not errors, errors[0]


async def end_after_reset() -> None:
    """An application ends just after its stream was reset."""
    await _reset(forgives=False)


async def end_forgiven() -> None:
    """Its end is not sent then."""
    await _reset(forgives=True)


async def _finish(*, first: bool) -> None:
    state, told = "response", list[str]()

    async def application() -> None:
        nonlocal state
        await steps()
        told.append("end")
        if first:
            state = "closed"
        await steps()  # the end of the body is on its way
        state = "closed"

    async def client() -> None:
        await steps(2)
        if state != "closed":
            told.append("disconnect")

    await together(application, client)
    assert told != ["end", "disconnect"], "a request that has ended was told of a disconnect"


async def disconnect_while_ending() -> None:
    """The client closes while the end of the response is on its way."""
    await _finish(first=False)


async def closed_before_ending() -> None:
    """A response is closed before its end is sent."""
    await _finish(first=True)


class Socket:
    """A WebSocket whose background task takes the closing frame by itself.

    Args:
        tells: Whether it then ends those who wait for a message.
    """

    def __init__(self, *, tells: bool) -> None:
        self.tells = tells
        self.closed = False
        self.send, self.messages = trio.open_memory_channel[str](1)

    async def receive(self) -> str | None:
        """The next message; None: there is none any more."""
        if self.closed:
            return None
        await steps()
        try:
            return await self.messages.receive()
        except trio.EndOfChannel:
            return None

    async def close(self) -> None:
        """Closes, and lets the background task end."""
        self.closed = True
        await steps()
        if self.tells:
            self.send.close()


async def _receiver(socket: Socket) -> None:
    async def receive() -> None:
        await steps(2)
        assert await socket.receive() is None

    await together(receive, socket.close)


async def receives_for_ever() -> None:
    """One task waits for a message, another closes."""
    await _receiver(Socket(tells=False))


async def receives_the_end() -> None:
    """It is told of the end."""
    await _receiver(Socket(tells=True))


async def _websockets(nursery: trio.Nursery) -> tuple[Any, Any]:
    """Both ends of a WebSocket over a stream in memory."""
    websocket = library("trio_websocket")
    near, far = trio.testing.memory_stream_pair()
    accepted: list[Any] = []

    async def accept() -> None:
        request = await websocket.wrap_server_stream(nursery, far)
        accepted.append(await request.accept())

    async with trio.open_nursery() as handshake:
        handshake.start_soon(accept)
        client = await websocket.wrap_client_stream(nursery, near, "example.org", "/")
    return client, accepted[0]


async def _ping(*, forgives: bool) -> None:
    websocket = library("trio_websocket")
    async with trio.open_nursery() as nursery:
        client, server = await _websockets(nursery)
        if forgives:
            send = client._send

            async def send_if_open(event: object) -> None:
                try:
                    await send(event)
                except library("wsproto.utilities").LocalProtocolError:
                    if type(event).__name__ != "Pong":
                        raise

            client._send = send_if_open

        async def ping() -> None:
            try:
                with trio.move_on_after(0.01):
                    await server.ping()
            except websocket.ConnectionClosed:
                pass

        await together(ping, client.aclose)
        await server.aclose()
        nursery.cancel_scope.cancel()


async def ping_meets_close() -> None:
    """A ping comes while its receiver closes."""
    await _ping(forgives=False)


async def ping_forgiven() -> None:
    """It is left unanswered."""
    await _ping(forgives=True)


async def reason_of_local_close() -> None:
    """One task reads while another one closes."""
    websocket = library("trio_websocket")
    async with trio.open_nursery() as nursery:
        client, server = await _websockets(nursery)

        async def read() -> None:
            reason = None
            try:
                while True:
                    await client.get_message()
            except websocket.ConnectionClosed as error:
                reason = error.reason
            assert reason is not None, "closed, and no reason is given"
            assert client.closed is not None, "closed, and it is not known"

        await together(read, client.aclose)
        await server.aclose()
        nursery.cancel_scope.cancel()


ENTRIES = (
    Entry(
        name="trio-websocket-12",
        library="trio-websocket",
        issue="python-trio/trio-websocket#12",
        affected="September 2018",
        mended="closed",
        text="send_message() returns, and its message was not sent: the writer lowers its flag after the write.",
        faulty=sent_unwritten,
        right=sent_written,
        least=1,
        remade=True,
    ),
    Entry(
        name="trio-websocket-184",
        library="trio-websocket",
        issue="python-trio/trio-websocket#184",
        affected="0.12.2",
        mended="open",
        text="A ping comes while its receiver closes: the pong raises LocalProtocolError in the reader's task.",
        faulty=ping_meets_close,
        right=ping_forgiven,
    ),
    Entry(
        name="trio-websocket-158",
        library="trio-websocket",
        issue="python-trio/trio-websocket#158",
        affected="0.10.0",
        mended="0.10.2",
        text="One task reads while another one closes: the connection is closed, for no reason.",
        faulty=reason_of_local_close,
        right=reason_of_local_close,
        packages=("trio-websocket==0.10.0",),
        mended_packages=("trio-websocket==0.10.2",),
    ),
    Entry(
        name="hypercorn-177",
        library="hypercorn",
        issue="pgjones/hypercorn#177",
        affected="December 2023",
        mended="closed",
        text="The peer closes between an application's look at the state and its message: the server ends.",
        faulty=closed_by_peer,
        right=closed_forgiven,
        least=1,
        remade=True,
    ),
    Entry(
        name="hypercorn-376",
        library="hypercorn",
        issue="pgjones/hypercorn#376",
        affected="September 2026",
        mended="open",
        text="An application ends after its stream was reset: sending its end raises, and hides why it ended.",
        faulty=end_after_reset,
        right=end_forgiven,
        remade=True,
    ),
    Entry(
        name="anycorn-50",
        library="anycorn",
        issue="davidbrochart/anycorn#50",
        affected="July 2026",
        mended="#50",
        text="The client closes while the end of a response is on its way: the finished request is told of it.",
        faulty=disconnect_while_ending,
        right=closed_before_ending,
        least=1,
        remade=True,
    ),
    Entry(
        name="httpx-ws-111",
        library="httpx-ws",
        issue="frankie567/httpx-ws#111",
        affected="0.7.2",
        mended="open",
        text="A socket is closed while another task waits for a message, which never comes, nor the end.",
        faulty=receives_for_ever,
        right=receives_the_end,
        remade=True,
    ),
)
