"""Several processes on one SQLite file, killed and stopped at random: nothing acknowledged is lost, nobody shares."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from tests import listening
from tests.listening import Worker
from trio_progress.blocking import Client

pytestmark = pytest.mark.integration

worker = partial(listening.worker, "tests.integration.sqlite_worker")


def whoever_owns(workers: Sequence[Worker]) -> Worker:
    """Waits until one of them has been acknowledged something more."""
    acknowledged = [len([line for line in one.rest() if line[0] == "ack"]) for one in workers]
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for one, before in zip(workers, acknowledged, strict=True):
            if len([line for line in one.rest() if line[0] == "ack"]) > before:
                return one
        time.sleep(0.005)
    raise AssertionError(f"nobody owns it: {[one.rest()[-5:] for one in workers]}")


def sound(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)])


@pytest.mark.exhaustive
def test_a_killed_owner_loses_nothing_that_was_acknowledged_and_there_is_one_owner_at_a_time(
    tmp_path: Path, rng: random.Random, kills: int
) -> None:
    path = tmp_path / "s.db"
    with ExitStack() as stack:
        workers = [stack.enter_context(worker("count", path)) for _ in range(2)]
        alive = list(workers)
        for _ in range(kills):
            owner = whoever_owns(alive)
            time.sleep(rng.uniform(0, 0.15))
            owner.process.send_signal(signal.SIGKILL)
            owner.process.wait()
            alive.remove(owner)
            # There is always another one that waits to take over.
            workers.append(stack.enter_context(worker("count", path)))
            alive.append(workers[-1])
            owner.listener.join()
            acknowledged = max(int(line[2]) for line in owner.rest() if line[0] == "ack")
            with Client(f"sqlite:{path}") as client:
                assert client.snapshot("a").counters["n"] >= acknowledged
            assert sound(path)
    everything = [one.rest() for one in workers]
    epochs: dict[int, tuple[int, float, float]] = {}
    owned: list[tuple[int, int, int]] = []
    for number, said in enumerate(everything):
        for word, *rest in said:
            # A busy machine may keep an owner from its heartbeat for longer than its lease, and others from the file.
            assert word in ("ready", "own", "ack", "fenced") or (word == "store" and "locked" in rest), (word, rest)
            if word not in ("own", "ack"):
                continue
            epoch, count, at = int(rest[0]), int(rest[1]), float(rest[2])
            whose, began, last = epochs.get(epoch, (number, at, at))
            assert whose == number, "an epoch has one owner"
            epochs[epoch] = (whose, began, max(last, at))
            owned.append((epoch, count, number))
    assert len(epochs) >= kills
    spans = [epochs[epoch][1:] for epoch in sorted(epochs)]
    for (_, ended), (began, _) in pairwise(spans):
        assert ended < began, "an owner was acknowledged something after the next one had begun"
    counts = [count for _, count, _ in sorted(owned)]
    assert counts == sorted(counts), "a later owner went on from less than was acknowledged"


@pytest.mark.exhaustive
def test_of_four_processes_that_claim_a_hundred_ids_exactly_one_wins_each(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with (
        worker("claim", path, 100) as a,
        worker("claim", path, 100) as b,
        worker("claim", path, 100) as c,
        worker("claim", path, 100) as d,
    ):
        four = (a, b, c, d)
        for one in four:
            one.next("ready")
        for number in range(100):
            # Each is the first to be told in turn: who writes keeps the others waiting by the file's lock.
            for place in range(4):
                four[(number + place) % 4].tell()
            for one in four:
                one.next("won", "refused")
        for one in four:
            one.next("done")
        won = sorted(line[1] for one in four for line in one.rest() if line[0] == "won")
        refused = sorted(line[1] for one in four for line in one.rest() if line[0] == "refused")
        assert won == sorted(f"c{number}" for number in range(100))
        assert len(refused) == 300
        assert sum(any(line[0] == "won" for line in one.heard) for one in four) > 1, "it was no race"
    assert sound(path)


def stop_between_writes(process: subprocess.Popen[str], path: Path) -> None:
    """Stops a process that has not locked the file: one that is stopped amid a write keeps all others from writing."""
    while True:
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                process.send_signal(signal.SIGCONT)
            else:
                return


def test_an_owner_that_was_stopped_and_wakes_up_is_fenced(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with worker("count", path) as first:
        first.next("ack")
        stop_between_writes(first.process, path)
        with worker("count", path) as second:
            _, epoch, number, _ = second.next("own")
            before = [line for line in first.rest() if line[0] == "ack"]
            assert int(number) >= int(before[-1][2])
            second.next("ack")
            first.process.send_signal(signal.SIGCONT)
            assert first.next("fenced")[1] == before[-1][1]
            second.next("ack")
            told = [int(line[2]) for line in first.rest() if line[0] == "ack" and line[1] == before[-1][1]]
            # It may have been stopped after something was stored and before it said so.
            assert max(told) <= int(number), "nothing of it was stored after the other one had begun"
            with Client(f"sqlite:{path}") as client:
                assert client.snapshot("a").epoch == int(epoch)
    assert sound(path)


def test_the_next_run_of_a_pipeline_knows_from_the_first_moment_how_long_it_takes(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with worker("work", path, 0.5) as first:
        assert first.next("eta")[1] == "None"
        assert first.process.wait(timeout=60) == 0
    with worker("work", path, 0.5) as second:
        eta, elapsed = map(float, second.next("eta")[1:])
        second.process.kill()  # What it has said is what the first one has taught, and no more.
    with Client(f"sqlite:{path}") as client:
        history = client.history("numbers")
    assert history is not None
    usual = sum(phase.seconds for phase in history.phases.values())
    assert usual > 1.0, "two phases of half a second or more"
    assert usual - elapsed - 0.05 < eta < usual + 0.05
    with closing(sqlite3.connect(path)) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(histories)")]
    assert columns == ["pipeline", "data", "at"]
