"""The walk of one `advance()`: the functions of the package that it passes on its way to a reader, each once.

A program of its own, for the threads in which a store blocks must be followed from their beginning:

    python -m tests.walk websocket
    python -m tests.walk redis://127.0.0.1:6379

It prints a JSON list of walks, the shortest first, each a list of `[file, function, file of the caller or null]` in the
order in which they were passed first. What else is due at the same moment is no part of a walk: what the writer does
once the store has it, and, as the shortest has the least of that, a look at leases or a renewal.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Final

import trio
from trio_websocket import open_websocket_url

import trio_progress
from trio_progress import Pipeline, open_server, open_tracker

WALKS: Final = 20
WARM_UP: Final = 3
"""Walks before these, that come by what is made once."""
PACKAGE: Final = f"{Path(trio_progress.__file__).parent}/"
PIPELINE: Final = Pipeline("work", {"count": 1, "report": 1})

STORED: Final = "RedisBackend.commit"
"""Where this has returned, readers may know; what the writers' rooms do from then on they do not wait for."""
WRITERS: Final = (f"{PACKAGE}session/", f"{PACKAGE}storage/")

Walk = list[tuple[str, str, str | None]]

_passed: dict[tuple[str, str], str | None] = {}
_on = False
_stored = False


def _follow(frame: FrameType, event: str, _: Any) -> None:
    global _stored  # noqa: PLW0603 - a profiler is one for all
    code = frame.f_code
    if not _on or not code.co_filename.startswith(PACKAGE) or code.co_name.startswith("<"):
        return
    if event == "return":
        _stored = _stored or code.co_qualname == STORED
    elif event == "call" and not (_stored and code.co_filename.startswith(WRITERS)):
        caller = None if frame.f_back is None else frame.f_back.f_code.co_filename
        by = caller.removeprefix(PACKAGE) if caller is not None and caller.startswith(PACKAGE) else None
        _passed.setdefault((code.co_filename.removeprefix(PACKAGE), code.co_qualname), by)


def _begin() -> None:
    global _on, _stored
    _passed.clear()
    _on, _stored = True, False


def _end() -> Walk:
    global _on  # noqa: PLW0603
    _on = False
    return [(file, function, by) for (file, function), by in _passed.items()]


async def to_a_websocket() -> list[Walk]:
    """From the worker to a client of the server, over a real socket."""
    walks: list[Walk] = []
    async with (
        open_tracker("memory:", broadcast_interval=0.01, persist_interval=3600.0) as tracker,
        open_server(tracker, 0) as server,
        tracker.session("walk", PIPELINE) as session,
        open_websocket_url(f"ws://127.0.0.1:{server.port}/ws", subprotocols=["trio-progress.v1"]) as client,
    ):
        with session.phase("count", total=100) as phase:
            await client.send_message(json.dumps({"type": "subscribe", "session": "walk"}))
            for n in range(1, WALKS + WARM_UP + 1):
                await trio.sleep(0.05)
                _begin()
                phase.advance()
                while f'"done":{n},' not in (message := await client.get_message()) or "update" not in message:
                    pass
                walks.append(_end())
    return walks


async def to_another_tracker(store: str) -> list[Walk]:
    """From the worker through the store to who watches by another tracker, as another process would."""
    walks: list[Walk] = []
    send, arrived = trio.open_memory_channel[None](1)
    async with (
        open_tracker(store, broadcast_interval=0.01, persist_interval=0.01) as tracker,
        open_tracker(store) as gateway,
        tracker.session("walk", PIPELINE) as session,
        trio.open_nursery() as nursery,
    ):

        async def watch() -> None:
            async with gateway.watch("walk") as snapshots:
                async for snapshot in snapshots:
                    if snapshot.phases[0].done == len(walks) + 1:
                        walks.append(_end())
                        await send.send(None)

        with session.phase("count", total=100) as phase:
            await session.flush()
            nursery.start_soon(watch)
            for _ in range(WALKS + WARM_UP):
                await trio.sleep(0.1)
                _begin()
                phase.advance()
                await arrived.receive()
            nursery.cancel_scope.cancel(reason="the walks were taken")
    return walks


def main(where: str) -> None:
    """Takes the walks, and prints them."""
    threading.setprofile(_follow)  # Of threads that are yet to begin.
    sys.setprofile(_follow)
    walks = trio.run(to_a_websocket) if where == "websocket" else trio.run(to_another_tracker, where)
    sys.setprofile(None)
    print(json.dumps(sorted(walks[WARM_UP:], key=len)))


if __name__ == "__main__":
    main(sys.argv[1])
