"""Sessions that wait, handed out by a real Redis to trackers that share nothing else."""

from __future__ import annotations

from collections import Counter

import pytest
import redis
import trio

from tests.integration.redis_backend.asking import claimed, one
from tests.redis_server import client_of
from tests.store_contract.rig import index
from trio_progress import ProgressTracker, open_tracker
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.taking import Take, Taken, Wanted

pytestmark = pytest.mark.integration

PATIENCE = 60.0


async def test_workers_of_several_processes_do_each_job_once(redis_url: str, prefix: str) -> None:
    url = f"{redis_url}?prefix={prefix}"
    names = [f"job-{number:02}" for number in range(24)]
    done: Counter[str] = Counter()

    async def work(tracker: ProgressTracker) -> None:
        while True:
            async with tracker.next_session() as session:
                done[session.id] += 1
                first = session.snapshot().attempt == 1
                if first and session.id.endswith("7"):
                    raise KeyboardInterrupt

    async def worker(tracker: ProgressTracker) -> None:
        while True:
            try:
                await work(tracker)
            except KeyboardInterrupt:
                pass  # It is interrupted, and somebody goes on with it.

    with trio.fail_after(PATIENCE):
        async with open_tracker(url) as a, open_tracker(url) as b, trio.open_nursery() as nursery:
            for tracker in (a, a, b):
                nursery.start_soon(worker, tracker)
            for name in names:
                await a.declare(name)
            for name in names:
                await b.wait_ended(name)
            ended = {one.id: (one.status, one.attempt) for one in await a.sessions(limit=100)}
            nursery.cancel_scope.cancel()
    assert ended == {name: ("completed", 1 + name.endswith("7")) for name in names}
    assert done == {name: 1 + name.endswith("7") for name in names}


def test_what_an_older_version_has_declared_is_taken(redis_url: str, prefix: str) -> None:
    with client_of(redis_url) as admin:
        backend = RedisBackend(redis_url, prefix=prefix, timeout=5.0)
        for number in range(3):
            by = index(status="queued", queued_at=float(number))
            claimed(backend, f"s{number}", owner=f"{number}", index=by, lease=None)
        forget_index(admin, prefix)
        taken = one(backend, Take("w", [Wanted(count=2)]))
        assert isinstance(taken, Taken)
        assert [chosen.id for chosen in taken.sessions] == ["s0", "s1"]
        backend.close()


def forget_index(admin: redis.Redis, prefix: str) -> None:
    """As a version that knows of no index has left it."""
    base = f"{prefix}:{{0}}:"
    names = [f"{base}{name}" for name in ("x", "t", "z", "y", "o")]
    admin.delete(*names, *admin.keys(f"{base}x:*"))
    for name in admin.keys(f"{base}m:*"):
        admin.hdel(name, "v", "n")


@pytest.mark.parametrize("wrong", ["q", "q:GROUP", "n:w", "r:a", "g:w"])
def test_a_poisoned_key_costs_no_commit(wrong: str, redis_url: str, prefix: str) -> None:
    with client_of(redis_url) as admin:
        backend = RedisBackend(redis_url, prefix=prefix, timeout=5.0)
        assert one(backend, Take("w", [Wanted()])) == Taken([], [])
        names = [
            name for name in admin.keys(f"{prefix}:{{0}}:{wrong.replace('GROUP', '*')}") if isinstance(name, bytes)
        ]
        for name in names or [f"{prefix}:{{0}}:{wrong}".encode()]:
            admin.delete(name)
            admin.rpush(name, "poison")
        claimed(backend, "a", index=index(status="queued"), lease=None)
        backend.close()
