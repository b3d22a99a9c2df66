"""What lists, claims and idle trackers cost, beside how many sessions are retained.

1. *Pages.* A store is filled with so many sessions: nearly all have ended, some run, are queued or lost; each has three
   labels. Pages of 100 by status, by labels and by both are timed beside the newest page, which needs no filter. In
   Redis the commands are counted: those that are sent, and with those that scripts run in the server.
2. *Writes.* Redis' own CPU time for a claim, a plain append and an end, with three labels; beside it the same scripts
   and commands without the upkeep of the index.
3. *Idle.* The commands a second of a tracker that waits, and of one with an open list, on the fullest store.
4. *Workers* that take what waits: see `taking`.
5. *Nodes*: what a Cluster takes off each Redis; see `nodes`.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import trio

from trio_progress import open_tracker
from trio_progress.stores.base import Append, Claim, Claimed, Index, Key, Query
from trio_progress.stores.sqlite.backend import SqliteBackend

from . import nodes, taking
from .harness import Values
from .redis import server
from .report import Report
from .suites import Suite, count, register, seconds

if TYPE_CHECKING:
    import redis

    from trio_progress.stores.redis.backend import RedisBackend
    from trio_progress.stores.threaded import Backend

PAGE: Final = 100
BATCH: Final = 500
KEEP: Final = 1e6
LEASE: Final = 1e5
RECORD: Final = b"x" * 900
ENDED: Final = ("completed", "completed", "completed", "failed", "cancelled")

NEWEST: Final = "the newest page"

LISTS: Final[dict[str, Query]] = {
    NEWEST: Query(limit=PAGE),
    "status failed": Query(shown=frozenset({"failed"}), limit=PAGE),
    "status queued": Query(shown=frozenset({"queued"}), limit=PAGE),
    "status lost": Query(shown=frozenset({"lost"}), limit=PAGE),
    "a label that all have": Query(labels={"app": "a"}, limit=PAGE),
    "a label that one in 100 has": Query(labels={"user": "u7"}, limit=PAGE),
    "a label that one session has": Query(labels={"order": "o7"}, limit=PAGE),
    "that all have, and status failed": Query(labels={"app": "a"}, shown=frozenset({"failed"}), limit=PAGE),
    "one in 100, and status running": Query(labels={"user": "u7"}, shown=frozenset({"running"}), limit=PAGE),
    "two labels": Query(labels={"app": "a", "order": "o7"}, limit=PAGE),
    "what the reaper asks": Query(status=frozenset({"running"}), lapsed=True, limit=PAGE),
}

PARTS: Final = ("lists", "writes", "idle", "workers", "nodes")

OURS: Final = "ours"
BARE: Final = "without the index"

CLAIMED: Final = "a claim"
APPENDED: Final = "a plain append"
FINISHED: Final = "an end"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `scale`."""
    parser.add_argument("--url", metavar="URL", help="an empty Redis to use, but for nodes; else one is started")
    parser.add_argument(
        "--count",
        type=count,
        nargs="+",
        default=[1000, 10_000, 100_000],
        metavar="N",
        help="sessions that are retained (default: 1000 10000 100000)",
    )
    parser.add_argument("--writes", type=count, default=2000, metavar="N", help="claims, and as many ends (2000)")
    parser.add_argument(
        "--jobs", type=count, default=2000, metavar="N", help="jobs of 50 ms that 50 workers run (2000)"
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        choices=PARTS,
        default=PARTS,
        help="what is measured (default: all of it); lists take longest",
    )
    parser.add_argument("--idle", type=seconds, default=10.0, metavar="S", help="how long a tracker idles (10)")
    parser.add_argument("--span", type=seconds, default=5.0, metavar="S", help="how long nodes are appended to (5)")


def run(options: argparse.Namespace) -> Report:
    """Measures both stores at each size, then writes and idle trackers on the fullest Redis."""
    shown = ("rounds", "parts", "count", "writes", "jobs", "idle", "span")
    report = Report("scale", {name: getattr(options, name) for name in shown})
    random.seed(1)
    with server(options.url) as url:
        if "lists" in options.parts:
            for number in options.count:
                _lists(report, number, options.rounds, url)
        if "writes" in options.parts:
            _writes(report, options, url)
        if "idle" in options.parts:
            trio.run(_idle, report, f"{url}?prefix=n{max(options.count)}", options.idle)
        if "workers" in options.parts:
            taking.measure(report, url, options.jobs, max(options.jobs // 5, 1), options.idle, _calls, _cpu)
    if "nodes" in options.parts:
        nodes.measure(report, options.rounds, options.span)
    report.notes += [
        "a page is 100 sessions with their records of 900 bytes, read through the store; wall time",
        "Redis on the same machine, without persistence; its CPU is what INFO says it used",
        "without the index: the same scripts whose function that keeps it does nothing, and SET without GET",
    ]
    return report


def _lists(report: Report, number: int, rounds: int, url: str) -> None:
    """Of both stores with so many sessions; those in Redis stay there."""
    with _redis(url, number) as (backend, client):
        _fill(backend, number)
        _pages(report, f"Redis, {number} retained", backend, rounds)
        _commands(report, f"Redis, {number} retained", backend, client)
    with tempfile.TemporaryDirectory(prefix="trio-progress-") as folder, ExitStack() as stack:
        backend_of_file = SqliteBackend(Path(folder) / f"{number}.db")
        stack.callback(backend_of_file.close)
        _fill(backend_of_file, number)
        _pages(report, f"SQLite, {number} retained", backend_of_file, rounds)


# Filling


@contextmanager
def _redis(url: str, number: int) -> Iterator[tuple[RedisBackend, redis.Redis]]:
    from trio_progress.stores.redis.backend import RedisBackend

    from .redis import client_of

    backend, client = RedisBackend(url, prefix=f"n{number}", timeout=10.0), client_of(url)
    try:
        backend.open()
        yield backend, client
    finally:
        client.close()
        backend.close()


def _labels(n: int) -> dict[str, str]:
    return {"app": "a", "user": f"u{n % 100}", "order": f"o{n}"}


def _claim(session: str, n: int, status: str, lease: float | None) -> Claim:
    index = Index(status, f"p{n % 5}", _labels(n), 1.7e9 + n)
    return Claim(session, 1, session, RECORD, index, lease, KEEP)


def _end(session: str, n: int, epoch: int) -> Append:
    index = Index(ENDED[n % len(ENDED)], f"p{n % 5}", _labels(n), 1.7e9 + n)
    return Append(session, Key(epoch, 1), RECORD, index, None, KEEP, 1.7e9)


def _fill(backend: Backend, number: int) -> None:
    """So many sessions, of which two in a thousand are queued, three run, and one has lost its owner."""
    for first in range(0, number, BATCH):
        claims: list[Claim] = []
        for n in range(first, min(first + BATCH, number)):
            kind = n % 1000
            queued, lost = kind in (3, 503), kind == 7
            claims.append(_claim(f"s{n:06}", n, "queued" if queued else "running", None if queued or lost else LEASE))
        outcomes = backend.commit(claims)
        ends: list[Append] = []
        for n, outcome in enumerate(outcomes, first):
            assert isinstance(outcome, Claimed), outcome
            if n % 1000 not in (3, 503, 7, 5, 405, 805):
                ends.append(_end(f"s{n:06}", n, outcome.epoch))
        backend.commit(ends)


# Pages


def _pages(report: Report, group: str, backend: Backend, rounds: int) -> None:
    names = list(LISTS)
    values: Values = {name: [] for name in names}
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            values[name].append(_time(partial(backend.list, LISTS[name])))
    values = {name: values[name] for name in LISTS}
    headline = {name: [NEWEST] for name in values if name != NEWEST} if "100000" in group else {}
    report.add(group, "ms", values, against=[NEWEST], headline=headline)
    for name in LISTS:
        if name != NEWEST:
            report.aim(f"{group}: {name}, to {NEWEST}", "x", 2.0, values[name], values[NEWEST])


def _time(call: Callable[[], object]) -> float:
    """Milliseconds; the best of three, for a page is over in the time of one turn of somebody else."""
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return best * 1e3


def _calls(client: redis.Redis) -> tuple[int, int]:
    """Commands that were sent (all of ours are scripts, or reading by XREAD), and all that were run."""
    stats: dict[str, Any] = client.info("commandstats")
    sent = sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval", "xread"))
    ours = sum(of["calls"] for name, of in stats.items() if name not in ("cmdstat_info", "cmdstat_evalsha"))
    return sent, ours


def _commands(report: Report, group: str, backend: RedisBackend, client: redis.Redis) -> None:
    sent: Values = {}
    inside: Values = {}
    for name, query in LISTS.items():
        before = _calls(client)
        backend.list(query)
        after = _calls(client)
        sent[name] = [float(after[0] - before[0])]
        inside[name] = [float(after[1] - before[1])]
    report.add(f"{group}: commands that are sent", "calls", sent, against=[NEWEST])
    report.add(f"{group}: commands in the server", "calls", inside, against=[NEWEST])
    for name in LISTS:
        if name != NEWEST:
            report.aim(f"{group}: sent, {name}", "x", 2.0, sent[name], sent[NEWEST])


# Writes


def _writes(report: Report, options: argparse.Namespace, url: str) -> None:
    from trio_progress.stores.redis import scripts, writes
    from trio_progress.stores.redis.index_lua import SETTLE

    bare = f"{SETTLE.partition('local function escaped')[0]}local function settle() end\n"
    texts = {name: getattr(scripts, name).text.replace(SETTLE, bare) for name in ("CLAIM", "APPEND")}
    without: dict[str, Any] = {
        name: scripts.Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
        for name, text in texts.items()
    }
    without["LAPSE_SHOWN"] = ()
    values: dict[str, Values] = {name: {} for name in (CLAIMED, APPENDED, FINISHED)}
    for number in range(options.rounds):
        for name, replaced in ((OURS, {}), (BARE, without)):
            with (
                mock.patch.multiple(writes, **replaced) if replaced else nullcontext(),
                _redis(url, 0) as (store, client),
            ):
                for what, cost in _written(store, client, options.writes, f"{number}{name[:1]}").items():
                    values[what].setdefault(name, []).append(cost)
    for what, limit in ((CLAIMED, 2.0), (APPENDED, 1.05), (FINISHED, 2.5)):
        group = f"Redis' CPU for {what}, three labels"
        report.add(group, "us", values[what], against=[BARE], headline={OURS: [BARE]})
        report.aim(f"{group}, to the same without the index", "x", limit, values[what][OURS], values[what][BARE])


def _written(backend: RedisBackend, client: redis.Redis, number: int, mark: str) -> dict[str, float]:
    epochs: list[int] = []

    def claim(first: int) -> None:
        outcomes = backend.commit([_claim(f"w{mark}{n}", n, "running", LEASE) for n in range(first, first + BATCH)])
        epochs.extend(outcome.epoch for outcome in outcomes if isinstance(outcome, Claimed))

    def write(first: int, seq: int, status: str, lease: float | None) -> None:
        index = [Index(status, f"p{n % 5}", _labels(n), 1.7e9 + n) for n in range(first, first + BATCH)]
        backend.commit(
            [
                Append(f"w{mark}{n}", Key(epochs[n], seq), RECORD, index[n - first], lease, KEEP, 1.7e9)
                for n in range(first, first + BATCH)
            ]
        )

    def append(first: int) -> None:
        for seq in (1, 2, 3):
            write(first, seq, "running", LEASE)

    def end(first: int) -> None:
        write(first, 9, "completed", None)

    costs: dict[str, float] = {}
    number = max(number // BATCH, 1) * BATCH
    for what, step, each in ((CLAIMED, claim, 1), (APPENDED, append, 3), (FINISHED, end, 1)):
        before = _cpu(client)
        for first in range(0, number, BATCH):
            step(first)
        costs[what] = (_cpu(client) - before) / number / each * 1e6
    return costs


def _cpu(client: redis.Redis) -> float:
    used: dict[str, Any] = client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


# Idle


async def _idle(report: Report, url: str, wait: float) -> None:
    from .redis import client_of

    values: Values = {}
    with client_of(url.partition("?")[0]) as client:
        for name, lists in (("a tracker that waits", False), ("one with an open list", True)):
            async with open_tracker(url) as tracker, trio.open_nursery() as nursery:
                if lists:

                    async def look() -> None:
                        async with tracker.watch_all(labels={"user": "u7"}) as snapshots:
                            async for _ in snapshots:
                                pass

                    nursery.start_soon(look)
                await trio.sleep(3.0)
                before = _calls(client)[0]
                await trio.sleep(wait)
                values[name] = [(_calls(client)[0] - before) / wait]
                nursery.cancel_scope.cancel()
    group = "Commands a second while nothing happens, on the fullest Redis"
    report.add(group, "calls", values, headline=dict.fromkeys(values, ()))
    waits, looks = (each[0] for each in values.values())
    report.aim("commands a second of a tracker that waits", "calls", 2.0, [waits])
    report.aim("commands a second of an open list, beside its tracker's", "calls", 2.0, [max(looks - waits, 0.0)])


register(
    Suite(
        "scale",
        "what lists, claims and idle trackers cost, beside how many sessions are retained",
        5,
        add_arguments,
        run,
        ("--rounds", "2", "--count", "1000", "--writes", "500", "--jobs", "200", "--idle", "3", "--span", "2"),
    )
)
