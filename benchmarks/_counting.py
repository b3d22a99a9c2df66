"""Worker processes that count, in each way in which they come about, and workers that are killed while they count.

A program of its own, so that what is forked has nothing but this in it: `python -m benchmarks._counting WAY UNITS
WORKERS` prints what was counted, and what came too late; `kills SEED NUMBER` what calls had returned, what was counted,
how many workers died, and what came too late.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

import trio

from trio_progress import ProcessCounter, open_tracker
from trio_progress.counting import inherit

Way = Callable[[ProcessCounter, int, int], object]
"""Has so many workers count so many units each, and waits for them."""


def count(counter: Any, units: int) -> int:
    """What a worker does."""
    for _ in range(units):
        counter.advance()
    return units


def _pool(method: str) -> Way:
    def run(counter: ProcessCounter, units: int, workers: int) -> None:
        with multiprocessing.get_context(method).Pool(workers) as pool:
            pool.starmap(count, [(counter, units)] * workers, chunksize=1)

    return run


def _executor(counter: ProcessCounter, units: int, workers: int) -> None:
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(count, [counter] * workers, [units] * workers))


def _subprocess(counter: ProcessCounter, units: int, workers: int) -> None:
    command = [sys.executable, "-m", "benchmarks._counting", "inherit", str(units)]
    environment = os.environ | counter.environment
    started = [subprocess.Popen(command, env=environment) for _ in range(workers)]  # noqa: S603 - this program
    if any(process.wait() for process in started):
        raise RuntimeError("a worker has failed")


def _nest(counter: ProcessCounter, units: int, workers: int) -> None:
    _pool("fork")(counter, units, workers)


def _nested_pools(counter: ProcessCounter, units: int, workers: int) -> None:
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(_nest, [counter] * 2, [units] * 2, [workers // 2] * 2))


def _threaded(counter: ProcessCounter, units: int) -> None:
    """Counts in the thread that was forked with, and in three more."""
    threads = [threading.Thread(target=count, args=(counter, units // 4)) for _ in range(3)]
    for thread in threads:
        thread.start()
    count(counter, units - units // 4 * 3)
    for thread in threads:
        thread.join()


def _fork_with_threads(counter: ProcessCounter, units: int, workers: int) -> None:
    """Two of the shares are counted by threads of the parent, which run while it forks."""
    threads = [threading.Thread(target=count, args=(counter, units)) for _ in range(2)]
    context = multiprocessing.get_context("fork")
    forked = [context.Process(target=_threaded, args=(counter, units)) for _ in range(workers - 2)]
    started: list[Any] = [*threads, *forked]
    for one in started:
        one.start()
    for one in started:
        one.join()


def _trio_parallel(counter: ProcessCounter, units: int, workers: int) -> None:
    import trio_parallel  # type: ignore[import-untyped]

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(workers):
                nursery.start_soon(trio_parallel.run_sync, count, counter, units)

    trio.run(main)


WAYS: Final[Mapping[str, Way]] = {
    "fork": _pool("fork"),
    "spawn": _pool("spawn"),
    "forkserver": _pool("forkserver"),
    "executor": _executor,
    "subprocess": _subprocess,
    "nested-pools": _nested_pools,
    "fork-with-threads": _fork_with_threads,
    "trio-parallel": _trio_parallel,
}


async def _counted(body: Callable[[ProcessCounter], object]) -> tuple[float, int]:
    """What the workers of `body` have counted, and how many blocks had late counts."""
    async with open_tracker() as tracker:
        async with tracker.session("counted") as session:
            with session.phase("count") as phase:
                async with phase.from_processes() as counter:
                    assert isinstance(counter, ProcessCounter)
                    await trio.to_thread.run_sync(body, counter)
        return phase.done, tracker.statistics().late


def _work(counter: ProcessCounter, journal: str) -> None:
    """Counts, and notes each call that has returned, until it is killed."""
    with Path(journal).open("r+b") as file:
        cell = memoryview(mmap.mmap(file.fileno(), 8)).cast("q")
    while True:
        counter.advance()
        cell[0] += 1


def kill(counter: ProcessCounter, folder: str, rng: random.Random, kills: int, workers: int = 8) -> list[Path]:
    """Starts workers and kills them, until so many have died; their journals."""
    context = multiprocessing.get_context("fork")
    journals: list[Path] = []
    while len(journals) < kills:
        batch = []
        for _ in range(min(workers, kills - len(journals))):
            journal = Path(folder, f"journal-{len(journals)}")
            journal.write_bytes(bytes(8))
            journals.append(journal)
            batch.append(context.Process(target=_work, args=(counter, str(journal))))
            batch[-1].start()
        for process in batch:
            time.sleep(rng.random() * 0.02)
            process.kill()
        for process in batch:
            process.join()
            if process.exitcode != -signal.SIGKILL:
                raise RuntimeError(f"a worker ended by itself: {process.exitcode}")
    return journals


def main(what: str, *given: str) -> None:
    """Does what the command line says, and prints what came of it."""
    if what == "inherit":
        count(inherit(), int(given[0]))
    elif what == "kills":
        seed, kills = int(given[0]), int(given[1])
        with tempfile.TemporaryDirectory() as folder:
            journals: list[Path] = []

            def body(counter: ProcessCounter) -> None:
                journals.extend(kill(counter, folder, random.Random(seed), kills))

            done, late = trio.run(_counted, body)
            returned = sum(int.from_bytes(journal.read_bytes(), "little") for journal in journals)
        print(returned, done, len(journals), late)
    else:
        units, workers = int(given[0]), int(given[1])
        print(*trio.run(_counted, lambda counter: WAYS[what](counter, units, workers)))


if __name__ == "__main__":
    main(*sys.argv[1:])
