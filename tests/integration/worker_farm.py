"""Owners of sessions in processes of their own that are forked, for an interpreter each would take most of a test.

Each line of standard input is a JSON list, `[STORE, ID, SETTINGS]`: a process is forked that opens a tracker with
these settings and owns the session. What happens is told in lines of JSON: `["begun", ID, PID, ATTEMPT]` by an owner,
`["left", ID, CODE, STDERR]` by the farm once the owner is gone; the code is negative for a signal.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import tempfile
from typing import IO, Any

import trio

import trio_progress.stores.redis.backend  # noqa: F401 - so that it is there before the first fork
from trio_progress import Pipeline, open_tracker

PIPELINE = Pipeline("work", {"count": 3, "report": 1})


def tell(*what: object) -> None:
    """One line, whole: owners and the farm write to one pipe."""
    os.write(1, json.dumps(what).encode() + b"\n")


async def own(store: str, session_id: str, settings: dict[str, Any]) -> None:
    """Counts for as long as it may, a step every `pace` seconds; SIGTERM is a polite stop."""
    pace = settings.pop("pace", 0.02)
    async with open_tracker(store, **settings) as tracker:
        tracker.interrupt_on(signal.SIGTERM)
        async with tracker.session(session_id, PIPELINE, labels={"user": "u1"}, resume="interrupted") as session:
            with session.phase("count", total=1_000_000, unit="steps") as phase:
                await session.flush()
                tell("begun", session_id, os.getpid(), session.attempt)
                while True:
                    await trio.sleep(pace)
                    phase.advance()
                    session.increment("steps")
                    session.emit("step.done", {"n": phase.done})


def hatch(order: list[Any], said: IO[bytes]) -> int:
    """Forks one owner."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(said.fileno(), 2)
            trio.run(own, *order)
            code = 0
        except BaseException:  # noqa: ASYNC103 - told, and then the process ends
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(code)
    return child


def main() -> None:
    """Until standard input ends, and then none is left."""
    owners: dict[int, tuple[str, IO[bytes]]] = {}
    buffer = b""
    try:
        while True:
            while owners and (found := os.waitpid(-1, os.WNOHANG))[0]:
                session_id, said = owners.pop(found[0])
                said.seek(0)
                tell("left", session_id, os.waitstatus_to_exitcode(found[1]), said.read()[-3000:].decode())
                said.close()
            if not select.select([0], [], [], 0.05)[0]:
                continue
            data = os.read(0, 65536)
            if not data:
                return
            *lines, buffer = (buffer + data).split(b"\n")
            for order in map(json.loads, lines):
                said = tempfile.TemporaryFile()  # noqa: SIM115 - closed once its owner is gone
                owners[hatch(order, said)] = (order[1], said)
    finally:
        for owner in owners:
            os.kill(owner, signal.SIGKILL)


if __name__ == "__main__":
    main()
