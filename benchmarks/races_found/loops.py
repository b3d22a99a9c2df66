"""A loop within a loop: what is told to it as it ends."""

from __future__ import annotations

from collections.abc import Callable

import trio

from .entry import Entry, steps, together


class Loop:
    """Another library's event loop within ours; what a task of ours returns is told over its queue."""

    def __init__(self) -> None:
        self.send, self.receive = trio.open_memory_channel[Callable[[], None]](8)
        self.stopped = False

    async def run(self) -> None:
        """Calls what is queued, until it is stopped."""
        async for callback in self.receive:
            callback()
            if self.stopped:
                return

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Queues a callback."""
        if self.stopped:
            raise RuntimeError("event loop is closed")
        self.send.send_nowait(callback)

    def stop(self) -> None:
        """Ends `run()`."""
        self.send.send_nowait(lambda: None)
        self.stopped = True


async def _leaves_loop(*, tasks_first: bool) -> None:
    loop, finished = Loop(), trio.Event()

    async def task() -> None:
        try:
            await steps(2)
        finally:
            loop.call_soon(finished.set)

    async with trio.open_nursery() as loops:
        loops.start_soon(loop.run)
        async with trio.open_nursery() as tasks:
            tasks.start_soon(task)
            await steps(2)  # the user's block
            if not tasks_first:
                loop.stop()
            tasks.cancel_scope.cancel()
        if tasks_first:
            loop.stop()


async def loop_before_tasks() -> None:
    """The loop is stopped, then its tasks are cancelled, and tell it of that."""
    await _leaves_loop(tasks_first=False)


async def tasks_before_loop() -> None:
    """The other way round."""
    await _leaves_loop(tasks_first=True)


async def _calls(*, answers: bool) -> None:
    send, receive = trio.open_memory_channel[trio.Event](4)
    ended = False

    async def runner() -> None:
        nonlocal ended
        served = await receive.receive()
        served.set()
        await steps()  # what was called has raised: it is told, and ends this task too
        ended = True
        if answers:
            while True:
                try:
                    receive.receive_nowait().set()
                except trio.WouldBlock:
                    return

    async def test() -> None:
        body = trio.Event()
        send.send_nowait(body)
        await body.wait()
        await steps()
        if ended:
            return
        finalizer = trio.Event()
        send.send_nowait(finalizer)
        await finalizer.wait()

    with send, receive:
        await together(runner, test)


async def finalizer_unheard() -> None:
    """A fixture is finalized by a call to a loop that is about to end."""
    await _calls(answers=False)


async def finalizer_heard() -> None:
    """The loop answers what was queued before it ends."""
    await _calls(answers=True)


ENTRIES = (
    Entry(
        name="trio-asyncio-89",
        library="trio-asyncio",
        issue="python-trio/trio-asyncio#89",
        affected="0.11.0",
        mended="#96",
        text="The loop is stopped before its Trio tasks are; what they return is told to a closed loop.",
        faulty=loop_before_tasks,
        right=tasks_before_loop,
        remade=True,
    ),
    Entry(
        name="anyio-187",
        library="anyio",
        issue="agronholm/anyio#187",
        affected="January 2021",
        mended="#187",
        text="A test raises; its fixture is finalized by a call to a Trio task that is about to end, and hangs.",
        faulty=finalizer_unheard,
        right=finalizer_heard,
        least=1,
        remade=True,
    ),
)
