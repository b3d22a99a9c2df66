"""Multiplexers and pipes: what is written between the parts of a message."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import trio

from .entry import Entry, steps, together


class Window:
    """What a sender may still send; while it is nothing, the lock is let go of and taken again."""

    def __init__(self, *, shielded: bool) -> None:
        self.lock = trio.Lock()
        self.left = 0
        self.update = trio.Event()
        self.shielded = shielded

    @contextlib.asynccontextmanager
    async def room(self) -> AsyncIterator[None]:
        """A block with the lock and something to send."""
        async with self.lock:
            while not self.left:
                self.lock.release()
                try:
                    await self.update.wait()
                finally:
                    if self.shielded:
                        with trio.CancelScope(shield=True):
                            await self.lock.acquire()
                    elif not trio.current_effective_deadline() < trio.current_time():
                        await self.lock.acquire()  # noqa: ASYNC102 - the race that is hunted for
            yield


async def _window(window: Window) -> None:
    scope = trio.CancelScope()

    async def write() -> None:
        with scope:
            async with window.room():
                window.left -= 1

    async def grant() -> None:
        await steps(2)
        async with window.lock:
            window.left += 1
            window.update.set()
            await steps()

    async def reset() -> None:
        await steps(3)
        scope.cancel()

    await together(write, grant, reset)


async def window_unshielded() -> None:
    """The stream is reset while a writer takes the lock again."""
    await _window(Window(shielded=False))


async def window_shielded() -> None:
    """It takes the lock again whatever comes."""
    await _window(Window(shielded=True))


class Pipe:
    """A pipe to a worker, which counts on each length being followed by as many bytes."""

    def __init__(self) -> None:
        self.bytes: list[str] = []

    async def send(self, message: str) -> None:
        """Writes a length, and then the message."""
        self.bytes.append(str(len(message)))
        await steps()
        self.bytes.append(message)

    def read(self) -> list[str]:
        """All messages."""
        rest, messages = [*self.bytes], []
        while rest:
            length, message, *rest = (*rest, "") if len(rest) == 1 else rest
            assert length == str(len(message)), f"not a message: {self.bytes}"
            messages.append(message)
        return messages


async def _jobs(*, shielded: bool) -> None:
    pipe, scope = Pipe(), trio.CancelScope()

    async def first() -> None:
        with scope:
            await steps()
            with trio.CancelScope(shield=shielded):
                await pipe.send("job")

    async def cancel() -> None:
        await steps()
        scope.cancel()

    await together(first, cancel)
    await pipe.send("task")
    assert "task" in pipe.read()


async def split_message() -> None:
    """A job is cancelled between the length of its message and the message."""
    await _jobs(shielded=False)


async def whole_message() -> None:
    """A message is written whole."""
    await _jobs(shielded=True)


async def _frames(*, locked: bool) -> None:
    pipe, lock = Pipe(), trio.Lock()

    async def write(message: str) -> None:
        if not locked:
            await pipe.send(message)
            return
        async with lock:
            await pipe.send(message)

    async def first() -> None:
        await steps()
        await write("one")

    async def second() -> None:
        await steps(3)
        await write("three")

    await together(first, second)
    assert sorted(pipe.read()) == ["one", "three"]


async def mingled_frames() -> None:
    """Two tasks write to one stream."""
    await _frames(locked=False)


async def frames_in_turn() -> None:
    """One after the other."""
    await _frames(locked=True)


ENTRIES = (
    Entry(
        name="libp2p-640",
        library="libp2p",
        issue="libp2p/py-libp2p#640",
        affected="May 2025",
        mended="#640",
        text="A writer waits for the window, without the lock; cancelled meanwhile, it releases what it has not got.",
        faulty=window_unshielded,
        right=window_shielded,
        remade=True,
    ),
    Entry(
        name="trio-parallel-15",
        library="trio-parallel",
        issue="richardsheridan/trio-parallel#15",
        affected="February 2021",
        mended="#15",
        text="A job is cancelled within its message to the worker; the next message is read as its rest.",
        faulty=split_message,
        right=whole_message,
        least=1,
        remade=True,
    ),
    Entry(
        name="libp2p-639",
        library="libp2p",
        issue="libp2p/py-libp2p#639",
        affected="May 2025",
        mended="#748",
        text="Two tasks write to one stream of a multiplexer, and their frames mingle.",
        faulty=mingled_frames,
        right=frames_in_turn,
        least=1,
        remade=True,
    ),
)
