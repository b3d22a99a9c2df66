"""Counting in worker processes: each way in which processes come about, kills, forks with threads, and late ones.

Each case is a program of its own: a fork in the test's process would have pytest's threads and files in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks._counting import WAYS
from tests.support import Cases

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="there are no POSIX locks"),
]

ROOT = Path(__file__).resolve().parents[2]

HEAD = """
import multiprocessing, os, signal, subprocess, sys

def run(body):
    import trio
    from trio_progress import open_tracker
    async def main():
        async with open_tracker() as tracker:
            async with tracker.session("a") as session:
                with session.phase("x", total=100) as phase:
                    async with phase.from_processes() as counter:
                        await trio.to_thread.run_sync(body, counter)
                    print(phase.done, tracker.statistics().late)
    trio.run(main)
"""

SLOW_TO_START = {"spawn", "forkserver", "executor", "subprocess", "trio-parallel"}
"""Ways that are left to `--exhaustive`: each worker imports all of it."""

OFTEN = {"fork"}
"""The way in which millions are counted without a release: the others differ in how a worker comes about."""


def ran(folder: Path, *arguments: str, timeout: float = 120) -> list[str]:
    """Runs Python; what it printed. It leaves nothing behind."""
    environment: Mapping[str, str] = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=ROOT,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.name for path in folder.iterdir() if path.name.startswith("trio-progress-counts-")] == []
    return done.stdout.split()


def program(folder: Path, code: str) -> list[str]:
    """Runs the program; what it printed."""
    file = folder / "program.py"
    file.write_text(HEAD + code, encoding="utf-8")
    return ran(folder, str(file))


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.exhaustive if way in SLOW_TO_START else ()) for way in WAYS]
)
def test_what_workers_count_is_counted_exactly(way: str, tmp_path: Path) -> None:
    workers = 3 if way in SLOW_TO_START else 8
    told = ran(tmp_path, "-m", "benchmarks._counting", way, "2000", str(workers))
    assert told == [str(2000 * workers), "0"]


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=pytest.mark.exhaustive if way in OFTEN else pytest.mark.release) for way in WAYS]
)
def test_two_million_units_of_eight_workers_are_counted_exactly(way: str, tmp_path: Path) -> None:
    told = ran(tmp_path, "-m", "benchmarks._counting", way, "250000", "8", timeout=600)
    assert told == ["2000000", "0"]


@pytest.mark.exhaustive
def test_workers_that_are_killed_lose_nothing_that_had_returned(cases: Cases, seed: int, tmp_path: Path) -> None:
    kills = cases(24, exhaustive=200)
    told = ran(tmp_path, "-m", "benchmarks._counting", "kills", str(seed), str(kills))
    returned, counted, deaths, late = map(int, told)
    assert 0 <= counted - returned <= deaths == kills
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
