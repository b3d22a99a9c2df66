"""Lists by the indexes of the store in memory and of the one in a file, beside looking at all, after any writes."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import trio
from hypothesis import example, given, settings
from trio.testing import MockClock

from tests.store_contract.model import TRANSITIONS, Model, Step, steps
from tests.store_contract.rig import EVENT_LIMIT
from tests.support import examples
from trio_progress.stores.base import Store
from trio_progress.stores.memory import MemoryStore
from trio_progress.stores.places import dimensions
from trio_progress.stores.sqlite.backend import SqliteBackend
from trio_progress.stores.sqlite.machine import MachineClock
from trio_progress.stores.threaded import ThreadedStore


def run(
    make: Callable[[MockClock], Store], done: Sequence[Step], look: Callable[[Model], object] = lambda model: None
) -> None:
    async def main() -> None:
        store = make(clock)
        try:
            model = Model(store, clock.jump)
            await model.run(done)
            look(model)
        finally:
            await store.aclose()

    clock = MockClock()
    trio.run(main, clock=clock)


@example(done=TRANSITIONS)
@given(done=steps())
def test_the_index_in_memory_equals_looking_at_all(done: list[Step]) -> None:
    run(lambda clock: MemoryStore(event_limit=EVENT_LIMIT), done)


@pytest.mark.parametrize("boot", ["this boot", None])
@settings(max_examples=examples(20))
@example(done=TRANSITIONS)
@given(done=steps())
def test_the_index_of_a_file_equals_looking_at_all(done: list[Step], boot: str | None) -> None:
    def look(model: Model) -> None:
        with closing(sqlite3.connect(path)) as connection:
            rows = set(connection.execute("SELECT dimension, place, queued_at, session FROM places"))
            there = {one for (one,) in connection.execute("SELECT id FROM sessions")}
        by = {one: model.written[one].by for one in there}
        assert rows == {
            (dimension, place, by[one].queued_at, one)
            for one in there
            # What waits to be gone on with stands a second time there, by how often it was begun.
            for place in (by[one].status, *(["again1"] if by[one].status in ("interrupted", "lost") else []))
            for dimension in ("", *dimensions(by[one].pipeline, by[one].labels))
        }

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"

        def make(clock: MockClock) -> Store:
            machine = MachineClock(boot, clock.current_time, lambda: 1e9 + clock.current_time())
            return ThreadedStore(SqliteBackend(path, event_limit=EVENT_LIMIT, clock=machine))

        run(make, done, look)
