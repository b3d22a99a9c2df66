"""Workers that take what waits, as `scale` measures them; and, run as a program, one of their processes.

1. *Dequeuing.* So many sessions are queued in Redis, and taken by 1, 10 and 50 tasks of one process, each of which
   leaves them at once. Beside it, where it is installed, rq's `dequeue_any` by as many threads: it takes an id off a
   list, and reads the job; nothing says yet that somebody runs it.
2. *Jobs.* So many sessions of 50 ms are run by 50 workers in some processes. By the epochs, which are the server's
   clock, it is seen how far from its turn each was claimed. Beside it the same jobs without a store.
3. *Idle.* The commands a second of a process whose 50 tasks wait, while as many sessions are retained as were before.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import trio

from trio_progress import open_tracker
from trio_progress.stores.base import Moved, Query, Refused
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.tracker import runtime_of

if TYPE_CHECKING:
    import redis

    from .harness import Values
    from .report import Report

WORKERS: Final = (1, 10, 50)
JOB: Final = 0.05
"""Seconds that a job takes."""

PROCESSES: Final = 4
IDLE_TASKS: Final = 50
PATIENCE: Final = 600.0

OURS: Final = "next_session, entered and left"
RQ: Final = "rq's dequeue_any"
BARE: Final = "the same jobs without a store"

Count = Callable[["redis.Redis"], tuple[int, int]]
"""The commands that were sent, and all that were run, so far."""


def measure(report: Report, url: str, jobs: int, dequeued: int, idle: float, count: Count) -> None:
    """All of it, with the keys of other prefixes left alone.

    Args:
        report: What the figures are added to.
        url: Of a Redis that nobody else uses.
        jobs: How many jobs are run.
        dequeued: How many sessions each number of tasks takes.
        idle: Seconds that idle workers are watched.
        count: Counts commands.
    """
    from .redis import client_of

    with client_of(url) as client:
        _dequeuing(report, url, client, dequeued, count)
        _jobs(report, url, client, jobs, count)
        trio.run(_idle, report, url, client, idle, count)


def _declare(url: str, number: int) -> None:
    async def main() -> None:
        async with open_tracker(url) as tracker, trio.open_nursery() as nursery:
            for n in range(number):
                nursery.start_soon(tracker.declare, f"job-{n:05}")
                if n % 100 == 99:
                    await trio.sleep(0.02)  # One wave after the other, so that they are queued in about this order.

    trio.run(main)


# 1. Dequeuing


def _dequeuing(report: Report, url: str, client: redis.Redis, number: int, count: Count) -> None:
    with_rq = importlib.util.find_spec("rq") is not None
    if not with_rq:
        report.notes.append("rq is not installed, and is left out")
    for workers in WORKERS:
        values: Values = {}
        sent: Values = {}
        prefixed = f"{url}?prefix=d{workers}"
        _declare(prefixed, number)
        before = count(client)[0]
        took = trio.run(_taken_by_tasks, prefixed, workers, number)
        values[OURS] = [took / number * 1e3]
        sent[OURS] = [(count(client)[0] - before) / number]
        if with_rq:
            began = _all_commands(client)
            values[RQ] = [_taken_by_threads(url, client, workers, number) / number * 1e3]
            sent[RQ] = [(_all_commands(client) - began) / number]
        group = f"{workers} workers: a session that waits"
        headline = {OURS: [RQ] if with_rq else []} if workers == WORKERS[-1] else {}
        against = [RQ] if with_rq else []
        report.add(group, "ms", values, against=against, headline=headline)
        report.add(f"{group}, commands", "calls", sent, against=against)


async def _taken_by_tasks(url: str, workers: int, number: int) -> float:
    taken = 0

    async def work() -> None:
        nonlocal taken
        while taken < number:
            async with tracker.next_session():
                taken += 1
        nursery.cancel_scope.cancel()

    async with open_tracker(url) as tracker, trio.open_nursery() as nursery:
        began = time.perf_counter()
        for _ in range(workers):
            nursery.start_soon(work)
    return time.perf_counter() - began


def _taken_by_threads(url: str, client: redis.Redis, workers: int, number: int) -> float:
    from rq import Queue  # type: ignore[import-not-found,unused-ignore]

    from .redis import client_of

    queue: Any = Queue("jobs", connection=client)
    for _ in range(number):
        queue.enqueue("time.sleep", 0)

    def work() -> None:
        with client_of(url) as own:
            mine: Any = Queue("jobs", connection=own)
            while Queue.dequeue_any([mine], None, connection=own) is not None:
                pass

    threads = [threading.Thread(target=work) for _ in range(workers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def _all_commands(client: redis.Redis) -> int:
    stats: dict[str, Any] = client.info("commandstats")
    return sum(of["calls"] for name, of in stats.items() if name != "cmdstat_info")


# 2. Jobs


def _jobs(report: Report, url: str, client: redis.Redis, number: int, count: Count) -> None:
    prefixed = f"{url}?prefix=jobs"
    _declare(prefixed, number)
    tasks = [WORKERS[-1] // PROCESSES + (n < WORKERS[-1] % PROCESSES) for n in range(PROCESSES)]
    bare = _run_processes(None, tasks, number)
    before = count(client)
    ours = _run_processes(prefixed, tasks, number)
    after = count(client)
    backend = RedisBackend(prefixed)
    try:
        claimed: list[int] = []
        query = Query(limit=1000)
        while True:
            page = backend.list(query)
            claimed += [stored.key.epoch for stored in page.sessions]
            if page.next is None:
                break
            query = Query(limit=1000, after=page.next)
    finally:
        backend.close()
    claimed.reverse()  # The oldest first: that is whose turn it is.
    turns = sorted(range(len(claimed)), key=claimed.__getitem__)
    rate = {
        OURS: [1e3 * max(one["took"] for one in ours) / number],
        BARE: [1e3 * max(one["took"] for one in bare) / number],
    }
    cpu = {
        OURS: [1e3 * sum(one["cpu"] for one in ours) / number],
        BARE: [1e3 * sum(one["cpu"] for one in bare) / number],
    }
    group = f"{number} jobs of 50 ms, {WORKERS[-1]} workers in {PROCESSES} processes"
    report.add(group, "ms", rate, against=[BARE], headline={OURS: [BARE]})
    report.add(f"{group}: CPU of the workers, a job", "ms", cpu)
    beside = (after[0] - before[0]) / number - 1  # Its end is the session's own.
    farthest = float(max(abs(turn - place) for place, turn in enumerate(turns)))
    refused = float(sum(one["refused"] for one in ours))
    for what, unit, value, limit in (
        ("places from its turn, the farthest claim", "places", farthest, 50.0),
        ("commands a job, beside its own states", "calls", beside, 6.0),
        ("claims that were refused", "calls", refused, 0.0),
        ("jobs that are not done", "jobs", float(number - sum(one["done"] for one in ours)), 0.0),
    ):
        report.add(f"{group}: {what}", unit, {OURS: [value]}, headline={OURS: ()})
        report.aim(f"{group}: {what}", unit, limit, [value])
    cores = os.cpu_count() or 1
    ideal = max(JOB * number / WORKERS[-1], (cpu[OURS][0] - cpu[BARE][0]) * number / 1e3 / min(cores, PROCESSES))
    report.aim(f"{group}: time, to that of the jobs or of the CPU", "x", 1.25, [rate[OURS][0] * number / 1e3 / ideal])


def _run_processes(url: str | None, tasks: list[int], number: int) -> list[dict[str, float]]:
    """What each process tells, of which all begin to work at once."""
    shares = [
        number * each // sum(tasks) + (n < number - sum(number * one // sum(tasks) for one in tasks))
        for n, each in enumerate(tasks)
    ]
    started = [
        subprocess.Popen(  # noqa: S603 - ourselves
            [sys.executable, "-m", "benchmarks.taking", url or "", str(each), str(share)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for each, share in zip(tasks, shares, strict=True)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [json.loads(process.communicate(timeout=PATIENCE)[0]) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


async def _process(url: str, tasks: int, share: int) -> dict[str, float]:
    """One process: it runs jobs until none waits; without a store, so many."""
    done = refused = 0

    async def bare() -> None:
        nonlocal done
        while done < share:
            done += 1
            await trio.sleep(JOB)

    async def work() -> None:
        nonlocal done
        while True:
            with trio.move_on_after(5.0) as waiting:  # Nothing is declared any more.
                async with tracker.next_session() as session:
                    waiting.deadline = float("inf")
                    await trio.sleep(JOB)
            if waiting.cancelled_caught:
                return
            done += 1
            last[0] = time.perf_counter()
            assert session.status == "completed"

    async with open_tracker(url or "memory:") as tracker:
        store = runtime_of(tracker).store
        commit = store.commit

        async def counting(batch: Any) -> Any:
            nonlocal refused
            outcomes = await commit(batch)
            refused += sum(isinstance(outcome, (Refused, Moved)) for outcome in outcomes)
            return outcomes

        store.commit = counting  # type: ignore[method-assign]
        print("ready", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        began, cpu = time.perf_counter(), time.process_time()
        last = [began]
        async with trio.open_nursery() as nursery:
            for _ in range(tasks):
                nursery.start_soon(work if url else bare)
        if not url:
            last[0] = time.perf_counter()
        return {"took": last[0] - began, "cpu": time.process_time() - cpu, "done": done, "refused": refused}


# 3. Idle


async def _idle(report: Report, url: str, client: redis.Redis, wait: float, count: Count) -> None:
    async with open_tracker(f"{url}?prefix=jobs") as tracker, trio.open_nursery() as nursery:
        await trio.sleep(3.0)
        before = count(client)[0]
        await trio.sleep(wait)
        alone = (count(client)[0] - before) / wait

        async def work() -> None:
            async with tracker.next_session():
                pass

        for _ in range(IDLE_TASKS):
            nursery.start_soon(work)
        await trio.sleep(3.0)
        before = count(client)[0]
        await trio.sleep(wait)
        waiting = (count(client)[0] - before) / wait
        nursery.cancel_scope.cancel()
    group = f"Commands a second of a process whose {IDLE_TASKS} tasks wait for a session"
    report.add(group, "calls", {"it waits": [waiting], "a tracker alone": [alone]}, headline={"it waits": ()})
    report.aim(group, "calls", 2.0, [waiting])


if __name__ == "__main__":
    print(json.dumps(trio.run(_process, sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
