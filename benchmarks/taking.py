"""Workers that take what waits, as `scale` measures them; and, run as a program, one of their processes.

1. *Dequeuing.* So many sessions are queued in Redis, and taken by 1, 10 and 50 tasks of one process, each of which
   leaves them at once. Beside it, where it is installed, rq's `dequeue_any` by as many threads: it takes an id off a
   list, and reads the job; nothing says yet that somebody runs it.
2. *Jobs.* Sessions of 50 ms are run by 1, 10 and 50 workers in some processes, so many each that they take as long. By
   the epochs, which are the server's clock, it is seen how far from its turn each was claimed. Beside it the same jobs
   without a store, each of which uses the CPU that a session over the same Redis was measured to use which is opened by
   its id: how much slower it is is what being handed out costs.
3. *Idle.* The commands a second of a process whose 50 tasks wait, while as many sessions are retained as were before.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final

import trio

from trio_progress import open_tracker
from trio_progress.stores.base import Moved, Query, Refused
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.tracker import runtime_of

from .harness import run_together

if TYPE_CHECKING:
    import redis

    from .harness import Values
    from .report import Report

WORKERS: Final = (1, 10, 50)
JOB: Final = 0.05
"""Seconds that a job takes."""

PROCESSES: Final = 4
IDLE_TASKS: Final = 50

OURS: Final = "next_session, entered and left"
RQ: Final = "rq's dequeue_any"
BY_ID: Final = "a session that is opened by its id"
BARE: Final = "the same jobs without a store, and a session's CPU"

TAKE: Final = "take"
OPEN: Final = "open"
BURN: Final = "burn"
"""What the workers of a process do: take what waits, open sessions by their ids, or have no store and use CPU."""

Count = Callable[["redis.Redis"], tuple[int, int]]
"""The commands that were sent, and all that were run, so far."""

Cpu = Callable[["redis.Redis"], float]
"""The seconds of CPU that a Redis has used so far."""


def measure(report: Report, url: str, jobs: int, dequeued: int, idle: float, count: Count, cpu: Cpu) -> None:
    """All of it, with the keys of other prefixes left alone.

    Args:
        report: What the figures are added to.
        url: Of a Redis that nobody else uses.
        jobs: How many jobs are run by 50 workers; fewer by fewer.
        dequeued: How many sessions each number of tasks takes.
        idle: Seconds that idle workers are watched.
        count: Counts commands.
        cpu: Tells the CPU of a server.
    """
    from .redis import client_of

    with client_of(url) as client:
        _dequeuing(report, url, client, dequeued, count)
        for workers in WORKERS:
            _jobs(report, url, client, workers, max(jobs * workers // WORKERS[-1], 2 * workers), count, cpu)
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


def _jobs(report: Report, url: str, client: redis.Redis, workers: int, number: int, count: Count, cpu: Cpu) -> None:
    prefixed = f"{url}?prefix=jobs{workers}"
    _declare(prefixed, number)
    processes = min(PROCESSES, workers)
    tasks = _shares(workers, [1] * processes)
    few = max(number // 5, workers)
    by_id = sum(one["cpu"] for one in _run_processes(prefixed + "id", OPEN, tasks, few)) / few
    bare = _run_processes("memory:", BURN, tasks, number, by_id)
    before, used = count(client)[0], cpu(client)
    ours = _run_processes(prefixed, TAKE, tasks, number)
    sent, used = count(client)[0] - before, cpu(client) - used
    took = {OURS: max(one["took"] for one in ours), BARE: max(one["took"] for one in bare)}
    group = f"{number} jobs of 50 ms, {workers} worker{'s' * (workers > 1)} in {processes}"
    shown = workers == WORKERS[-1]
    report.add(
        f"{group}: a job",
        "ms",
        {name: [1e3 * seconds / number] for name, seconds in took.items()},
        against=[BARE],
        headline={OURS: [BARE]} if shown else {},
    )
    cpus = {OURS: sum(one["cpu"] for one in ours) / number, BY_ID: by_id, "Redis": used / number}
    report.add(f"{group}: CPU, a job", "ms", {name: [1e3 * seconds] for name, seconds in cpus.items()})
    report.aim(f"{group}: throughput, to that without a store", "x", 1.25, [took[OURS]], [took[BARE]])
    for what, unit, value, limit in (
        ("places from its turn, the farthest claim", "places", _farthest(prefixed), 50.0),
        ("commands a job, beside its own states", "calls", sent / number - 1, 6.0),  # Its end is the session's own.
        ("claims that were refused", "calls", sum(one["refused"] for one in ours), 0.0),
        ("jobs that are not done", "jobs", number - sum(one["done"] for one in ours), 0.0),
    ):
        report.add(f"{group}: {what}", unit, {OURS: [float(value)]}, headline={OURS: ()} if shown else {})
        report.aim(f"{group}: {what}", unit, limit, [float(value)])


def _farthest(url: str) -> int:
    """How many places from its turn the session was claimed that was farthest from it."""
    backend = RedisBackend(url)
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
    return max(abs(turn - place) for place, turn in enumerate(turns))


def _shares(number: int, among: list[int]) -> list[int]:
    """A number in shares, each as large beside the others as is said."""
    ends = [number * sum(among[: n + 1]) // sum(among) for n in range(len(among))]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def _run_processes(url: str, what: str, tasks: list[int], number: int, cpu: float = 0.0) -> list[dict[str, float]]:
    """What each process tells, of which all begin to work at once."""
    shares = zip(tasks, _shares(number, tasks), strict=True)
    command = [sys.executable, "-m", "benchmarks.taking", url, what]
    return run_together([[*command, str(each), str(share), str(cpu)] for each, share in shares])


async def _process(url: str, what: str, tasks: int, share: int, cpu: float) -> dict[str, float]:
    """One process: it takes jobs until none waits, or runs so many."""
    begun = done = refused = 0

    async def burn() -> None:
        await trio.sleep(JOB)
        until = time.thread_time() + cpu
        while time.thread_time() < until:
            pass

    async def open_one() -> None:
        async with tracker.session():
            await trio.sleep(JOB)

    async def work_off(job: Callable[[], Awaitable[None]]) -> None:
        nonlocal begun, done
        while begun < share:
            begun += 1
            await job()
            done += 1
            last[0] = time.perf_counter()

    async def take() -> None:
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
            used[0] = time.process_time()
            assert session.status == "completed"

    async with open_tracker(url) as tracker:
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
        began, cpu_before = time.perf_counter(), time.process_time()
        last, used = [began], [cpu_before]
        async with trio.open_nursery() as nursery:
            for _ in range(tasks):
                if what == TAKE:
                    nursery.start_soon(take)
                else:
                    nursery.start_soon(work_off, open_one if what == OPEN else burn)
        if what != TAKE:
            used[0] = time.process_time()
        return {"took": last[0] - began, "cpu": used[0] - cpu_before, "done": done, "refused": refused}


# 3. Idle


async def _idle(report: Report, url: str, client: redis.Redis, wait: float, count: Count) -> None:
    async with open_tracker(f"{url}?prefix=jobs{WORKERS[-1]}") as tracker, trio.open_nursery() as nursery:
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
    place, kind, *numbers = sys.argv[1:]
    print(json.dumps(trio.run(_process, place, kind, int(numbers[0]), int(numbers[1]), float(numbers[2]))))
