"""What the SQLite store costs and how live it is: CPU a snapshot, latency between processes, watching an idle file.

1. *Storing.* So many sessions each have a snapshot to store, again and again. Ours goes through the store as a
   tracker's committer uses it: batches, fenced, with leases, in a worker thread. Beside it: the same with one
   transaction a snapshot, and bare `sqlite3` that upserts the same bytes in one transaction with nothing else.
2. *A whole tracker.* So many open sessions are each changed; until the file holds all of them.
3. *Two processes.* One changes a session at random moments, the other watches it; and watches it idle.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Final

import trio

from trio_progress import Pipeline, ProgressTracker, Session, open_tracker
from trio_progress.storage.committer import BATCH
from trio_progress.stores.base import Append, Claim, Claimed, Index, Key
from trio_progress.stores.threaded import SqliteStore
from trio_progress.tracker import runtime_of

from .harness import Values, interleave
from .report import Report
from .suites import Suite, count, register, seconds
from .watching import Watched, watch, watch_idle

PIPELINE: Final = Pipeline("measured", [f"phase-{n}" for n in range(8)])

OURS: Final = "our store, a batch"
SINGLE: Final = "our store, one transaction each"
BARE: Final = "bare sqlite3, a batch"

AT_ONCE: Final = 50
"""Snapshots that are stored one by one in a value, at most: each takes as long as twenty in a batch."""

INDEX: Final = Index("running", "measured", {"user": "u1"}, 1.0)
LEASE: Final = 30.0
KEEP: Final = 3600.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `sqlite`."""
    parser.add_argument("--count", type=count, default=1000, metavar="N", help="sessions (default: 1000)")
    parser.add_argument(
        "--updates", type=count, default=300, metavar="N", help="that another process waits for (default: 300)"
    )
    parser.add_argument(
        "--idle", type=seconds, default=10.0, metavar="S", help="how long an idle file is watched (default: 10)"
    )


def run(options: argparse.Namespace) -> Report:
    """Measures the first two parts in this process, and the third in others."""
    report = Report("sqlite", {name: getattr(options, name) for name in ("rounds", "count", "updates", "idle")})
    with tempfile.TemporaryDirectory(prefix="trio-progress-") as folder:
        trio.run(_storing, report, options, Path(folder))
        trio.run(_tracking, report, options, Path(folder))
        _watching(report, options, Path(folder))
    report.notes += [
        "CPU time of the process, worker thread included; WAL, synchronous NORMAL",
        "a snapshot is the JSON of a session with eight phases, the first of which counts",
        "latency: from the call that changed something to the watcher's first state that has it; wall time",
    ]
    return report


# Storing


async def _storing(report: Report, options: argparse.Namespace, folder: Path) -> None:
    record = await _record()
    async with AsyncExitStack() as stack:
        many, single = SqliteStore(folder / "many.db"), SqliteStore(folder / "single.db")
        for store in (many, single):
            stack.push_async_callback(store.aclose)
        bare = stack.enter_context(closing(_bare(folder / "bare.db")))
        few = min(AT_ONCE, options.count)
        batches = [_batches(await _claim(many, options.count), record), _batches(await _claim(single, few), record)]

        async def batched() -> None:
            writes = next(batches[0])
            for start in range(0, len(writes), BATCH):
                await many.commit(writes[start : start + BATCH])

        async def one_by_one() -> None:
            for write in next(batches[1]):
                await single.commit([write])

        async def upserts() -> None:
            await trio.to_thread.run_sync(_upsert, bare, options.count, record)

        values = await interleave(
            {
                OURS: _cpu(batched, options.count),
                SINGLE: _cpu(one_by_one, few),
                BARE: _cpu(upserts, options.count),
            },
            options.rounds,
            passes=3,
        )
    what = f"a snapshot of {len(record)} bytes, {options.count} sessions"
    report.add(what, "us", values, against=(BARE, SINGLE), headline={OURS: (BARE, SINGLE)})
    report.aim("a snapshot in a batch", "us", 30.0, values[OURS])


async def _record() -> bytes:
    """What a real session stores."""
    async with open_tracker() as tracker, tracker.session("measured", PIPELINE, labels={"user": "u1"}) as session:
        with session.phase("phase-0", total=100) as phase:
            phase.advance(7)
            await session.flush()
            stored = await runtime_of(tracker).store.read("measured")
    assert stored is not None
    return stored.record


async def _claim(store: SqliteStore, number: int) -> list[Key]:
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


def _bare(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE snapshots (id TEXT PRIMARY KEY, record BLOB)")
    return connection


def _upsert(connection: sqlite3.Connection, number: int, record: bytes) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(
        "INSERT INTO snapshots VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET record = excluded.record",
        [(f"s{n}", record) for n in range(number)],
    )
    connection.execute("COMMIT")


def _cpu(act: Callable[[], Awaitable[None]], snapshots: int) -> Callable[[], Awaitable[float]]:
    """CPU microseconds for each snapshot."""

    async def value() -> float:
        began = time.process_time()
        await act()
        return (time.process_time() - began) / snapshots * 1e6

    return value


# A whole tracker


async def _tracking(report: Report, options: argparse.Namespace, folder: Path) -> None:
    values: Values = {}
    for name, url in (("sqlite:", f"sqlite:{folder / 'tracker.db'}"), ("memory:", "memory:")):
        opened = open_tracker(url, persist_interval=0.05, heartbeat_interval=20.0)
        async with opened as tracker, trio.open_nursery() as nursery:
            sessions = [await nursery.start(_hold, tracker, number) for number in range(options.count)]
            values[name] = [await _round(sessions) for _ in range(options.rounds)]
            nursery.cancel_scope.cancel()
    report.add(f"a changed session, all that it leads to, {options.count} at once", "us", values, against=("memory:",))


async def _hold(tracker: ProgressTracker, number: int, *, task_status: trio.TaskStatus[Session]) -> None:
    async with tracker.session(f"s{number}", PIPELINE) as session:
        with session.phase("phase-0", total=10**9):
            await session.flush()
            task_status.started(session)
            await trio.sleep_forever()


async def _round(sessions: Sequence[Session]) -> float:
    await trio.sleep(0.3)
    began = time.process_time()
    for session in sessions:
        session.phases["phase-0"].advance()
    async with trio.open_nursery() as nursery:
        for session in sessions:
            nursery.start_soon(session.flush)
    return (time.process_time() - began) / len(sessions) * 1e6


# Two processes


def _watching(report: Report, options: argparse.Namespace, folder: Path) -> None:
    latency: list[Watched] = []
    idle: list[float] = []
    for number in range(options.rounds):
        url = f"sqlite:{folder / f'watched-{number}.db'}"
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            watching = pool.submit(watch, url)
            sent = trio.run(_change, url, options.updates, number)
            latency.append(watching.result().latencies(sent))
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            idle.append(trio.run(_rest, url, pool, options.idle))
        print(f"\r{number + 1} of {options.rounds} rounds with other processes", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    p50 = [statistics.median(one.seconds) * 1e3 for one in latency]
    p99 = [statistics.quantiles(one.seconds, n=100)[98] * 1e3 for one in latency]
    report.add(
        "an update, to a watcher in another process", "ms", {"p50": p50, "p99": p99}, headline={"p50": (), "p99": ()}
    )
    report.aim("an update to a watcher, p50", "ms", 100.0, p50)
    what = "watching an idle session of another process, of a core"
    report.add(what, "%", {"watcher": idle}, headline={"watcher": ()})
    report.aim("watching an idle session", "% of a core", 1.5, idle)


async def _change(url: str, updates: int, seed: int) -> list[float]:
    """Changes a session at random moments; when each was, by the clock that all processes share."""
    rng = random.Random(seed)
    sent: list[float] = []
    async with open_tracker(url) as tracker, tracker.session("watched", PIPELINE) as session:
        with trio.fail_after(60):
            while "here" not in {one.id for one in await tracker.sessions()}:  # noqa: ASYNC110 - it is a file
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


register(
    Suite(
        name="sqlite",
        summary="the SQLite store: CPU a snapshot beside bare sqlite3, latency to and cost of watching processes",
        rounds=5,
        add_arguments=add_arguments,
        run=run,
        short=("--rounds", "1", "--count", "300", "--updates", "60", "--idle", "3"),
    )
)
