"""The contract of all stores, held by the one in a real Redis Cluster.

Time is virtual here as well: what lives in Redis for so many seconds is made older by as many.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest
from trio.testing import MockClock

from tests.redis_cluster import RedisCluster
from tests.redis_server import let_pass
from tests.store_contract.reading import *  # noqa: F403 - the tests
from tests.store_contract.rig import EVENT_LIMIT, Rig
from tests.store_contract.taking import *  # noqa: F403 - the tests
from tests.store_contract.writing import *  # noqa: F403 - the tests
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.threaded import ThreadedStore

pytestmark = [pytest.mark.integration, pytest.mark.exhaustive]


RUNG_BY_ONE = {
    "test_what_is_declared_rings_who_has_waited_longest",
    "test_only_who_can_use_it_is_rung",
    "test_who_was_rung_and_leaves_rings_the_next",
    "test_who_was_rung_for_what_it_wants_no_more_rings_the_next",
    "test_who_was_rung_and_cannot_open_it_rings_nobody",
    "test_who_was_given_all_that_it_wants_waits_no_more",
}
"""Each partition rings who has waited longest in it, so these hold where all sessions are in one."""


@pytest.fixture
async def rig(redis_cluster: RedisCluster, request: pytest.FixtureRequest, mock_clock: MockClock) -> AsyncIterator[Rig]:
    prefix = f"test:{uuid.uuid4().hex[:12]}"
    backend = RedisBackend(
        redis_cluster.url,
        prefix=prefix,
        event_limit=EVENT_LIMIT,
        timeout=5.0,
        beat=0.02,
        partitions=1 if request.node.name in RUNG_BY_ONE else None,
    )
    store = ThreadedStore(backend)
    await store.open()

    def sleep(seconds: float) -> None:
        for master in redis_cluster.masters:
            with master.client() as client:
                let_pass(client, prefix, seconds)

    yield Rig(store, sleep)
    await store.aclose()
