"""Streams, channels and generators: what is sent just then, and who closes them meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast

import trio

from .entry import Entry, library, steps, together


class Stream:
    """A stream whose receiver is handed the item, and may be cancelled before it takes it, as on asyncio.

    Args:
        keeps: Whether what such a receiver was handed goes back into the buffer.
    """

    def __init__(self, *, keeps: bool) -> None:
        self.keeps = keeps
        self.buffer: deque[str] = deque()
        self.receivers: dict[trio.Event, list[str]] = {}

    async def send(self, item: str) -> None:
        """Hands the item to whoever waits, else keeps it."""
        await steps()
        if self.receivers:
            event = next(iter(self.receivers))
            self.receivers.pop(event).append(item)
            event.set()
        else:
            self.buffer.append(item)

    async def receive(self) -> str:
        """Takes an item, or waits for one."""
        await steps()
        if self.buffer:
            return self.buffer.popleft()
        event, box = trio.Event(), list[str]()
        self.receivers[event] = box
        try:
            await event.wait()
            await steps()  # Where asyncio delivers a cancel that came meanwhile.
        except BaseException:
            self.receivers.pop(event, None)
            if self.keeps:
                self.buffer.extendleft(box)
            raise
        return box[0]


async def _impatient(stream: Stream) -> None:
    scope = trio.CancelScope()
    got: list[str] = []

    async def receive() -> None:
        with scope:
            got.append(await stream.receive())

    async def send() -> None:
        await steps()
        await stream.send("item")

    async def cancel() -> None:
        await steps(2)
        scope.cancel()

    await together(receive, send, cancel)
    with trio.move_on_after(5):
        if not got:
            got.append(await stream.receive())
    assert got == ["item"], "it was sent, and nobody has it"


async def dropped_item() -> None:
    """The receiver is cancelled with the item in its hands."""
    await _impatient(Stream(keeps=False))


async def kept_item() -> None:
    """It puts the item back."""
    await _impatient(Stream(keeps=True))


async def anyio_pending_cancel() -> None:
    """A receiver is cancelled, and an item is sent before it has run."""
    send, receive = library("anyio").create_memory_object_stream(1)
    scope = trio.CancelScope()
    got: list[object] = []

    async def wait() -> None:
        with scope:
            got.append(await receive.receive())

    async def cancel() -> None:
        await steps(3)
        scope.cancel()

    async def put() -> None:
        await steps(3)
        send.send_nowait("item")

    await together(wait, cancel, put)
    if not got:
        got.append(receive.receive_nowait())
    send.close()
    receive.close()


async def anyio_sent_or_not() -> None:
    """The only receiver takes one item and closes."""
    anyio = library("anyio")
    send, receive = anyio.create_memory_object_stream()
    got: list[int] = []
    sent: list[int] = []

    async def sender() -> None:
        async with send:
            for number in range(2):
                try:
                    await send.send(number)
                except anyio.BrokenResourceError:
                    return
                sent.append(number)

    async def receiver() -> None:
        async with receive:
            got.append(await receive.receive())

    await together(sender, receiver)
    assert sent == got, f"{sent} were sent as their sender was told, {got} received"


async def trio_safe_channel() -> None:
    """One task iterates over a channel made of a generator, another closes it."""

    async def numbers() -> AsyncIterator[int]:
        for number in range(4):
            await steps()
            yield number

    channel_of: Any = trio.as_safe_channel(cast("Any", numbers))
    async with channel_of() as channel:

        async def read() -> None:
            try:
                async for _ in channel:
                    pass
            except trio.ClosedResourceError:
                pass

        async def close() -> None:
            await steps(4)
            await channel.aclose()

        await together(read, close)


async def shared_generator() -> None:
    """Two tasks ask one asynchronous generator for its next value."""

    async def numbers() -> AsyncGenerator[int, None]:
        for number in range(4):
            await steps()
            yield number

    generator = numbers()

    async def take() -> None:
        await anext(generator)

    async def take_later() -> None:
        await steps(2)
        await anext(generator)

    try:
        await together(take, take_later)
    finally:
        await generator.aclose()


async def shared_channel() -> None:
    """The same over a memory channel, which may be shared."""
    send, receive = trio.open_memory_channel[int](0)

    async def numbers() -> None:
        with send:
            for number in range(2):
                await steps()
                await send.send(number)

    async def take() -> None:
        await receive.receive()

    async def take_later() -> None:
        await steps(2)
        await receive.receive()

    with receive:
        await together(numbers, take, take_later)


async def _router(*, catches: bool) -> None:
    anyio = library("anyio")
    send, receive = anyio.create_memory_object_stream(0)

    async def route() -> None:
        try:
            async for _ in receive:
                pass
        except anyio.ClosedResourceError:
            if not catches:
                raise

    async def refuse() -> None:
        await steps()
        send.close()
        receive.close()

    await together(route, refuse)


async def router_falls() -> None:
    """A request is refused at once, and its transport closed, while the router has only just begun."""
    await _router(catches=False)


async def router_ends() -> None:
    """The router takes that for the end."""
    await _router(catches=True)


async def _reader(*, cancels: bool) -> None:
    anyio = library("anyio")
    send, receive = anyio.create_memory_object_stream(0)

    async def read_output() -> None:
        await steps()  # the process' first line
        try:
            async with send:
                await send.send("hello")
        except anyio.ClosedResourceError:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_output)
        await steps(2)  # what the caller does with its client
        if cancels:
            nursery.cancel_scope.cancel()
        receive.close()
        send.close()


async def client_left_early() -> None:
    """The client is left while its reader hands over a line that nobody will read."""
    await _reader(cancels=False)


async def client_cancels_first() -> None:
    """The reader is cancelled before its streams are closed."""
    await _reader(cancels=True)


ENTRIES = (
    Entry(
        name="anyio-146",
        library="anyio",
        issue="agronholm/anyio#146",
        affected="August 2020",
        mended="2.0.0",
        text="A receiver with a timeout is cancelled with an item in its hands; the item is lost.",
        faulty=dropped_item,
        right=kept_item,
        remade=True,
    ),
    Entry(
        name="anyio-186",
        library="anyio",
        issue="agronholm/anyio#186",
        affected="2.0.2",
        mended="2.1.0",
        text="send() raises BrokenResourceError although the receiver, which then closed, has the item.",
        faulty=anyio_sent_or_not,
        right=anyio_sent_or_not,
        packages=("anyio==2.0.2",),
        mended_packages=("anyio==2.1.0",),
    ),
    Entry(
        name="anyio-728",
        library="anyio",
        issue="agronholm/anyio#728",
        affected="4.3.0",
        mended="4.4.0",
        text="An item that is sent to a receiver with a cancel pending is dropped.",
        faulty=anyio_pending_cancel,
        right=anyio_pending_cancel,
        packages=("anyio==4.3.0",),
        mended_packages=("anyio==4.4.0",),
    ),
    Entry(
        name="trio-3331",
        library="trio",
        issue="python-trio/trio#3331",
        affected="0.31.0",
        mended="0.32.0",
        text="One task closes a channel of as_safe_channel() that another iterates over: BrokenResourceError.",
        faulty=trio_safe_channel,
        right=trio_safe_channel,
        packages=("trio==0.31.0",),
        mended_packages=("trio==0.32.0",),
    ),
    Entry(
        name="trio-871",
        library="async generators",
        issue="python-trio/trio#871",
        affected="all so far",
        mended="by a channel",
        text="Two tasks ask one asynchronous generator for its next value: it is already running.",
        faulty=shared_generator,
        right=shared_channel,
        least=1,
    ),
    Entry(
        name="mcp-1363",
        library="mcp",
        issue="modelcontextprotocol/python-sdk#1363",
        affected="1.12.0",
        mended="closed",
        text="A request is refused at once and its streams are closed; the router, just begun, falls over them.",
        faulty=router_falls,
        right=router_ends,
        remade=True,
        packages=("anyio==4.10.0",),
        mended_packages=("anyio==4.10.0",),
    ),
    Entry(
        name="mcp-1960",
        library="mcp",
        issue="modelcontextprotocol/python-sdk#1960",
        affected="January 2026",
        mended="open",
        text="A client is left while its reader is handing over a line: BrokenResourceError.",
        faulty=client_left_early,
        right=client_cancels_first,
        least=1,
        remade=True,
        packages=("anyio==4.10.0",),
        mended_packages=("anyio==4.10.0",),
    ),
)
