"""Sentinels for tests: such that a test scripts, and a whole group of real processes, with replicas."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Literal

import redis

from tests.redis_server import PATIENCE, RedisServer
from tests.support import free_port

SERVICE: Final = "mymaster"

DOWN_AFTER: Final = 1.5
"""Seconds without an answer after which a sentinel takes a server for down."""


class ScriptedSentinel:
    """Answers what clients ask a sentinel, as the test says; in a thread for each connection.

    Args:
        port: Of the primary that it names.
        epoch: Of its configuration.
        mode: "answers"; "silent" accepts and says nothing; "unknown" knows no such primary.
        password: That it wants first.
    """

    def __init__(
        self,
        port: int,
        *,
        epoch: int = 1,
        mode: Literal["answers", "silent", "unknown"] = "answers",
        password: str | None = None,
    ) -> None:
        self.primary = port
        self.epoch = epoch
        self.mode = mode
        self.password = password
        self.asked = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._peers: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                peer, _ = self._listener.accept()
                self._peers.append(peer)
                threading.Thread(target=self._serve, args=(peer,), daemon=True).start()

    def _serve(self, peer: socket.socket) -> None:
        with suppress(OSError), peer, peer.makefile("rb") as lines:
            trusted = self.password is None
            while line := lines.readline():
                words = []
                for _ in range(int(line[1:])):
                    size = int(lines.readline()[1:])
                    words.append(lines.read(size + 2)[:-2].decode())
                if self.mode == "silent":
                    continue
                if words[0] == "AUTH":
                    trusted = words[-1] == self.password
                answer = self._answer([word.upper() for word in words[:2]], words[-1])
                peer.sendall(answer if trusted else b"-NOAUTH Authentication required.\r\n")

    def _answer(self, words: list[str], service: str) -> bytes:
        known = self.mode == "answers" and service == SERVICE
        if words == ["SENTINEL", "GET-MASTER-ADDR-BY-NAME"]:
            self.asked += 1
            return _list("127.0.0.1", self.primary) if known else b"*-1\r\n"
        if words == ["SENTINEL", "MASTER"]:
            state = _list("config-epoch", self.epoch, "num-other-sentinels", 2)
            return state if known else b"-ERR No such master with that name\r\n"
        return b"+OK\r\n"

    def close(self) -> None:
        self._listener.close()
        for peer in self._peers:
            peer.close()


def _list(*items: object) -> bytes:
    return b"*%d\r\n" % len(items) + b"".join(b"$%d\r\n%s\r\n" % (len(str(i)), str(i).encode()) for i in items)


@contextmanager
def scripted(*ports: int, **given: Any) -> Iterator[list[ScriptedSentinel]]:
    """A scripted sentinel for each port of a primary that it names."""
    made = [ScriptedSentinel(port, **given) for port in ports]
    try:
        yield made
    finally:
        for one in made:
            one.close()


def url_of(sentinels: list[ScriptedSentinel], *options: str) -> str:
    hosts = ",".join(one.host for one in sentinels)
    return f"redis-sentinel://{hosts}/0?{'&'.join((f'service={SERVICE}', *options))}"


class SentinelGroup:
    """A primary, two replicas and three sentinels, each a process of ours. Made by `open_group()`.

    Args:
        program: That of redis-server.
        folder: For what they keep.
        options: What each server is given besides.
        through: Of the primary, the port that it is known by: that of a relay in front of it.
    """

    def __init__(self, program: str, folder: Path, *options: str, primary: int, through: int | None = None) -> None:
        self._folder = folder
        self._program = program
        self._known = through or primary
        fast = ("--repl-diskless-sync-delay", "0", "--repl-timeout", "60", *options)
        self.servers = [RedisServer(program, folder / "server0", *fast, port=primary)]
        for n in (1, 2):
            following = ("--replicaof", "127.0.0.1", str(self._known))
            self.servers.append(RedisServer(program, folder / f"server{n}", *fast, *following))
        self.ports = [free_port() for _ in range(3)]
        self.sentinels: list[subprocess.Popen[bytes]] = []

    def url(self, *options: str) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis-sentinel://{hosts}/0?{'&'.join((f'service={SERVICE}', *options))}"

    def start(self) -> None:
        """Starts all, and waits until the sentinels know each other and the replicas."""
        for server in self.servers:
            server.start()
        for port in self.ports:
            folder = self._folder / f"sentinel{port}"
            folder.mkdir(parents=True)
            settings = folder / "sentinel.conf"
            settings.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile {folder}/log\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {self._known} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER * 1000:.0f}\n"
                f"sentinel failover-timeout {SERVICE} 4000\nsentinel parallel-syncs {SERVICE} 2\n"
            )
            command = [self._program, str(settings), "--sentinel"]
            self.sentinels.append(
                subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
        wait_until(lambda: all(self._knows(port) for port in self.ports))

    def _knows(self, port: int) -> bool:
        with asking(port) as client:
            state: Any = client.sentinel_master(SERVICE)
        return bool(state["num-slaves"] == 2 and state["num-other-sentinels"] == 2 and state["is_master"])

    def primary_port(self, sentinel: int = -1) -> int:
        """The port of the primary, as a sentinel has it."""
        with asking(self.ports[sentinel]) as client:
            answer: Any = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(answer[1])

    def stop(self) -> None:
        for process in self.sentinels:
            with suppress(ProcessLookupError):
                process.send_signal(18)
            process.kill()
            process.wait(PATIENCE)
        for server in self.servers:
            server.kill()


@contextmanager
def asking(port: int) -> Iterator[redis.Redis]:
    with redis.Redis(port=port, socket_timeout=5) as client:
        yield client


def wait_until(condition: Any, seconds: float = 9 * PATIENCE) -> None:
    """Waits for what nobody tells; a server that does not answer yet is waited for as well.

    For long: sentinels that a busy machine has kept from running do nothing for half a minute after that.
    """
    until = time.monotonic() + seconds
    while True:
        with suppress(redis.RedisError):
            if condition():
                return
        if time.monotonic() > until:
            raise AssertionError(f"it has not come about in {seconds:g} s")
        time.sleep(0.05)


@contextmanager
def open_group(
    program: str, folder: Path, *options: str, primary: int = 0, through: int | None = None
) -> Iterator[SentinelGroup]:
    """A group that has found itself."""
    group = SentinelGroup(program, folder, *options, primary=primary or free_port(), through=through)
    try:
        group.start()
        yield group
    finally:
        group.stop()
