"""What the Redis store costs and how live it is: CPU a snapshot, latency between processes, 10,000 idle sessions.

1. *Storing.* So many sessions each have a snapshot to store, again and again. Ours goes through the store as a
   tracker's committer uses it: batches, fenced, with leases and outcomes, in a worker thread. Beside it: a bare
   redis-py pipeline of the same commands in a thread, one command a thread call, and coredis on Trio.
2. *Two processes.* One changes a session at random moments, the other watches it; and watches it idle.
3. *Idling.* So many sessions are open in one process, and nothing happens in them.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from trio_progress import Pipeline, open_tracker
from trio_progress.storage.committer import BATCH
from trio_progress.stores.base import Append, Claim, Claimed, Index, Key
from trio_progress.tracker import runtime_of

from .harness import interleave
from .report import Report
from .suites import MissingError, Suite, count, register, seconds
from .watching import Watched, watch, watch_idle

if TYPE_CHECKING:
    import redis

    from trio_progress import RedisStore

PIPELINE: Final = Pipeline("measured", [f"phase-{n}" for n in range(8)])

VARIABLE: Final = "TRIO_PROGRESS_TEST_REDIS"
"""The variable that names a Redis to measure, as it does for the tests."""

OURS: Final = "our store"
BARE: Final = "redis-py, a pipeline of the same commands"
SINGLE: Final = "redis-py, one command a thread call"
COREDIS: Final = "coredis, a pipeline"
COREDIS_SINGLE: Final = "coredis, one command each"

AT_ONCE: Final = 50
"""Snapshots that are stored one by one in a value, at most: each takes as long as thirty in a batch."""

SIZE: Final = 1024
"""Bytes of a snapshot; stores do not look into it."""

OPENING: Final = 500
"""Sessions that are entered at the same time, of those that idle."""

INDEX: Final = Index("running", "measured", {"user": "u1"}, 1.0)
LEASE: Final = 30.0
KEEP: Final = 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `redis`."""
    parser.add_argument(
        "--url",
        metavar="URL",
        default=os.environ.get(VARIABLE),
        help=f"an empty Redis to use; unless given: ${VARIABLE}, which keeps a password off the list of processes, "
        "else one is started",
    )
    parser.add_argument(
        "--count",
        type=count,
        nargs="+",
        default=[1, 100, 1000],
        metavar="N",
        help="sessions with a snapshot each (default: 1 100 1000)",
    )
    parser.add_argument(
        "--passes",
        type=count,
        metavar="N",
        help="values of a snapshot in a round (10 to 200, by the number of sessions)",
    )
    parser.add_argument("--updates", type=count, default=300, metavar="N", help="that a watcher waits for (300)")
    parser.add_argument("--open", type=count, default=10_000, metavar="N", help="sessions that idle (10000)")
    parser.add_argument("--idle", type=seconds, default=20.0, metavar="S", help="how long they do (20)")


def run(options: argparse.Namespace) -> Report:
    """Measures storing and idling in this process, and watching in others."""
    settings = {name: getattr(options, name) for name in ("rounds", "count", "updates", "open", "idle")}
    report = Report("redis", settings)
    with server(options.url) as url:
        for number in options.count:
            trio.run(_storing, report, number, options, url)
        _watching(report, options, url)
        trio.run(_idling, report, options, url)
    report.notes += [
        "CPU time of the client's process, worker thread included; Redis on the same machine, without persistence",
        "a snapshot is 1 KB of the JSON of a session; its commands are XADD and SET ... PX",
        "latency: from the call that changed something to the watcher's first state that has it; wall time",
    ]
    return report


@contextmanager
def server(url: str | None) -> Iterator[str]:
    """The given Redis, or one of ours."""
    from tests.redis_server import RedisServer, binary

    if url is not None:
        yield url
        return
    program = binary()
    if program is None:
        raise MissingError("there is no redis-server on the PATH: install it, or give the --url of an empty Redis")
    with tempfile.TemporaryDirectory(prefix="trio-progress-") as folder:
        server = RedisServer(program, Path(folder)).start()
        try:
            yield server.url
        finally:
            server.stop()


# Storing


async def _storing(report: Report, number: int, options: argparse.Namespace, url: str) -> None:
    from trio_progress import RedisStore

    record = (await _record())[:SIZE]
    few = min(AT_ONCE, number)
    async with AsyncExitStack() as stack:
        store = RedisStore(url, prefix=f"ours{number}", timeout=10.0)
        stack.push_async_callback(store.aclose)
        await store.open()
        ours = _batches(await _claim(store, number), record)
        writes: list[Append] = []
        sequence = iter(range(1, sys.maxsize))
        client = client_of(url)
        stack.callback(client.close)
        for n in range(number):
            client.delete(f"bare:s:{n}")
            client.xadd(f"bare:s:{n}", {"d": b""}, id="1-0")

        def made() -> None:
            writes[:] = next(ours)  # What sessions have to say is theirs, not the store's.

        async def store_batches() -> None:
            for start in range(0, len(writes), BATCH):
                await store.commit(writes[start : start + BATCH])

        async def bare() -> None:
            seq = next(sequence)
            for start in range(0, number, BATCH):
                await trio.to_thread.run_sync(_pipeline, client, range(start, min(start + BATCH, number)), seq, record)

        async def single() -> None:
            seq = next(sequence)
            for n in range(few):
                add = ("XADD", f"bare:s:{n}", "NOMKSTREAM", "MAXLEN", "~", 16, f"1-{seq}", "d", record, "h", "1.0")
                await trio.to_thread.run_sync(client.execute_command, *add)
                await trio.to_thread.run_sync(client.execute_command, "SET", f"bare:l:{n}", "1.0", "PX", 30_000)

        contenders = {OURS: _cpu(store_batches, number, made), BARE: _cpu(bare, number), SINGLE: _cpu(single, few)}
        if importlib.util.find_spec("coredis") is None:
            report.notes += [] if any("coredis" in note for note in report.notes) else ["coredis is not installed"]
        else:
            rival = await stack.enter_async_context(_coredis(url))

            async def pipelined() -> None:
                seq = next(sequence)
                for start in range(0, number, BATCH):
                    await rival.pipeline(range(start, min(start + BATCH, number)), seq, record)

            async def each() -> None:
                seq = next(sequence)
                for n in range(few):
                    await rival.each(n, seq, record)

            contenders |= {COREDIS: _cpu(pipelined, number), COREDIS_SINGLE: _cpu(each, few)}
        passes = options.passes or max(10, min(200, 3000 // number))
        values = await interleave(contenders, options.rounds, passes=passes)
    shown = [name for name in values if name != OURS]
    report.add(
        f"a snapshot of {len(record)} bytes, {number} at once", "us", values, against=shown, headline={OURS: shown}
    )
    if number == 1000:
        report.aim("a snapshot of ours, 1000 at once", "us", 25.0, values[OURS])
    report.aim(f"ours, of the bare pipeline, {number} at once", "times", 1.3, values[OURS], values[BARE])


async def _record() -> bytes:
    """What a real session stores."""
    async with open_tracker() as tracker, tracker.session("measured", PIPELINE, labels={"user": "u1"}) as session:
        with session.phase("phase-0", total=100) as phase:
            phase.advance(7)
            await session.flush()
            stored = await runtime_of(tracker).store.read("measured")
    assert stored is not None
    return stored.record


async def _claim(store: RedisStore, number: int) -> list[Key]:
    keys = []
    for start in range(0, number, BATCH):
        ids = range(start, min(start + BATCH, number))
        outcomes = await store.commit([Claim(f"s{n}", 1, "me", b"{}", INDEX, LEASE, KEEP) for n in ids])
        for outcome in outcomes:
            assert isinstance(outcome, Claimed)
            keys.append(Key(outcome.epoch, 0))
    return keys


def _batches(keys: Sequence[Key], record: bytes) -> Iterator[list[Append]]:
    seq = 0
    while True:
        seq += 1
        yield [
            Append(f"s{n}", Key(key.epoch, seq), record, INDEX, LEASE, KEEP, time.time()) for n, key in enumerate(keys)
        ]


def client_of(url: str) -> redis.Redis:
    """A client for what is measured beside ours."""
    import redis

    return redis.Redis.from_url(url, protocol=2)


def _pipeline(client: redis.Redis, sessions: Sequence[int], seq: int, record: bytes) -> None:
    pipeline = client.pipeline(transaction=False)
    for n in sessions:
        pipeline.xadd(f"bare:s:{n}", {"d": record, "h": "1.0"}, id=f"1-{seq}", nomkstream=True, maxlen=16)
        pipeline.set(f"bare:l:{n}", "1.0", px=30_000)
    pipeline.execute(raise_on_error=False)


class _Coredis:
    """The Trio-native client, as its documentation has it."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def pipeline(self, sessions: Sequence[int], seq: int, record: bytes) -> None:
        """All of them in one round trip."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for n in sessions:
                self._commands(pipeline, n, seq, record)

    async def each(self, n: int, seq: int, record: bytes) -> None:
        """One round trip for each command."""
        for command in self._commands(self._client, n, seq, record):
            await command

    def _commands(self, on: Any, n: int, seq: int, record: bytes) -> list[Awaitable[object]]:
        return [
            on.xadd(f"bare:s:{n}", {"d": record, "h": "1.0"}, identifier=f"1-{seq}", **self._trim()),
            on.set(f"bare:l:{n}", "1.0", px=30_000),
        ]

    def _trim(self) -> dict[str, Any]:
        from coredis.tokens import PureToken

        return {
            "nomkstream": True,
            "trim_strategy": PureToken.MAXLEN,
            "threshold": 16,
            "trim_operator": PureToken.APPROXIMATELY,
        }


@asynccontextmanager
async def _coredis(url: str) -> AsyncIterator[_Coredis]:
    import coredis

    async with coredis.Redis.from_url(url) as client:
        for n in range(1000):
            await client.set(f"bare:warm:{n}", b"", px=1000)
        yield _Coredis(client)


def _cpu(
    act: Callable[[], Awaitable[None]], snapshots: int, prepare: Callable[[], None] = lambda: None
) -> Callable[[], Awaitable[float]]:
    """CPU microseconds for each snapshot, without what `prepare` takes."""

    async def value() -> float:
        prepare()
        began = time.process_time()
        await act()
        return (time.process_time() - began) / snapshots * 1e6

    return value


# Two processes


def _watching(report: Report, options: argparse.Namespace, url: str) -> None:
    latency: list[Watched] = []
    idle: list[float] = []
    for number in range(options.rounds):
        store = f"{url}?prefix=watching{number}"
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            watching = pool.submit(watch, store)
            sent = trio.run(_change, store, options.updates, number)
            latency.append(watching.result().latencies(sent))
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            idle.append(trio.run(_rest, store, pool, min(options.idle, 10.0)))
        print(f"\r{number + 1} of {options.rounds} rounds with other processes", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    p50 = [statistics.median(one.seconds) * 1e3 for one in latency]
    p99 = [statistics.quantiles(one.seconds, n=100)[98] * 1e3 for one in latency]
    report.add(
        "an update, to a watcher in another process", "ms", {"p50": p50, "p99": p99}, headline={"p50": (), "p99": ()}
    )
    report.aim("an update to a watcher, p50", "ms", 100.0, p50)
    report.add("watching an idle session of another process, of a core", "%", {"watcher": idle})


async def _change(url: str, updates: int, seed: int) -> list[float]:
    """Changes a session at random moments; when each was, by the clock that all processes share."""
    rng = random.Random(seed)
    sent: list[float] = []
    async with open_tracker(url) as tracker, tracker.session("watched", PIPELINE) as session:
        with trio.fail_after(60):
            while "here" not in {one.id for one in await tracker.sessions()}:  # noqa: ASYNC110 - nobody tells it
                await trio.sleep(0.05)
        await trio.sleep(0.5)
        for _ in range(updates):
            await trio.sleep(rng.expovariate(1 / 0.05))
            sent.append(time.monotonic())
            session.increment("n")
    return sent


async def _rest(url: str, pool: ProcessPoolExecutor, idle: float) -> float:
    """Owns a session in which nothing happens while another process watches it."""
    async with AsyncExitStack() as stack:
        tracker = await stack.enter_async_context(open_tracker(url))
        await stack.enter_async_context(tracker.session("resting", PIPELINE))
        share = await trio.to_thread.run_sync(pool.submit(watch_idle, url, idle).result)
    return share  # noqa: RET504 - a session may end its block quietly, as mypy knows


# Idling


async def _idling(report: Report, options: argparse.Namespace, url: str) -> None:
    client = client_of(url)
    before = _used(client)
    async with open_tracker(f"{url}?prefix=idle", flush_timeout=60.0) as tracker, trio.open_nursery() as nursery:

        async def hold(number: int, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            async with tracker.session(f"s{number}", PIPELINE, labels={"user": "u1"}) as session:
                await session.flush()
                task_status.started()
                await trio.sleep_forever()

        async def begin(numbers: Sequence[int]) -> None:
            for number in numbers:
                await nursery.start(hold, number)

        async with trio.open_nursery() as starting:
            for first in range(OPENING):
                starting.start_soon(begin, range(first, options.open, OPENING))
        await trio.sleep(min(3.0, options.idle))
        began, server = time.process_time(), _used(client)
        await trio.sleep(options.idle)
        ours = (time.process_time() - began) / options.idle * 100
        after = _used(client)
        nursery.cancel_scope.cancel()
    group = f"{options.open} idle sessions in one process"
    cores = {"process": [ours], "Redis": [(after[0] - server[0]) / options.idle * 100]}
    report.add(f"{group}: of a core", "%", cores, headline={"process": (), "Redis": ()})
    report.add(f"{group}: memory in Redis, each", "KB", {"Redis": [(server[1] - before[1]) / options.open / 1024]})
    client.close()


def _used(client: redis.Redis) -> tuple[float, int]:
    """Seconds of CPU and bytes that Redis has used."""
    cpu, memory = client.info("cpu"), client.info("memory")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"]), int(memory["used_memory"])


register(
    Suite(
        name="redis",
        summary="the Redis store: CPU a snapshot beside redis-py and coredis, latency to watchers, idle sessions",
        rounds=5,
        add_arguments=add_arguments,
        run=run,
        short=("--rounds", "2", "--count", "100", "1000", "--updates", "100", "--open", "2000", "--idle", "10"),
    )
)
