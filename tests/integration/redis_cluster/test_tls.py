"""A store in a Redis Cluster that speaks nothing but TLS."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
import trio
import trustme

from tests.integration.redis_backend.asking import opened_backends
from tests.redis_cluster import RedisCluster
from tests.redis_tls import skipped_without_tls, tls_client, tls_options
from trio_progress import Pipeline, RedisStore, StoreError, open_tracker
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.redis.partitions import partition_of, slot_of, tags

pytestmark = [pytest.mark.integration, pytest.mark.exhaustive]

PIPELINE = Pipeline("work", {"count": 1})
PATIENCE = 90.0


class Place(NamedTuple):
    """A cluster, and who vouches for it."""

    cluster: RedisCluster
    ca: Path

    def url(self, prefix: str) -> str:
        return f"{self.cluster.url}?prefix={prefix}&ssl_ca_certs={self.ca}"


@pytest.fixture(scope="module")
def place(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("tls_cluster")
    tls = tls_options(folder, trustme.CA()), tls_client(folder)
    cluster = RedisCluster(redis_program, folder / "nodes", tls=tls)
    try:
        with skipped_without_tls():
            cluster.start()
        yield Place(cluster, folder / "ca.pem")
    finally:
        cluster.stop()


async def test_sessions_of_all_partitions_are_run_listed_and_cancelled_from_afar_also_once_a_slot_has_moved(
    place: Place, prefix: str
) -> None:
    by_partition = {partition_of(name, 16): name for name in map("job-{}".format, range(200))}
    names = sorted(by_partition.values())
    assert len(names) == 16
    with trio.fail_after(PATIENCE):
        async with open_tracker(place.url(prefix)) as owner, open_tracker(place.url(prefix)) as other:
            for name in names:
                async with owner.session(name, PIPELINE) as session:
                    session.increment("before")
            assert sorted(one.id for one in await other.sessions(status="completed")) == names
            name = next(name for name in map("moved-{}".format, itertools.count()) if partition_of(name, 16) == 2)
            async with owner.session(name, PIPELINE) as session:
                await session.flush()
                slot = slot_of(f"{{{tags(16)[2]}}}")
                assert place.cluster.owner_of(slot) is place.cluster.masters[0]
                place.cluster.move(slot, place.cluster.masters[1])
                session.increment("after")
                await session.flush()
                await other.cancel(name, reason="enough")
                await trio.sleep_forever()
            assert (await other.snapshot(name)).status == "cancelled"


async def test_a_client_with_tls_says_how_to_connect(place: Place, prefix: str) -> None:
    # The client takes 127.0.0.1 for localhost, which is not in the certificate.
    given: dict[str, Any] = {"ssl": True, "ssl_ca_certs": str(place.ca), "ssl_check_hostname": False}
    port = place.cluster.masters[1].port
    with redis.RedisCluster(host="localhost", port=port, **given) as client, trio.fail_after(PATIENCE):
        store = RedisStore(client, prefix=prefix, timeout=5.0)
        async with open_tracker(store) as tracker, tracker.session("a", PIPELINE):
            pass
        await store.aclose()
        with opened_backends(prefix=prefix, timeout=5.0) as make:
            assert make(place.url(prefix)).read("a") is not None


def refusal(url: str) -> str:
    """Why nothing is stored there."""
    backend = RedisBackend(url, timeout=1.0)
    with pytest.raises(StoreError) as info:
        backend.open()
    backend.close()
    return str(info.value)


def test_a_certificate_that_is_for_another_host_or_that_nobody_vouches_for_is_refused(
    place: Place, prefix: str, tmp_path: Path
) -> None:
    url = place.url(prefix)
    assert "certificate" in refusal(url.replace("localhost", "127.0.0.1"))
    trustme.CA().cert_pem.write_to_path(tmp_path / "stranger.pem")
    assert "certificate" in refusal(f"{place.cluster.url}?ssl_ca_certs={tmp_path / 'stranger.pem'}")
    assert "certificate" in refusal(place.cluster.url)


def test_tls_is_not_left_out_silently(place: Place, redis_cluster: RedisCluster) -> None:
    refusal(place.cluster.url.replace("rediss-", "redis-"))
    refusal(redis_cluster.url.replace("redis-", "rediss-"))
