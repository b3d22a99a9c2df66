"""`trio-progress serve` in a process of its own, what it says, and what it answers."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support import PATIENCE

ROOT = Path(__file__).parents[1]


class Serving:
    """A process that serves a store, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._said: queue.Queue[str] = queue.Queue()
        self.heard: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._said.put(line)

    def says(self, words: str) -> str:
        """Waits for a line with these words."""
        until = time.monotonic() + PATIENCE
        while True:
            line = self._said.get(timeout=max(until - time.monotonic(), 0.001))
            self.heard.append(line)
            if words in line:
                return line

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def serving(*arguments: str) -> Iterator[Serving]:
    command = [sys.executable, "-m", "trio_progress", "serve", "--port", "0", *arguments]
    process = Serving(subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True))
    try:
        yield process
    finally:
        process.close()


def answered(address: str, method: str = "GET") -> tuple[int, str]:
    request = urllib.request.Request(address, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
