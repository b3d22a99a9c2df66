"""A session, its phases, its tickers and its tracker in another process: forked, spawned, of a pool.

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
    pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="there is no fork"),
]

HEAD = """
import concurrent.futures, multiprocessing, os, sys, tempfile, time
import trio
from trio_progress import ForeignProcessError, current_session, open_tracker
OWNER = os.getpid()
store = "sqlite:" + tempfile.mkdtemp() + "/p.db"
"""


def program(folder: Path, code: str) -> tuple[str, str]:
    """Runs the program; what it printed, and what it said on standard error."""
    file = folder / "program.py"
    file.write_text(HEAD + code, encoding="utf-8")
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(file)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr


USES = {
    "phase.advance()": "phase.advance()",
    "a marked phase.advance()": "phase.advance()",
    "phase.advance(2)": "phase.advance(2)",
    "phase.update": "phase.update(total=3)",
    "phase.set": "phase.set(x=1)",
    "phase.phase": "phase.phase('child').__enter__()",
    "phase.from_thread": "phase.from_thread()",
    "the ticker": "ticker.advance()",
    "the ticker's update": "ticker.update(done=3)",
    "session.increment": "session.increment('n')",
    "session.emit": "session.emit('e')",
    "session.cancel": "session.cancel()",
    "session.fail": "session.fail('x')",
    "session.advance_to": "session.advance_to('other')",
    "current_session": "current_session().increment('n')",
    "tracker.session": "tracker.session('other')",
    "tracker.statistics": "tracker.statistics()",
}


def test_each_use_in_a_forked_worker_names_both_processes_and_changes_nothing(tmp_path: Path) -> None:
    told, _ = program(
        tmp_path,
        f"""
USES = {USES!r}
def use(name):
    context = contextvars[name.startswith("a marked")]
    try:
        context.run(eval, USES[name], globals())
    except ForeignProcessError as error:
        return error.owner, error.process, os.getpid(), str(error)
    return None

def pooled():
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return dict(zip(USES, pool.map(use, USES)))

import contextvars as cv
async def main():
    global tracker, session, phase, ticker, contextvars
    async with open_tracker() as tracker, tracker.session("a") as session:
        contextvars = [cv.copy_context(), cv.copy_context()]
        with session.phase("x", total=9) as phase:
            ticker = phase.from_thread()
            phase.advance()
            phase.advance()  # By the hot path, which the fork is to take it off.
            for name, said in (await trio.to_thread.run_sync(pooled)).items():
                assert said is not None, name
                owner, process, there, text = said
                assert (owner, process) == (OWNER, there) and owner != there, name
                for part in (str(owner), str(process), "counts do not travel", "results of your pool"):
                    assert part in text, (name, text)
                assert "from_thread" not in text
            phase.advance()
            ticker.advance()
        assert phase.done == 4, phase.done
        snapshot = session.snapshot()
        assert (snapshot.counters, [one.name for one in snapshot.phases]) == ({{}}, ["x"])
    print(session.status)
trio.run(main)
""",
    )
    assert told.split() == ["completed"]


def test_a_tracker_that_is_not_strict_drops_it_and_says_so_once(tmp_path: Path) -> None:
    told, errors = program(
        tmp_path,
        """
import logging
logging.basicConfig()
def work(n):
    phase.advance(); ticker.advance(); session.increment("n")
    return n

def pooled():
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return sum(pool.map(work, range(10)))

async def main():
    global session, phase, ticker
    async with open_tracker(strict=False) as tracker, tracker.session("a") as session:
        with session.phase("x", total=9) as phase:
            ticker = phase.from_thread()
            phase.advance()
            print(await trio.to_thread.run_sync(pooled))
        print(phase.done, tracker.statistics().refused)
trio.run(main)
""",
    )
    assert told.split() == ["45", "1", "0"]
    assert errors.count("counts do not travel between processes") == 1


@pytest.mark.exhaustive
def test_spawned_workers_are_refused_what_they_are_sent(tmp_path: Path) -> None:
    told, _ = program(
        tmp_path,
        """
def work(thing):
    return thing

def pooled(thing, method):
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        return pool.submit(work, thing).result()

async def main():
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            for thing in (phase, phase.advance, phase.from_thread(), session, tracker, session.phase("y")):
                for method in ("spawn", "fork"):
                    try:
                        await trio.to_thread.run_sync(pooled, thing, method)
                    except TypeError as error:
                        assert "cannot be pickled" in str(error) and "results of your pool" in str(error), error
                        print("refused")
if __name__ == "__main__":
    trio.run(main)
""",
    )
    assert told.split() == ["refused"] * 12


@pytest.mark.exhaustive
def test_errors_come_back_from_pools_as_themselves(tmp_path: Path) -> None:
    told, _ = program(
        tmp_path,
        """
from trio_progress import FencedError, SessionActiveError
def work(kind):
    raise SessionActiveError("r-42", "there") if kind == "active" else FencedError("r-42", 7)

if __name__ == "__main__":
    for kind in ("active", "fenced"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            try:
                pool.apply_async(work, (kind,)).get(30)
            except (SessionActiveError, FencedError) as error:
                print(type(error).__name__, vars(error))
        with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                pool.submit(work, kind).result(30)
            except (SessionActiveError, FencedError) as error:
                print(type(error).__name__, error.session_id)
""",
    )
    assert told.splitlines() == [
        "SessionActiveError {'session_id': 'r-42'}",
        "SessionActiveError r-42",
        "FencedError {'session_id': 'r-42', 'epoch': 7}",
        "FencedError r-42",
    ]


@pytest.mark.parametrize(
    ("leaves", "code", "says"),
    [
        ("sys.exit()", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('over')", 1, "over"),
        ("raise ValueError('of the child')", 1, "ValueError: of the child"),
        ("phase.advance()", 1, "counts do not travel between processes"),
        ("return", 1, "end a forked process by os._exit()"),
    ],
)
def test_a_fork_that_leaves_the_parents_blocks_ends_and_leaves_the_parent_alone(
    leaves: str, code: int, says: str, tmp_path: Path
) -> None:
    told, errors = program(
        tmp_path,
        f"""
async def body(tracker, session):
    with session.phase("x", total=10) as phase:
        phase.advance()
        await session.flush()
        child = os.fork()
        if child == 0:
            {leaves}
        with trio.fail_after(60):
            while not (ended := os.waitpid(child, os.WNOHANG))[0]:
                await trio.sleep(0.01)
        print("child", os.waitstatus_to_exitcode(ended[1]))
        for _ in range(9):
            phase.advance()
            await trio.to_thread.run_sync(time.sleep, 0.001)

async def main():
    async with open_tracker(store, persist_interval=0.01) as tracker:
        async with tracker.session("a") as session:
            await body(tracker, session)
        stored = await tracker.snapshot("a")
        print(session.status, stored.phases[0].done, stored.status)
trio.run(main)
""",
    )
    assert told.splitlines() == [f"child {code}", "completed 10 completed"]
    assert says in errors
    assert says or not errors


def test_a_forked_worker_can_have_a_tracker_of_its_own(tmp_path: Path) -> None:
    told, _ = program(
        tmp_path,
        """
def work():
    async def main():
        async with open_tracker(store) as tracker, tracker.session("child") as session:
            with session.phase("x") as phase:
                phase.advance(5)
    trio.run(main)

def forked():
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    return child.exitcode

async def main():
    async with open_tracker(store) as tracker, tracker.session("parent") as session:
        print(await trio.to_thread.run_sync(forked), (await tracker.snapshot("child")).phases[0].done)
trio.run(main)
""",
    )
    assert told.split() == ["0", "5"]
