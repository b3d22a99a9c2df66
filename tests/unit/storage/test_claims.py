"""A store that has lost, forgotten or given away a session: whose it is, its epoch and its lease say."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.store_contract.declared import check_a_lost_answer_to_its_claim
from tests.support import RecordingStore, logs_of
from trio_progress import (
    End,
    FencedError,
    MemoryStore,
    Snapshot,
    Subscribed,
    open_tracker,
)
from trio_progress.protocol.messages import Message
from trio_progress.stores.base import Claim, Claimed, Delete, Index
from trio_progress.stores.threaded import SqliteStore


async def test_a_pending_claim_that_is_refused_fences_the_session(autojump_clock: trio.testing.MockClock) -> None:
    shared = MemoryStore()
    mine, theirs = RecordingStore(inner=shared), RecordingStore(inner=shared)
    mine.mode = "down"
    async with open_tracker(mine) as tracker, open_tracker(theirs) as other, trio.open_nursery() as nursery:

        async def owner() -> None:
            async with other.session("a"):
                await trio.sleep(20)

        with pytest.raises(FencedError):
            async with tracker.session("a") as session:
                nursery.start_soon(owner)
                await trio.sleep(2)
                mine.mode = "up"
                await trio.sleep(100)
                raise AssertionError("not reached")
        assert trio.current_time() < 5
        assert session.status == "failed"
        assert (await tracker.snapshot("a")).status == "running"
    assert mine.taken == {}


async def test_an_owner_that_was_taken_for_lost_is_fenced_and_its_viewers_follow_the_new_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shared = MemoryStore()
    mine, theirs = RecordingStore(inner=shared), RecordingStore(inner=shared)
    messages: list[Message] = []
    async with open_tracker(mine) as tracker, open_tracker(theirs) as other, trio.open_nursery() as nursery:

        async def follow() -> None:
            async with tracker.subscribe("a", wait=True) as subscription:
                messages.extend([message async for message in subscription])

        async def take_over() -> None:
            async with other.session("a", resume="interrupted") as session:
                assert session.attempt == 2
                assert session.saved == {"page": 7}
                session.increment("theirs")
                await trio.sleep(5)

        nursery.start_soon(follow)
        with pytest.raises(FencedError):
            async with tracker.session("a") as session:
                session.save({"page": 7})
                await session.flush()
                mine.mode = "down"
                await trio.sleep(40)  # Longer than its lease.
                nursery.start_soon(take_over)
                await trio.sleep(1)
                mine.mode = "up"
                await trio.sleep(100)
        assert trio.current_time() < 45
    assert [end.counters for ends in theirs.ends("a").values() for end in ends] == [{"theirs": 1}]
    end = messages[-1]
    assert isinstance(end, End)
    assert end.status == "completed"
    subscribed = [message for message in messages if isinstance(message, Subscribed)]
    assert [(message.recovered, message.reason) for message in subscribed] == [(False, "new"), (False, "epoch")]
    epochs = [message.epoch for message in messages if isinstance(message, Snapshot)]
    assert len(epochs) == 2
    assert epochs[0] < epochs[1]


async def test_an_answer_that_was_lost_is_no_second_claim_and_no_second_state(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = RecordingStore()
    store.mode = "lost"
    async with open_tracker(store) as tracker:
        async with tracker.session("a") as session:
            session.emit("e", 1)
            await trio.sleep(0.5)
            store.mode = "up"
            session.emit("e", 2)
            await session.flush()
    assert len(store.ends("a")) == 1
    stored = await store.inner.read("a")
    assert stored is not None
    assert len(stored.events) == 2


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_a_session_has_what_it_was_declared_with_also_where_the_answer_to_its_claim_was_lost(
    kind: str, tmp_path: Path
) -> None:
    await check_a_lost_answer_to_its_claim(MemoryStore() if kind == "memory" else SqliteStore(tmp_path / "store.db"))


@pytest.mark.parametrize("resume", ["never", "always"])
async def test_a_claim_whose_answer_was_lost_holds_however_long_the_store_is_away(
    resume: str, autojump_clock: trio.testing.MockClock
) -> None:
    store = RecordingStore()
    async with open_tracker(store, lost_after=30) as tracker:
        with pytest.raises(ValueError, match="first"):
            async with tracker.session("a"):
                raise ValueError("first")
        store.mode = "lost"
        async with trio.open_nursery() as nursery:

            async def outage() -> None:
                await trio.sleep(0.01)
                store.mode = "down"
                await trio.sleep(60)
                store.mode = "up"

            nursery.start_soon(outage)
            async with tracker.session("a", resume=resume) as session:  # type: ignore[arg-type]
                await trio.sleep(100)
        assert session.status == "completed"
    stored = await store.inner.read("a")
    assert stored is not None
    assert stored.key == (session.epoch, session.snapshot().seq)


async def test_what_is_gone_from_the_store_is_claimed_and_stored_anew(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore()
    async with open_tracker(store) as tracker, tracker.session("a") as session:
        session.emit("e", 1)
        await session.flush()
        logs_of(store.inner).clear()  # As FLUSHALL does.
        session.emit("e", 2)
        await session.flush()
        stored = await store.read("a")
        assert stored is not None
        assert stored.key.epoch == session.epoch
        assert len(stored.events) == 2


async def test_a_store_that_went_back_to_before_the_claim_is_claimed_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """As when a backup is restored under a running owner, or a replica promoted that lags."""
    store = RecordingStore()
    async with open_tracker(store) as tracker:
        declared = await tracker.declare("a", labels={"n": "1"}, title="declared")
        before = copy.deepcopy(logs_of(store.inner))
        async with tracker.session("a") as session:
            session.emit("e", 1)
            session.update(title="newer")
            await session.flush()
            logs_of(store.inner).clear()
            logs_of(store.inner).update(before)
            session.emit("e", 2)
            await session.flush()
            stored = await store.read("a")
            assert stored is not None
            assert stored.key.epoch == session.epoch > declared.epoch
            assert session.snapshot().title == "newer"
            assert len(stored.events) == 2
        assert session.status == "completed"
        assert (await tracker.snapshot("a")).status == "completed"


async def test_an_end_that_has_to_be_claimed_anew_leaves_no_lease_behind(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = RecordingStore()
    async with open_tracker(store) as tracker:
        async with tracker.session("a") as session:
            await trio.sleep(1)
            logs_of(store.inner).clear()
        stored = await store.inner.read("a")
        assert stored is not None
        assert stored.key == (session.epoch, session.snapshot().seq)
        assert not stored.alive
        await tracker.delete("a")


async def test_a_lease_stands_in_the_way_of_claims_and_deletions(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore()
    index = Index("running", None, {}, 0.0)
    (claimed,) = await store.commit([Claim("a", 5, "me", b"{}", index, 10.0, 100.0)])
    assert isinstance(claimed, Claimed)
    assert claimed.epoch == 5
    refused = await store.commit([Claim("a", 9, "you", b"{}", index, 10.0, 100.0), Delete("a")])
    assert [type(outcome).__name__ for outcome in refused] == ["Refused", "Refused"]
    (again,) = await store.commit([Claim("a", 9, "me", b"{}", index, 10.0, 100.0)])
    assert isinstance(again, Claimed)
    assert again.epoch == 5
