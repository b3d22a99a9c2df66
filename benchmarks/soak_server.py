"""The server of the soak, in a process of its own: sessions that are told to many, and how it stands without them."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from trio_progress import ProgressTracker, Session, Snapshot, open_tracker
from trio_progress.server import open_server

from .fanout_server import resident

BULKY: Final = 0.01
"""The share of the clients that never read; they watch a session whose updates soon fill all buffers."""


INTERVAL: Final = 0.2
"""Seconds between two states: one process merges what a thousand clients are told, and must keep up with it."""


@dataclass(frozen=True, slots=True)
class Soak:
    """What is done to the server."""

    clients: int
    seconds: float
    leaving: float
    """The share of the clients that leaves and comes back in a second."""
    write_timeout: float = 2.0

    @property
    def stalled(self) -> int:
        """How many never read."""
        return max(round(self.clients * BULKY), 1)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a process has, with nobody connected and no session open."""

    tasks: int
    descriptors: int
    memory: int
    """Resident bytes."""
    dropped: int
    """Clients dropped so far, because they did not read."""


def essence(snapshot: Snapshot) -> bytes:
    """What of a state must be the same for all who have it."""
    one = snapshot
    told = (one.epoch, one.seq, one.status, one.progress, one.counters, one.fields, one.message, one.result, one.phases)
    return msgspec.json.encode(told)


def serve(soak: Soak, control: Connection) -> None:
    """Serves; sends its port, and then answers: "run" begins sessions, "end" ends them, "stand" asks how it stands."""
    try:
        trio.run(_serve, soak, control)
    except BaseException as error:  # noqa: ASYNC103 - the other process raises it
        control.send(error)
        sys.exit(1)


async def _serve(soak: Soak, control: Connection) -> None:
    async with (
        open_tracker(broadcast_interval=INTERVAL) as tracker,
        open_server(
            tracker,
            port=0,
            max_connections=soak.clients * 2 + 100,
            max_connections_per_address=soak.clients * 2 + 100,
            write_timeout=soak.write_timeout,
        ) as server,
    ):
        await trio.to_thread.run_sync(control.send, server.port)
        while (asked := await _heard(control)) != "stop":
            if asked == "stand":
                told: Any = await _standing(tracker)
            else:
                told = await _run(tracker, control)
            await trio.to_thread.run_sync(control.send, told)


async def _heard(control: Connection) -> Any:
    return await trio.to_thread.run_sync(control.recv)


async def _run(tracker: ProgressTracker, control: Connection) -> bytes:
    """The sessions, until it is said that they are to end; what the one that all watch has come to."""
    async with tracker.session("bulky") as bulky, trio.open_nursery() as nursery:
        nursery.start_soon(_swell, bulky)
        async with tracker.session("soak") as session:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as work:
                    work.start_soon(_work, session)
                    control.send("runs")
                    await _heard(control)
                    scope.cancel()
            session.set_result({"told": session.snapshot().seq})
        nursery.cancel_scope.cancel()
    return essence(await tracker.snapshot("soak"))


async def _work(session: Session) -> None:
    """Something of everything: counts, a growing total, phases that come and go, fields, events."""
    n = 0
    with session.phase("crawl", total=100) as crawl:
        while True:
            with crawl.phase(f"site-{n}", total=20) as site:
                for _ in range(20):
                    n += 1
                    site.advance()
                    session.set(n=n, padding="x" * (n % 300))
                    session.increment("pages")
                    await trio.sleep(0.02)
            crawl.advance()
            crawl.extend(1)
            session.emit("site.done", {"n": n})
            session.update(message=f"{n} pages")


async def _swell(session: Session) -> None:
    n = 0
    while True:
        n += 1
        session.set(**{f"part{place}": f"{n:05}" * 3000 for place in range(20)})
        await trio.sleep(0.05)


async def _standing(tracker: ProgressTracker) -> Standing:
    """How it stands once the last connection is gone."""
    before = -1
    with trio.fail_after(30):
        # Connections end one by one, and nobody says which was the last: until two looks see the same.
        while (tasks := trio.lowlevel.current_statistics().tasks_living) != before or tracker.statistics().subscribers:
            before = tasks
            await trio.sleep(0.25)
    gc.collect()
    return Standing(tasks, _descriptors(), resident(), tracker.statistics().subscribers_dropped)


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
