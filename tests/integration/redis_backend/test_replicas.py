"""What a replica lacks that becomes the primary: waited for with `wait_replicas`, or written again by its owner."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import trio

from tests.integration.redis_backend.asking import claimed, one
from tests.redis_server import RedisServer
from tests.sentinels import ScriptedSentinel, scripted, url_of, wait_until
from tests.store_contract.rig import append, claim
from trio_progress import RedisStore, StoreError, open_tracker
from trio_progress.blocking import Client
from trio_progress.stores.base import Claimed, Delete, Done, Renew
from trio_progress.stores.redis.backend import RedisBackend

pytestmark = pytest.mark.integration

StartRedis = Callable[..., RedisServer]

RARELY = pytest.mark.exhaustive

TIMEOUT = 1.0


@contextmanager
def replicated(start_redis: StartRedis) -> Iterator[tuple[RedisServer, RedisServer, ScriptedSentinel]]:
    """A primary, a replica that follows it, and a sentinel that names the primary."""
    primary = start_redis("--repl-diskless-sync-delay", "0")
    replica = start_redis("--replicaof", "127.0.0.1", str(primary.port))
    wait_until(lambda: replica.client().info("replication")["master_link_status"] == "up")
    with scripted(primary.port) as (sentinel,):
        yield primary, replica, sentinel


def fail_over(primary: RedisServer, replica: RedisServer, sentinel: ScriptedSentinel) -> None:
    """The replica is the primary from now on, with what it has; the one before is gone."""
    replica.client().execute_command("REPLICAOF", "NO", "ONE")
    sentinel.primary = replica.port
    primary.kill()


@pytest.mark.exhaustive
def test_what_is_acknowledged_is_on_so_many_replicas(start_redis: StartRedis) -> None:
    with replicated(start_redis) as (_, replica, sentinel):
        backend = RedisBackend(url_of([sentinel], "wait_replicas=1"), timeout=3 * TIMEOUT)
        epoch = claimed(backend)
        assert one(backend, append(epoch, 1)) == Done()
        assert replica.client().xrange("tp:{0}:s:a", min=f"{epoch}-1")
        replica.freeze()
        for write in (append(epoch, 2, lease=None), claim("b")):
            since = time.monotonic()
            outcome = one(backend, write)
            assert isinstance(outcome, StoreError)
            assert "is on 0 replicas, and is to be on 1" in str(outcome)
            assert time.monotonic() - since < 6 * TIMEOUT
        assert one(backend, Renew("a", epoch, 5.0, 5.0)) == Done(), "nothing is lost with a heartbeat"
        assert backend.unreplicated == 2
        replica.thaw()
        wait_until(lambda: one(backend, append(epoch, 2, lease=None)) == Done())
        wait_until(lambda: isinstance(one(backend, claim("b")), Claimed))
        backend.close()


@pytest.mark.parametrize("given", ["-1", "x", "1.5", ""])
def test_a_number_of_replicas_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="wait_replicas"):
        RedisBackend(f"redis://localhost/0?wait_replicas={given}")


async def test_an_end_that_the_replicas_lack_is_not_acknowledged_and_comes_to_the_store_later(
    start_redis: StartRedis,
) -> None:
    with replicated(start_redis) as (primary, replica, sentinel):
        store = RedisStore(url_of([sentinel]), timeout=TIMEOUT, wait_replicas=1)
        async with open_tracker(store, flush_timeout=2.0) as tracker:
            async with tracker.session("a") as session:
                await session.flush()
                replica.freeze()
            assert tracker.statistics().final_lost == 1
            assert store.unreplicated > 0
            replica.thaw()
            with trio.fail_after(60):
                while not _ended(replica, "a"):  # noqa: ASYNC110 - a server tells nobody
                    await trio.sleep(0.05)
        await store.aclose()
        fail_over(primary, replica, sentinel)
        with Client(url_of([sentinel])) as client:
            assert client.snapshot("a").status == "completed"


def _ended(server: RedisServer, session: str) -> bool:
    return server.client().hget(f"tp:{{0}}:m:{session}", "s") == b"completed"


@pytest.mark.parametrize(
    "lacks",
    ["the declaration", *(pytest.param(less, marks=pytest.mark.exhaustive) for less in ("the claim", "the end"))],
)
async def test_an_end_that_a_failover_has_forgotten_is_written_again_by_its_owner(
    start_redis: StartRedis, lacks: str
) -> None:
    with replicated(start_redis) as (primary, replica, sentinel):

        def lag() -> None:
            primary.client().execute_command("WAIT", 1, 5000)
            replica.client().execute_command("REPLICAOF", "127.0.0.1", "1")

        url = url_of([sentinel])
        async with open_tracker(url) as tracker:
            if lacks == "the declaration":
                lag()
            await tracker.declare("a")
            if lacks == "the claim":
                lag()
            async with tracker.session("a", resume="waiting") as session:
                session.set_result(42)
                await session.flush()
                if lacks == "the end":
                    lag()
            assert _ended(primary, "a")
            assert not _ended(replica, "a")
            fail_over(primary, replica, sentinel)
            with trio.fail_after(60):
                while not _ended(replica, "a"):  # noqa: ASYNC110 - a server tells nobody
                    await trio.sleep(0.05)
            found = await tracker.snapshot("a")
            assert (found.status, found.result) == ("completed", 42)


def test_what_was_deleted_or_belongs_to_another_owner_by_now_is_not_written_again(start_redis: StartRedis) -> None:
    with replicated(start_redis) as (primary, replica, sentinel):
        owner = RedisBackend(url_of([sentinel]), timeout=TIMEOUT)
        other = RedisBackend(url_of([sentinel]), timeout=TIMEOUT)
        for name in ("deleted", "taken", "gone"):
            epoch = claimed(owner, name)
            assert one(owner, append(epoch, 1, name, lease=None)) == Done()
        assert one(owner, Delete("deleted")) == Done()
        taken = claimed(other, "taken", owner="other", record=b"newer")
        primary.client().execute_command("WAIT", 1, 5000)
        fail_over(primary, replica, sentinel)
        replica.client().delete("tp:{0}:s:gone", "tp:{0}:m:gone")
        with pytest.raises(StoreError):
            owner.read("gone")
        owner.write_ends_again()
        assert owner.read("deleted") is None
        found = owner.read("taken")
        assert found is not None
        assert (found.key.epoch, found.record) == (taken, b"newer")
        gone = owner.read("gone")
        assert gone is not None
        assert gone.record == b"state 1"
        owner.close()
        other.close()


def test_what_is_gone_after_a_break_without_a_failover_was_deleted(start_redis: StartRedis) -> None:
    server = start_redis()
    owner, other = RedisBackend(server.url, timeout=TIMEOUT), RedisBackend(server.url, timeout=TIMEOUT)
    assert one(owner, append(claimed(owner), 1, lease=None)) == Done()
    assert one(other, Delete("a")) == Done()
    server.freeze()
    with pytest.raises(StoreError):
        owner.read("a")
    server.thaw()
    owner.write_ends_again()
    assert owner.read("a") is None
    owner.close()
    other.close()
