"""Sessions that wait, handed out by a real Redis to trackers that share nothing else."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections import Counter

import pytest
import redis
import trio
from hypothesis import HealthCheck, example, given, settings

from tests.integration.redis_backend.asking import claimed, one
from tests.redis_server import client_of, let_pass
from tests.store_contract.queue_model import QueueModel
from tests.store_contract.queue_steps import COURSE, Step, steps
from tests.store_contract.rig import index
from tests.support import examples
from trio_progress import ProgressTracker, RedisStore, open_tracker
from trio_progress.stores.base import Stored
from trio_progress.stores.redis import queue, scripts, writes
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.taking import Take, Taken, Wanted
from trio_progress.stores.threaded import ThreadedStore

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


async def test_a_job_that_was_never_begun_is_taken_without_reading_it(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    read = RedisStore.read

    async def counted(store: RedisStore, session_id: str) -> Stored | None:
        reads.append(session_id)
        return await read(store, session_id)

    monkeypatch.setattr(RedisStore, "read", counted)
    async with open_tracker(f"{redis_url}?prefix={prefix}") as tracker:
        await tracker.declare("a", title="An import", labels={"user": "u1"})
        with pytest.raises(KeyboardInterrupt):
            async with tracker.next_session() as session:
                assert (session.snapshot().title, session.snapshot().labels) == ("An import", {"user": "u1"})
                assert reads == []
                raise KeyboardInterrupt
        async with tracker.next_session() as session:
            assert reads == ["a"]
            assert session.snapshot().attempt == 2


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@example(done=COURSE)
@given(done=steps())
def test_it_hands_out_what_a_list_would(redis_url: str, done: list[Step]) -> None:
    run_model(redis_url, done)


def run_model(url: str, done: list[Step]) -> None:
    """Compares a Redis with the model, under keys of their own."""
    prefix = f"test:{uuid.uuid4().hex[:12]}"
    passed = 0.0

    async def main() -> None:
        store = ThreadedStore(RedisBackend(url, prefix=prefix, timeout=5.0, beat=0.02))
        await store.open()
        try:
            await QueueModel(store, sleep, lambda: passed + time.monotonic()).run(done)
        finally:
            await store.aclose()

    def sleep(seconds: float) -> None:
        nonlocal passed
        passed += seconds
        let_pass(admin, prefix, seconds)

    with client_of(url) as admin:
        trio.run(main)


PLANTED = {
    "the newest comes first": (
        "TAKE",
        "stands < score or stands == score and below",
        "stands > score or stands == score and below",
    ),
    "what is reserved is given away": ("TAKE", "and redis.call('EXISTS', base .. 'r:' .. id) == 0", ""),
    "what a process cannot open is given to it": ("TAKE", "and not without[id]", ""),
    "what was begun too often is given out": ("TAKE", "for n = 1, wanted.n - 1 do", "for n = 1, wanted.n do"),
    "what has lapsed is not found": ("TAKE", "settle(base, each, at, false, later)", "local nothing = each"),
    "who looks again loses its place": ("TAKE", "group, 'NX', now, process", "group, now, process"),
    "who has enough is rung": ("TAKE", "redis.call('DEL', heard)", "local nothing = heard"),
    "anybody gives back": ("RELEASE", "if redis.call('GET', base .. 'r:' .. ARGV[i]) == ARGV[2] then", "if true then"),
    "what is given back rings nobody": (
        "RELEASE",
        "settle(base, ARGV[i], at, false, true)",
        "settle(base, ARGV[i], at)",
    ),
    "who has left is rung": ("RELEASE", "redis.call('DEL', base .. 'n:' .. ARGV[2])", ""),
    "who was rung and leaves rings nobody": ("RELEASE", "rung_for(base, ARGV[2], at, {})", "{}"),
    "who was rung for what it wants no more rings nobody": ("TAKE", "rung_for(base, process, at, taken)", "{}"),
    "the next is rung for what is taken": (
        "RELEASE",
        "if begun and reserved <= 0 and (bell or row ~= old) then",
        "if begun and (bell or row ~= old) then",
    ),
    "the next is rung for what was looked at in vain": (
        "TAKE",
        "if not is_short(each[2], each[3]) then",
        "if true then",
    ),
    "a claim ends no reservation": ("CLAIM", ", base .. 'r:' .. ARGV[2])", ")"),
    "who has come last is rung": (
        "CLAIM",
        "if not since or tonumber(first[2]) < since",
        "if not since or tonumber(first[2]) > since",
    ),
    "who cannot use it is rung": ("CLAIM", "begun < wanted.n and fits(wanted, has)", "begun < wanted.n"),
}
"""Bugs: in which script, what is replaced, and by what."""


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", PLANTED)
def test_a_bug_that_is_planted_into_a_script_is_found(
    name: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, old, new = PLANTED[name]
    text = getattr(scripts, script).text
    assert text.count(old) == 1, "plant it anew"
    for module in (queue, writes):
        if hasattr(module, script):
            planted = text.replace(old, new)
            made = scripts.Script(planted, hashlib.sha1(planted.encode(), usedforsecurity=False).hexdigest())
            monkeypatch.setattr(module, script, made)
    with pytest.raises(AssertionError):
        run_model(redis_url, COURSE)


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
