"""That sessions are listed where they stand, as they were declared, and that looking for them asks for no more."""

from __future__ import annotations

import pytest
import trio.testing

from tests.support import PassingStore
from trio_progress import MemoryStore, Pipeline, open_tracker
from trio_progress.stores.base import Page, Query

PIPELINE = Pipeline("research", {"search": 3})


class Watched(PassingStore):
    """A store that notes what lists it is asked for, and how many sessions each has brought."""

    takes_records = True

    def __init__(self, inner: MemoryStore) -> None:
        super().__init__(inner)
        self.asked: list[tuple[Query, int]] = []

    async def list(self, query: Query) -> Page:
        page = await super().list(query)
        self.asked.append((query, len(page.sessions)))
        return page


@pytest.mark.parametrize("labels", [None, {"user": "u2"}])
async def test_a_declared_session_that_is_begun_is_listed_as_it_was_declared(
    autojump_clock: trio.testing.MockClock, labels: dict[str, str] | None
) -> None:
    store = MemoryStore()
    async with open_tracker(store, persist_interval=1000) as owner, open_tracker(store) as other:
        declared = await owner.declare("a", PIPELINE, labels={"user": "u1"})
        await trio.sleep(1)
        await owner.declare("b", PIPELINE)
        async with owner.session("a", PIPELINE, labels=labels):
            await trio.testing.wait_all_tasks_blocked()
            assert [one.id for one in await other.sessions()] == ["b", "a"]
            (listed,) = await other.sessions(status="running")
            assert (listed.labels, listed.queued_at) == (labels or {"user": "u1"}, declared.queued_at)
            assert [one.id for one in await other.sessions(labels=labels or {"user": "u1"})] == ["a"]
            assert not await other.sessions(labels={"user": "u1"} if labels else {"user": "u2"})


async def test_looking_for_others_sessions_asks_for_the_labels_and_reads_what_is_new(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inner = MemoryStore()
    store = Watched(inner)
    async with open_tracker(inner) as owner, open_tracker(store) as viewer:
        for number in range(30):
            await owner.declare(f"s{number}", PIPELINE, labels={"user": f"u{number % 3}"})
        async with owner.session("ended", PIPELINE, labels={"user": "u1"}):
            pass
        async with viewer.watch_all(labels={"user": "u1"}) as snapshots:
            met = {(await anext(snapshots)).id for _ in range(10)}
            assert met == {f"s{number}" for number in range(1, 30, 3)}
            await trio.sleep(5.5)
            store.asked.clear()
            await trio.sleep(10)
            assert {tuple(query.labels.items()) for query, _ in store.asked if not query.lapsed} == {(("user", "u1"),)}
            assert sum(brought for _, brought in store.asked) == 0
            assert len([query for query, _ in store.asked if not query.lapsed]) == 20
            await owner.declare("new", PIPELINE, labels={"user": "u1"})
            assert (await anext(snapshots)).id == "new"
            await trio.sleep(5)
            assert sum(brought for _, brought in store.asked) == 1
            # Once somebody looks at all of them, there is one list again.
            async with viewer.watch_all():
                await trio.sleep(1.5)
                store.asked.clear()
                await trio.sleep(5)
                assert {tuple(query.labels) for query, _ in store.asked} == {()}
