"""The whole chain as processes: workers that are forked, gateways from the command line, and clients of theirs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import trio

from tests.doors import Answer, ask
from tests.support import PATIENCE
from trio_progress import Bookmark, CustomEvent, End, Gap, Snapshot, Subscribed, Update, connect

ROOT = Path(__file__).resolve().parents[1]
FARM = Path(__file__).with_name("integration") / "worker_farm.py"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}

LOST_AFTER = 1.0
WORKING: dict[str, Any] = {
    "heartbeat_interval": 0.3,
    "lost_after": LOST_AFTER,
    "persist_interval": 0.1,
    "broadcast_interval": 0.05,
    "spool": False,
}
"""Settings of a worker that is soon missed."""


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Waits for what nobody tells."""
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for is told by nobody
            await trio.sleep(0.01)


@dataclass
class Left:
    """How a worker was left: its exit code, negative for a signal, and what it has said."""

    code: int
    said: str


class Farm:
    """Workers, each a process that owns one session. Made by `open_farm()`."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self.begun: dict[str, tuple[int, int]] = {}
        """The process and the attempt of each session."""
        self.left: dict[str, list[Left]] = {}

    async def listen(self) -> None:
        """Takes in what is told."""
        assert self._process.stdout is not None
        buffer = b""
        async for data in self._process.stdout:
            *lines, buffer = (buffer + data).split(b"\n")
            for what, session_id, *told in map(json.loads, lines):
                if what == "begun":
                    self.begun[session_id] = (told[0], told[1])
                else:
                    self.left.setdefault(session_id, []).append(Left(*told))

    async def work(self, store: str, *sessions: str, **settings: Any) -> None:
        """Has each of the sessions owned by a process of its own, and returns when all have begun."""
        for session_id in sessions:
            self.begun.pop(session_id, None)
        missing = sessions
        while missing:
            orders = [json.dumps([store, session_id, WORKING | settings]) + "\n" for session_id in missing]
            assert self._process.stdin is not None
            await self._process.stdin.send_all("".join(orders).encode())
            await until(lambda: all(self.begun.get(session_id) or self.left.get(session_id) for session_id in sessions))
            missing = tuple(session_id for session_id in sessions if session_id not in self.begun)
            for session_id in missing:
                # Redis was too slow, on a busy machine: begun again, as a gateway is.
                said = self.left[session_id].pop().said
                assert "it has not answered" in said, said

    def signal(self, session_id: str, number: int) -> None:
        """Sends the owner of a session a signal."""
        os.kill(self.begun[session_id][0], number)

    async def gone(self, session_id: str) -> Left:
        """How the last owner of a session was left, once it was."""
        await until(lambda: self.left.get(session_id))
        return self.left[session_id].pop()


@asynccontextmanager
async def open_farm() -> AsyncIterator[Farm]:
    """A farm of workers; those that are left are killed with it."""
    process = await trio.lowlevel.open_process(
        [sys.executable, str(FARM)], cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    async with trio.open_nursery() as nursery:
        farm = Farm(process)
        nursery.start_soon(farm.listen)
        try:
            yield farm
        finally:
            nursery.cancel_scope.cancel(reason="the farm is left")
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PATIENCE):
                assert process.stdin is not None
                assert process.stdout is not None
                await process.stdin.aclose()
                await process.wait()
                await process.stdout.aclose()


class Gateway:
    """`trio-progress serve` in a process of its own: of those who have it, each may end it and begin it again."""

    def __init__(self, store: str, *options: str) -> None:
        self._store = store
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """What clients connect to."""
        return f"ws://127.0.0.1:{self.port}"

    def launch(self) -> None:
        """Begins it, on the port that it had before, and returns when it serves. Blocks."""
        self._begin()
        deadline = time.monotonic() + PATIENCE
        while (found := re.search(rb"at http://[^:]+:(\d+)/\n", self.said())) is None:
            if self._process is not None and self._process.poll() is not None:
                assert b"it has not answered" in self.said(), self.said()
                self._begin()  # Redis was too slow, on a busy machine: begun again, as by whatever looks after it.
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.02)
        self.port = int(found[1])

    def _begin(self) -> None:
        command = [sys.executable, "-m", "trio_progress", "serve", "--store", self._store, "--port", str(self.port)]
        command += ["--lost-after", str(LOST_AFTER), "--drain-timeout", "1", *self._options]
        if self._said is not None:
            self._said.close()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe that nobody reads would fill
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=self._said
        )

    def said(self) -> bytes:
        """What it has said on standard error since it was begun."""
        assert self._said is not None
        return os.pread(self._said.fileno(), 1_000_000, 0)

    async def start(self) -> None:
        """Begins it, on the port that it had before, and returns when it serves."""
        await trio.to_thread.run_sync(self.launch)

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def end(self, *, kill: bool = False) -> int:
        """Ends it; its exit code, negative for a signal. Blocks."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.kill() if kill else process.terminate()
        code = process.wait(PATIENCE)
        assert self._said is not None
        self._said.close()
        return code

    async def ask(self, method: str, path: str) -> Answer:
        """One request."""
        return await ask(self.port, method, path)

    async def metric(self, name: str) -> float:
        """The sum of the samples of a metric: `sessions_ended_total{...,status="lost"}` by a part of its line."""
        lines = (await self.ask("GET", "/metrics")).body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(f"trio_progress_{name}", line))


@contextmanager
def gateways_on(*stores: str, options: tuple[str, ...] = ()) -> Iterator[list[Gateway]]:
    """A gateway on each of the stores, which may be the same. Blocks, but not for one after the other."""
    gateways = [Gateway(store, *options) for store in stores]
    try:
        with ThreadPoolExecutor(len(gateways)) as threads:
            for begun in [threads.submit(gateway.launch) for gateway in gateways]:
                begun.result()
        yield gateways
    finally:
        for gateway in gateways:
            gateway.end(kill=True)


@dataclass
class Viewer:
    """Somebody who watches one session through a gateway, and what they were told, checked as it came."""

    session_id: str
    state: Snapshot | None = None
    greetings: list[Subscribed] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    dropped: int = 0
    end: End | None = None
    messages: int = 0

    async def watch(self, gateway: Gateway) -> None:
        """Watches until the session has ended, from where it was left the last time."""
        since = None if self.state is None else self.resume
        async with connect(gateway.url, self.session_id, wait=True, since=since) as messages:
            async for message in messages:
                self._take(message)

    resume: str = ""
    """The token of the newest message."""

    def _take(self, message: Any) -> None:
        self.messages += 1
        before = self.state
        match message:
            case Subscribed():
                self.greetings.append(message)
            case Snapshot():
                self.state = message
                if before is not None and before.epoch != message.epoch:
                    self.events.clear()  # With another owner all is told anew.
                    self.dropped = 0
            case Update():
                assert before is not None
                self.state = message.apply(before)
            case CustomEvent():
                assert not self.events or message.n > self.events[-1], "an event comes once, and in order"
                self.events.append(message.n)
            case Gap():
                self.dropped += message.dropped
            case End():
                assert self.end is None
                self.end = message
            case Bookmark():
                pass
        self.resume = getattr(message, "resume", None) or self.resume
        if before is not None and self.state is not None:
            assert (self.state.epoch, self.state.seq) >= (before.epoch, before.seq), "a state never goes back"
            if self.state.epoch == before.epoch:
                assert self.steps >= before.counters.get("steps", 0)

    @property
    def steps(self) -> float:
        """How far the session has counted, as far as that was told."""
        return 0 if self.state is None else self.state.counters.get("steps", 0)

    async def sees(self, steps: float) -> None:
        """Returns when so many steps have been told."""
        await until(lambda: self.steps >= steps)

    @property
    def holes(self) -> int:
        """Events that are missing between the first and the last."""
        return self.events[-1] - self.events[0] + 1 - len(self.events) if self.events else 0
