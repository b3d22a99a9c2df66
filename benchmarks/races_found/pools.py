"""Pools in a few lines: opened by several at once, and left by a request that is cancelled."""

from __future__ import annotations

import trio

from .entry import Entry, steps, together


class Pool:
    """Opened by its first user and closed by its last one."""

    def __init__(self, *, locked: bool) -> None:
        self.users = 0
        self.connection: str | None = None
        self.opening = trio.Lock() if locked else None

    async def __aenter__(self) -> Pool:
        """Counts one more user; the first one connects."""
        if self.opening is not None:
            async with self.opening:
                await self.enter()
        else:
            await self.enter()
        return self

    async def enter(self) -> None:
        """Counts first, and then connects."""
        self.users += 1
        if self.users == 1:
            await steps(2)
            self.connection = "connection"

    async def __aexit__(self, *_: object) -> None:
        """Counts one less."""
        self.users -= 1
        if not self.users:
            self.connection = None


async def _herd(pool: Pool) -> None:
    async def first() -> None:
        async with pool:
            assert pool.connection is not None, "the pool is used, and was not opened"
            await steps(3)

    async def second() -> None:
        await steps(4)
        async with pool:
            assert pool.connection is not None, "the pool is used, and was not opened"

    await together(first, second)


async def half_open() -> None:
    """A second user comes while the first one connects."""
    await _herd(Pool(locked=False))


async def opened_once() -> None:
    """It waits for that."""
    await _herd(Pool(locked=True))


async def _request(*, all_exceptions: bool) -> None:
    slots, scope = ["slot"], trio.CancelScope()

    async def request() -> None:
        with scope:
            slot = slots.pop()
            try:
                await steps(2)
            except BaseException as error:
                if all_exceptions or isinstance(error, Exception):
                    slots.append(slot)
                raise
            slots.append(slot)

    async def cancel() -> None:
        await steps(3)
        scope.cancel()

    await together(request, cancel)
    assert slots, "nobody is connected, and there is no slot left"


async def slot_lost() -> None:
    """A request is cancelled as it connects, which is no Exception."""
    await _request(all_exceptions=False)


async def slot_returned() -> None:
    """Whatever ends it, the slot comes back."""
    await _request(all_exceptions=True)


ENTRIES = (
    Entry(
        name="coredis-345",
        library="coredis",
        issue="alisaifee/coredis#345",
        affected="February 2026",
        mended="closed",
        text="Several tasks open one pool at once; the second one uses it before the first has opened it.",
        faulty=half_open,
        right=opened_once,
        least=1,
        remade=True,
    ),
    Entry(
        name="httpcore-305",
        library="httpcore",
        issue="encode/httpcore#305",
        affected="April 2021",
        mended="#305",
        text="A request is cancelled as it connects, which `except Exception` does not catch: its slot is lost.",
        faulty=slot_lost,
        right=slot_returned,
        remade=True,
    ),
)
