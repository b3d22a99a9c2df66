"""A real Redis Cluster for tests: three masters with a replica each, started on free ports, and what happens to it."""

from __future__ import annotations

import itertools
import random
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import redis

from tests.redis_server import PATIENCE, RedisServer
from tests.support import reserve

MASTERS: Final = 3
SLOTS: Final = 16384

NODE_TIMEOUT: Final = 120_000
SHORT_TIMEOUT: Final = 2500
"""Milliseconds without an answer after which the others take a node for down: so long that a busy machine is not what
is tested; or short, for who kills one."""

BUS: Final = 10_000
"""The nodes of a cluster speak to each other at a port so far above their own."""


def _ports() -> Iterator[int]:
    """Ports of which that of the bus is free as well; both below those that connections are given by the system."""
    while True:
        port = random.randrange(12_000, 22_000)
        with socket.socket() as one, socket.socket() as other, suppress(OSError):
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + BUS))
            if reserve(port) and reserve(port + BUS):
                yield port


class RedisCluster:
    """Six processes of ours.

    Args:
        program: A Redis server.
        folder: Where each has a folder of its own.
        node_timeout: See `NODE_TIMEOUT`.
        tls: What each is given for TLS, and its clients; None: there is none. With TLS there is nothing else, and all
            know each other as `localhost`.
    """

    def __init__(
        self,
        program: str,
        folder: Path,
        node_timeout: int = NODE_TIMEOUT,
        tls: tuple[Sequence[str], dict[str, Any]] | None = None,
    ) -> None:
        self._folder = folder
        self._tls = tls is not None
        ports = itertools.islice(_ports(), 2 * MASTERS)
        options = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(node_timeout)]
        options += ["--repl-diskless-sync-delay", "0"]
        client: dict[str, Any] | None = None
        if tls is not None:
            own, client = tls
            options += [*own, "--tls-cluster", "yes", "--tls-replication", "yes"]
            options += ["--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"]
        self.nodes: Sequence[RedisServer] = [
            RedisServer(
                program,
                folder / str(number),
                *options,
                *(("--tls-port", str(port), "--port", "0") if self._tls else ()),
                port=port,
                client=client,
            )
            for number, port in enumerate(ports)
        ]
        host, scheme = ("localhost", "rediss") if self._tls else ("127.0.0.1", "redis")
        self.url = f"{scheme}-cluster://{','.join(f'{host}:{node.port}' for node in self.nodes[:MASTERS])}/"

    @property
    def masters(self) -> Sequence[RedisServer]:
        """Those that have begun as masters, by the slots that they have begun with."""
        return self.nodes[:MASTERS]

    @contextmanager
    def running(self) -> Iterator[Self]:
        """The cluster, started, and stopped in the end, also where it did not start whole."""
        try:
            yield self.start()
        finally:
            self.stop()

    def start(self) -> Self:
        """Starts them, and waits until all of it can be written and each replica has its master's data."""
        for number, node in enumerate(self.nodes):
            # What they would agree on in ten seconds; they believe what they have written themselves.
            (folder := self._folder / str(number)).mkdir(parents=True)
            (folder / "nodes.conf").write_text("".join(f"{line}\n" for line in self._known_to(number)))
            node.start()
        self.become_whole()
        return self

    def become_whole(self) -> None:
        """Waits until all of it can be written and each replica has its master's data."""
        clients = [node.client() for node in self.nodes]
        until(lambda: all(_is_whole(client) for client in clients))
        for client in clients:
            client.close()

    def _known_to(self, reader: int) -> Iterator[str]:
        for number, node in enumerate(self.nodes):
            master = number % MASTERS
            flags = ("myself," if number == reader else "") + ("master" if number < MASTERS else "slave")
            following = "-" if number < MASTERS else _id(master)
            begin, end = (number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS - 1)
            slots = f" {begin}-{end}" if number < MASTERS else ""
            where = f"127.0.0.1:{node.port}@{node.port + BUS}{',localhost' if self._tls else ''}"
            yield f"{_id(number)} {where} {flags} {following} 0 0 {master + 1} connected{slots}"
        yield f"vars currentEpoch {MASTERS} lastVoteEpoch 0"

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def name_of(self, node: RedisServer) -> str:
        """What the others call it."""
        with node.client() as client:
            return str(client.execute_command("CLUSTER", "MYID").decode())

    def owner_of(self, slot: int) -> RedisServer:
        """The master of a slot, as one that runs sees it."""
        for node in self.nodes:
            try:
                with node.client() as client:
                    for begin, end, (_, port, *_), *_ in client.execute_command("CLUSTER", "SLOTS"):
                        if begin <= slot <= end:
                            return next(each for each in self.nodes if each.port == port)
            except redis.RedisError:
                continue
        raise LookupError(f"nobody has slot {slot}")

    # A slot moves

    def begin_move(self, slot: int, target: RedisServer) -> RedisServer:
        """From now on keys of a slot that its owner has not are the target's; returns the owner."""
        owner = self.owner_of(slot)
        with owner.client() as source, target.client() as other:
            other.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", self.name_of(owner))
            source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", self.name_of(target))
        return owner

    def move_keys(self, slot: int, owner: RedisServer, target: RedisServer, most: int | None = None) -> int:
        """Moves keys of a slot: all, or so many; returns how many those were."""
        moved = 0
        with owner.client() as source:
            while most is None or moved < most:
                keys = source.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10 if most is None else most - moved)
                if not keys:
                    break
                source.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
                moved += len(keys)
        return moved

    def end_move(self, slot: int, target: RedisServer) -> None:
        """The target is the owner of the slot."""
        name = self.name_of(target)
        for node in [target, *(node for node in self.masters if node is not target)]:
            with node.client() as client:
                client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", name)

    def move(self, slot: int, target: RedisServer) -> None:
        """Moves a slot with all its keys, as `redis-cli --cluster reshard` does."""
        owner = self.begin_move(slot, target)
        self.move_keys(slot, owner, target)
        self.end_move(slot, target)


def until(holds: Any) -> None:
    """Waits until something holds."""
    end = time.monotonic() + 3 * PATIENCE
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("the cluster has not become what was waited for")
        time.sleep(0.02)


def _id(number: int) -> str:
    return f"{number + 1:040x}"


def _is_whole(client: redis.Redis) -> bool:
    """Whether a node takes commands, and follows its master if it has one."""
    linked = client.info("replication").get("master_link_status", "up") == "up"
    return linked and "cluster_state:ok" in str(client.execute_command("CLUSTER", "INFO"))
