"""Locks, limiters and conditions: a waiter that is woken and cancelled at once, and one who comes in between."""

from __future__ import annotations

from collections import deque

import trio

from .entry import Entry, library, steps, together

# A lock of asyncio's kind: who waits and is cancelled leaves the queue only when it runs again.


class Waiter:
    """A task that waits for the lock."""

    def __init__(self) -> None:
        self.task = trio.lowlevel.current_task()
        self.cancelled = False

    async def wait(self) -> None:
        """Until the lock is handed over."""

        def abort(_: object) -> trio.lowlevel.Abort:
            self.cancelled = True
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)


class Lock:
    """Hands itself over to the first waiter that is not cancelled.

    Args:
        drops: Whether `release()` takes cancelled waiters out of the queue, as 4.14 does.
    """

    def __init__(self, *, drops: bool) -> None:
        self.drops = drops
        self.owner: trio.lowlevel.Task | None = None
        self.waiters: deque[Waiter] = deque()

    async def acquire(self) -> None:
        """Waits its turn; the queue being empty counts as nobody's turn."""
        await steps()
        if self.owner is None and not self.waiters:
            self.owner = trio.lowlevel.current_task()
            return
        waiter = Waiter()
        self.waiters.append(waiter)
        try:
            await waiter.wait()
        except BaseException:
            if waiter in self.waiters:
                self.waiters.remove(waiter)
            if self.owner is waiter.task:
                self.release()
            raise

    def release(self) -> None:
        """Hands over, where somebody waits."""
        self.owner = None
        for waiter in [*self.waiters]:
            if waiter.cancelled and not self.drops:
                continue
            self.waiters.remove(waiter)
            if not waiter.cancelled:
                self.owner = waiter.task
                trio.lowlevel.reschedule(waiter.task)
                return


async def _newcomer(lock: Lock) -> None:
    scope = trio.CancelScope()
    served: list[str] = []

    async def owner() -> None:
        await steps(2)
        lock.release()

    async def impatient() -> None:
        with scope:
            await lock.acquire()
            lock.release()

    async def cancel() -> None:
        await steps(2)
        scope.cancel()

    async def newcomer() -> None:
        await steps(2)
        with trio.move_on_after(5):
            await lock.acquire()
            served.append("newcomer")
            lock.release()

    await lock.acquire()
    await together(owner, impatient, cancel, newcomer)
    assert served, "the lock is free, and whoever comes waits"


async def stale_waiter() -> None:
    """Cancelled waiters stay in the queue."""
    await _newcomer(Lock(drops=False))


async def dropped_waiter() -> None:
    """They are dropped."""
    await _newcomer(Lock(drops=True))


class Limiter:
    """A limiter of one token, as anyio has it on asyncio: the one that is woken takes the token when it runs.

    Args:
        reserves: Whether `release()` gives the token away itself.
        passes_on: Whether a waiter that was woken and is cancelled wakes the next one.
    """

    def __init__(self, *, reserves: bool, passes_on: bool) -> None:
        self.reserves = reserves
        self.passes_on = passes_on
        self.borrowers: list[object] = []
        self.queue: dict[object, trio.Event] = {}

    def acquire_nowait(self, borrower: object) -> None:
        """Takes a token that nobody waits for."""
        if self.borrowers or self.queue:
            raise trio.WouldBlock
        self.borrowers.append(borrower)

    async def acquire(self, borrower: object) -> None:
        """Waits for the token."""
        await steps()
        try:
            self.acquire_nowait(borrower)
            return
        except trio.WouldBlock:
            event = self.queue[borrower] = trio.Event()
        try:
            await event.wait()
            await steps()  # Where asyncio delivers a cancel that came meanwhile.
        except BaseException:
            self.queue.pop(borrower, None)
            if event.is_set() and self.passes_on:
                if self.reserves:
                    self.borrowers.remove(borrower)
                self.wake()
            raise
        if not self.reserves:
            self.borrowers.append(borrower)

    def release(self, borrower: object) -> None:
        """Gives the token back."""
        self.borrowers.remove(borrower)
        self.wake()

    def wake(self) -> None:
        """Wakes who has waited longest."""
        if self.queue and not self.borrowers:
            borrower = next(iter(self.queue))
            self.queue.pop(borrower).set()
            if self.reserves:
                self.borrowers.append(borrower)


async def _token(limiter: Limiter) -> None:
    scope = trio.CancelScope()
    served: list[str] = []

    async def holder() -> None:
        await limiter.acquire("holder")
        await steps(2)
        limiter.release("holder")

    async def impatient() -> None:
        with scope:
            await limiter.acquire("impatient")
            limiter.release("impatient")

    async def patient() -> None:
        with trio.move_on_after(5):
            await limiter.acquire("patient")
            served.append("patient")
            limiter.release("patient")

    async def cancel() -> None:
        await steps(3)
        scope.cancel()

    await together(holder, impatient, patient, cancel)
    assert served, "a token is free, and who waits for it is not told"


async def lost_token() -> None:
    """A waiter is cancelled when it has been woken."""
    await _token(Limiter(reserves=False, passes_on=False))


async def token_passed_on() -> None:
    """It wakes the next."""
    await _token(Limiter(reserves=True, passes_on=True))


async def _nowait(limiter: Limiter) -> None:
    async def holder() -> None:
        await limiter.acquire("holder")
        await steps()
        limiter.release("holder")

    async def waiter() -> None:
        await limiter.acquire("waiter")
        await steps()
        assert len(limiter.borrowers) == 1, f"one token, borrowed by {limiter.borrowers}"
        limiter.release("waiter")

    async def taker() -> None:
        await steps(3)
        try:
            limiter.acquire_nowait("taker")
        except trio.WouldBlock:
            return
        await steps(2)
        limiter.release("taker")

    await together(holder, waiter, taker)


async def two_borrowers() -> None:
    """Somebody takes the token that a waiter has been woken for."""
    await _nowait(Limiter(reserves=False, passes_on=False))


async def token_reserved() -> None:
    """The token is given to the waiter by who returns it."""
    await _nowait(Limiter(reserves=True, passes_on=True))


class Semaphore:
    """A semaphore whose slot is free until the waiter that was woken runs.

    Args:
        again: Whether such a waiter waits again where the slot has gone.
    """

    def __init__(self, *, again: bool) -> None:
        self.again = again
        self.free = 1
        self.waiters: deque[trio.Event] = deque()

    async def __aenter__(self) -> None:
        """Takes a slot, or waits for one."""
        await steps()
        while True:
            if self.free:
                self.free -= 1
                return
            event = trio.Event()
            self.waiters.append(event)
            await event.wait()
            if not self.again and not self.free:
                raise trio.WouldBlock

    async def __aexit__(self, *_: object) -> None:
        """Gives the slot back, and wakes one."""
        self.free += 1
        if self.waiters:
            self.waiters.popleft().set()


async def _users(semaphore: Semaphore) -> None:
    async def use() -> None:
        async with semaphore:
            await steps()

    async def use_later() -> None:
        await steps()
        async with semaphore:
            await steps()

    await together(use, use, use_later)


async def slot_taken() -> None:
    """Somebody takes the slot between a waiter's wake-up and its run."""
    await _users(Semaphore(again=False))


async def slot_waited_for() -> None:
    """It waits again."""
    await _users(Semaphore(again=True))


async def anyio_lock() -> None:
    """A waiter is cancelled when the lock has been handed to it."""
    lock = library("anyio").Lock()
    scope = trio.CancelScope()

    async def owner() -> None:
        async with lock:
            await steps()

    async def impatient() -> None:
        with scope:
            async with lock:
                pass

    async def cancel() -> None:
        await steps(2)
        scope.cancel()

    await together(owner, impatient, cancel)
    with trio.fail_after(5):
        async with lock:
            pass


async def anyio_condition() -> None:
    """One of two waiters is cancelled, and notify(1) comes before it has run."""
    condition = library("anyio").Condition()
    scope = trio.CancelScope()
    served: list[str] = []
    waiting = trio.Event()

    async def impatient() -> None:
        with scope:
            async with condition:
                await condition.wait()
                served.append("impatient")

    async def patient() -> None:
        with trio.move_on_after(5):
            async with condition:
                waiting.set()
                await condition.wait()
                served.append("patient")

    async def notify() -> None:
        await waiting.wait()
        async with condition:
            condition.notify()

    async def cancel() -> None:
        await waiting.wait()
        scope.cancel()

    await together(impatient, patient, notify, cancel)
    assert served, "notify() woke nobody, with a task waiting"


ENTRIES = (
    Entry(
        name="anyio-252",
        library="anyio",
        issue="agronholm/anyio#252",
        affected="April 2021",
        mended="3.0.0",
        text="Semaphore.acquire() raises WouldBlock: another task takes the slot between wake-up and run.",
        faulty=slot_taken,
        right=slot_waited_for,
        least=2,
        remade=True,
    ),
    Entry(
        name="anyio-387",
        library="anyio",
        issue="agronholm/anyio#387",
        affected="3.3.4",
        mended="3.4.0",
        text="A Lock stays taken for ever when a waiter is cancelled just as it is given the lock.",
        faulty=anyio_lock,
        right=anyio_lock,
        least=1,
        packages=("anyio==3.3.4",),
        mended_packages=("anyio==3.4.0",),
    ),
    Entry(
        name="anyio-1075",
        library="anyio",
        issue="agronholm/anyio#1075",
        affected="4.12.1",
        mended="4.13.0",
        text="Condition.notify() is lost when the waiter that it picks has been cancelled and has not run yet.",
        faulty=anyio_condition,
        right=anyio_condition,
        packages=("anyio==4.12.1",),
        mended_packages=("anyio==4.13.0",),
    ),
    Entry(
        name="anyio-1145",
        library="anyio",
        issue="agronholm/anyio#1145",
        affected="4.13.0, on asyncio",
        mended="4.14.0",
        text="release() passes over cancelled waiters and leaves them queued; who comes then waits for nobody.",
        faulty=stale_waiter,
        right=dropped_waiter,
        least=1,
        remade=True,
    ),
    Entry(
        name="anyio-947",
        library="anyio",
        issue="agronholm/anyio#947",
        affected="on asyncio",
        mended="closed",
        text="A waiter of a CapacityLimiter is woken and cancelled; nobody else is told of the token.",
        faulty=lost_token,
        right=token_passed_on,
        least=1,
        remade=True,
    ),
    Entry(
        name="anyio-1170",
        library="anyio",
        issue="agronholm/anyio#1170",
        affected="4.13.0, on asyncio",
        mended="#1172",
        text="A CapacityLimiter of one token has two borrowers: one takes it while a woken waiter has not run yet.",
        faulty=two_borrowers,
        right=token_reserved,
        least=2,
        remade=True,
    ),
)
