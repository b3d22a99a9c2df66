"""Which server is the primary: what sentinels say, within the store's timeout, whatever some of them do."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest
import redis
import redis.sentinel

from tests.integration.redis_backend.asking import one, plain
from tests.redis_server import RedisServer, host_of
from tests.sentinels import scripted, url_of
from tests.store_contract.rig import append, claim
from tests.support import free_port
from trio_progress import RedisStore, StoreError, open_tracker
from trio_progress.blocking import Client
from trio_progress.stores.base import Claimed, Done
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.redis.sentinel import Found, Sentinels

pytestmark = pytest.mark.integration

StartRedis = Callable[..., RedisServer]

TIMEOUT = 1.0

AT_MOST = 2 * TIMEOUT + 20.0
"""Seconds that a call may take: twice its timeout, and what a machine with other work to do takes besides."""


@pytest.fixture
def port(redis_url: str) -> int:
    return host_of(redis_url)[1]


def opened(url: str | redis.Redis, timeout: float = TIMEOUT) -> float:
    """Opens a store, and tells how long that took."""
    backend = RedisBackend(url, timeout=timeout, prefix="test:sentinel")
    since = time.monotonic()
    try:
        backend.open()
    finally:
        backend.close()
    return time.monotonic() - since


@pytest.mark.parametrize("silent", [[0], [1], [0, 1]], ids=str)
def test_a_sentinel_that_accepts_and_does_not_answer_holds_up_nobody(port: int, silent: list[int]) -> None:
    with scripted(port, port, port) as sentinels:
        for which in silent:
            sentinels[which].mode = "silent"
        assert opened(url_of(sentinels), timeout=60.0) < 30.0
        manager = redis.sentinel.Sentinel([("127.0.0.1", each.port) for each in sentinels])
        assert opened(manager.master_for("mymaster"), timeout=60.0) < 30.0


def test_where_none_answers_it_is_said_within_the_timeout(port: int) -> None:
    with scripted(port, port) as sentinels:
        for each in sentinels:
            each.mode = "silent"
        since = time.monotonic()
        with pytest.raises(StoreError, match=r"2 of 3 sentinels did not answer within 1 s; .*refused"):
            opened(url_of(sentinels).replace("/0?", f",127.0.0.1:{free_port()}/0?"))
        assert time.monotonic() - since < AT_MOST


def test_a_sentinel_whose_own_time_is_up_first_has_not_answered_either() -> None:
    def timed_out(timeout: float) -> Found:
        raise redis.TimeoutError("Timeout reading from socket")

    def refused(timeout: float) -> Found:
        raise redis.ConnectionError("refused")

    with pytest.raises(StoreError, match=r": 1 of 2 sentinels did not answer within 5 s; refused$"):
        Sentinels([timed_out, refused], "redis-sentinel://h/0").find(5)


def test_where_none_knows_the_service_it_is_said(port: int) -> None:
    with scripted(port, port) as sentinels:
        sentinels[0].mode = "unknown"
        with pytest.raises(StoreError, match="knows no primary 'other'"):
            opened(url_of(sentinels).replace("mymaster", "other"))
        assert opened(url_of(sentinels)) < AT_MOST


def test_of_two_that_disagree_the_one_with_the_newest_configuration_counts(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_progress.stores.redis.sentinel.GATHER", TIMEOUT)  # On a busy machine one may come late.
    with scripted(free_port(), port, free_port()) as sentinels:
        sentinels[1].epoch = 7
        assert opened(url_of(sentinels)) < AT_MOST


def test_a_primary_that_accepts_and_does_not_answer_costs_at_most_two_timeouts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, scripted(silent.getsockname()[1]) as sentinels:
        since = time.monotonic()
        with pytest.raises(StoreError, match="not answered for 1 s"):
            opened(url_of(sentinels))
        assert time.monotonic() - since < AT_MOST


def test_a_replica_that_a_sentinel_takes_for_the_primary_is_not_even_read_from(
    start_redis: StartRedis, port: int
) -> None:
    replica = start_redis("--replicaof", "127.0.0.1", str(free_port()))
    with scripted(replica.port) as sentinels:
        backend = RedisBackend(url_of(sentinels), timeout=TIMEOUT)
        with pytest.raises(StoreError, match="no primary, or not yet"):
            backend.read("a")
        sentinels[0].primary = port
        assert backend.read("a") is None
        assert sentinels[0].asked == 2, "it is asked anew after that, and not while all is well"
        backend.close()


@pytest.mark.parametrize("how", ["replicas left", "replica", "killed", "frozen"])
def test_what_shows_that_the_primary_is_another_one_leads_to_the_next_look_up(
    start_redis: StartRedis, how: str
) -> None:
    before, after = start_redis(), start_redis()
    with scripted(before.port) as sentinels:
        backend = RedisBackend(url_of(sentinels), timeout=TIMEOUT)
        epoch = plain(backend)
        sentinels[0].primary = after.port
        assert one(backend, append(epoch, 2)) == Done(), "as long as it answers, nobody is asked"
        if how == "replicas left":
            before.client().config_set("min-replicas-to-write", 1)
        elif how == "replica":
            before.client().execute_command("REPLICAOF", "127.0.0.1", after.port)
        elif how == "killed":
            before.kill()
        else:
            before.freeze()
        since = time.monotonic()
        with pytest.raises(StoreError):
            one(backend, append(epoch, 3))
        assert time.monotonic() - since < AT_MOST
        assert isinstance(one(backend, claim("b")), Claimed)
        assert after.client().exists("tp:{0}:s:b")
        backend.close()


def test_sentinels_and_servers_have_passwords_of_their_own(start_redis: StartRedis) -> None:
    server = start_redis("--requirepass", "hunter2", client={"password": "hunter2"})
    with scripted(server.port, password="hunter3") as sentinels:
        url = url_of(sentinels, "sentinel_password=hunter3").replace("://", "://:hunter2@")
        assert opened(url) < AT_MOST
        for wrong in (url.replace("hunter3", "hunter4"), url.replace("hunter2", "hunter4")):
            with pytest.raises(StoreError) as info:
                opened(wrong)
            assert "hunter" not in str(info.value)
    backend = RedisBackend(url)
    assert backend.address == f"redis-sentinel://{sentinels[0].host}/0?service=mymaster"


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis-sentinel://h2,h1:7/2", "redis-sentinel://h1:7,h2:26379/2?service=mymaster"),
        ("rediss-sentinel://u:p@h1/?service=s&prefix=x", "rediss-sentinel://h1:26379/0?service=s&prefix=x"),
        ("redis-sentinel://[::1]:26380,h1/0?prefix=tp", "redis-sentinel://[::1]:26380,h1:26379/0?service=mymaster"),
        ("redis-sentinel://u:p%40x@h1?ssl_ca_certs=/x", None),
        ("redis-sentinel://h1:x/0", None),
        ("redis-sentinel:///0", None),
        pytest.param(f"redis-sentinel://{'h,' * 100}h/0", None, id="101 hosts"),
        ("redis-sentinel://h1/0?sentinel_db=7", None),
        ("redis-sentinel://h1/0?nonsense=1", None),
        ("redis://h1:1,h2:2/0", None),
        ("sentinel://h1/0", None),
    ],
)
def test_the_url_of_a_store_behind_sentinel(url: str, address: str | None) -> None:
    if address is None:
        with pytest.raises(ValueError, match="URL"):
            RedisBackend(url)
    else:
        assert RedisBackend(url).address == address


def test_a_client_of_replicas_is_refused() -> None:
    client = redis.sentinel.Sentinel([("127.0.0.1", 1)]).slave_for("mymaster")
    with pytest.raises(TypeError, match="master_for"):
        RedisBackend(client)


async def test_trackers_and_blocking_clients_take_it(port: int) -> None:
    with scripted(port, port) as sentinels:
        url = url_of(sentinels, "prefix=test:everywhere")
        async with open_tracker(url) as tracker, tracker.session("a") as session:
            session.increment("found")
        with Client(url) as client:
            assert client.snapshot("a").status == "completed"
        manager = redis.sentinel.Sentinel([("127.0.0.1", each.port) for each in sentinels])
        store = RedisStore(manager.master_for("mymaster"), prefix="test:everywhere")
        with Client(store) as client:
            assert client.snapshot("a").counters == {"found": 1}
        assert store.redis.read("a") is not None, "it is left open"
        with Client(store) as client:
            client.delete("a")
        await store.aclose()
        with pytest.raises(TypeError, match="RedisStore"):
            Client(manager)  # type: ignore[arg-type]
