"""A process with a tracker and a server, which runs what it is told line by line: the other side of a browser's tests.

Each line of standard input is a JSON string with Python code, run as the body of an async function that knows
`tracker`, `nursery`, `open_session`, `start_server` and `stop_server`, and keeps what it puts into `kept`. What it
returns is written as a line of JSON. A line with a JSON list, `[STORE, LOST_AFTER]`, begins anew: with another tracker,
nothing kept and nothing served. It is the first line, and each test that is lent the process sends one.
"""

from __future__ import annotations

import json
import sys
import textwrap
import traceback
from collections.abc import AsyncIterator, Mapping
from typing import Any

import trio

from trio_progress import Pipeline, ProgressTracker, Session, open_tracker
from trio_progress.server import open_server
from trio_progress.session.scope import Resume


class Host:
    """What the code that comes in can use."""

    def __init__(self, tracker: ProgressTracker, nursery: trio.Nursery) -> None:
        self.tracker = tracker
        self.nursery = nursery
        self.kept: dict[str, Any] = {}
        self._server: trio.CancelScope | None = None
        self._gone = trio.Event()
        self._ends: dict[str, trio.Event] = {}

    async def start_server(self, port: int = 0, **options: Any) -> str:
        """Serves until `stop_server`; returns the address."""
        self._gone = trio.Event()
        url: str = await self.nursery.start(self._serve, port, options)
        return url

    async def _serve(self, port: int, options: dict[str, Any], task_status: trio.TaskStatus[str]) -> None:
        with trio.CancelScope() as self._server:
            async with open_server(self.tracker, port=port, **options) as server:
                task_status.started(server.url)
                await trio.sleep_forever()
        self._gone.set()

    async def stop_server(self) -> None:
        """Stops serving, and returns when nothing is served any more."""
        assert self._server is not None
        self._server.cancel()
        await self._gone.wait()

    async def open_session(
        self,
        session_id: str,
        phases: Mapping[str, float] | None = None,
        *,
        title: str | None = None,
        labels: Mapping[str, str] | None = None,
        resume: Resume = "never",
    ) -> Session:
        """A session that stays open until `end_session`."""
        pipeline = None if phases is None else Pipeline("research", phases)
        session: Session = await self.nursery.start(self._hold, session_id, pipeline, title, labels, resume)
        return session

    async def _hold(
        self,
        session_id: str,
        pipeline: Pipeline | None,
        title: str | None,
        labels: Mapping[str, str] | None,
        resume: Resume,
        task_status: trio.TaskStatus[Session],
    ) -> None:
        ends = self._ends[session_id] = trio.Event()
        async with self.tracker.session(session_id, pipeline, title=title, labels=labels, resume=resume) as session:
            task_status.started(session)
            await ends.wait()

    async def end_session(self, session_id: str) -> None:
        """Lets a session end, and returns when it has."""
        self._ends.pop(session_id).set()
        await self.tracker.wait_ended(session_id)

    async def obey(self, code: str) -> Any:
        """Runs the code as an async function's body."""
        scope = {"host": self, "trio": trio, **{name: getattr(self, name) for name in ("tracker", "nursery", "kept")}}
        scope |= {name: getattr(self, name) for name in ("start_server", "stop_server", "open_session", "end_session")}
        exec(f"async def body():\n{textwrap.indent(textwrap.dedent(code), '    ')}", scope)
        return await scope["body"]()


def say(**answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def serve_one(lines: AsyncIterator[str], store: str, lost_after: float) -> list[Any] | None:
    """Obeys until it is to begin anew, and returns with what; None where standard input ends."""
    following = None
    async with open_tracker(store, broadcast_interval=0.05, heartbeat_interval=0.5, lost_after=lost_after) as tracker:
        async with trio.open_nursery() as nursery:
            host = Host(tracker, nursery)
            say(returned=None)
            async for line in lines:
                order = json.loads(line)
                if isinstance(order, list):
                    following = order
                    break
                try:
                    say(returned=await host.obey(order))
                except Exception:
                    say(raised=traceback.format_exc())
            nursery.cancel_scope.cancel()
    return following


async def main() -> None:
    """Obeys until standard input ends."""
    lines = aiter(trio.wrap_file(sys.stdin))
    following: list[Any] | None = json.loads(await anext(lines))
    while following is not None:
        following = await serve_one(lines, *following)


if __name__ == "__main__":
    trio.run(main)
