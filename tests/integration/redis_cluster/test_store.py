"""A store in a real Redis Cluster: its partitions, its lists, its trackers, and what slots and nodes do to them."""

from __future__ import annotations

import re
import shlex
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import msgspec
import pytest
import redis
import trio

from tests.documents import text_of
from tests.integration.redis_backend.asking import opened_backends
from tests.integration.redis_cluster.sessions import PATIENCE, partitions_of, reached, sessions_of
from tests.redis_cluster import RedisCluster
from tests.store_contract.rig import append, claim, index, lesson, seconds_of
from trio_progress import Pipeline, ProgressTracker, RedisStore, StoreError, open_tracker
from trio_progress.stores.base import Claimed, Done, Query, SetHistory
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.redis.keys import agreement_key
from trio_progress.stores.redis.partitions import partition_of, slot_of, tags

pytestmark = pytest.mark.integration

PIPELINE = Pipeline("work", {"count": 1, "report": 1})

Backends = Callable[..., RedisBackend]


@pytest.fixture
def backends(prefix: str) -> Iterator[Backends]:
    """Makes backends on the same keys, as processes have them."""
    with opened_backends(prefix=prefix, timeout=5.0, beat=0.05) as make:
        yield lambda cluster, **given: make(cluster if isinstance(cluster, str) else cluster.url, **given)


# How many partitions there are


def test_who_opens_a_store_first_says_how_many_partitions_it_has_and_who_asks_for_others_is_refused(
    redis_cluster: RedisCluster, backends: Backends, prefix: str
) -> None:
    backends(redis_cluster, partitions=5).open()
    backends(redis_cluster).open()
    backends(f"{redis_cluster.url}?partitions=5").open()
    for other in (backends(redis_cluster, partitions=16), backends(f"{redis_cluster.url}?partitions=6")):
        with pytest.raises(StoreError, match=r"it has 5 partitions, and (16|6) are asked for; leave `partitions` out"):
            other.open()
        with pytest.raises(StoreError, match="5 partitions"):
            other.commit([claim()])
    backends(redis_cluster, prefix=f"{prefix}:other").open()
    with redis_cluster.owner_of(slot_of("{0}")).client() as client:
        assert client.get(agreement_key(f"{prefix}:other")) == b"16"
        client.set(agreement_key(prefix), "0")
    with pytest.raises(StoreError, match="must say how many partitions it has, 1 to 128, but there is b'0'"):
        backends(redis_cluster).open()


def test_a_cluster_that_one_node_was_used_of_as_a_redis_has_that_one_partition(
    redis_cluster: RedisCluster, backends: Backends
) -> None:
    node = redis_cluster.owner_of(slot_of("{0}"))
    backends(node.url).commit([claim(lease=None)])
    with pytest.raises(StoreError, match="it has 1 partitions, and 16 are asked for"):
        backends(redis_cluster, partitions=16).open()
    found = backends(redis_cluster).read("a")
    assert found is not None
    others = [each for each in redis_cluster.masters if each is not node]
    with pytest.raises(StoreError, match=r"it is a node of a Redis Cluster: give redis-cluster://HOST:PORT,HOST:PORT/"):
        backends(others[0].url).open()


@pytest.mark.parametrize(
    ("url", "given", "why"),
    [
        ("redis-cluster://", {}, "redis-cluster://"),
        ("redis-cluster://h1,h2/3", {}, "no databases but 0"),
        ("redis-cluster://h:x/", {}, "redis-cluster://"),
        ("redis-cluster://u:hunter2#x@h/", {}, "redis-cluster://"),
        (f"redis-cluster://{','.join(['h'] * 101)}/", {}, "at most 100 hosts"),
        ("redis-cluster://h/?partitions=129", {}, "partitions must be 1 to 128, not 129"),
        ("redis-cluster://h/?partitions=0", {}, "partitions of the URL must be a whole number of at least 1, not 0"),
        ("redis-cluster://h/?partitions=x", {}, "partitions of the URL"),
        ("redis-cluster://h/", {"partitions": True}, "partitions must be a whole number"),
        ("redis://h/", {"partitions": 2}, "partitions must be 1 to 1, not 2: only a store in a Cluster"),
    ],
)
def test_a_url_that_will_not_do_is_refused_with_what_will(url: str, given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why) as info:
        RedisBackend(url, **given)
    assert "hunter2" not in str(info.value)


def test_the_address_of_a_store_is_the_same_for_the_same_nodes_and_tells_no_secret() -> None:
    def address(url: str, **given: Any) -> str:
        return RedisBackend(url, **given).address

    assert address("redis-cluster://u:hunter2@h2,h1:7001") == "redis-cluster://h1:7001,h2:6379/"
    assert address("rediss-cluster://h1,[::1]:2/0?partitions=3", prefix="b") == (
        "rediss-cluster://[::1]:2,h1:6379/?prefix=b"
    )


async def test_a_client_of_a_cluster_says_how_to_connect(redis_cluster: RedisCluster, prefix: str) -> None:
    host, port = "127.0.0.1", redis_cluster.masters[1].port
    greeted: list[object] = []
    with redis.RedisCluster(host=host, port=port, redis_connect_func=greeted.append) as client:
        store = RedisStore(client, prefix=prefix, timeout=5.0)
        greeted.clear()
        with trio.fail_after(PATIENCE):
            async with open_tracker(store) as tracker, tracker.session("a", PIPELINE):
                pass
            assert (await store.list(Query())).sessions[0].id == "a"
            await store.aclose()
        assert greeted
        assert client.get("nothing") is None


async def test_the_user_that_the_docs_tell_of_can_do_what_is_needed(redis_cluster: RedisCluster, prefix: str) -> None:
    lines = text_of("guides/redis-operating.md").splitlines()
    rule = shlex.split(next(line for line in lines if line.startswith("ACL SETUSER")))
    (told,) = re.findall(r"^The user of the nodes needs.*?`(\+[^`]+)`", text_of("guides/redis-cluster.md"), re.M | re.S)
    more = told.split()
    user = prefix.replace(":", "-")
    given = [word.replace("~tp:", f"~{prefix}:") for word in rule[3:]] + more
    for node in redis_cluster.nodes:
        with node.client() as client:
            client.execute_command("ACL", "SETUSER", user, *given)
    password = next(word[1:] for word in rule if word.startswith(">"))
    url = redis_cluster.url.replace("//", f"//{user}:{password}@")
    with trio.fail_after(PATIENCE):
        async with open_tracker(f"{url}?prefix={prefix}&wait_replicas=1") as tracker:
            for name in (*sessions_of(2), *sessions_of(8)):
                await tracker.declare(name, PIPELINE)
            async with tracker.next_session(PIPELINE, wait=False) as session, tracker.watch(session.id) as snapshots:
                async for snapshot in snapshots:
                    assert snapshot.status == "running"
                    break
            assert len((await tracker.sessions(status="queued")).sessions) == 1


# Lists, histories


def test_pages_are_those_of_one_list_over_all_partitions(redis_cluster: RedisCluster, backends: Backends) -> None:
    backend = backends(redis_cluster)
    batch = []
    for number in range(60):
        by = index(
            status="queued" if number % 3 else "failed",
            queued_at=float(number // 2),
            labels={"user": f"u{number % 2}"},
        )
        batch.append(claim(f"job-{number:02}", owner=f"{number}", index=by, lease=None))
    assert all(isinstance(outcome, Claimed) for outcome in backend.commit(batch))
    assert len({partition_of(write.id, 16) for write in batch}) == 16
    expected = [write.id for write in sorted(batch, key=lambda write: (write.index.queued_at, write.id), reverse=True)]

    def pages(**given: Any) -> list[str]:
        found: list[str] = []
        query = Query(limit=7, **given)
        while True:
            page = backend.list(query)
            assert len(page.sessions) <= 7
            found += [stored.id for stored in page.sessions]
            if page.next is None:
                return found
            query = Query(limit=7, after=page.next, **given)

    assert pages() == expected
    assert pages(labels={"user": "u1"}) == [each for each in expected if int(each[4:]) % 2]
    assert pages(status=frozenset({"queued"}), labels={"user": "u0"}) == [
        each for each in expected if int(each[4:]) % 3 and not int(each[4:]) % 2
    ]
    assert pages(pipeline="p", labels={"user": "u0"}) == [each for each in expected if not int(each[4:]) % 2]


def test_what_a_pipeline_has_taught_is_in_one_place_for_the_sessions_of_all_partitions(
    redis_cluster: RedisCluster, backends: Backends
) -> None:
    backend = backends(redis_cluster)
    for number in range(4):
        (claimed,) = backend.commit([claim(f"job-{number}", index=index(pipeline="taught"))])
        assert isinstance(claimed, Claimed)
        assert seconds_of(claimed) == ({"count": 2.0} if number else {})
        end = append(claimed.epoch, 2, f"job-{number}", index=index(pipeline="taught"), lease=None)
        assert backend.commit([msgspec.structs.replace(end, lesson=lesson(count=2.0))]) == [Done()]
    assert backend.histories() == ["taught"]
    history = backend.history("taught")
    assert history is not None
    assert history.phases["count"].seconds == 2.0
    assert backend.commit([SetHistory("taught", None)]) == [Done()]
    assert backend.history("taught") is None


# Watching, handing out


def blocked(cluster: RedisCluster) -> int:
    """How many reads wait in all nodes."""
    total = 0
    for node in cluster.nodes:
        with node.client() as client:
            total += client.info("clients")["blocked_clients"]
    return total


async def test_one_read_waits_for_each_partition_that_this_process_has_to_do_with(
    own_cluster: RedisCluster, prefix: str
) -> None:
    url = f"{own_cluster.url}?prefix={prefix}"
    near, far = sessions_of(3, 2), sessions_of(11)
    with trio.fail_after(PATIENCE):
        async with open_tracker(url) as owner, open_tracker(url) as other, trio.open_nursery() as nursery:
            for name in (*near, *far):
                await owner.declare(name, PIPELINE)
            seen: Counter[str] = Counter()

            async def follow(name: str) -> None:
                async with other.watch(name) as snapshots:
                    async for _ in snapshots:
                        seen[name] += 1

            for name in near:
                nursery.start_soon(follow, name)
            await reached(lambda: blocked(own_cluster) == 1)
            nursery.start_soon(follow, far[0])
            await reached(lambda: blocked(own_cluster) == 2)
            before = dict(seen)
            async with owner.session(far[0], PIPELINE) as session:
                with session.phase("count", total=1) as phase:
                    phase.advance()
                await reached(lambda: seen[far[0]] > before.get(far[0], 0))
            nursery.cancel_scope.cancel()


async def test_an_owner_is_cancelled_by_another_process_whatever_partition_its_session_is_in(
    redis_cluster: RedisCluster, prefix: str
) -> None:
    url = f"{redis_cluster.url}?prefix={prefix}"
    names = [sessions_of(partition)[0] for partition in (0, 7, 15)]
    with trio.fail_after(PATIENCE):
        async with open_tracker(url) as owner, open_tracker(url) as other:
            for name in names:
                async with owner.session(name, PIPELINE) as session:
                    await session.flush()
                    await other.cancel(name, reason="enough")
                    await trio.sleep_forever()
                assert (await other.snapshot(name)).status == "cancelled"


async def test_each_job_is_taken_once_the_oldest_of_all_partitions_first(
    redis_cluster: RedisCluster, prefix: str
) -> None:
    url = f"{redis_cluster.url}?prefix={prefix}"
    jobs = [f"job-{number}" for number in range(24)]
    taken: list[str] = []
    with trio.fail_after(PATIENCE):
        async with open_tracker(url) as client, open_tracker(url) as one, open_tracker(url) as two:

            async def work(tracker: ProgressTracker) -> None:
                while True:
                    async with tracker.next_session(PIPELINE) as session:
                        taken.append(session.id)

            for job in jobs[:12]:
                await client.declare(job, PIPELINE)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work, one)
                await reached(lambda: len(taken) >= 12)
                nursery.start_soon(work, two)
                for job in jobs[12:]:
                    await client.declare(job, PIPELINE)
                await reached(lambda: len(taken) >= 24)
                nursery.cancel_scope.cancel()
    assert taken[:12] == jobs[:12]
    assert sorted(taken) == sorted(jobs)


# Slots and nodes under load


class Load:
    """Sessions that are run one after the other in each partition, by one tracker, and read by another."""

    def __init__(self) -> None:
        self.ended: dict[str, float] = {}
        """Sessions whose end is stored, and how long each took."""

    async def run(self, tracker: ProgressTracker, partition: int) -> None:
        for name in sessions_of(partition, 1000):
            since = time.monotonic()
            async with tracker.session(name, PIPELINE) as session:
                with session.phase("count", total=3) as phase:
                    for _ in range(3):
                        phase.advance()
                        await session.flush()
                        await trio.sleep(0.02)
            self.ended[name] = time.monotonic() - since

    def each_has_ended(self, partitions: Iterable[int], since: Collection[str] = ()) -> bool:
        """Whether a session of each partition has ended, but for those."""
        new = {partition_of(name, 16) for name in self.ended if name not in since}
        return set(partitions) <= new


async def move_slowly(cluster: RedisCluster, load: Load, partition: int, others: Collection[int]) -> None:
    """Moves the slot of a partition, some keys first; the others go on meanwhile, and then all do."""
    slot = slot_of(f"{{{tags(16)[partition]}}}")
    owner = cluster.owner_of(slot)
    target = cluster.masters[(cluster.masters.index(owner) + 1) % 3]
    cluster.begin_move(slot, target)
    cluster.move_keys(slot, owner, target, 20)
    before = set(load.ended)
    await reached(lambda: load.each_has_ended(others, before))
    cluster.move_keys(slot, owner, target)
    cluster.end_move(slot, target)
    after = set(load.ended)
    await reached(lambda: load.each_has_ended((partition, *others), after))


async def test_a_slot_that_moves_under_load_loses_nothing_and_harms_nobody(
    own_cluster: RedisCluster, prefix: str
) -> None:
    url = f"{own_cluster.url}?prefix={prefix}"
    load, moved = Load(), (2, 9)
    with trio.fail_after(PATIENCE):
        async with open_tracker(url, flush_timeout=30) as tracker, trio.open_nursery() as nursery:
            for partition in (*moved, 5, 14):
                nursery.start_soon(load.run, tracker, partition)
            await reached(lambda: load.each_has_ended((*moved, 5, 14)))
            for partition in moved:
                await move_slowly(own_cluster, load, partition, (5, 14))
            assert tracker.statistics().final_lost == 0
            nursery.cancel_scope.cancel()
        async with open_tracker(url) as tracker:
            for name in load.ended:
                assert (await tracker.snapshot(name)).status == "completed"


async def test_a_node_that_dies_under_load_loses_nothing_that_its_replica_had_and_harms_nobody_else(
    mortal_cluster: RedisCluster, prefix: str
) -> None:
    url = f"{mortal_cluster.url}?prefix={prefix}&wait_replicas=1"
    load = Load()
    on_it, others = partitions_of(1), partitions_of(2)
    with trio.fail_after(2 * PATIENCE):
        async with open_tracker(url, flush_timeout=60) as tracker, trio.open_nursery() as nursery:
            for partition in (*on_it[:2], *others[:2]):
                nursery.start_soon(load.run, tracker, partition)
            await reached(lambda: load.each_has_ended((*on_it[:2], *others[:2])))
            mortal_cluster.masters[1].kill()
            before = set(load.ended)
            await reached(lambda: load.each_has_ended(others[:2], before))
            slot = slot_of(f"{{{tags(16)[on_it[0]]}}}")
            await reached(lambda: mortal_cluster.owner_of(slot) is not mortal_cluster.masters[1])
            mortal_cluster.masters[1].start()  # Now as a replica, and what is to be on two nodes can be.
            await reached(lambda: load.each_has_ended(on_it[:2], before))
            assert tracker.statistics().final_lost == 0
            nursery.cancel_scope.cancel()
        async with open_tracker(url) as tracker:
            for name in load.ended:
                assert (await tracker.snapshot(name)).status == "completed"
