"""What is begun while a master of a real Redis Cluster is down, and no replica has taken over."""

from __future__ import annotations

import json
import time

import pytest
import trio

from tests.integration.redis_backend.asking import one, opened_backends
from tests.integration.redis_cluster.sessions import PATIENCE, partitions_of, sessions_of, succeeds
from tests.redis_cluster import RedisCluster, until
from tests.serving import answered, serving
from tests.store_contract.rig import claim
from trio_progress import Pipeline, SessionNotFoundError, StoreError, blocking, open_tracker
from trio_progress.cli import exit_codes
from trio_progress.stores.base import Ask, Claimed, Done, Outcome, Write
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.redis.partitions import slot_of

pytestmark = pytest.mark.integration

PIPELINE = Pipeline("work", {"count": 1})

LOST, LIVE = partitions_of(1), partitions_of(2)
"""The partitions of the master that is killed, and of the one that says how many there are."""


def stored(backend: RedisBackend, write: Write) -> Outcome:
    """The outcome of a write, once the store has answered."""
    outcome = one(backend, write)
    if isinstance(outcome, StoreError):
        raise outcome
    return outcome


async def test_a_process_begun_while_a_master_is_down_works_with_what_the_others_have(
    own_cluster: RedisCluster, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{own_cluster.url}?prefix={prefix}"
    (lost, waiting), (live, job) = sessions_of(LOST[0], 2), sessions_of(LIVE[0], 2)
    down = rf"node 127\.0\.0\.1:{own_cluster.masters[1].port}"
    with trio.fail_after(PATIENCE):
        async with open_tracker(url) as tracker:
            await tracker.declare(job, PIPELINE)
        own_cluster.masters[1].kill()
        async with open_tracker(url) as owner, open_tracker(url) as other, trio.open_nursery() as nursery:
            async with owner.session(live, PIPELINE) as session:
                await session.flush()
                await other.cancel(live, reason="enough")
                await trio.sleep_forever()
            async with other.next_session(PIPELINE, wait=False) as session:
                assert session.id == job
            with blocking.Client(url) as client:
                assert (await trio.to_thread.run_sync(client.snapshot, live)).status == "cancelled"
            with pytest.raises(StoreError, match=down):
                await other.snapshot(lost)
            with pytest.raises(StoreError, match=down):
                await other.sessions()
            for tracker in (owner, other):
                statistics = tracker.statistics()
                assert (statistics.store_up, list(statistics.store_partitions_down)) == (True, LOST)
            left = trio.Event()

            async def run() -> None:
                async with owner.session(lost, PIPELINE):
                    await trio.sleep_forever()
                left.set()

            nursery.start_soon(run)
            own_cluster.masters[1].start()
            while not left.is_set():
                try:
                    await other.cancel(lost, reason="enough")
                except (StoreError, SessionNotFoundError):
                    pass
                await trio.sleep(0.05)
            assert (await other.snapshot(lost)).status == "cancelled"
            assert not other.statistics().store_partitions_down
            await other.declare(waiting, PIPELINE)
            assert [session.id for session in (await other.sessions(status="queued")).sessions] == [waiting]


def test_serve_begun_while_a_master_is_down_serves_what_the_others_have(own_cluster: RedisCluster, prefix: str) -> None:
    url = f"{own_cluster.url}?prefix={prefix}"
    (lost,), (live,) = sessions_of(LOST[0]), sessions_of(LIVE[0])
    with blocking.Client(url) as client:
        client.declare(live)
        own_cluster.masters[1].kill()
        with serving("--store", url) as served:
            page = served.says("Serving ").split()[-1]
            assert answered(f"{page}sessions/{live}")[0] == 200
            for path in (f"sessions/{lost}", f"sessions/{lost}/events", "sessions"):
                assert answered(f"{page}{path}")[0] == 503
            assert partitions_down(page) == LOST
            assert f"trio_progress_store_partitions_down {len(LOST)}.0" in answered(f"{page}metrics")[1]
            assert answered(f"{page}sessions/{live}/cancel", "POST")[0] == 202
            assert '"type":"end"' in answered(f"{page}sessions/{live}/events")[1]
            own_cluster.masters[1].start()
            succeeds(lambda: client.declare(lost))
            until(lambda: answered(f"{page}sessions/{lost}")[0] == 200)
            until(lambda: answered(f"{page}sessions")[0] == 200)
            assert {state["id"] for state in json.loads(answered(f"{page}sessions")[1])["sessions"]} == {live, lost}
            assert partitions_down(page) == []


def partitions_down(page: str) -> list[int]:
    """What is said of them by a server that is ready."""
    status, body = answered(f"{page}readyz")
    assert status == 200
    return list(json.loads(body)["store_partitions_down"])


@pytest.mark.exhaustive
def test_serve_begun_while_the_node_is_down_that_says_how_many_partitions_there_are_waits_if_it_is_to(
    own_cluster: RedisCluster, prefix: str
) -> None:
    url = f"{own_cluster.url}?prefix={prefix}"
    with blocking.Client(url):
        pass
    home = own_cluster.owner_of(slot_of("{0}"))
    home.kill()
    with serving("--store", url) as served:
        served.says(f"how many partitions the store has ({prefix}:{{0}}:partitions): start it again")
        assert served.process.wait(PATIENCE) == exit_codes.STORE
    with serving("--store", url, "--wait-for-store") as served:
        page = served.says("Serving ").split()[-1]
        assert answered(f"{page}readyz")[0] == 503
        home.start()
        until(lambda: answered(f"{page}readyz")[0] == 200)
        until(lambda: answered(f"{page}sessions")[0] == 200)


@pytest.mark.exhaustive
def test_what_an_owner_is_asked_reaches_it_though_its_partition_did_not_answer_when_it_began(
    own_cluster: RedisCluster, prefix: str
) -> None:
    lost = sessions_of(LOST[0])[0]
    with opened_backends(prefix=prefix, timeout=5.0, beat=0.05) as make:
        other = make(own_cluster.url)
        other.open()
        own_cluster.masters[1].kill()
        backend = make(own_cluster.url)
        backend.open()
        mark = backend.changes(None, {}, lambda _: True).mark
        for _ in range(3):  # Nothing is known of the partition by looking at what is there, either.
            mark = backend.changes(mark, {}, lambda _: False).mark
        assert isinstance(one(backend, claim(lost)), StoreError)
        own_cluster.masters[1].start()
        assert isinstance(succeeds(lambda: stored(backend, claim(lost))), Claimed)
        assert succeeds(lambda: stored(other, Ask(lost, "cancel", "enough"))) == Done()
        end = time.monotonic() + PATIENCE
        asked = succeeds(lambda: backend.changes(mark, {}, lambda _: time.monotonic() < end).asked)
        assert asked == [Ask(lost, "cancel", "enough")]


@pytest.mark.exhaustive
def test_only_the_node_that_says_how_many_partitions_there_are_is_needed_to_begin(
    own_cluster: RedisCluster, prefix: str
) -> None:
    url = f"{own_cluster.url}?prefix={prefix}"
    with blocking.Client(url):
        pass
    home = own_cluster.owner_of(slot_of("{0}"))
    home.kill()
    with pytest.raises(StoreError) as info:
        blocking.Client(url)
    assert f"node 127.0.0.1:{home.port}" in str(info.value)
    assert f"how many partitions the store has ({prefix}:{{0}}:partitions): start it again" in str(info.value)
