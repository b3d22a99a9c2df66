"""A session whose owner is gone is written off as lost: once, late enough, and with all that it had told."""

from __future__ import annotations

import logging

import pytest
import trio
import trio.testing

from tests.support import RecordingStore
from trio_progress import FencedError, MemoryStore, Pipeline, SessionActiveError, open_tracker
from trio_progress.protocol.messages import End
from trio_progress.stores.base import Append, Ask, Claim, Claimed, Index, Key, Renew, Stored

PIPELINE = Pipeline("p", ["search", "analysis"])
INDEX = Index("running", "p", {"user": "u1"}, 5.0)


async def told() -> Stored:
    """What a session that runs has in the store."""
    store = MemoryStore()
    async with open_tracker(store) as tracker, tracker.session("a", PIPELINE, labels={"user": "u1"}) as session:
        session.save({"page": 7})
        session.increment("found", 3)
        with session.phase("search"):
            session.emit("source", {"url": "x"})
            session.emit("source", {"url": "y"})
        session.advance_to("analysis", total=4).advance(2)
        await session.flush()
        stored = await store.read("a")
    assert stored is not None
    return stored


async def abandon(store: MemoryStore, *, lease: float = 10.0) -> Key:
    """Leaves a session in the store, whose owner has just said that it lives and says no more."""
    stored = await told()
    (claimed,) = await store.commit([Claim("a", 1000, "gone", stored.record, INDEX, lease, 10_000.0)])
    assert isinstance(claimed, Claimed)
    key = Key(claimed.epoch, stored.key.seq)
    events = list(enumerate(stored.events, 1))
    await store.commit([Append("a", key, stored.record, INDEX, lease, 10_000.0, 123.0, events)])
    return key


async def test_an_owner_that_is_gone_is_written_off_once_and_nothing_of_what_it_told_is_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = RecordingStore()
    key = await abandon(store.inner)
    begun = trio.current_time()
    # Another process's view of the same sessions.
    async with (
        open_tracker(store, lost_after=10, heartbeat_interval=5) as one,
        open_tracker(store, lost_after=10, heartbeat_interval=5) as two,
        one.subscribe("a") as messages,
    ):
        ends = [(trio.current_time() - begun, message) async for message in messages if isinstance(message, End)]
        await trio.sleep(100)
        snapshot = await two.snapshot("a")
        counts = one.statistics().sessions_lost, two.statistics().sessions_lost
    assert sorted(counts) == [0, 1]
    ((after, end),) = ends
    assert (end.status, end.resumable) == ("lost", True)
    # The lease stands for ten seconds; then it is watched for ten more, at steps of a third of that.
    assert 20 <= after <= 20 + 2 * 10 / 3 + 0.1
    assert (snapshot.status, snapshot.liveness, snapshot.counters) == ("lost", "lost", {"found": 3})
    assert [(phase.name, phase.status, phase.done) for phase in snapshot.phases] == [
        ("search", "completed", 0),
        ("analysis", "cancelled", 2),
    ]
    assert snapshot.ended_at == snapshot.progressed_at, "its last heartbeat was long before"
    assert snapshot.heartbeat_at is not None
    assert snapshot.heartbeat_at.timestamp() == 123.0
    stored = await store.inner.read("a")
    assert stored is not None
    assert stored.key == Key(key.epoch + 1, key.seq + 1)
    assert len(stored.events) == 2
    async with open_tracker(store) as tracker, tracker.session("a", PIPELINE, resume="interrupted") as session:
        assert (session.attempt, session.saved) == (2, {"page": 7})
        assert session.phases["search"].status == "completed"
        assert session.snapshot().events == 2


async def test_an_owner_that_says_late_that_it_lives_is_left_alone(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore()
    key = await abandon(store, lease=1.0)
    async with open_tracker(store, lost_after=10, heartbeat_interval=5) as tracker:
        for beat in range(20):
            await trio.sleep(3)  # Its lease of one second has lapsed each time that somebody looks.
            (outcome,) = await store.commit([Renew("a", key.epoch, 1.0, 200.0 + beat)])
            assert not isinstance(outcome, Exception)
        assert (await tracker.snapshot("a")).status == "running"
        assert tracker.statistics().sessions_lost == 0


async def test_an_outage_of_the_store_ends_no_session(autojump_clock: trio.testing.MockClock) -> None:
    shared = MemoryStore()
    mine, theirs = RecordingStore(inner=shared), RecordingStore(inner=shared)
    async with (
        open_tracker(mine, lost_after=10, heartbeat_interval=5) as owner,
        open_tracker(theirs, lost_after=10, heartbeat_interval=5) as other,
        owner.session("a", PIPELINE) as session,
    ):
        await trio.sleep(20)
        # It is gone a little earlier, and back a little later, for the owner than for the other.
        mine.mode = "down"
        await trio.sleep(14)
        theirs.mode = "down"
        await trio.sleep(60)
        theirs.mode = "up"
        await trio.sleep(6)
        mine.mode = "up"
        await trio.sleep(60)
        assert session.status == "running"
        assert (await other.snapshot("a")).status == "running"
        assert other.statistics().sessions_lost == 0


async def test_a_process_that_was_stopped_suspects_nobody_of_what_it_did_not_see(
    mock_clock: trio.testing.MockClock,
) -> None:
    store = MemoryStore()
    await abandon(store)
    async with open_tracker(store, lost_after=9, heartbeat_interval=5) as tracker:

        async def pass_time(seconds: float) -> None:
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(seconds)
            await trio.testing.wait_all_tasks_blocked()

        for _ in range(6):
            await pass_time(3)  # Lapsed after ten seconds, suspected since twelve.
        await pass_time(500)
        assert tracker.statistics().sessions_lost == 0, "nobody was there to see whether the owner lived"
        for _ in range(2):
            await pass_time(3)
        assert tracker.statistics().sessions_lost == 0
        for _ in range(2):
            await pass_time(3)
        assert tracker.statistics().sessions_lost == 1


async def test_an_owner_that_comes_back_after_that_is_fenced(autojump_clock: trio.testing.MockClock) -> None:
    shared = MemoryStore()
    mine = RecordingStore(inner=shared)
    with pytest.raises(FencedError):
        async with (
            open_tracker(mine, lost_after=10, heartbeat_interval=5) as owner,
            open_tracker(shared, lost_after=10, heartbeat_interval=5) as other,
            owner.session("a", PIPELINE),
        ):
            await trio.sleep(20)
            mine.mode = "down"
            await trio.sleep(60)
            assert other.statistics().sessions_lost == 1
            mine.mode = "up"
            await trio.sleep(60)


async def test_what_cannot_be_read_is_said_and_holds_up_nobody(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    store = MemoryStore()
    await abandon(store)
    await store.commit([Claim("bad", 1, "gone", b"{", INDEX, 5.0, 10_000.0), Ask("x", "cancel")])
    async with open_tracker(store, lost_after=10, heartbeat_interval=5) as tracker:
        await trio.sleep(60)
        assert tracker.statistics().sessions_lost == 1
        assert (await tracker.snapshot("a")).status == "lost"
        with pytest.raises(SessionActiveError):
            await store.commit([Claim("bad", 5, "new", b"{}", INDEX, 1000.0, 1000.0)])
            await tracker.delete("bad")
    assert "'bad' is lost, but cannot be written off" in caplog.text
