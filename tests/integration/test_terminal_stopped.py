"""A terminal that takes nothing (Ctrl-S, a selection, a stalled ssh), a pipe that nobody reads, and the work behind it.

Each test prints the worst pause of the worker's event loop; run with `-s` on an idle machine to see what it is.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import trio

from trio_progress import SessionActiveError, Snapshot, open_tracker
from trio_progress.blocking import Client

pytestmark = pytest.mark.integration

LOST_AFTER: Final = 3.0
"""As the worker has it."""

WORKER: Final = str(Path(__file__).with_name("terminal_worker.py"))
ROOT: Final = Path(__file__).parents[2]
PAUSE: Final = 0.7
"""A pause of the loop that no write can have been, in seconds in which a thread beside it ran: below what one made."""

CTRL_S, CTRL_Q = b"\x13", b"\x11"


class Reader:
    """What reads a worker's standard error, while it wants to."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.text = ""
        self._reads = threading.Event()
        self._reads.set()
        if kind == "pipe":
            self.descriptor, self.theirs = os.pipe()
            fcntl.fcntl(self.theirs, fcntl.F_SETPIPE_SZ, 4096)
        else:
            self.descriptor, self.theirs = pty.openpty()
            fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            self._reads.wait()
            if not select.select([self.descriptor], [], [], 0.05)[0]:
                continue
            try:
                data = os.read(self.descriptor, 65536)
            except OSError:
                return
            if not data:
                return
            self.text += data.decode("utf-8", "replace")

    def stop(self) -> None:
        """From now on nobody takes anything."""
        if self.kind == "ctrl-s":
            os.write(self.descriptor, CTRL_S)
        else:
            self._reads.clear()

    def go(self) -> None:
        if self.kind == "ctrl-s":
            os.write(self.descriptor, CTRL_Q)
        self._reads.set()


class Worker:
    """A worker with a display on standard error, in a process of its own."""

    def __init__(self, folder: Path, reader: Reader) -> None:
        self.store = f"sqlite:{folder / 'progress.db'}"
        self.stop = folder / "stop"
        self.log = folder / "log"
        self.reader = reader
        environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT)}
        for name in ("COLUMNS", "LINES", "NO_COLOR"):
            environment.pop(name, None)
        arguments = [sys.executable, WORKER, self.store, str(self.log), str(self.stop)]
        self.process = subprocess.Popen(arguments, stderr=reader.theirs, env=environment)

    def snapshot(self) -> Snapshot:
        with Client(self.store) as client:
            return client.snapshot("job")

    def steps(self) -> int:
        """As they are stored, which on a busy machine is some time after they are shown."""
        return int(self.snapshot().counters.get("steps", 0))

    def ended(self) -> tuple[str, int, float]:
        """How it ended: status, steps, and the worst pause of its event loop in seconds."""
        status, steps, worst = self.log.read_text(encoding="ascii").split()
        return status, int(steps), float(worst)


@pytest.fixture(params=["terminal", *(pytest.param(by, marks=pytest.mark.exhaustive) for by in ("ctrl-s", "pipe"))])
def worker(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Worker]:
    reader = Reader(request.param)
    worker = Worker(tmp_path, reader)
    yield worker
    worker.process.kill()
    worker.process.wait()
    reader.go()
    os.close(reader.theirs)


def until(what: Callable[[], bool]) -> None:
    for _ in range(1200):
        if what():
            return
        time.sleep(0.05)
    raise AssertionError("it never came to that")


def shown(text: str) -> int:
    """The newest number of steps that the text shows."""
    return max(map(int, re.findall(r"steps ([\d,]+)", text.replace(",", ""))), default=0)


async def nobody_else_gets_it(store: str, seconds: float) -> None:
    """Another worker that wants the session is refused, all the time."""
    async with open_tracker(store, lost_after=LOST_AFTER, heartbeat_interval=LOST_AFTER / 4) as tracker:
        end = trio.current_time() + seconds
        while trio.current_time() < end:
            with pytest.raises(SessionActiveError):
                async with tracker.session("job", resume="always"):
                    pass
            await trio.sleep(0.2)


def test_pain_23_the_work_goes_on_nobody_else_gets_it_and_the_display_catches_up(worker: Worker) -> None:
    until(lambda: shown(worker.reader.text) > 0)
    worker.reader.stop()
    epoch, before, seen = worker.snapshot().epoch, worker.steps(), len(worker.reader.text)
    trio.run(nobody_else_gets_it, worker.store, 1.5 * LOST_AFTER)
    during = worker.snapshot()
    assert (during.status, during.liveness, during.epoch) == ("running", "ok", epoch)
    assert during.counters["steps"] > before + 10
    worker.reader.go()
    until(lambda: shown(worker.reader.text[seen:]) >= during.counters["steps"])
    worker.stop.touch()
    assert worker.process.wait(timeout=60) == 0
    status, steps, worst = worker.ended()
    assert status == "completed"
    until(lambda: "completed" in worker.reader.text and shown(worker.reader.text) == steps)
    print(f"{worker.reader.kind}: worst pause of the event loop {worst * 1000:.0f} ms, {steps} steps")
    assert worst < PAUSE


def test_pain_23_who_leaves_while_nothing_is_taken_leaves_all_the_same(worker: Worker) -> None:
    until(lambda: shown(worker.reader.text) > 0)
    worker.reader.stop()
    before = worker.steps()
    until(lambda: worker.steps() > before + 50)
    worker.stop.touch()
    assert worker.process.wait(timeout=60) == 0, "the end of the process waits for nobody"
    assert worker.snapshot().status == "completed"
    status, steps, worst = worker.ended()
    assert status == "completed"
    assert worker.steps() == steps
    assert worst < PAUSE
