"""The contract of all stores, held by the one in a real Redis.

Time is virtual here as well: what lives in Redis for so many seconds is made older by as many.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from functools import partial

import pytest
from trio.testing import MockClock

from tests.redis_server import client_of, let_pass
from tests.store_contract import *  # noqa: F403 - the tests
from tests.store_contract import EVENT_LIMIT, Rig
from trio_progress.stores.redis import RedisBackend
from trio_progress.stores.threaded import ThreadedStore

pytestmark = pytest.mark.integration


@pytest.fixture
async def rig(redis_url: str, mock_clock: MockClock) -> AsyncIterator[Rig]:
    prefix = f"test:{uuid.uuid4().hex[:12]}"
    store = ThreadedStore(RedisBackend(redis_url, prefix=prefix, event_limit=EVENT_LIMIT, timeout=5.0, beat=0.02))
    with client_of(redis_url) as client:
        yield Rig(store, partial(let_pass, client, prefix))
    await store.aclose()
