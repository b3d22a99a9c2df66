"""Counting in worker processes: each way in which processes come about, kills, forks with threads, and late ones.

Each case is a program of its own: a fork in the test's process would have pytest's threads and files in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="there are no POSIX locks"),
]

HEAD = """
import concurrent.futures, multiprocessing, os, signal, subprocess, sys, threading, time

def count(counter, n):
    for _ in range(n):
        counter.advance()
    return n

def run(body, **settings):
    import trio
    from trio_progress import open_tracker
    async def main():
        async with open_tracker(**settings) as tracker:
            async with tracker.session("a") as session:
                with session.phase("x", total=100) as phase:
                    async with phase.from_processes() as counter:
                        await trio.to_thread.run_sync(body, counter)
                    print(phase.done, tracker.statistics().late)
    trio.run(main)
"""


def program(folder: Path, code: str, *, python: tuple[str, ...] = ()) -> list[str]:
    """Runs the program; what it printed."""
    file = folder / "program.py"
    file.write_text(HEAD + code, encoding="utf-8")
    command = [sys.executable, "-W", "ignore::DeprecationWarning", *python, str(file)]
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=120, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in folder.iterdir() if path.name.startswith("trio-progress-counts-")] == []
    return done.stdout.split()


WAYS = {
    "fork": """
def body(counter):
    with multiprocessing.get_context("fork").Pool(8) as pool:
        pool.starmap(count, [(counter, N)] * 8, chunksize=1)
""",
    "spawn": """
def body(counter):
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        pool.starmap(count, [(counter, N)] * 8, chunksize=1)
""",
    "forkserver": """
def body(counter):
    with multiprocessing.get_context("forkserver").Pool(WORKERS) as pool:
        pool.starmap(count, [(counter, N)] * 8, chunksize=1)
""",
    "an executor": """
def body(counter):
    with concurrent.futures.ProcessPoolExecutor(WORKERS) as pool:
        assert sum(pool.map(count, [counter] * 8, [N] * 8)) == 8 * N
""",
    "subprocess": """
CODE = '''
from trio_progress.counting import inherit
counter = inherit()
for _ in range(%d):
    counter.advance()
''' % N
def body(counter):
    environment = {**os.environ, **counter.environment}
    for _ in range(8 // WORKERS):
        started = [subprocess.Popen([sys.executable, "-c", CODE], env=environment) for _ in range(WORKERS)]
        assert [process.wait(100) for process in started] == [0] * WORKERS
""",
    "nested pools": """
def nested(counter):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(count, [(counter, N)] * 4, chunksize=1)

def body(counter):
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        list(pool.map(nested, [counter] * 2))
""",
    "fork with threads": """
def threaded(counter):
    count(counter, N)  # Before there are threads, and in the thread that is forked with.
    threads = [threading.Thread(target=count, args=(counter, N)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

def body(counter):
    others = [threading.Thread(target=count, args=(counter, N)) for _ in range(2)]
    for thread in others:
        thread.start()
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=threaded, args=(counter,)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for thread in [*others, *workers]:
        thread.join()
""",
    "trio-parallel": """
def body(counter):
    import trio, trio_parallel
    async def main():
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(trio_parallel.run_sync, count, counter, N)
    trio.run(main)
""",
}
UNITS = {"fork with threads": 34}
"""How many times N each way counts, where it is not eight times."""


def counted(folder: Path, way: str, n: int, workers: int) -> int:
    body = f"N, WORKERS = {n}, {workers}\n{WAYS[way]}\nif __name__ == '__main__':\n    run(body)\n"
    done, late = program(folder, body)
    assert late == "0"
    return int(done)


@pytest.mark.parametrize("way", ["fork", "subprocess", "nested pools", "fork with threads"])
def test_what_workers_count_is_counted_exactly(way: str, tmp_path: Path) -> None:
    assert counted(tmp_path, way, 1000, 2) == UNITS.get(way, 8) * 1000


@pytest.mark.exhaustive
@pytest.mark.parametrize("way", WAYS)
def test_two_million_units_of_eight_workers_are_counted_exactly(way: str, tmp_path: Path) -> None:
    n = 2_000_000 // UNITS.get(way, 8)
    assert counted(tmp_path, way, n, 8) == n * UNITS.get(way, 8)


def test_workers_that_are_killed_lose_nothing_that_had_returned(tmp_path: Path) -> None:
    told = program(
        tmp_path,
        """
import mmap, random, struct
def work(counter, journal):
    with open(journal, "r+b") as file:
        cell = memoryview(mmap.mmap(file.fileno(), 8)).cast("q")
    while True:
        counter.advance()
        cell[0] += 1

def body(counter):
    random.seed(7)
    context, journals = multiprocessing.get_context("fork"), []
    for batch in range(5):
        workers = []
        for number in range(8):
            journals.append(f"{batch}-{number}")
            with open(journals[-1], "wb") as file:
                file.write(bytes(8))
            workers.append(context.Process(target=work, args=(counter, journals[-1])))
            workers[-1].start()
        for worker in workers:
            time.sleep(random.random() * 0.02)
            worker.kill()
        for worker in workers:
            worker.join()
    returned = 0
    for journal in journals:
        with open(journal, "rb") as file:
            returned += struct.unpack("q", file.read())[0]
    print(returned, len(journals))

if __name__ == "__main__":
    run(body)
""",
    )
    returned, deaths, done, late = map(int, told)
    assert 0 <= done - returned <= deaths == 40
    assert returned > 0
    assert late == 0


def test_what_a_killed_worker_counted_in_a_job_is_taken_back(tmp_path: Path) -> None:
    told = program(
        tmp_path,
        """
def work(counter, dies):
    counter.advance(1000)
    with counter.job():
        counter.advance(10)
    with counter.job():
        counter.advance()
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)

def body(counter):
    context = multiprocessing.get_context("fork")
    for dies in (True, False, True, True):
        worker = context.Process(target=work, args=(counter, dies))
        worker.start()
        worker.join()

if __name__ == "__main__":
    run(body)
""",
    )
    assert told == ["4041", "0"]


def test_a_fork_within_a_job_counts_for_itself(tmp_path: Path) -> None:
    told = program(
        tmp_path,
        """
def body(counter):
    with counter.job():
        counter.advance()
        child = os.fork()
        if not child:
            counter.advance(10)
            counter.increment("n")
            with counter.job():
                counter.advance(100)
            counter.__reduce__()[0](*counter.__reduce__()[1]).advance(1000)
            os._exit(0)
        os.waitpid(child, 0)
        counter.advance()

if __name__ == "__main__":
    run(body)
""",
    )
    assert told == ["1112", "0"]


def test_more_processes_and_threads_than_slots_share_the_last_one(tmp_path: Path) -> None:
    told = program(
        tmp_path,
        """
import trio_progress.counting.slots as slots, trio_progress.counting.layout as layout
slots.SHARED = 3  # As if there were four slots.
def work(counter):
    for number in range(200):
        counter.advance()
        with counter.job():
            counter.advance(2)
            counter.increment("n")
        try:
            with counter.job():
                counter.advance(1000)
                raise KeyError
        except KeyError:
            pass
    counter.update(message="from many")

def body(counter):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(counter,)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

if __name__ == "__main__":
    run(body)
""",
    )
    assert told == [str(8 * 600), "0"]


def test_counts_after_the_block_are_late_and_a_worker_that_comes_too_late_counts_into_nothing(tmp_path: Path) -> None:
    told = program(
        tmp_path,
        """
import pickle, trio
from trio_progress import open_tracker
LATE = "import pickle, sys; pickle.loads(bytes.fromhex(sys.argv[1])).advance(7); print('none')"

def work(counter, begun, left, counted):
    counter.advance()
    begun.set()
    left.wait(60)
    counter.advance(5)
    counted.set()

async def main():
    context = multiprocessing.get_context("fork")
    begun, left, counted = context.Event(), context.Event(), context.Event()
    async with open_tracker() as tracker:
        async with tracker.session("a") as session:
            with session.phase("x") as phase:
                async with phase.from_processes() as counter:
                    worker = context.Process(target=work, args=(counter, begun, left, counted))
                    worker.start()
                    await trio.to_thread.run_sync(begun.wait, 60)
                left.set()
                await trio.to_thread.run_sync(counted.wait, 60)
                argument = pickle.dumps(counter).hex()
                await trio.to_thread.run_sync(subprocess.run, [sys.executable, "-c", LATE, argument])
            worker.join()
        print(phase.done, tracker.statistics().late)

if __name__ == "__main__":
    trio.run(main)
""",
    )
    assert told == ["none", "1", "1"]
