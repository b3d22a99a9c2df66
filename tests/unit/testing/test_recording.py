"""The doubles: they behave as what they stand for, and the assertions say what is wrong at a glance."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_progress import (
    CustomEvent,
    End,
    MemoryStore,
    Phase,
    Pipeline,
    Snapshot,
    StoreError,
    Subscribed,
    Update,
    encode_message,
    open_tracker,
)
from trio_progress.stores.base import Ask, Query
from trio_progress.testing import FaultyStore, Gates, Subscriber, assert_progress, explore, recorded
from trio_progress.tracker import runtime_of

PIPELINE = Pipeline("research", {"search": 3, "report": 1})
Clock = trio.testing.MockClock


async def work(phase: Phase, times: int) -> None:
    for _ in range(times):
        phase.advance()
        await trio.sleep(0.1)


# The faulty store


async def test_a_script_decides_commit_by_commit(autojump_clock: Clock) -> None:
    store = FaultyStore(script=["up", "down", "lost"])
    ask = Ask("a", "cancel")
    await store.commit([ask])
    with pytest.raises(StoreError, match="refused"):
        await store.commit([ask])
    with pytest.raises(StoreError, match="before the answer"):
        await store.commit([ask])
    await store.commit([ask])
    assert [mode for _, mode, _ in store.commits] == ["up", "down", "lost", "up"]
    changes = await store.changes("0", {})
    assert len(changes.asked) == 3, "the one whose answer was lost was made, the refused one was not"


async def test_a_store_that_hangs_goes_on_when_it_is_told_to(autojump_clock: Clock) -> None:
    store = FaultyStore(delay=0.5)
    store.mode = "hang"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.commit, [Ask("a", "cancel")])
        await trio.sleep(0.2)
        store.mode = "up"  # Before it has come as far as hanging.
    assert trio.current_time() == 0.5
    store.mode = "hang"
    with trio.move_on_after(100) as scope:
        await store.read("a")
    assert scope.cancelled_caught
    with pytest.RaisesGroup(StoreError):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(store.list, Query())
            await trio.sleep(1)
            store.mode = "down"


async def test_a_seed_draws_the_same_faults_again(autojump_clock: Clock) -> None:
    async def modes(seed: int) -> list[str]:
        store = FaultyStore(seed=seed, trouble=0.5)
        for _ in range(30):
            try:
                await store.commit([Ask("a", "cancel")])
            except StoreError:
                pass
        return [mode for _, mode, _ in store.commits]

    first = await modes(1)
    assert set(first) == {"up", "down", "lost"}
    assert await modes(1) == first != await modes(2)


async def test_a_session_outlives_each_kind_of_trouble(autojump_clock: Clock) -> None:
    for mode in ("down", "lost", "hang"):
        store = FaultyStore()
        async with open_tracker(store) as tracker, tracker.session("a", PIPELINE) as session:
            store.mode = mode
            with session.phase("search", total=3) as phase:
                await work(phase, 3)
            await trio.sleep(10)
            store.mode = "up"
        stored = await store.inner.read("a")
        assert stored is not None
        assert stored.key.seq == session.snapshot().seq


def test_a_mode_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="'up', 'down', 'hang' or 'lost'"):
        FaultyStore(script=["gone"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="'up', 'down', 'hang' or 'lost'"):
        FaultyStore().mode = "gone"  # type: ignore[assignment]


# Gates


async def test_the_world_stands_still_while_somebody_is_at_a_gate(autojump_clock: Clock) -> None:
    gates = Gates()
    steps: list[str] = []

    async def work() -> None:
        steps.append("before")
        await gates.point("middle")
        steps.append("after")

    async def other() -> None:
        await trio.lowlevel.checkpoint()
        steps.append("other")

    async with trio.open_nursery() as nursery:
        gates.close("middle")
        nursery.start_soon(work)
        nursery.start_soon(other)
        async with gates.stopped("middle"):
            assert sorted(steps) == ["before", "other"]
            assert gates.waiting("middle") == 1
            assert trio.current_time() == 0
    assert steps[-1] == "after"
    assert gates.waiting("middle") == 0
    await gates.point("middle")  # Open for whoever comes later.


async def test_a_gate_is_waited_for_until_somebody_comes_and_a_cancel_leaves_none_there(autojump_clock: Clock) -> None:
    gates = Gates()
    gates.close("end")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gates.point, "end")
        await gates.reached("end")
        nursery.cancel_scope.cancel()
    assert gates.waiting("end") == 0
    with trio.move_on_after(5) as scope:
        await gates.reached("end")
    assert scope.cancelled_caught, "who was cancelled does not stand there any more"


async def test_a_store_can_be_stopped_between_the_write_and_its_answer(autojump_clock: Clock) -> None:
    gates = Gates()
    store = FaultyStore(gates=gates)
    async with open_tracker(store) as tracker, trio.open_nursery() as nursery:

        async def run() -> None:
            async with tracker.session("a") as session:
                session.increment("n")

        nursery.start_soon(run)
        async with gates.stopped("committed"):
            assert await store.inner.read("a") is not None
            assert tracker.statistics().persists == 0


# Subscribers


async def test_subscribers_that_are_slow_stall_leave_or_vanish_come_to_the_same_state(autojump_clock: Clock) -> None:
    quick, slow = Subscriber("a"), Subscriber("a", delay=0.7)
    stalls, leaves = Subscriber("a", stalls_after=3), Subscriber("a", leaves_after=2, away=0.3)
    vanishes = Subscriber("a", leaves_after=2, away=None)
    async with open_tracker() as tracker, trio.open_nursery() as nursery:
        for subscriber in (quick, slow, stalls, leaves, vanishes):
            nursery.start_soon(subscriber.run, tracker)
        async with tracker.session("a", PIPELINE) as session:
            with session.phase("search", total=20) as phase:
                await work(phase, 20)
            session.emit("found", 1)
        assert stalls.received == 3
        assert stalls.end is None
        stalls.resume_from()
    final = session.snapshot().resuming("")
    for subscriber in (quick, slow, stalls, leaves):
        assert subscriber.view is not None
        assert subscriber.view.resuming("") == final
        assert [event.name for event in subscriber.events] == ["found"]
    assert slow.received < quick.received
    assert len(leaves.greetings) > 3
    # Once it comes back after the end, when only the last state is there any more.
    assert sum(not greeting.recovered for greeting in leaves.greetings[1:]) <= 1
    assert vanishes.received == 2
    assert vanishes.end is None


async def test_a_subscriber_refuses_what_cannot_be(autojump_clock: Clock) -> None:
    async with open_tracker() as tracker:
        with recorded(tracker) as messages:
            async with tracker.session("a", PIPELINE) as session:
                with session.phase("search", total=2) as phase:
                    await work(phase, 2)
                with session.phase("report"):
                    await trio.sleep(1)

    def fed(*given: object) -> None:
        subscriber = Subscriber("a")
        for message in given:
            subscriber.take(message)  # type: ignore[arg-type]

    fed(*messages)
    states = messages.states("a")
    cases = [
        ([states[-1], states[0]], "seq"),
        ([*messages, messages[-1]], "came after"),
        ([next(message for message in messages if isinstance(message, Update))], "before any snapshot"),
        ([messages[-1]], "before any state"),
    ]
    for given, said in cases:
        with pytest.raises(AssertionError, match=said):
            fed(*given)


# Recording


async def test_every_message_of_every_session_is_recorded_in_order(autojump_clock: Clock) -> None:
    async with open_tracker() as tracker:
        async with tracker.session("early") as early:
            with recorded(tracker) as messages, recorded(tracker, "b") as only:
                async with tracker.session("b", PIPELINE) as session:
                    with session.phase("search", total=3) as phase:
                        await work(phase, 3)
                    session.emit("found", {"n": 1})
                early.increment("n")
                await trio.sleep(1)
            early.increment("n")
        assert tracker.statistics().broadcasts == 0, "a recording is no subscriber"
        assert runtime_of(tracker).hub.topics == {}
    of = messages.of("b")
    assert of[1:] == only[1:]
    assert isinstance(of[0], Subscribed)
    assert isinstance(of[1], Snapshot)
    assert isinstance(of[-1], End)
    assert [event.name for event in of if isinstance(event, CustomEvent)] == ["found"]
    assert [state.phase("search").done for state in messages.states("b")][-1] == 3
    assert [state.seq for state in messages.states("b")] == sorted({state.seq for state in messages.states("b")})
    assert messages.states("early")[-1].counters == {"n": 1}
    for message in messages:
        encode_message(message)


async def test_a_recording_that_is_too_small_says_so(autojump_clock: Clock) -> None:
    async with open_tracker() as tracker:
        with pytest.raises(RuntimeError, match="more than limit=2"):
            with recorded(tracker, limit=2) as messages:
                async with tracker.session("a"):
                    await trio.sleep(1)
        assert len(messages) == 2
        with pytest.raises(ValueError, match="limit"):
            with recorded(tracker, limit=0):
                pass


def test_a_recording_misses_nothing_under_any_schedule(exhaustive: bool) -> None:
    async def scenario() -> None:
        async with open_tracker(FaultyStore(MemoryStore(), delay=0.01)) as tracker:
            with recorded(tracker, "a") as messages:
                async with tracker.session("a", PIPELINE) as session, trio.open_nursery() as nursery:
                    for name in ("search", "report"):
                        with session.phase(name, total=3) as phase:
                            nursery.start_soon(work, phase, 3)  # noqa: ASYNC111 - late updates are what is tested
                            await trio.sleep(0.15)
        check = Subscriber("a")
        for message in messages:
            check.take(message)
        assert check.view is not None
        assert check.view.resuming("") == session.snapshot().resuming("")

    explore(scenario, schedules=60 if exhaustive else 12)


# assert_progress


async def test_what_is_as_expected_passes_and_what_is_not_is_a_table(autojump_clock: Clock) -> None:
    async with open_tracker() as tracker, tracker.session("a", PIPELINE, labels={"user": "u1"}) as session:
        with session.phase("search", total=4) as phase:
            phase.advance(2)
            phase.set(cost=1.5)
            with phase.phase("site-1", total=1) as site:
                site.advance()
            session.increment("found", 2)
            assert_progress(
                session,
                status="running",
                counters={"found": 2},
                labels={"user": "u1"},
                phases={
                    "search": (2, 4),
                    "search/site-1": "completed",
                    "report": {"status": "pending", "fraction": 0.0},
                },
            )
            assert_progress(session.snapshot(), raw=session.snapshot().raw + 1e-12, message=None)
            with pytest.raises(AssertionError) as caught:
                assert_progress(
                    session,
                    status="completed",
                    counters={"found": 3, "lost": 1},
                    phases={"search": (4, 4), "review": "skipped", "report": {"status": "pending"}},
                )
    lines = str(caught.value).splitlines()
    assert lines[0] == "session 'a' is not as expected:"
    assert [line.split() for line in lines[1:]] == [
        ["expected", "is"],
        ["status", "'completed'", "'running'"],
        ["counters.found", "3", "2"],
        ["counters.lost", "1", "(there", "is", "none)"],
        ["search", "(4,", "4)", "(2,", "4)"],
        ["review", "'skipped'", "(there", "is", "none)"],
    ]


async def test_expectations_that_mean_nothing_are_refused(autojump_clock: Clock) -> None:
    async with open_tracker() as tracker, tracker.session("a", PIPELINE) as session:
        with pytest.raises(TypeError, match="a session has no 'stauts'"):
            assert_progress(session, stauts="running")
        with pytest.raises(TypeError, match="a phase has no 'sum'"):
            assert_progress(session, phases={"search": {"sum": 1}})
        with pytest.raises(TypeError, match=r"a status, .* or a mapping"):
            assert_progress(session, phases={"search": 3})
        with pytest.raises(TypeError, match="needs a Session or a Snapshot"):
            assert_progress("a", status="running")  # type: ignore[arg-type]
