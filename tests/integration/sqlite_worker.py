"""What the tests of several processes on one SQLite file run in each of them; it tells of itself line by line."""

from __future__ import annotations

import sys
import time
from typing import Any

import trio

from trio_progress import (
    FencedError,
    Pipeline,
    ProgressTracker,
    SessionActiveError,
    SessionClosedError,
    StoreError,
    open_tracker,
)

PIPELINE = Pipeline("numbers", {"count": 1, "check": 1})


def say(*words: object) -> None:
    print(*words, flush=True)


def tracker_on(path: str, **settings: Any) -> Any:
    return open_tracker(f"sqlite:{path}", **{"lost_after": 0.6, "heartbeat_interval": 0.15} | settings)


async def count(path: str) -> None:
    """Owns session "a" whenever nobody else does, and counts in it; a number is told once the store holds it."""
    async with tracker_on(path, persist_interval=0.02, broadcast_interval=0.01) as tracker:
        say("ready")
        while True:
            try:
                await _count(tracker)
            except SessionActiveError:
                await trio.sleep(0.02)
            except FencedError as error:
                say("fenced", error.epoch)
            except StoreError as error:
                say("store", error)


async def _count(tracker: ProgressTracker) -> None:
    async with tracker.session("a", PIPELINE, resume="always") as session:
        await session.flush()
        number = session.snapshot().counters.get("n", 0)
        say("own", session.epoch, number, time.monotonic())
        while True:
            session.increment("n")
            session.emit("counted", number + 1)
            number += 1
            at = time.monotonic()  # Not afterwards: it may be stopped between what is stored and a look at the clock.
            try:
                await session.flush()
            except (FencedError, SessionClosedError):
                await trio.sleep_forever()
            say("ack", session.epoch, number, at)


async def claim(path: str, ids: int) -> None:
    """Tries to own each of many sessions at the same time as others do, and keeps those that it got."""
    async with tracker_on(path, lost_after=30, heartbeat_interval=10) as tracker, trio.open_nursery() as nursery:
        say("ready")

        async def hold(session_id: str, *, task_status: trio.TaskStatus[None]) -> None:
            try:
                async with tracker.session(session_id) as session:
                    await session.flush()
                    say("won", session_id, session.epoch)
                    task_status.started()
                    await trio.sleep_forever()
            except SessionActiveError:
                say("refused", session_id)
                task_status.started()

        for number in range(ids):
            await trio.to_thread.run_sync(sys.stdin.readline)
            await nursery.start(hold, f"c{number}")
        say("done")
        await trio.to_thread.run_sync(sys.stdin.readline)
        nursery.cancel_scope.cancel()


async def work(path: str, seconds: float) -> None:
    """One run with phases that take their time, which tells its ETA in the first of them, and how long that has run."""
    async with tracker_on(path, lost_after=60) as tracker, tracker.session(pipeline=PIPELINE) as session:
        await session.flush()  # So that the store's answer, with what earlier runs have taught, is there.
        for name in ("count", "check"):
            with session.phase(name):
                if name == "count":
                    begun = trio.current_time()
                    await trio.sleep(0.05)
                    say("eta", session.snapshot().eta, trio.current_time() - begun)
                await trio.sleep(seconds)


if __name__ == "__main__":
    what, where, *rest = sys.argv[1:]
    match what:
        case "count":
            trio.run(count, where)
        case "claim":
            trio.run(claim, where, int(rest[0]))
        case "work":
            trio.run(work, where, float(rest[0]))
