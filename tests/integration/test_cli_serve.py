"""`trio-progress serve` as it is operated: begun while its store is down, and what it logs."""

from __future__ import annotations

import json
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

import pytest

from tests.redis_server import RedisServer
from tests.support import PATIENCE, free_port
from trio_progress.blocking import Client
from trio_progress.cli import exit_codes

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


class Serving:
    """A process that serves a store, and what it says."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._said: queue.Queue[str] = queue.Queue()
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


def test_begun_before_its_store_it_is_unready_until_that_is_there_and_says_so(
    redis_program: str, tmp_path: Path
) -> None:
    server = RedisServer(redis_program, tmp_path, port=free_port())
    with serving("--store", server.url, "--wait-for-store") as served:
        served.says("the store cannot be used yet, it is tried again: ")
        url = served.says("Serving ").split()[-1]
        assert answered(f"{url}healthz") == (200, "ok\n")
        status, body = answered(f"{url}readyz")
        assert (status, json.loads(body)["store_up"]) == (503, False)
        assert answered(f"{url}sessions")[0] == 503
        server.start()
        try:
            served.says("the store can be read again")
            assert answered(f"{url}readyz")[0] == 200
            assert json.loads(answered(f"{url}sessions")[1])["sessions"] == []
        finally:
            server.stop()


def test_begun_before_its_store_it_ends_where_it_is_not_to_wait(tmp_path: Path) -> None:
    with serving("--store", f"redis://127.0.0.1:{free_port()}/0") as served:
        assert "Connection refused" in served.says("store redis://")
        assert served.process.wait(PATIENCE) == exit_codes.STORE


def test_who_asked_to_cancel_or_delete_a_session_stands_in_its_log(tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'progress.db'}"
    with Client(store) as client:
        client.declare("r-1")
        with serving("--store", store) as served:
            url = served.says("Serving ").split()[-1]
            assert answered(f"{url}sessions/r-1/cancel", "POST")[0] == 202
            served.says("session 'r-1': a client at 127.0.0.1 asks to cancel it")
            assert client.wait_ended("r-1", PATIENCE).status == "cancelled"
            assert answered(f"{url}sessions/r-1", "DELETE")[0] == 204
            served.says("session 'r-1': a client at 127.0.0.1 asks to delete it")
