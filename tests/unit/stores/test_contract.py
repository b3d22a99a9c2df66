"""The contract of all stores, held by the store in memory and by the one in a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from trio.testing import MockClock

from tests.store_contract.reading import *  # noqa: F403 - the tests
from tests.store_contract.rig import EVENT_LIMIT, Rig
from tests.store_contract.taking import *  # noqa: F403 - the tests
from tests.store_contract.writing import *  # noqa: F403 - the tests
from trio_progress.stores.memory import MemoryStore
from trio_progress.stores.sqlite.backend import SqliteBackend
from trio_progress.stores.sqlite.machine import MachineClock
from trio_progress.stores.threaded import ThreadedStore


@pytest.fixture(params=["memory", "sqlite"])
async def rig(request: pytest.FixtureRequest, mock_clock: MockClock, tmp_path: Path) -> AsyncIterator[Rig]:
    if request.param == "memory":
        yield Rig(MemoryStore(event_limit=EVENT_LIMIT), mock_clock.jump)
        return
    clock = MachineClock("this boot", mock_clock.current_time, lambda: 1e9 + mock_clock.current_time())
    store = ThreadedStore(SqliteBackend(tmp_path / "store.db", event_limit=EVENT_LIMIT, idle_poll=0.002, clock=clock))
    yield Rig(store, mock_clock.jump)
    await store.aclose()
