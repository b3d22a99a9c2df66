"""Answers, messages and values for somebody who has just left, or is about to come."""

from __future__ import annotations

import trio

from .entry import Entry, library, steps, together


async def _answer(*, catches: bool) -> None:
    handlers: dict[int, trio.MemorySendChannel[str]] = {}

    async def request() -> None:
        send, receive = trio.open_memory_channel[str](0)
        handlers[1] = send
        with send, receive:
            with trio.move_on_after(5):
                await receive.receive()
        del handlers[1]

    async def dispatch() -> None:
        for answer in ("early", "late"):
            await steps(2)
            if 1 in handlers:
                try:
                    await handlers[1].send(answer)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    if not catches:
                        raise

    await together(request, dispatch)


async def late_answer() -> None:
    """A second answer is on its way to a request that has had enough."""
    await _answer(catches=False)


async def late_answer_dropped() -> None:
    """It is dropped."""
    await _answer(catches=True)


async def _feed(*, catches: bool) -> None:
    subscribers: list[trio.MemorySendChannel[int]] = []

    async def publish() -> None:
        await steps(3)
        for channel in [*subscribers]:
            try:
                await channel.send(1)
            except trio.BrokenResourceError:
                if not catches:
                    raise

    async def subscribe() -> None:
        send, receive = trio.open_memory_channel[int](4)
        subscribers.append(send)
        with receive:
            await steps(3)
        await steps()  # what the subscription's end is written to a log with
        subscribers.remove(send)

    await together(publish, subscribe)


async def subscriber_leaves() -> None:
    """A subscriber leaves between two messages."""
    await _feed(catches=False)


async def subscriber_may_leave() -> None:
    """Who publishes knows that they may."""
    await _feed(catches=True)


async def composed_values() -> None:
    """A value changes before the composed one listens."""
    util = library("trio_util")
    one, other = util.AsyncValue(0), util.AsyncValue(0)

    async def change() -> None:
        await steps(2)
        one.value = 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(change)
        async with util.compose_values(one=one, other=other) as composed:
            with trio.fail_after(5):
                await composed.wait_value(lambda values: values.one == 1)


async def _predicate(*, held: bool) -> None:
    value = library("trio_util").AsyncValue("idle")

    async def wait() -> None:
        seen = await value.wait_value("ready")
        now = seen if held else value.value
        assert now == "ready", f"waited for 'ready', and it is {now!r}"

    async def change() -> None:
        await steps(2)
        value.value = "ready"
        await steps()
        value.value = "idle"
        await steps(4)
        value.value = "ready"

    await together(wait, change)


async def value_gone() -> None:
    """A value is another one again by the time that who waited for it runs."""
    await _predicate(held=False)


async def value_given() -> None:
    """Who waits takes what wait_value() returns."""
    await _predicate(held=True)


ENTRIES = (
    Entry(
        name="trinity-1517",
        library="trinity",
        issue="ethereum/trinity#1517",
        affected="January 2020",
        mended="closed",
        text="An answer is on its way to a request whose channel is closed meanwhile.",
        faulty=late_answer,
        right=late_answer_dropped,
        remade=True,
    ),
    Entry(
        name="ddht-265",
        library="ddht",
        issue="ethereum/ddht#265",
        affected="December 2020",
        mended="closed",
        text="A subscriber leaves while a message is handed round: BrokenResourceError ends the whole service.",
        faulty=subscriber_leaves,
        right=subscriber_may_leave,
        least=1,
        remade=True,
    ),
    Entry(
        name="trio-util-13",
        library="trio-util",
        issue="groove-x/trio-util#13",
        affected="0.4.0",
        mended="0.4.1",
        text="compose_values() is entered before its tasks listen, so a change is missed.",
        faulty=composed_values,
        right=composed_values,
        packages=("trio-util==0.4.0",),
        mended_packages=("trio-util==0.4.1",),
    ),
    Entry(
        name="trio-util-19",
        library="trio-util",
        issue="groove-x/trio-util#19",
        affected="0.8.0",
        mended="by the caller",
        text="After wait_value() the value may be another one again; what the call returns is the right one.",
        faulty=value_gone,
        right=value_given,
        least=1,
        packages=("trio-util==0.8.0",),
        mended_packages=("trio-util==0.8.0",),
    ),
)
