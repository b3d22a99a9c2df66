"""What a Cluster takes off each Redis, as `scale` measures it; and, run as a program, one of the processes that write.

Four processes append to sessions of their own, one batch after the other, through the store as a committer uses it. One
Redis with a replica and a Cluster of three masters with a replica each take turns, round by round, for as many seconds;
both run all the time. It is judged by the appends of a second where each process has a core of its own. Where there
are fewer, more nodes can store no more, for what one is spared another one uses: then it is judged by the CPU of the
busiest master, for all appends of the Cluster.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from trio_progress import RedisStore
from trio_progress.stores.base import Append, Claim, Claimed, Done, Index, Key

from .harness import run_together

if TYPE_CHECKING:
    from tests.redis_server import RedisServer

    from .harness import Values
    from .report import Report

WRITERS: Final = 4
SESSIONS: Final = 250
"""Of each process that writes; all of them are a batch."""

RECORD: Final = b"x" * 3072
INDEX: Final = Index("running", "measured", {"user": "u1"}, 1.0)
LEASE: Final = 60.0
KEEP: Final = 3600.0

ONE: Final = "one Redis"
CLUSTER: Final = "a Cluster of three masters"
BUSIEST: Final = "a Cluster, the busiest master"

TIMES: Final = 2.2
"""How many times what one Redis takes the Cluster is to store in the same time."""

SHARE: Final = 0.45
"""Of the CPU of one Redis, that each master is to use for as many appends at most."""


def measure(report: Report, rounds: int, seconds: float) -> None:
    """Starts both, and measures each so many times for so many seconds."""
    from tests.redis_cluster import RedisCluster, until
    from tests.redis_server import RedisServer, binary

    program = binary()
    if program is None:
        report.notes.append("nodes: left out, there is no redis-server on the PATH")
        return
    with tempfile.TemporaryDirectory(prefix="trio-progress-") as folder, ExitStack() as stack:
        one = RedisServer(program, Path(folder) / "one", "--repl-diskless-sync-delay", "0")
        its_replica = RedisServer(program, Path(folder) / "replica", "--replicaof", "127.0.0.1", str(one.port))
        for server in (one, its_replica):
            stack.callback(server.stop)
            server.start()
        with its_replica.client() as client:
            until(lambda: client.info("replication")["master_link_status"] == "up")
        cluster = stack.enter_context(RedisCluster(program, Path(folder) / "cluster").running())
        places = {ONE: _Place(one.url, [one], [its_replica])}
        masters = len(cluster.masters)
        places[CLUSTER] = _Place(cluster.url, cluster.masters, cluster.nodes[masters:])
        found: dict[str, list[Found]] = {name: [] for name in places}
        order = list(places)
        for number in range(rounds):
            random.shuffle(order)
            for name in order:
                found[name].append(places[name].written(f"r{number}", seconds))
                print(f"\rnodes: {number + 1} of {rounds} rounds", end="", file=sys.stderr, flush=True)
        print(file=sys.stderr)
    tell(report, found, WRITERS + len(cluster.nodes))


def tell(report: Report, found: Mapping[str, Sequence[Found]], processes: int) -> None:
    """Adds what was found of both to the report, and judges the Cluster.

    Args:
        report: What the figures are added to.
        found: One a round.
        processes: How many work at once.
    """
    one, several = found[ONE], found[CLUSTER]
    group = f"{WRITERS} processes append states of 3 KB"
    took: Values = {name: [each.took for each in some] for name, some in found.items()}
    report.add(f"{group}: time of an append", "us", took, against=[ONE], headline={CLUSTER: [ONE]})
    masters: Values = {
        ONE: [sum(each.masters) for each in one],
        CLUSTER: [sum(each.masters) for each in several],
        "a Cluster, a master, the mean": [statistics.fmean(each.masters) for each in several],
        BUSIEST: [max(each.masters) for each in several],
    }
    report.add(f"{group}: CPU of the masters, an append", "us", masters, against=[ONE], headline={BUSIEST: [ONE]})
    replicas: Values = {name: [sum(each.replicas) for each in some] for name, some in found.items()}
    report.add(f"{group}: CPU of the replicas, an append", "us", replicas, against=[ONE])
    writers: Values = {name: [each.writers for each in some] for name, some in found.items()}
    report.add(f"{group}: CPU of who appends, an append", "us", writers, against=[ONE], headline={CLUSTER: [ONE]})
    busy: Values = {name: [100 * max(each.masters) / each.took for each in some] for name, some in found.items()}
    report.add(f"{group}: the busiest master, of a core", "%", busy)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores >= processes:
        report.notes.append(f"nodes: judged by throughput, for each of {processes} processes has one of {cores} cores")
        what = f"{group}: time of an append in a Cluster (1 / {TIMES} of one Redis)"
        report.aim(what, "x", 1 / TIMES, took[CLUSTER], took[ONE])
    else:
        report.notes.append(
            f"nodes: judged by the busiest master's CPU, for all appends of the Cluster: {WRITERS} writers and "
            f"{processes - WRITERS} nodes share {cores} cores, so that more nodes can store no more"
        )
        report.aim(f"{group}: CPU of the busiest master, to one Redis", "x", SHARE, masters[BUSIEST], masters[ONE])


@dataclass(frozen=True, slots=True)
class Found:
    """Microseconds that an append took, of whatever node: of the clock, and of the CPU of each."""

    took: float
    writers: float
    """Of all of them."""
    masters: Sequence[float]
    replicas: Sequence[float]


@dataclass(frozen=True, slots=True)
class _Place:
    """Servers that together have a store."""

    url: str
    masters: Sequence[RedisServer]
    replicas: Sequence[RedisServer]

    def written(self, prefix: str, seconds: float) -> Found:
        """Has all processes append for so many seconds."""
        before: list[float] = []
        url = f"{self.url}?prefix={prefix}"
        started = [[sys.executable, "-m", "benchmarks.nodes", url, str(n), str(seconds)] for n in range(WRITERS)]
        told = run_together(started, lambda: before.extend(self._cpu()))
        used = [after - at_first for after, at_first in zip(self._cpu(), before, strict=True)]
        appends = sum(each["appends"] for each in told)
        used = [1e6 * each / appends for each in used]
        return Found(
            1e6 * statistics.fmean(each["took"] for each in told) / appends,
            1e6 * sum(each["cpu"] for each in told) / appends,
            used[: len(self.masters)],
            used[len(self.masters) :],
        )

    def _cpu(self) -> list[float]:
        """The seconds that each server has used so far."""
        seconds = []
        for server in (*self.masters, *self.replicas):
            with server.client() as client:
                info: dict[str, Any] = client.info("cpu")
                seconds.append(float(info["used_cpu_user"]) + float(info["used_cpu_sys"]))
        return seconds


# A process that writes


async def _write(url: str, number: int, seconds: float) -> dict[str, float]:
    """Appends for so many seconds to sessions that it has claimed; how often, and what that took."""
    store = RedisStore(url, timeout=10.0)
    names = [f"w{number}-{n}" for n in range(SESSIONS)]
    await store.open()
    outcomes = await store.commit([Claim(name, 1, name, b"{}", INDEX, LEASE, KEEP) for name in names])
    epochs = [outcome.epoch for outcome in outcomes if isinstance(outcome, Claimed)]

    def batch(seq: int) -> list[Append]:
        now = time.time()
        return [
            Append(name, Key(epoch, seq), RECORD, INDEX, LEASE, KEEP, now)
            for name, epoch in zip(names, epochs, strict=True)
        ]

    assert await store.commit(batch(1)) == [Done()] * SESSIONS  # With what is done once, such as connecting.
    print("ready", flush=True)
    await trio.to_thread.run_sync(sys.stdin.readline)
    appends, cpu, began = 0, 0.0, time.perf_counter()
    while time.perf_counter() < began + seconds:
        writes = batch(2 + appends // SESSIONS)
        before = time.process_time()
        outcomes = await store.commit(writes)
        cpu += time.process_time() - before
        assert outcomes == [Done()] * SESSIONS, outcomes[:3]
        appends += SESSIONS
    took = time.perf_counter() - began
    await store.aclose()
    return {"appends": appends, "took": took, "cpu": cpu}


if __name__ == "__main__":
    print(json.dumps(trio.run(_write, sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
