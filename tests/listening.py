"""Programs of the tests that tell of themselves line by line, each in a process of its own."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import PATIENCE

ROOT = Path(__file__).parents[1]


class Worker:
    """A process, and what it has said."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: queue.Queue[list[str]] = queue.Queue()
        self.heard: list[list[str]] = []
        self.listener = threading.Thread(target=self._listen)
        self.listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):  # What it was killed at is no line.
                self.said.put(line.split())

    def next(self, *words: str) -> list[str]:
        """Waits for a line that begins with one of these words."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                line = self.said.get(timeout=max(until - time.monotonic(), 0.001))
            except queue.Empty:
                raise AssertionError(f"it never said {words}: {self.heard[-5:]}") from None
            self.heard.append(line)
            if line[0] in words:
                return line

    def rest(self) -> list[list[str]]:
        """All that it has said."""
        while not self.said.empty():
            self.heard.append(self.said.get())
        return self.heard

    def tell(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@contextmanager
def worker(module: str, *arguments: object) -> Iterator[Worker]:
    """Runs a module, which is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        made = Worker(process)
        try:
            yield made
        finally:
            process.kill()
            process.wait()
            made.listener.join()
