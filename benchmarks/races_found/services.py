"""Starting and stopping: nurseries, services, loops and pools that are left while something has only just begun."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from .entry import Entry, steps, together


async def _loop(*, shielded: bool) -> None:
    stop, scope = trio.Event(), trio.CancelScope()

    async def loop(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with trio.CancelScope(shield=True):
            await steps()
            task_status.started()
            await stop.wait()

    async def use() -> None:
        with scope:
            async with trio.open_nursery() as nursery:
                with trio.CancelScope(shield=shielded):
                    await nursery.start(loop)
                try:
                    await steps()
                finally:
                    stop.set()

    async def cancel() -> None:
        await steps(2)
        scope.cancel()

    await together(use, cancel)


async def started_unheard() -> None:
    """A loop that is shielded calls started() after its caller was cancelled."""
    await _loop(shielded=False)


async def start_shielded() -> None:
    """What trio-asyncio does since: start() is shielded."""
    await _loop(shielded=True)


async def _waits_for_service(*, watched: bool) -> None:
    ready, gone = trio.Event(), trio.Event()
    broken = False
    opened = trio.Event()
    inner: list[trio.Nursery] = []

    async def service() -> None:
        try:
            await steps(2)
            if broken:
                raise OSError("connection refused")
            ready.set()
        finally:
            gone.set()

    async def run() -> None:
        try:
            async with trio.open_nursery() as nursery:
                inner.append(nursery)
                nursery.start_soon(service)
                opened.set()
                with trio.move_on_after(10):
                    await trio.sleep_forever()
        except* OSError:
            pass

    async def client(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        if watched:
            await gone.wait()
        else:
            await ready.wait()
        task_status.started()

    async def begin() -> None:
        await opened.wait()
        if not gone.is_set():
            await inner[0].start(client)
        inner[0].cancel_scope.cancel()

    async def break_it() -> None:
        nonlocal broken
        await steps(2)
        broken = True

    await together(run, begin, break_it)


async def start_into_crash() -> None:
    """A task is started into a nursery, and waits for one that crashes there."""
    await _waits_for_service(watched=False)


async def start_watches() -> None:
    """It waits for that task's end as well."""
    await _waits_for_service(watched=True)


class Manager:
    """Runs tasks, and knows them, so that it can end them one by one.

    Args:
        early: Whether a task is known as soon as it is scheduled.
        settled: Whether it goes on until no task is left, over a copy.
    """

    def __init__(self, nursery: trio.Nursery, *, early: bool, settled: bool = True) -> None:
        self.nursery = nursery
        self.early = early
        self.settled = settled
        self.tasks: dict[str, tuple[trio.CancelScope, trio.Event]] = {}

    def run_task(self, name: str, function: Callable[[], Awaitable[None]]) -> None:
        """Schedules a task."""
        known = (trio.CancelScope(), trio.Event())
        if self.early:
            self.tasks[name] = known

        async def run() -> None:
            scope, done = self.tasks.setdefault(name, known)
            try:
                with scope:
                    await function()
            finally:
                done.set()

        self.nursery.start_soon(run, name=name)

    async def stop(self) -> None:
        """Cancels all tasks, and waits for each."""
        if not self.settled:
            for scope, done in self.tasks.values():
                scope.cancel()
                await done.wait()
            return
        while any(not done.is_set() for _, done in self.tasks.values()):
            for scope, done in [*self.tasks.values()]:
                scope.cancel()
                await done.wait()


async def _stopped(*, early: bool) -> None:
    running: set[str] = set()

    async def work() -> None:
        running.add("work")
        try:
            await trio.sleep(3)
        finally:
            running.discard("work")

    async with trio.open_nursery() as nursery:
        manager = Manager(nursery, early=early)
        manager.run_task("work", work)

        async def stop() -> None:
            await steps()
            await manager.stop()
            await steps(2)
            assert not running, "the service has stopped, and a task of it runs"

        nursery.start_soon(stop)


async def unknown_task() -> None:
    """A service is stopped with a task that is scheduled and has not begun."""
    await _stopped(early=False)


async def known_task() -> None:
    """It was known from the beginning."""
    await _stopped(early=True)


async def _grows(*, settled: bool) -> None:
    async def short() -> None:
        await steps()

    async with trio.open_nursery() as nursery:
        manager = Manager(nursery, early=True, settled=settled)

        async def parent() -> None:
            await steps(2)
            manager.run_task("child", short)

        manager.run_task("other", trio.sleep_forever)
        manager.run_task("parent", parent)

        async def stop() -> None:
            await steps(2)
            await manager.stop()

        nursery.start_soon(stop)


async def task_while_stopping() -> None:
    """A task makes another while all are being stopped."""
    await _grows(settled=False)


async def stopping_settles() -> None:
    """They are stopped until none is left."""
    await _grows(settled=True)


async def _peers(*, waits: bool) -> None:
    class Peer:
        def __init__(self) -> None:
            self.scope = trio.CancelScope()
            self.started = trio.Event()

        async def run(self) -> None:
            self.started.set()
            with self.scope:
                await trio.sleep(3)

        def cancel(self) -> None:
            assert self.started.is_set(), "cannot cancel what was never started"
            self.scope.cancel()

    peers: dict[str, Peer] = {}

    async with trio.open_nursery() as nursery:

        async def join() -> None:
            await steps()
            peer = peers["peer"] = Peer()
            nursery.start_soon(peer.run)

        async def leave() -> None:
            await steps(2)
            peer = peers.pop("peer", None)
            if peer is None:
                return
            if waits:
                await peer.started.wait()
            peer.cancel()

        nursery.start_soon(join)
        nursery.start_soon(leave)


async def leaves_before_start() -> None:
    """A peer leaves before its service has begun."""
    await _peers(waits=False)


async def leaves_after_start() -> None:
    """Its beginning is waited for."""
    await _peers(waits=True)


ENTRIES = (
    Entry(
        name="trio-2895",
        library="trio",
        issue="python-trio/trio#2895",
        affected="all so far",
        mended="open",
        text="started() does nothing after a cancel; a child that is shielded goes on, and start() never returns. "
        "Found in trio-asyncio (#115), which shields start() since 0.13.0.",
        faulty=started_unheard,
        right=start_shielded,
    ),
    Entry(
        name="trio-1431",
        library="trio",
        issue="python-trio/trio#1431",
        affected="all so far",
        mended="by the caller",
        text="A task is started into a nursery that crashes meanwhile: not cancelled, it holds the nursery open.",
        faulty=start_into_crash,
        right=start_watches,
    ),
    Entry(
        name="async-service-47",
        library="async-service",
        issue="ethereum/async-service#47",
        affected="January 2020",
        mended="#47",
        text="A task that is scheduled and has not begun is not known; the service stops without it.",
        faulty=unknown_task,
        right=known_task,
        least=1,
        remade=True,
    ),
    Entry(
        name="async-service-44",
        library="async-service",
        issue="ethereum/async-service#44",
        affected="January 2020",
        mended="closed",
        text="A task makes another while all are cancelled in turn: the dictionary changes size during iteration.",
        faulty=task_while_stopping,
        right=stopping_settles,
        remade=True,
    ),
    Entry(
        name="trinity-1858",
        library="trinity",
        issue="ethereum/trinity#1858",
        affected="July 2020",
        mended="closed",
        text="A peer leaves before its service has begun: what was never started cannot be cancelled.",
        faulty=leaves_before_start,
        right=leaves_after_start,
        remade=True,
    ),
)
