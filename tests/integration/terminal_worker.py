"""A worker with a display that is run by tests: `terminal_worker.py STORE LOG STOP`.

It works until the file STOP is there, and writes into LOG how it ended and the event loop's worst pause.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import trio

from trio_progress import open_display, open_tracker

LOST_AFTER = 3.0

TICK = 0.005


async def main(store: str, stopped: Callable[[], bool]) -> str:
    """How it ended: status, steps, worst pause.

    Pauses are measured by the ticks of a thread beside the event loop: a write holds up the loop alone, and a busy
    machine both.
    """
    worst = ticks = 0

    def tick() -> None:
        nonlocal ticks
        while True:
            time.sleep(TICK)
            ticks += 1

    async def measure() -> None:
        nonlocal worst
        last = ticks
        while True:
            await trio.sleep(TICK)
            worst, last = max(worst, ticks - last - 1), ticks

    threading.Thread(target=tick, daemon=True).start()

    async with (
        open_tracker(store, heartbeat_interval=LOST_AFTER / 4, lost_after=LOST_AFTER) as tracker,
        open_display(tracker, interval=0.05),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(measure)
        async with tracker.session("job", title="a long job") as session:
            with ExitStack() as stack:
                # As much to draw as a window has room for, and lines that are long.
                phases = [stack.enter_context(session.phase(f"part-{number}", unit="x" * 20)) for number in range(30)]
                while not stopped():
                    for phase in phases:
                        phase.advance()
                    session.increment("steps")
                    await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    return f"{session.status} {session.snapshot().counters['steps']:.0f} {worst * TICK:.4f}\n"


if __name__ == "__main__":
    ended = trio.run(main, sys.argv[1], Path(sys.argv[3]).exists)
    Path(sys.argv[2]).write_text(ended, encoding="ascii")
