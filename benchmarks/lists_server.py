"""The contenders of the suite `lists`, each in a process of its own: many sessions that move, told to many open pages.

Every `plan.pace` seconds each of `plan.sessions` moves; four times a second each of `plan.clients` is told of those
that did. The CPU time of the process (user and system, all threads) is what is measured.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any, Final

import trio

from trio_progress import Phase, ProgressTracker, open_tracker
from trio_progress.server import open_server
from trio_progress.server.encoder import frame

from .fanout_server import Contender, Meter, Plan, Result, bare, broadcasting, run_contender, sending_on_trio

ROUND: Final = 0.25
"""Seconds between two rounds in which the pages are told: that of `subscribe *`, unless asked otherwise."""


def head(n: int, done: int) -> dict[str, Any]:
    """What the rivals tell of one session: as large as an entry of ours."""
    moment = "2026-01-01T00:00:00.000000Z"
    return {
        "type": "session",
        "session": f"run-{n}",
        "id": f"run-{n}",
        "pipeline": None,
        "title": f"Run {n}",
        "labels": {"user": f"user-{n % 10}"},
        "epoch": 1,
        "seq": done,
        "attempt": 1,
        "status": "running",
        "liveness": "ok",
        "progress": done / 100_000,
        "raw": done / 100_000,
        "eta": 1234.5,
        "message": None,
        "counters": {},
        "fields": {},
        "result": None,
        "error": None,
        "queued_at": None,
        "started_at": moment,
        "progressed_at": moment,
        "heartbeat_at": moment,
        "ended_at": None,
        "stall_after": 60.0,
        "events": 0,
        "verbs": ["read", "cancel", "delete"],
    }


def floor(plan: Plan, control: Connection) -> Result:
    """A task of Trio that makes each entry once, and writes all of a round to each socket at once."""
    return sending_on_trio(
        by_rounds(plan), control, lambda n: b"".join(frame(entry.encode()) for entry in entries(plan, n))
    )


def by_rounds(plan: Plan) -> Plan:
    """As much time, in rounds in which the pages are told."""
    return replace(plan, rounds=int(plan.rounds * plan.pace / ROUND), pace=ROUND)


def entries(plan: Plan, n: int) -> Iterator[str]:
    """What the rivals tell in a round."""
    return (json.dumps(head(number, n)) for number in range(plan.sessions))


def ours(plan: Plan, control: Connection) -> Result:
    """Sessions of a tracker, and its server: the whole way from `phase.advance()` on."""
    return trio.run(_ours, plan, control)


async def _ours(plan: Plan, control: Connection) -> Result:
    async with (
        open_tracker(persist_interval=60.0) as tracker,
        open_server(tracker, port=0, max_connections_per_address=plan.clients + 10, drain_timeout=0.0) as server,
        trio.open_nursery() as nursery,
    ):
        phases = [await nursery.start(_open, tracker, n) for n in range(plan.sessions)]
        control.send(server.port)
        await trio.to_thread.run_sync(control.recv)
        result = await _moved(plan, phases)
        nursery.cancel_scope.cancel()
    return result


async def _open(tracker: ProgressTracker, n: int, *, task_status: trio.TaskStatus[Phase]) -> None:
    async with tracker.session(f"run-{n}", title=f"Run {n}", labels={"user": f"user-{n % 10}"}) as session:
        with session.phase("work", total=100_000) as phase:
            task_status.started(phase)
            await trio.sleep_forever()


async def _moved(plan: Plan, phases: Sequence[Phase]) -> Result:
    """Lets the sessions move, and measures that."""
    await trio.sleep(2 * ROUND)
    meter = Meter()
    meter.start()
    began = time.monotonic()
    for n in range(1, plan.rounds + 1):
        await trio.sleep(max(began + n * plan.pace - time.monotonic(), 0.0))
        meter.tick()
        for phase in phases:
            phase.advance()
    return meter.stop(plan.clients * plan.rounds * plan.pace / ROUND)


def each_by_itself(plan: Plan, control: Connection) -> Result:
    """A task for each page that follows all sessions and encodes what it tells: the obvious way to do it."""
    return trio.run(_each_by_itself, plan, control)


async def _each_by_itself(plan: Plan, control: Connection) -> Result:
    async with open_tracker(persist_interval=60.0) as tracker, trio.open_nursery() as nursery:
        phases = [await nursery.start(_open, tracker, n) for n in range(plan.sessions)]
        for sock in await trio.to_thread.run_sync(bare, plan, control):
            nursery.start_soon(_tell, tracker, sock)
        result = await _moved(plan, phases)
        nursery.cancel_scope.cancel()
    return result


async def _tell(tracker: ProgressTracker, sock: socket.socket) -> None:
    async with tracker.watch_all(here=True) as snapshots:
        async for snapshot in snapshots:
            told = [snapshot]
            while True:
                try:
                    told.append(snapshots.take_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):
                    break
            texts = (json.dumps(head(int(one.id[4:]), one.seq)) for one in told)
            sock.sendall(b"".join(frame(text.encode()) for text in texts))
            await trio.sleep(ROUND)


def websockets_broadcast(plan: Plan, control: Connection) -> Result:
    """`websockets.broadcast()` of each entry, on asyncio."""
    return broadcasting(by_rounds(plan), control, lambda n: entries(plan, n))


CONTENDERS: Final[dict[str, Contender]] = {
    "floor on Trio": floor,
    "ours, list": ours,
    "each by itself": each_by_itself,
    "websockets.broadcast": websockets_broadcast,
}


def measure(name: str, plan: Plan, control: Connection) -> None:
    """Runs a contender; sends its port, and then its result."""
    run_contender(CONTENDERS[name], plan, control)
