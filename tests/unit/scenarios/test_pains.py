"""What people complain of elsewhere, a test for each line of the list: that nobody suffers it who uses this.

The number in a name is that of the line. Each is the shortest scenario in which the pain would be felt, told by
the public names and `trio_progress.testing`; what goes deeper stands with the part that it is about, much of it
under the same number. Of pain 6 the sockets, of 9 and 22 the server, of 10 a real Redis and of 12 the client over
a network have tests in tests/integration; here it is what all of them stand on. No line is left out.
"""

from __future__ import annotations

import io
import logging
from typing import Any

import pytest
import trio
import trio.testing

from trio_progress import (
    CustomEvent,
    End,
    FencedError,
    Gap,
    Limits,
    MemoryStore,
    Pipeline,
    Snapshot,
    Subscribed,
    Update,
    connect,
    open_display,
    open_tracker,
)
from trio_progress.server.auth.authenticator import token_of
from trio_progress.state.record import decode_record
from trio_progress.stores.base import Store
from trio_progress.testing import FaultyStore, Subscriber, explore, jitter, recorded

NAMES = ("search", "analysis", "report")
PIPELINE = Pipeline("research", dict(zip(NAMES, (3, 2, 1), strict=True)))


async def kept(store: Store, session_id: str = "a") -> Snapshot:
    """What the store holds."""
    entry = await store.read(session_id)
    assert entry is not None
    return decode_record(session_id, *entry.key, entry.record).state


def same(*states: Snapshot | None) -> None:
    assert all(state is not None for state in states)
    plain = [state.resuming("") for state in states if state is not None]
    assert all(state == plain[0] for state in plain)


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


def test_pain_1_no_event_is_lost_between_the_history_and_the_live_stream(seed: int, exhaustive: bool) -> None:
    explore(joins_while_events_are_emitted, schedules=100 if exhaustive else 20, seed=seed)


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


def test_pain_9_who_leaves_in_the_middle_of_a_broadcast_makes_nobody_miss_it(seed: int, exhaustive: bool) -> None:
    explore(subscribers_come_and_go_in_a_broadcast, schedules=60 if exhaustive else 12, seed=seed)


async def test_pain_10_a_listener_whose_connection_breaks_is_seen_to_be_deaf_and_hears_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inner = MemoryStore()
    theirs = FaultyStore(inner)
    subscriber = Subscriber("a")
    async with open_tracker(inner) as owner, open_tracker(theirs) as other, trio.open_nursery() as nursery:
        nursery.start_soon(subscriber.run, other)
        async with owner.session("a") as session:
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
    autojump_clock: trio.testing.MockClock,
) -> None:
    restless = Subscriber("a", leaves_after=3, away=0.7)
    async with open_tracker(limits=Limits(phases=8)) as tracker, trio.open_nursery() as outside:
        outside.start_soon(restless.run, tracker)
        async with tracker.session("a", PIPELINE) as session:
            with session.phase("search", total=1000) as phase:
                for n in range(1000):
                    phase.advance()
                    # Finished children fold away, so that what an old client knows is no longer there.
                    with phase.phase(f"site-{n}"):
                        await trio.sleep(0.1)
    same(session.snapshot(), restless.view)
    assert len(restless.greetings) > 80
    assert all(greeting.recovered for greeting in restless.greetings[1:])


async def test_pain_13_ten_thousand_increments_are_a_few_messages_and_a_few_writes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    subscriber, store = Subscriber("a"), FaultyStore()
    async with open_tracker(store) as tracker, trio.open_nursery() as outside:
        outside.start_soon(subscriber.run, tracker)
        async with tracker.session("a") as session:
            for n in range(10_000):
                session.increment("n")
                if n % 100 == 0:
                    await trio.sleep(0.01)
    assert subscriber.received < 20
    assert len(store.commits) < 20
    same(session.snapshot(), subscriber.view, await kept(store))
    assert session.snapshot().counters == {"n": 10_000}


@pytest.mark.parametrize("mode", ["down", "hang", "lost"])
async def test_pain_14_a_store_that_fails_or_hangs_does_not_slow_the_work(
    mode: str, autojump_clock: trio.testing.MockClock
) -> None:
    store = FaultyStore()
    async with open_tracker(store, flush_timeout=2) as tracker:
        store.mode = mode  # type: ignore[assignment]
        begun = trio.current_time()
        async with tracker.session("a") as session:
            # Entering waits for the store, to know that nobody else has it; but a second at most.
            assert trio.current_time() - begun <= 1.01
            begun = trio.current_time()
            with session.phase("work", total=100) as phase:
                for _ in range(100):
                    phase.advance()
                    session.emit("found")
                    await trio.sleep(0.1)
            left = trio.current_time()
            assert left - begun == pytest.approx(10)
        assert trio.current_time() - left <= 2.01
        store.mode = "up"
    assert session.status == "completed"


async def test_pain_15_a_reader_that_missed_states_is_put_right_by_any_newer_one(
    autojump_clock: trio.testing.MockClock,
) -> None:
    inner = MemoryStore()
    theirs = FaultyStore(inner)
    async with open_tracker(inner) as owner, open_tracker(theirs) as monitor:
        async with owner.session("a", PIPELINE) as session, monitor.watch("a") as snapshots:
            await snapshots.__anext__()
            theirs.mode = "down"
            with session.phase("search"):
                await trio.sleep(30)
            session.advance_to("report")
            session.set(page=7)
            theirs.mode = "up"
            await trio.sleep(10)
            seen = await snapshots.__anext__()
            statuses = [phase.status for phase in seen.phases]
            assert (statuses, seen.fields) == (["completed", "skipped", "running"], {"page": 7})
            same(seen, await kept(inner))


async def workers_count_at_once() -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("work", total=40) as phase:

            async def work() -> None:
                for _ in range(10):
                    await jitter(0.01)
                    session.increment("n", 2)
                    phase.advance()

            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(work)
        assert session.snapshot().counters == {"n": 80}
        assert phase.done == 40


def test_pain_16_no_count_is_lost_whichever_workers_add_at_once(seed: int, exhaustive: bool) -> None:
    explore(workers_count_at_once, schedules=60 if exhaustive else 12, seed=seed)


async def test_pain_17_it_never_goes_back_and_is_at_100_percent_only_when_it_is_done(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker:
        with recorded(tracker, "a") as messages:
            async with tracker.session("a", PIPELINE) as session:
                for name in NAMES:
                    with session.phase(name, total=1) as phase:
                        for _ in range(6):
                            phase.advance(2)  # More than there was to do, and then there is more.
                            await trio.sleep(0.15)
                            phase.extend(5)
                            await trio.sleep(0.15)
                await trio.sleep(1)
        states = messages.states("a")
    fractions = [state.progress for state in states]
    assert fractions == sorted(fractions)
    assert any(state.raw < state.progress for state in states), "nothing has tried to go back"
    for state in states:
        assert (state.progress == 1.0) == (state.status == "completed")
        assert all((phase.fraction == 1.0) == (phase.status == "completed") for phase in state.phases)


async def test_pain_18_every_way_to_end_is_told_as_what_it_was(autojump_clock: trio.testing.MockClock) -> None:
    ends: dict[str, tuple[str, str]] = {}
    store = MemoryStore()
    async with open_tracker(store) as tracker:

        async def run(name: str) -> None:
            with recorded(tracker, name) as messages, trio.CancelScope() as around:
                try:
                    async with tracker.session(name, PIPELINE) as session:
                        with session.phase("search", total=1) as phase:
                            phase.advance()  # All of it is done, and yet it is not over.
                            if name == "raises":
                                raise KeyError(name)
                            if name == "asked":
                                await tracker.cancel(name)
                            if name == "outside":
                                around.cancel()
                            if name == "too-slow":
                                around.deadline = trio.current_time() + 5
                            await trio.sleep(0 if name == "returns" else 10)
                except KeyError:
                    pass
            told = [message.status for message in messages if isinstance(message, End)]
            ends[name] = (told[-1], (await kept(store, name)).status)

        ways = {"returns": "completed", "raises": "failed", "asked": "cancelled"}
        ways |= {"outside": "cancelled", "too-slow": "timed_out"}
        for name in ways:
            await run(name)
    assert ends == {name: (status, status) for name, status in ways.items()}


async def test_pain_19_stalled_and_lost_are_told_apart_and_since_when(autojump_clock: trio.testing.MockClock) -> None:
    inner = MemoryStore()
    theirs = FaultyStore(inner)

    def wall() -> float:
        return 1e9 + trio.current_time()

    async with (
        open_tracker(inner, wall_clock=wall) as monitor,
        open_tracker(theirs, wall_clock=wall, flush_timeout=0) as owner,
    ):
        async with owner.session("a", PIPELINE) as session:
            with session.phase("search", total=9) as phase:
                phase.advance()
                seen = []
                for seconds in (5, 100, 0):
                    await trio.sleep(seconds)
                    if not seconds:
                        theirs.mode = "down"  # As if the process were gone.
                        await trio.sleep(50)
                    state = await monitor.snapshot("a")
                    assert state.heartbeat_at is not None
                    assert state.progressed_at is not None
                    silent = (state.heartbeat_at - state.progressed_at).total_seconds()
                    seen.append((state.liveness, silent))
    assert [liveness for liveness, _ in seen] == ["ok", "stalled", "lost"]
    assert seen[0][1] < 6
    assert seen[1][1] == seen[2][1] == pytest.approx(100, abs=11)


async def test_pain_20_what_an_earlier_run_has_done_is_not_in_the_rate(autojump_clock: trio.testing.MockClock) -> None:
    pipeline = Pipeline("crawl", ["fetch"])
    async with open_tracker() as tracker:
        async with tracker.session("a", pipeline) as session:
            with session.phase("fetch", total=1000) as phase:
                for _ in range(800):
                    phase.advance()
                    await trio.sleep(0.01)
                session.save(800)
                await session.flush()
                session.cancel()
                await trio.sleep(1)
        async with tracker.session("a", pipeline, resume="always") as session:
            with session.phase("fetch", total=1000) as phase:
                phase.skip(session.saved)
                for _ in range(20):
                    phase.advance()
                    await trio.sleep(1)
                shown = session.snapshot().phase("fetch")
                session.cancel()
                await trio.sleep(1)
    assert (shown.done, shown.total) == (820, 1000)
    assert shown.rate == pytest.approx(1, rel=0.1)
    assert shown.eta == pytest.approx(180, rel=0.1)


async def test_pain_21_without_a_terminal_there_are_plain_lines_at_a_slow_beat(
    autojump_clock: trio.testing.MockClock,
) -> None:
    log = io.StringIO()
    async with open_tracker() as tracker, open_display(tracker, file=log, interval=10):
        async with tracker.session("a", PIPELINE, title="nightly") as session:
            with session.phase("search", total=600) as phase:
                for _ in range(600):
                    phase.advance()
                    await trio.sleep(0.1)
    lines = log.getvalue().splitlines()
    assert 6 <= len(lines) <= 12
    assert all("nightly" in line and line.isprintable() for line in lines)
    assert "completed" in lines[-1]


def test_pain_22_a_token_travels_in_a_header_or_a_subprotocol_and_never_in_an_address() -> None:
    assert token_of({"authorization": "Bearer secret"}) == "secret"
    assert token_of({"sec-websocket-protocol": "trio-progress.v1, bearer.c2VjcmV0"}) == "secret"
    for url in ("ws://127.0.0.1:1/?token=secret", "ws://secret@127.0.0.1:1", "ws://127.0.0.1:1/#secret"):

        async def come(url: str = url) -> None:
            async with connect(url, "a"):
                pass

        with pytest.raises(ValueError, match="never in an address"):
            trio.run(come)
