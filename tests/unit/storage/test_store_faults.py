"""A store that is down, slow or hangs changes nothing for the work, and gets what it missed when it is back."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from tests.support import RecordingStore
from trio_progress import (
    End,
    open_tracker,
)
from trio_progress.protocol.messages import Message
from trio_progress.stores.base import Outcome, Write
from trio_progress.tracker import runtime_of


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
        assert runtime_of(tracker).open == {}
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
