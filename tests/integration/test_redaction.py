"""A store's password, given to every command by option and by the environment: it is in nothing that is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.forking import ForkServer
from tests.redis_server import RedisServer
from trio_progress.blocking import Client
from trio_progress.cli import exit_codes

pytestmark = pytest.mark.integration

PASSWORD = "hunter2-of-the-tests"
COMMAND = [sys.executable, "-m", "trio_progress"]
ROOT = Path(__file__).parents[2]

COMMANDS = {
    "ls": ["ls", "--json"],
    "show": ["show", "r-1"],
    "show one that is not there": ["show", "r-404"],
    "watch": ["watch", "r-2", "--no-wait"],
    "watch one that is not there": ["watch", "r-404", "--no-wait"],
    "cancel": ["cancel", "r-1"],
    "release": ["release", "r-2"],
    "histories": ["history"],
    "history that is not there": ["history", "research", "--json"],
    "history imported": ["history", "research", "--import", os.devnull],
    "rm": ["rm", "r-1", "r-404"],
    "rm by label": ["rm", "--label", "user=u1", "--yes"],
    "demo": ["demo", "--corpus", str(Path(exit_codes.__file__).parent), "what is an exit code?"],
    "demo, gone on with": ["demo", "--resume", "r-1"],
    "wrong use": ["ls", "--limit", "x"],
    "help": ["ls", "--help"],
}

LASTING = {"serve": ["serve", "--port", "0"], "watch": ["watch", "r-404"]}
"""Commands that go on until they are stopped."""


@pytest.fixture
def server(start_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch) -> RedisServer:
    """A Redis with a password, and two sessions in it."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    started = start_redis("--requirepass", PASSWORD, client={"password": PASSWORD})
    with Client(url_of(started)) as client:
        client.declare("r-1", labels={"user": "u1"})
        client.declare("r-2", labels={"user": "u1"})
        client.cancel("r-2", "not wanted")
    return started


def url_of(server: RedisServer, password: str = PASSWORD) -> str:
    return f"redis://:{password}@127.0.0.1:{server.port}/0"


def given(words: list[str], url: str, by: str) -> tuple[list[str], dict[str, str]]:
    """The command's arguments and its environment."""
    if by == "environment":
        return words, {**os.environ, "TRIO_PROGRESS_STORE": url}
    return [*words, *([f"--store={url}"] if by == "option=" else ["--store", url])], dict(os.environ)


def kept(server: RedisServer) -> bytes:
    """All that is stored."""
    with server.client() as client:
        return b"".join(key + (client.dump(key) or b"") for key in client.scan_iter())


@pytest.mark.parametrize("by", ["option", pytest.param("environment", marks=pytest.mark.exhaustive)])
def test_no_command_leaves_the_stores_password_behind(
    server: RedisServer, fork_server: ForkServer, by: str, tmp_path: Path
) -> None:
    for name, words in COMMANDS.items():
        arguments, environment = given(words, url_of(server), by)
        done = fork_server.run("trio_progress", arguments, tmp_path, environment)
        assert PASSWORD not in done.out + done.err, name
        assert "Traceback" not in done.err, (name, done.err)
        assert done.code != exit_codes.STORE, (name, done.err)
    assert PASSWORD.encode() not in kept(server)


@pytest.mark.parametrize("by", ["option"])
def test_an_error_of_the_store_does_not_tell_its_password(
    server: RedisServer, fork_server: ForkServer, by: str, tmp_path: Path
) -> None:
    for url in (
        url_of(server, "wrong-" + PASSWORD),
        f"redis://:{PASSWORD}@127.0.0.1:1/0",
        f"redis://:{PASSWORD}/x@127.0.0.1:1/0",
        f"redis://127.0.0.1:1/0?password=x#{PASSWORD}",
        f"redis-sentinel://:{PASSWORD}@127.0.0.1:1,127.0.0.1:2/0?sentinel_password={PASSWORD}",
        f"redys://:{PASSWORD}@127.0.0.1:1/0",
    ):
        for name, words in (("ls", COMMANDS["ls"]), ("rm", COMMANDS["rm"]), ("serve", LASTING["serve"])):
            arguments, environment = given(words, url, by)
            done = fork_server.run("trio_progress", arguments, tmp_path, environment)
            assert PASSWORD not in done.out + done.err, name
            assert done.code in (exit_codes.STORE, exit_codes.USAGE), (name, done.err)
            assert "Traceback" not in done.err, (name, done.err)


@pytest.mark.parametrize(
    "by", ["option", *(pytest.param(by, marks=pytest.mark.exhaustive) for by in ("option=", "environment"))]
)
@pytest.mark.parametrize("name", LASTING)
def test_a_command_that_lasts_shows_no_password_to_the_machines_other_users(
    server: RedisServer, name: str, by: str
) -> None:
    arguments, environment = given(LASTING[name], url_of(server), by)
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert f"redis://***@127.0.0.1:{server.port}/0" in first
        seen = subprocess.run(["ps", "-o", "args=", "-p", str(process.pid)], capture_output=True, check=True).stdout
        assert LASTING[name][0].encode() in seen
        assert PASSWORD.encode() not in seen
        time.sleep(0.2)
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert PASSWORD not in first + out + err
    assert process.returncode == exit_codes.SIGNAL + signal.SIGTERM
