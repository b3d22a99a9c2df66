"""More connections than the descriptors allow, from two addresses: the others are served, and the log stays short."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]


@contextmanager
def serving(tmp_path: Path, soft: int, hard: int) -> Iterator[tuple[int, int, subprocess.Popen[str]]]:
    """A server with these limits on its descriptors: its port, that of its probes, and its process."""
    limited = ["bash", "-c", f'ulimit -Sn {soft} && ulimit -Hn {hard} && exec "$@"', "limited"]
    command = [*limited, sys.executable, "-m", "trio_progress", "serve", "--store", f"sqlite:{tmp_path / 'x.db'}"]
    process = subprocess.Popen(
        [*command, "--port", "0", "--admin-port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        while "Serving" not in line:
            assert "files allow" in line.replace("allows", "allow"), line
            line = process.stderr.readline()
        port = int(line.rstrip("/\n").rpartition(":")[2])
        admin = int(process.stderr.readline().partition("://")[2].partition("/")[0].rpartition(":")[2])
        yield port, admin, process
    finally:
        process.kill()
        process.communicate()


def status(port: int, address: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=(address, 0))
    try:
        connection.request("GET", "/healthz" if address == "127.0.0.1" else "/")
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("limits", [(300, 300), (300, 600)], ids=["the hard limit", "a soft limit"])
def test_two_addresses_that_hold_silent_connections_lock_nobody_out(tmp_path: Path, limits: tuple[int, int]) -> None:
    with serving(tmp_path, *limits) as (port, admin, process), ExitStack() as silent:
        for _ in range(limits[1]):
            for address in ("127.0.0.1", "127.0.0.2"):
                silent.enter_context(socket.create_connection(("127.0.0.1", port), 10, source_address=(address, 0)))
        for _ in range(5):
            assert status(port, "127.0.0.3") == 200
            assert status(admin, "127.0.0.1") == 200
        time.sleep(1)
        process.terminate()
        assert process.stderr is not None
        said = process.stderr.read()
        assert "Traceback" not in said
        assert len(said.splitlines()) <= 2, said
