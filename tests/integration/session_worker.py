"""A process that owns a session and ends it in the way that it is asked to: `STORE ID ENDING [HELD]`.

So many of its first steps are each held until a line comes on standard input.
"""

from __future__ import annotations

import os
import signal
import sys

import trio

from trio_progress import Pipeline, open_tracker

PIPELINE = Pipeline("work", {"count": 3, "report": 1})


async def main(store: str, session_id: str, ending: str, held: int) -> None:
    # One that is to be taken for lost is so soon; no other is, however long a busy machine keeps it from its heartbeat.
    lost_after = 1.0 if ending in ("lost", "stopped") else 300.0
    async with open_tracker(store, heartbeat_interval=0.3, lost_after=lost_after, persist_interval=0.1) as tracker:
        tracker.interrupt_on(signal.SIGTERM)
        async with tracker.session(session_id, PIPELINE, title="Counting", labels={"user": "u1"}) as session:
            with session.phase("count", total=1000, unit="steps") as phase:
                await session.flush()
                print("begun", flush=True)
                while phase.done < 10 or ending in ("hang", "stopped"):
                    if phase.done < held:
                        await trio.to_thread.run_sync(sys.stdin.readline)
                    await trio.sleep(0.05)
                    phase.advance()
                    session.increment("steps")
                    session.emit("step.done", {"n": phase.done})
            if ending == "failed":
                session.fail("no luck")
            elif ending == "cancelled":
                session.cancel("of no use")
            elif ending == "timed_out":
                with trio.fail_after(0):
                    await trio.sleep(1)
            elif ending == "interrupted":
                os.kill(os.getpid(), signal.SIGTERM)
            elif ending == "lost":
                os.kill(os.getpid(), signal.SIGKILL)
            await trio.sleep(0.2)


if __name__ == "__main__":
    try:
        where, who, how, *more = sys.argv[1:]
        trio.run(main, where, who, how, int(more[0]) if more else 0)
    except trio.TooSlowError:
        sys.exit(1)
