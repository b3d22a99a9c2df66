"""Faults between a tracker and its Redis: seeded ones by a proxy, and those that a recipe makes exactly."""

from __future__ import annotations

import itertools
import random
import threading
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.fault_proxy import FAULTS, open_fault_proxy
from tests.fault_scenario import Seen, run_scenario, told
from tests.redis_server import RedisServer, client_of, host_of
from tests.support import PATIENCE, Seeds
from trio_progress import FencedError, RedisStore, SessionActiveError, StoreError, open_tracker
from trio_progress.stores.base import Query
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.redis.calls import Calls
from trio_progress.stores.redis.server import Server
from trio_progress.stores.threaded import ThreadedStore

pytestmark = pytest.mark.integration

StartRedis = Callable[..., RedisServer]

FAULTS_A_RUN = 200
USUAL_FAULTS = 80
"""Without `--exhaustive`."""

FAULTS_EACH = 10
AT_ONCE = 8
"""Scenarios side by side: with many more a busy machine keeps a loop from answering within the stores' timeouts."""


@pytest.mark.exhaustive
async def test_many_seeded_faults_break_no_promise(redis_url: str, seeds: Seeds) -> None:
    target = host_of(redis_url)
    at_once = trio.Semaphore(AT_ONCE)
    counts = dict.fromkeys(FAULTS, 0)

    async def one(seed: int) -> None:
        async with at_once:
            try:
                outcome = await run_scenario(target, seed, FAULTS_EACH)
            except BaseException as error:
                error.add_note(f"seed {seed} (--seed {seed} replays it alone)")
                raise
            for fault, count in outcome.faults.items():
                counts[fault] += count

    async with trio.open_nursery() as nursery:
        for seed in seeds(USUAL_FAULTS // FAULTS_EACH, exhaustive=FAULTS_A_RUN // FAULTS_EACH):
            nursery.start_soon(one, seed)
    assert sum(counts.values()) % FAULTS_EACH == 0
    if sum(counts.values()) >= FAULTS_A_RUN:
        assert min(counts.values()) > 0, "every kind of fault has come"


async def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for is told by nobody
            await trio.sleep(0.01)


def options(**given: Any) -> dict[str, Any]:
    """Settings of a tracker that is quick, and takes nobody for lost."""
    defaults: dict[str, Any] = {
        "persist_interval": 0.05,
        "broadcast_interval": 0.02,
        "heartbeat_interval": 0.2,
        "lost_after": 60.0,
        "flush_timeout": 10.0,
        "spool": False,
    }
    return defaults | given


async def test_a_cancelled_call_never_hands_its_reply_to_another(redis_url: str, rng: random.Random) -> None:
    """The recipe of redis-py#2665: replies that are late, and callers that do not wait for them."""
    prefix = f"test:{uuid.uuid4().hex[:12]}"
    wrong: list[tuple[str, str]] = []
    cancelled = answered = 0
    async with open_fault_proxy(host_of(redis_url), rng) as proxy:
        store = RedisStore(f"redis://127.0.0.1:{proxy.port}/0", prefix=prefix, timeout=5.0)
        async with open_tracker(f"{redis_url}?prefix={prefix}", **options()) as tracker:
            for n in range(20):
                await tracker.declare(f"s{n}", labels={"n": str(n)})
            proxy.latency = 0.03

            async def ask(n: int, patience: float) -> None:
                nonlocal cancelled, answered
                with trio.move_on_after(patience) as scope:
                    if n % 2:
                        found = await store.read(f"s{n}")
                        assert found is not None
                        if found.id != f"s{n}" or f'"s{n}"'.encode() not in found.record:
                            wrong.append((f"s{n}", found.id))
                    else:
                        page = await store.list(Query(labels={"n": str(n)}))
                        if [stored.id for stored in page.sessions] != [f"s{n}"]:
                            wrong.append((f"s{n}", repr(page)))
                    answered += 1
                cancelled += scope.cancelled_caught

            async with trio.open_nursery() as nursery:
                for _ in range(300):
                    nursery.start_soon(ask, rng.randrange(20), rng.choice((0.005, 0.02, 0.04, 0.06, PATIENCE)))
                    await trio.sleep(rng.uniform(0.0, 0.01))
        await store.aclose()
    assert wrong == []
    assert cancelled > 30
    assert answered > 30


async def test_a_call_that_timed_out_never_hands_its_reply_to_another(redis_url: str, rng: random.Random) -> None:
    prefix = f"test:{uuid.uuid4().hex[:12]}"
    async with open_tracker(f"{redis_url}?prefix={prefix}", **options()) as tracker:
        for n in range(10):
            await tracker.declare(f"s{n}")
    async with open_fault_proxy(host_of(redis_url), rng) as proxy:
        store = ThreadedStore(RedisBackend(f"redis://127.0.0.1:{proxy.port}/0", prefix=prefix, timeout=0.05))
        failed = 0
        for n in range(40):
            proxy.latency = rng.choice((0.0, 0.04, 0.06))
            try:
                found = await store.read(f"s{n % 10}")
            except StoreError:
                failed += 1
            else:
                assert found is not None
                assert found.id == f"s{n % 10}"
                assert f'"s{n % 10}"'.encode() in found.record
        await store.aclose()
    assert failed > 5


def test_a_call_that_has_had_enough_of_slow_replies_leaves_none_of_them_to_another(redis_url: str) -> None:
    """Each reply comes in time, and all of them do not."""
    calls = Calls(Server.of_url(redis_url, None)[0], 1.5)
    with pytest.raises(StoreError, match="replies came within"):
        calls([("BLPOP", f"test:{uuid.uuid4().hex}", 0.5)] * 8)
    assert [calls([("ECHO", f"mine {n}")]) for n in range(3)] == [[b"mine 0"], [b"mine 1"], [b"mine 2"]]
    calls.close()


async def test_of_connections_that_have_died_while_they_lay_idle_one_call_at_most_finds_out(
    redis_url: str, rng: random.Random
) -> None:
    prefix = f"test:{uuid.uuid4().hex[:12]}"
    async with open_tracker(f"{redis_url}?prefix={prefix}", **options()) as tracker:
        await tracker.declare("s")
    async with open_fault_proxy(host_of(redis_url), rng) as proxy:
        store = ThreadedStore(RedisBackend(f"redis://127.0.0.1:{proxy.port}/0", prefix=prefix, timeout=2.0))
        proxy.latency = 0.5  # In which all four have begun, on a busy machine too.
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(store.read, "s")
        assert proxy.taken == 4
        proxy.latency = 0.0
        await proxy.begin("black_hole")
        await proxy.end()
        with pytest.raises(StoreError):
            await store.read("s")
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(store.read, "s")
        await store.aclose()


async def test_storms_of_client_kill_lose_nothing(redis_url: str) -> None:
    prefix = f"test:{uuid.uuid4().hex[:12]}"
    near, far = RedisStore(redis_url, prefix=prefix), RedisStore(redis_url, prefix=prefix)
    seen = Seen()
    stop = threading.Event()
    killed = 0

    def storm() -> None:
        nonlocal killed
        with client_of(redis_url) as admin:
            while not stop.wait(0.05):
                killed += int(admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))

    async with (
        open_tracker(near, **options()) as owner,
        open_tracker(far, **options()) as watcher,
        trio.open_nursery() as nursery,
    ):
        started = trio.Event()

        async def watch() -> None:
            async with watcher.subscribe("storm", wait=True) as messages:
                started.set()
                async for message in messages:
                    seen.take(message)

        nursery.start_soon(watch)
        await started.wait()
        thread = threading.Thread(target=storm)
        thread.start()
        async with owner.session("storm") as session:
            with session.phase("count", total=150) as phase:
                for n in phase.track(range(150)):
                    session.emit("n", {"n": n})
                    await trio.sleep(0.01)
            stop.set()
            await trio.to_thread.run_sync(thread.join)
    assert killed >= 10
    assert seen.end is not None
    assert seen.state is not None
    assert seen.end.status == "completed"
    assert told(seen.state) == told(session.snapshot())
    assert len(seen.events) + seen.missed == 150
    assert seen.missed == 0
    await near.aclose()
    await far.aclose()


TICK = 0.005


class Ticks(threading.Thread):
    """Counts beside the event loop: what holds up the loop alone passes by many of them, and a busy machine by few."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.count = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.wait(TICK):
            self.count += 1


async def work(session_id: str, tracker: Any, until_set: trio.Event, steps: list[int], ticks: Ticks) -> Any:
    """A session that counts until it is told to end; `steps` tells at which tick it did so."""
    async with tracker.session(session_id) as session:
        with session.phase("count") as phase:
            while not until_set.is_set():
                phase.advance()
                session.increment("n")
                steps.append(ticks.count)
                await trio.sleep(TICK)
    return session


async def test_redis_that_is_killed_and_begun_anew_never_slows_the_work_and_ends_no_session(
    start_redis: StartRedis, tmp_path: Path
) -> None:
    """An outage of longer than `lost_after`, and then it is empty. For one that is stopped see `test_redis_chain`."""
    server = start_redis()
    near, far = RedisStore(server.url, timeout=0.3), RedisStore(server.url, timeout=0.3)
    lost_after = 1.5
    settings = options(heartbeat_interval=0.2, lost_after=lost_after)
    seen, end = Seen(), trio.Event()
    steps: list[int] = []
    ticks = Ticks()
    ticks.start()
    async with open_tracker(near, **settings) as owner, open_tracker(far, **settings) as watcher:
        async with trio.open_nursery() as nursery:

            async def own() -> None:
                session = await work("outage", owner, end, steps, ticks)
                assert session.status == "completed"

            async def watch() -> None:
                async with watcher.subscribe("outage", wait=True) as messages:
                    async for message in messages:
                        seen.take(message)

            nursery.start_soon(watch)
            nursery.start_soon(own)
            await until(partial(seen.reached, 20))
            server.kill()
            await trio.sleep(1.5 * lost_after)
            assert not owner.statistics().store_up
            await trio.to_thread.run_sync(server.start)
            began = len(steps)
            await until(lambda: owner.statistics().store_up and watcher.statistics().store_up)
            await until(partial(seen.reached, seen.counted + 50))
            assert seen.state is not None
            assert seen.state.status == "running"
            assert len(steps) > began
            # Longer than the reapers of both trackers need for a verdict.
            await trio.sleep(1.5 * lost_after)
            snapshot = await watcher.snapshot("outage")
            assert (snapshot.status, snapshot.liveness) == ("running", "ok")
            end.set()
    assert seen.end is not None
    assert seen.end.status == "completed"
    gaps = [after - before for before, after in itertools.pairwise(steps)]
    ticks.over.set()
    ticks.join()
    assert max(gaps) * TICK < 0.5, "the work was never held up"
    assert owner.statistics().sessions_lost == watcher.statistics().sessions_lost == 0
    await near.aclose()
    await far.aclose()


async def test_no_state_that_was_acknowledged_is_lost_when_redis_is_killed(start_redis: StartRedis, kills: int) -> None:
    server = start_redis("--appendonly", "yes", "--appendfsync", "always")
    store = RedisStore(server.url, timeout=0.5)
    acknowledged = 0
    async with open_tracker(store, **options()) as tracker, tracker.session("kept") as session:

        async def flush() -> None:
            nonlocal acknowledged
            while True:
                session.increment("n")
                count = int(session.snapshot().counters["n"])
                await session.flush()
                acknowledged = count

        def more_than(count: int) -> bool:
            return acknowledged > count

        for _ in range(kills):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(flush)
                await until(partial(more_than, acknowledged + 1), 60)
                await trio.sleep(0.01)  # It is killed at any moment of the next.
                server.kill()
                nursery.cancel_scope.cancel()
            # Nobody writes, and what is on the disk is what there is.
            await trio.to_thread.run_sync(server.start)
            backend = RedisBackend(server.url)
            stored = await trio.to_thread.run_sync(backend.read, "kept")
            backend.close()
            assert stored is not None
            assert stored.key.epoch == session.epoch
            counted = int(stored.record.partition(b'"counters":{"n":')[2].partition(b"}")[0])
            assert counted >= acknowledged
            await session.flush()
    assert acknowledged > kills
    await store.aclose()


async def test_a_redis_that_comes_back_empty_gets_the_newest_state_of_every_session(start_redis: StartRedis) -> None:
    server = start_redis()
    store = RedisStore(server.url, timeout=0.5)
    async with open_tracker(store, **options()) as tracker, tracker.session("a") as a, tracker.session("b") as b:
        for session in (a, b):
            session.set(n=1)
            await session.flush()
        epoch = a.epoch
        server.kill()
        a.set(n=2)
        b.set(n=2)
        await trio.to_thread.run_sync(server.start)
        with trio.fail_after(PATIENCE):
            await a.flush()
            await b.flush()
        async with open_tracker(server.url, **options()) as other:
            for session in (a, b):
                snapshot = await other.snapshot(session.id)
                assert snapshot.fields == {"n": 2}
                assert snapshot.epoch == session.epoch
        assert a.epoch > epoch
    await store.aclose()


async def test_down_at_the_start_it_is_refused_or_begun_as_one_likes(start_redis: StartRedis) -> None:
    server = start_redis()
    server.kill()
    with pytest.raises(StoreError, match="refused"):
        async with open_tracker(server.url, **options()):
            pass
    async with open_tracker(server.url, require_store=False, **options()) as tracker:
        async with tracker.session("early") as session:
            session.set(n=1)
            await trio.to_thread.run_sync(server.start)
            with trio.fail_after(PATIENCE):
                await session.flush()
        async with open_tracker(server.url, **options()) as other:
            assert (await other.snapshot("early")).status == "completed"


async def test_of_two_who_begin_while_redis_is_down_one_is_fenced(start_redis: StartRedis) -> None:
    server = start_redis()
    server.kill()
    ended: list[str] = []

    async def begin(tracker: Any, release: trio.Event) -> None:
        try:
            async with tracker.session("twice") as session:
                await release.wait()
                ended.append(session.status)
        except FencedError:
            ended.append("fenced")

    async with (
        open_tracker(server.url, require_store=False, **options()) as one,
        open_tracker(server.url, require_store=False, **options()) as other,
    ):
        release = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin, one, release)
            nursery.start_soon(begin, other, release)
            await trio.sleep(1.2)
            await trio.to_thread.run_sync(server.start)
            await until(lambda: ended == ["fenced"])
            release.set()
        assert sorted(ended) == ["fenced", "running"]


async def test_a_final_state_that_redis_missed_is_delivered_by_the_next_tracker(
    start_redis: StartRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_progress.session.shared_tasks.CATCH_UP", PATIENCE)
    server = start_redis()
    for claimed in (True, False):
        async with open_tracker(server.url, **options(flush_timeout=2.0, spool=True)) as tracker:
            if not claimed:
                server.kill()
            async with tracker.session(f"late-{claimed}") as session:
                if claimed:
                    server.freeze()
                session.set_result({"n": 7})
        if claimed:
            server.thaw()
        else:
            await trio.to_thread.run_sync(server.start)
        async with open_tracker(server.url, **options(spool=True)) as tracker:
            snapshot = await tracker.snapshot(f"late-{claimed}")
            assert (snapshot.status, snapshot.result) == ("completed", {"n": 7})


async def test_an_owner_that_slept_past_its_lease_finds_out(start_redis: StartRedis) -> None:
    server = start_redis()
    with server.client() as admin:
        async with open_tracker(server.url, **options()) as one, open_tracker(server.url, **options()) as other:
            with pytest.raises(FencedError):
                async with one.session("slept"):
                    with pytest.raises(SessionActiveError):
                        async with other.session("slept"):
                            pass
                    # As the owner's machine does: nothing of it is heard for longer than its lease.
                    for key in admin.scan_iter(match="tp:{0}:l:slept:*"):
                        admin.delete(key)
                    async with other.session("slept", resume="interrupted") as session:
                        assert session.attempt == 2
                        await trio.sleep(5)
            assert (await other.snapshot("slept")).attempt == 2
