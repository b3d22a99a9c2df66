"""Workers that take what waits, killed at random: each kill costs the job that was run, and nothing else."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.listening import Worker, worker
from tests.support import PATIENCE
from trio_progress.blocking import Client

pytestmark = [pytest.mark.integration, pytest.mark.exhaustive]

WORKERS = 3
JOBS = [f"job-{number:02}" for number in range(45)]
KILLS = 3
MOST = KILLS + 1
"""How often a job is begun, so that even one which is run whenever a worker is killed is done."""


@pytest.mark.parametrize("kind", ["redis", "sqlite"])
def test_a_kill_costs_the_worker_s_own_job_and_a_job_that_always_kills_holds_up_no_other(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, rng: random.Random
) -> None:
    store = f"sqlite:{tmp_path / 'jobs.db'}"
    if kind == "redis":
        store = f"{request.getfixturevalue('redis_url')}?prefix=killed{rng.getrandbits(32)}"
    with Client(store) as client, ExitStack() as stack:
        for job in ("poison", *JOBS):
            client.declare(job)

        def start() -> Worker:
            return stack.enter_context(worker("tests.integration.taking_worker", store, MOST))

        workers = [start() for _ in range(WORKERS)]
        kills, until = KILLS, time.monotonic() + 3 * PATIENCE
        while kills or not _is_over(client):
            assert time.monotonic() < until, [each.rest()[-3:] for each in workers]
            alive = [each for each in workers if each.process.poll() is None]
            ready = [each for each in alive if each.rest()]
            begun = sum(line[0] == "begun" for each in workers for line in each.rest())
            if kills and ready and begun > (KILLS - kills) * len(JOBS) / KILLS:
                time.sleep(rng.uniform(0, 0.1))
                rng.choice(ready).process.kill()
                kills -= 1
            workers += [start() for _ in range(WORKERS - len(alive))]  # As whoever looks after workers does.
            time.sleep(0.05)
        for each in workers:
            each.process.kill()
            each.listener.join()
    _check(workers)


def _is_over(client: Client) -> bool:
    """Whether all jobs are done, and the one that always kills was begun as often as is allowed, and written off."""
    left = [one for one in client.sessions(limit=100) if one.status != "completed"]
    assert all(one.attempt <= MOST for one in left)
    return [(one.id, one.status, one.attempt) for one in left] == [("poison", "lost", MOST)]


def _check(workers: list[Worker]) -> None:
    begun: dict[str, list[tuple[int, Worker]]] = defaultdict(list)
    for each in workers:
        for line in each.rest():
            if line[0] == "begun":
                begun[line[1]].append((int(line[2]), each))
        unfinished = {line[1] for line in each.heard if line[0] == "begun"}
        unfinished -= {line[1] for line in each.heard if line[0] in ("done", "fenced")}
        assert len(unfinished) <= 1
    assert set(begun) == {"poison", *JOBS}
    again = 0
    for job, attempts in begun.items():
        numbers = [attempt for attempt, _ in attempts]
        assert len(set(numbers)) == len(numbers), "two had it under one number"
        assert max(numbers) <= MOST
        if job != "poison":
            done = [each for _, each in attempts if ["done", job] in each.heard]
            assert len(done) <= 1
            again += max(numbers) - 1  # One that was killed as it began has not said so.
    fenced = sum(line[0] == "fenced" for each in workers for line in each.heard)
    assert again <= KILLS + fenced
