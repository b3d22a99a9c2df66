"""A process that takes what waits, and tells what it does: `STORE MAX_ATTEMPTS`. The job "poison" kills it."""

from __future__ import annotations

import os
import signal
import sys

import trio

from trio_progress import FencedError, ProgressTracker, open_tracker


def say(*words: object) -> None:
    print(*words, flush=True)


async def work(tracker: ProgressTracker, max_attempts: int) -> None:
    while True:
        taken = None
        try:
            async with tracker.next_session(max_attempts=max_attempts) as session:
                taken = session.id
                say("begun", taken, session.snapshot().attempt)
                if taken == "poison":
                    os.kill(os.getpid(), signal.SIGKILL)
                await trio.sleep(0.1)
        except FencedError:
            say("fenced", taken)
        else:
            say("done", taken)


async def main(store: str, max_attempts: int) -> None:
    async with open_tracker(store, lost_after=3.0, heartbeat_interval=0.5) as tracker:
        say("ready")
        await work(tracker, max_attempts)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]))
