"""What people complain of elsewhere, a test for each line of the list: that nobody suffers it who uses this.

The number in a name is that of the line. Each is the shortest scenario in which the pain would be felt, told by
the public names and `trio_progress.testing`; what goes deeper stands with the part that it is about, much of it
under the same number. Of pain 6 the sockets, of 9 and 22 the server, of 10 a real Redis and of 12 the client over
a network have tests in tests/integration; here it is what all of them stand on. No line is left out.

These are the pains of delivery: what gets lost, late, doubled or out of order on its way to who reads.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
import trio.testing

from tests.support import Cases
from tests.unit.scenarios.pains.keeping import NAMES, kept, same
from trio_progress import (
    CustomEvent,
    FencedError,
    Gap,
    Limits,
    MemoryStore,
    Pipeline,
    Snapshot,
    Subscribed,
    Update,
    open_tracker,
)
from trio_progress.testing import FaultyStore, Subscriber, explore, jitter, recorded

PIPELINE = Pipeline("research", dict(zip(NAMES, (3, 2, 1), strict=True)))


async def joins_while_events_are_emitted() -> None:
    got: list[int] = []
    async with open_tracker(broadcast_interval=0.01) as tracker, trio.open_nursery() as nursery:
        async with tracker.session("a") as session:

            async def join() -> None:
                await jitter(0.05)
                async with tracker.subscribe("a") as messages:
                    got.extend([message.n async for message in messages if isinstance(message, CustomEvent)])

            nursery.start_soon(join)
            for n in range(10):
                session.emit("found", n)
                await jitter(0.01)
    assert got == list(range(1, 11))


def test_pain_1_no_event_is_lost_between_the_history_and_the_live_stream(seed: int, cases: Cases) -> None:
    explore(joins_while_events_are_emitted, schedules=cases(20, exhaustive=100), seed=seed)


async def test_pain_2_the_last_throttled_update_is_never_the_one_that_is_lost(
    autojump_clock: trio.testing.MockClock,
) -> None:
    subscriber, store = Subscriber("a"), FaultyStore()
    settings = {"persist_interval": 10.0, "broadcast_interval": 10.0}
    async with open_tracker(store, **settings) as tracker, trio.open_nursery() as outside:  # type: ignore[arg-type]
        outside.start_soon(subscriber.run, tracker)
        async with tracker.session("a") as session:
            for n in range(100):
                session.set(last=n)
                await trio.sleep(0.1 if n < 99 else 0)
    assert subscriber.view is not None
    assert subscriber.view.fields == {"last": 99}
    assert (await kept(store)).fields == {"last": 99}


async def test_pain_3_no_heartbeat_outlives_its_session_or_delays_the_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = FaultyStore()
    async with open_tracker(store, heartbeat_interval=10, lost_after=30) as tracker:
        before = trio.lowlevel.current_statistics().tasks_living
        async with tracker.session("a"):
            await trio.sleep(95)
            left_at = trio.current_time()
        assert trio.current_time() == left_at
        assert trio.lowlevel.current_statistics().tasks_living == before
        writes = len(store.commits)
        assert writes > 8
        await trio.sleep(1000)
        assert len(store.commits) == writes


async def test_pain_4_the_end_and_the_last_progress_are_one_state(autojump_clock: trio.testing.MockClock) -> None:
    store = FaultyStore(delay=0.05)
    async with open_tracker(store) as tracker:
        with recorded(tracker, "a") as messages:
            async with tracker.session("a", PIPELINE) as session:
                with session.phase("search", total=5) as phase:
                    for _ in range(5):
                        phase.advance()
                        await trio.sleep(0.03)
        states = messages.states("a")
    for state in states:
        assert (state.status == "completed") == (state.ended_at is not None) == (state.progress == 1.0)
    same(states[-1], session.snapshot(), await kept(store))
    assert states[-1].phase("search").done == 5


async def test_pain_5_a_late_write_cannot_bring_a_finished_session_back_and_no_key_expires_while_it_runs(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inner = MemoryStore()
    zombie, healthy = FaultyStore(inner), FaultyStore(inner)
    short: dict[str, Any] = {"retention": 60, "unfinished_retention": 60}
    async with open_tracker(zombie, **short) as one, open_tracker(healthy, **short) as two:
        with pytest.raises(FencedError):
            async with one.session("a") as fenced:
                fenced.set(by="zombie")
                await trio.sleep(1000)
                assert (await two.snapshot("a")).status == "running", "a session that runs has expired"
                zombie.mode = "down"
                await trio.sleep(40)
                async with two.session("a") as session:
                    session.set(by="the other")
                zombie.mode = "up"
                fenced.set(by="zombie again")
                await trio.sleep(10)
        fenced.set(by="zombie, for the last time")
        await trio.sleep(10)
        state = await kept(inner)
    assert (state.status, state.fields, state.epoch) == ("completed", {"by": "the other"}, session.epoch)


async def test_pain_6_one_reader_that_stalls_delays_and_reorders_nobody(autojump_clock: trio.testing.MockClock) -> None:
    stalled, quick = Subscriber("a", stalls_after=1), Subscriber("a")
    seen: list[tuple[float, float]] = []
    async with open_tracker() as tracker, trio.open_nursery() as outside:
        outside.start_soon(stalled.run, tracker)
        outside.start_soon(quick.run, tracker)
        async with tracker.session("a") as session, tracker.watch("a") as snapshots, trio.open_nursery() as nursery:

            async def look() -> None:
                async for snapshot in snapshots:
                    seen.append((trio.current_time(), snapshot.counters.get("n", 0)))
                    if snapshot.counters.get("n") == 20:
                        return

            nursery.start_soon(look)
            begun = trio.current_time()
            for _ in range(20):
                session.increment("n")
                await trio.sleep(0.5)
            assert trio.current_time() - begun == pytest.approx(10)
        stalled.resume_from()
    assert [n for _, n in seen] == sorted({n for _, n in seen})
    # Each came within a tick of the update.
    assert all(at - begun <= (n - 1) * 0.5 + 0.1 + 1e-6 for at, n in seen if n)
    same(session.snapshot(), quick.view, stalled.view)


async def test_pain_7_what_does_not_fit_into_a_buffer_is_made_up_for_by_the_newest_state(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stalled = Subscriber("a", stalls_after=4)
    async with open_tracker(event_limit=10) as tracker, trio.open_nursery() as outside:
        outside.start_soon(stalled.run, tracker)
        async with tracker.session("a") as session:
            for n in range(500):
                session.set(last=n)
                session.emit("found", n)
                await trio.sleep(0.2)
            stalled.resume_from()
            await trio.sleep(1)
            assert stalled.view is not None
            assert stalled.view.fields == {"last": 499}, "it has lost touch for good"
        # Events are a log, which is bounded: what was lost of it is counted, and told.
        assert tracker.statistics().events_dropped == 500 - len(stalled.events) > 0
    same(session.snapshot(), stalled.view)


async def test_pain_8_a_drop_is_counted_and_a_flood_of_them_logged_once(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_tracker(strict=False, event_limit=5) as tracker:
        async with tracker.subscribe("a", wait=True) as messages:
            async with tracker.session("a") as session:
                for n in range(1000):
                    session.emit("found", n)
                    session.increment("n", float("nan"))
                    if n % 100 == 0:
                        await trio.sleep(1)
            gaps = [message.dropped async for message in messages if isinstance(message, Gap)]
        statistics = tracker.statistics()
    assert sum(gaps) == statistics.events_dropped > 900
    assert statistics.refused == 1000
    assert 1 <= len(caplog.records) < 10


async def subscribers_come_and_go_in_a_broadcast() -> None:
    stays = Subscriber("a")
    async with open_tracker(broadcast_interval=0.01) as tracker, trio.open_nursery() as outside:
        outside.start_soon(stays.run, tracker)
        async with tracker.session("a") as session, trio.open_nursery() as nursery:

            async def come_and_go() -> None:
                for _ in range(3):
                    await jitter(0.02)
                    async with tracker.subscribe("a") as messages:
                        with trio.move_on_after(0.03):
                            for _ in range(3):
                                await messages.__anext__()
                    with pytest.raises(StopAsyncIteration):
                        await messages.__anext__()  # Nothing comes to who has left.

            for _ in range(4):
                nursery.start_soon(come_and_go)
            for _ in range(15):
                session.increment("n")
                await jitter(0.02)
    same(session.snapshot(), stays.view)
    assert tracker.statistics().subscribers == 0


def test_pain_9_who_leaves_in_the_middle_of_a_broadcast_makes_nobody_miss_it(seed: int, cases: Cases) -> None:
    explore(subscribers_come_and_go_in_a_broadcast, schedules=cases(12, exhaustive=60), seed=seed)


async def test_pain_10_a_listener_whose_connection_breaks_is_seen_to_be_deaf_and_hears_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inner = MemoryStore()
    theirs = FaultyStore(inner)
    subscriber = Subscriber("a")
    async with open_tracker(inner) as owner, open_tracker(theirs) as other, trio.open_nursery() as nursery:
        nursery.start_soon(subscriber.run, other)
        async with owner.session("a") as session:
            await trio.testing.wait_all_tasks_blocked()  # The subscriber has joined.
            for n in range(5):
                theirs.mode = "down"
                session.set(n=n)
                await trio.sleep(30)
                assert not other.statistics().store_up, "it is deaf, and nobody can see that"
                theirs.mode = "up"
                await trio.sleep(10)
                assert other.statistics().store_up
                assert subscriber.view is not None
                assert subscriber.view.fields == {"n": n}
    same(session.snapshot(), subscriber.view)


async def test_pain_11_who_comes_back_is_told_whether_something_was_missed_and_why(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker(event_limit=5) as tracker:
        tokens: list[str | None] = [None]
        async with tracker.session("a") as session:
            session.set(n=1)
            tokens += [session.snapshot().resume, "garbage"]
        async with tracker.session("a") as again:
            again.emit("found")
            tokens.append(again.snapshot().resume)
            again.set(n=2)
            told = []
            for token in tokens:
                async with tracker.subscribe("a", since=token) as messages:
                    greeting, second = messages.take_nowait(), messages.take_nowait()
                    assert isinstance(greeting, Subscribed)
                    assert isinstance(second, Update if greeting.recovered else Snapshot)
                    told.append((greeting.recovered, greeting.reason))
            for _ in range(20):
                again.emit("found")
            # The state goes on from there; of the events some are gone, which is told where they are missing.
            async with tracker.subscribe("a", since=tokens[-1]) as messages:
                missed = [messages.take_nowait() for _ in range(3)]
            assert [type(message) for message in missed] == [Subscribed, Update, Gap]
            # Who goes on from right behind the loss is not told of it again.
            assert isinstance(missed[2], Gap)
            async with tracker.subscribe("a", since=missed[2].resume) as messages:
                behind = [messages.take_nowait() for _ in range(3)]
            assert [type(message) for message in behind] == [Subscribed, CustomEvent, CustomEvent]
    assert told == [(False, "new"), (False, "epoch"), (False, "bad_token"), (True, None)]


async def test_pain_12_a_client_that_comes_back_a_hundred_times_is_right_each_time(
    autojump_clock: trio.testing.MockClock, exhaustive: bool
) -> None:
    count = 1000 if exhaustive else 250
    restless = Subscriber("a", leaves_after=3, away=0.7)
    async with open_tracker(limits=Limits(phases=8)) as tracker, trio.open_nursery() as outside:
        outside.start_soon(restless.run, tracker)
        async with tracker.session("a", PIPELINE) as session:
            with session.phase("search", total=count) as phase:
                for n in range(count):
                    phase.advance()
                    # Finished children fold away, so that what an old client knows is no longer there.
                    with phase.phase(f"site-{n}"):
                        await trio.sleep(0.1)
        while_it_ran = len(restless.greetings)
    same(session.snapshot(), restless.view)
    assert while_it_ran > 0.08 * count
    assert all(greeting.recovered for greeting in restless.greetings[1:while_it_ran])
    # Who was away at the end is shown the stored state, which does not say what has folded since: it comes whole.
    afterwards = restless.greetings[while_it_ran:]
    assert len(afterwards) <= 1
    assert all(greeting.recovered or greeting.reason == "too_old" for greeting in afterwards)
