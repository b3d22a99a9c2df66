"""A store that is down, slow, hangs or has given the session away changes nothing for the work."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tests.support import RecordingStore
from trio_progress import (
    End,
    FencedError,
    MemoryStore,
    Pipeline,
    SessionActiveError,
    SessionCompletedError,
    SessionEndedError,
    SessionNotFoundError,
    Snapshot,
    StoreError,
    Subscribed,
    open_tracker,
)
from trio_progress.protocol.messages import Message
from trio_progress.storage.ownerless import written_off
from trio_progress.stores.base import Claim, Claimed, Delete, Index, Outcome, Write
from trio_progress.telemetry.statistics import Tally
from trio_progress.testing import FaultyStore

PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})


async def test_states_are_stored_at_once_and_then_at_the_interval(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore()
    async with open_tracker(store) as tracker:
        async with tracker.session("a") as session:
            for _ in range(50):
                session.increment("n")
                await trio.sleep(0.11)
        assert session.status == "completed"
    states = [(key.seq, state.counters.get("n")) for key, state in store.taken["a"]]
    # The claim, the first change at once, one for each two seconds, and the end.
    assert [n for _, n in states] == [None, 1, 19, 37, 50]
    assert store.tries == pytest.approx([0, 0, 2, 4, 5.5], abs=1e-6)


async def test_what_must_not_wait_is_stored_at_broadcast_pace(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore()
    async with open_tracker(store) as tracker, tracker.session("a") as session:
        session.increment("n")
        await trio.sleep(0.5)
        session.set_result({"r": 1})
        await trio.sleep(0.05)
        assert store.taken["a"][-1][1].result == {"r": 1}
        with session.phase("x"):
            pass
        await trio.sleep(0.2)
        assert store.taken["a"][-1][1].phase("x").status == "completed"


async def test_an_idle_session_is_woken_by_its_heartbeat_only(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore()
    async with open_tracker(store, heartbeat_interval=10, lost_after=30) as tracker, tracker.session("a"):
        await trio.sleep(95)
        assert store.tries == pytest.approx([0, *range(10, 95, 10)])
        assert tracker.statistics().renewals == 9
        assert len(store.taken["a"]) == 1


async def test_a_store_that_goes_down_costs_the_work_nothing_and_gets_the_newest_state_when_it_is_back(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = RecordingStore()
    async with open_tracker(store) as tracker:
        async with tracker.session("a") as session:
            await trio.sleep(1)
            store.mode = "down"
            begun = trio.current_time()
            for _ in range(1000):
                session.increment("n")
                await trio.sleep(0.01)
            assert trio.current_time() - begun == pytest.approx(10)
            assert not tracker.statistics().store_up
            assert [state.counters.get("n") for _, state in store.taken["a"]] == [None]
            store.mode = "up"
            await trio.sleep(1.1)
            assert store.taken["a"][-1][1].counters == {"n": 1000}
            assert tracker.statistics().store_up
        tries = tracker.statistics().persists_failed
        assert 10 <= tries <= 30, "the pauses between tries grow, and are capped at a second"
    assert len(store.ends("a").popitem()[1]) == 1
    assert len([record for record in caplog.records if "does not answer" in record.message]) == 1


@pytest.mark.parametrize("mode", ["down", "hang"])
async def test_a_final_state_that_cannot_be_stored_is_loud_and_bounded(
    mode: str, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = RecordingStore()
    messages: list[Message] = []
    async with open_tracker(store, flush_timeout=5) as tracker, trio.open_nursery() as nursery:

        async def follow() -> None:
            async with tracker.subscribe("a", wait=True) as subscription:
                messages.extend([message async for message in subscription])

        nursery.start_soon(follow)
        async with tracker.session("a") as session:
            session.increment("n")
            await trio.sleep(1)
            store.mode = mode
            session.increment("n")
            left = trio.current_time()
        assert trio.current_time() - left == pytest.approx(5)
        assert tracker.statistics().final_lost == 1
        assert tracker._runtime.open == {}
    end = messages[-1]
    assert isinstance(end, End)
    assert end.status == "completed"
    assert end.persisted_seq is not None
    assert end.persisted_seq < end.seq
    assert "did not reach the store" in caplog.text


@pytest.mark.parametrize("mode", ["down", "hang"])
async def test_a_session_begins_while_the_store_is_down_and_is_claimed_when_it_is_back(
    mode: str, autojump_clock: trio.testing.MockClock
) -> None:
    store = RecordingStore()
    store.mode = mode
    async with open_tracker(store) as tracker:
        async with tracker.session("a") as session:
            assert trio.current_time() <= 1
            session.increment("n")
            await trio.sleep(3)
            if mode == "hang":
                return  # Nothing of the hanging call is ever heard; it is left at the flush timeout.
            assert "a" not in store.taken
            store.mode = "up"
            await trio.sleep(1.1)
            assert store.taken["a"][-1][1].counters == {"n": 1}
            assert store.taken["a"][-1][0].epoch == session.epoch
    assert len(store.ends("a").popitem()[1]) == 1


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
        store.inner._logs.clear()  # As FLUSHALL does.
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
        before = copy.deepcopy(store.inner._logs)
        async with tracker.session("a") as session:
            session.emit("e", 1)
            session.update(title="newer")
            await session.flush()
            store.inner._logs = before
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
            store.inner._logs.clear()
        stored = await store.inner.read("a")
        assert stored is not None
        assert stored.key == (session.epoch, session.snapshot().seq)
        assert not stored.alive
        await tracker.delete("a")


async def test_flush_returns_when_the_store_holds_it_and_can_be_cancelled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = RecordingStore(delay=0.3)
    async with open_tracker(store) as tracker, tracker.session("a") as session:
        await trio.sleep(5)
        session.save({"page": 1})
        begun = trio.current_time()
        await session.flush()
        assert trio.current_time() - begun == pytest.approx(0.3)
        assert store.taken["a"][-1][0].seq == session.snapshot().seq
        store.mode = "down"
        session.save({"page": 2})
        with trio.move_on_after(3) as scope:
            await session.flush()
        assert scope.cancelled_caught
        store.mode = "up"
        await session.flush()


async def test_events_that_go_on_hold_up_no_flush_and_void_no_interval(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = RecordingStore(delay=0.05)
    async with open_tracker(store, persist_interval=2) as tracker, trio.open_nursery() as nursery:
        async with tracker.session("a") as session:

            async def emit() -> None:
                while True:
                    session.emit("e")
                    await trio.sleep(0.02)

            nursery.start_soon(emit)
            await trio.sleep(9)
            assert store.tries == pytest.approx([0, 0.05, 2.1, 4.15, 6.2, 8.25], abs=0.01)
            with trio.fail_after(0.2):
                await session.flush()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("resume", ["never", "interrupted", "always", "waiting"])
@pytest.mark.parametrize(
    "stored",
    [
        "nothing",
        "queued",
        "completed",
        "failed",
        "cancelled",
        "timed_out",
        "interrupted",
        "lost",
        "written_off",
        "alive",
    ],
)
async def test_re_entry(stored: str, resume: str, autojump_clock: trio.testing.MockClock) -> None:
    """The table of DESIGN section 3: stored state by `resume`."""
    store = MemoryStore()
    async with open_tracker(store) as tracker, trio.open_nursery() as nursery:
        await leave_behind(store, tracker, stored, nursery)
        goes_on = (
            stored
            in {
                "never": (),
                "interrupted": ("interrupted", "lost", "written_off"),
                "always": ("interrupted", "lost", "written_off", "failed", "cancelled", "timed_out"),
                "waiting": ("interrupted", "lost", "written_off"),
            }[resume]
        )
        scope = tracker.session("a", PIPELINE, resume=resume)  # type: ignore[arg-type]
        if stored == "alive":
            with pytest.raises(SessionActiveError):
                await scope.__aenter__()
        elif stored == "completed" and resume != "never":
            with pytest.raises(SessionCompletedError):
                await scope.__aenter__()
        elif stored == "nothing" and resume == "waiting":
            with pytest.raises(SessionNotFoundError):
                await scope.__aenter__()
        elif stored in ("failed", "cancelled", "timed_out") and resume == "waiting":
            with pytest.raises(SessionEndedError, match="does not wait to be run") as caught:
                await scope.__aenter__()
            assert caught.value.status == stored
        else:
            async with scope as session:
                assert session.attempt == (2 if goes_on else 1)
                assert session.saved == ({"page": 7} if goes_on else None)
                assert session.phases["search"].status == ("completed" if goes_on else "pending")
                assert session.phases["analysis"].status == "pending"
                assert session.phases["analysis"].attempt == (1 if goes_on else 0)
                with session.phase("analysis") as phase:
                    assert phase.attempt == (2 if goes_on else 1)
                if stored == "queued":
                    assert session.snapshot().title == "declared"
        nursery.cancel_scope.cancel()


async def test_a_job_that_is_cancelled_or_deleted_while_it_is_taken_is_not_run(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Late(RecordingStore):
        """Something happens between the look at the store and the claim."""

        then: Callable[[], Awaitable[object]] | None = None

        async def read(self, session_id: str) -> Any:
            found = await super().read(session_id)
            if self.then is not None:
                then, self.then = self.then, None
                await then()
            return found

    late = Late()
    async with open_tracker(late) as front, open_tracker(late) as worker:
        for session_id, meanwhile, raised in (
            ("a", front.cancel, SessionEndedError),
            ("b", front.delete, SessionNotFoundError),
        ):
            await front.declare(session_id, PIPELINE, labels={"user": "u1"})
            late.then = partial(meanwhile, session_id)
            with pytest.raises(raised):
                async with worker.session(session_id, PIPELINE, resume="waiting"):
                    pytest.fail("it was run")
        await front.declare("c", PIPELINE, labels={"user": "u1"})
        async with worker.session("c", PIPELINE, resume="waiting") as session:
            assert session.snapshot().labels == {"user": "u1"}


async def test_events_that_go_on_are_never_missing_in_the_store(autojump_clock: trio.testing.MockClock) -> None:
    """Not until something changes, nor between the claim and the first state after it."""
    retained: list[int] = []

    class Counting(RecordingStore):
        async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
            outcomes = await super().commit(batch)
            stored = await self.inner.read("a")
            retained.append(0 if stored is None else len(stored.events))
            return outcomes

    store = Counting()
    async with open_tracker(store) as tracker:
        with pytest.raises(ValueError, match="first"):
            async with tracker.session("a") as session:
                session.emit("found", 1)
                session.emit("found", 2)
                raise ValueError("first")
        retained.clear()
        async with tracker.session("a", resume="always") as session:
            await trio.sleep(5)
            session.emit("found", 3)
    assert set(retained) == {2, 3}


async def leave_behind(store: MemoryStore, tracker: object, stored: str, nursery: trio.Nursery) -> None:
    """A first attempt of session "a" that ended, or was left, as `stored` says."""

    async def first(fate: str) -> None:
        async with open_tracker(store, lost_after=2, heartbeat_interval=1) as other:
            if stored == "queued":
                await other.declare("a", PIPELINE, title="declared")
                return
            try:
                with trio.move_on_after(1 if stored == "timed_out" else 1000):
                    async with other.session("a", PIPELINE) as session:
                        session.save({"page": 7})
                        with session.phase("search"):
                            pass
                        with session.phase("analysis"):
                            await session.flush()
                            if stored == "failed":
                                raise ValueError
                            if stored == "interrupted":
                                raise KeyboardInterrupt
                            if stored == "cancelled":
                                session.cancel()
                            if stored != "completed":
                                await trio.sleep_forever()
            except (ValueError, KeyboardInterrupt):
                pass

    if stored == "nothing":
        return
    if stored in ("lost", "written_off", "alive"):
        # An owner in a run of its own that is just no longer heard of, or not yet.
        async with open_tracker(store, lost_after=2, heartbeat_interval=1) as other:
            async with other.session("a", PIPELINE) as session:
                session.save({"page": 7})
                with session.phase("search"):
                    pass
                session.advance_to("analysis")
                await session.flush()
                read = await store.read("a")
                usual = dict(store._logs)
        store._logs.update(usual)
        assert read is not None
        log = store._logs["a"]
        log.key, log.record = read.key, read.record
        log.lease_until = trio.current_time() + (1000 if stored == "alive" else -1)
        if stored == "written_off":
            (outcome,) = await store.commit([written_off(read, 1000.0, Tally())])
            assert isinstance(outcome, Claimed)
        return
    await first(stored)


async def test_a_claim_expects_what_was_read_and_reads_again_where_somebody_was_faster(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Two trackers resume one lost session at the same moment: one wins, the other is refused."""
    shared = MemoryStore()
    async with open_tracker(shared) as first:
        async with first.session("a") as session:
            session.save({"n": 1})
            session.fail("to be resumed")
    won: list[int] = []
    refused: list[str] = []
    async with (
        open_tracker(RecordingStore(0.01, shared)) as one,
        open_tracker(RecordingStore(0.01, shared)) as two,
        trio.open_nursery() as nursery,
    ):
        for tracker in (one, two):

            async def go(tracker: object = tracker) -> None:
                try:
                    async with tracker.session("a", resume="always") as session:  # type: ignore[attr-defined]
                        won.append(session.attempt)
                        await trio.sleep(1)
                except SessionActiveError as error:
                    refused.append(str(error))

            nursery.start_soon(go)
    assert won == [2]
    assert len(refused) == 1


async def test_resuming_needs_a_store_that_answers(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore()
    store.mode = "down"
    async with open_tracker(store) as tracker:
        with pytest.raises(StoreError):
            async with tracker.session("a", resume="interrupted"):
                pass
        assert tracker._runtime.open == {}


async def test_the_memory_store_keeps_sessions_for_the_retention_and_no_longer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = MemoryStore()
    async with open_tracker(store, retention=100) as tracker:
        async with tracker.session("a"):
            await trio.sleep(500)
        await trio.sleep(99)
        assert (await tracker.snapshot("a")).status == "completed"
        await trio.sleep(2)
        assert await store.read("a") is None


async def test_what_waits_or_can_be_gone_on_with_is_kept_longer_than_what_has_ended(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = MemoryStore()
    day = 86_400.0
    async with open_tracker(store) as tracker:
        await tracker.declare("queued")
        for session_id in ("interrupted", "lost"):
            await leave_behind_as(store, session_id)
        async with tracker.session("completed"):
            pass
    await trio.sleep(6 * day)
    async with open_tracker(store) as tracker:
        assert {one.id for one in await tracker.sessions()} == {"queued", "interrupted", "lost"}
        async with tracker.session("interrupted", resume="interrupted") as session:
            assert session.saved == {"page": 7}
    await trio.sleep(3601)
    # Who is in no hurry to write off others wakes a thousand times in eight days, and not a hundred thousand.
    async with open_tracker(store, heartbeat_interval=300, lost_after=1800) as tracker:
        assert {one.id for one in await tracker.sessions()} == {"queued", "lost"}
        await trio.sleep(8 * day)  # On the seventh it was written off as lost.
        assert not list(await tracker.sessions())


async def leave_behind_as(store: MemoryStore, session_id: str) -> None:
    """A session that was interrupted, or whose process was killed."""
    faulty = FaultyStore(store)
    async with open_tracker(faulty, flush_timeout=0.1, spool=False) as tracker:
        with suppress(KeyboardInterrupt):
            async with tracker.session(session_id) as session:
                session.save({"page": 7})
                await session.flush()
                if session_id == "lost":
                    faulty.mode = "down"
                raise KeyboardInterrupt


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
