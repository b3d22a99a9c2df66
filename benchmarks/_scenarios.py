"""Our own scenarios for the explorer: what a session promises, under whatever schedule a seed makes.

Each is an async function without arguments that asserts. They are small, so that a thousand schedules are
a matter of seconds, and each has one subject. `python -m benchmarks explore` runs them as often as one
likes; tests/unit/scenarios/test_schedules.py runs them on every commit; `_mutants` breaks the package under them.
"""

from __future__ import annotations

import logging

import trio

from trio_progress import (
    MemoryStore,
    ProgressTracker,
    Session,
    SessionActiveError,
    SessionNotFoundError,
    StoreError,
    Subscribed,
    open_tracker,
)
from trio_progress.state.record import decode_record
from trio_progress.stores.base import Append
from trio_progress.testing import (
    FaultyStore,
    Subscriber,
    assert_progress,
    cancelled_somewhere,
    jitter,
    recorded,
    seeded_random,
)

from ._counts_scenario import counts_by_a_file
from ._following import (
    a_job_ends_while_its_store_is_down,
    followed_into_the_next_attempt,
    two_jobs_of_which_one_owns_the_part,
)
from ._owners import fenced_by_two_who_ask_again, two_owners_and_fencing
from ._scenario_parts import NAMES, PIPELINE, Scenario, count, nothing_left, same_state, stored
from ._taking import a_bell_reaches_somebody, workers_take_what_waits


async def one_session_two_workers() -> None:
    """The least that there is to explore: one session, one phase, two workers, one subscriber."""
    subscriber = Subscriber("a")
    async with open_tracker() as tracker, trio.open_nursery() as outside:
        outside.start_soon(subscriber.run, tracker)
        counted = {"search": 0}
        async with tracker.session("a", PIPELINE) as session:
            with session.phase("search", total=6):
                async with trio.open_nursery() as workers:
                    for _ in range(2):
                        workers.start_soon(count, session, "search", 3, counted)
    assert_progress(session, status="completed", phases={"search": (6, 6)})
    same_state(session.snapshot(), subscriber.view)
    nothing_left(tracker)


async def workers_on_overlapping_phases() -> None:
    """No count and no completion is lost; session, store and subscribers end up equal."""
    rng = seeded_random()
    store = FaultyStore(delay=rng.choice([0.0, 0.01]))
    counted = dict.fromkeys(NAMES, 0)
    subscribers = [Subscriber("a", delay=0.01), Subscriber("a", delay=0.2)]
    async with open_tracker(store) as tracker, trio.open_nursery() as outside:
        for subscriber in subscribers:
            outside.start_soon(subscriber.run, tracker)
        async with tracker.session("a", PIPELINE) as session, trio.open_nursery() as nursery:

            async def phase(name: str) -> None:
                await jitter(0.05)
                with session.phase(name, total=9):
                    async with trio.open_nursery() as workers:
                        for _ in range(2):
                            workers.start_soon(count, session, name, rng.randrange(1, 4), counted)

            for name in NAMES:
                nursery.start_soon(phase, name)
        final = session.snapshot()
    assert_progress(final, status="completed", progress=1.0, phases=dict.fromkeys(NAMES, "completed"))
    assert {name: final.phase(name).done for name in NAMES} == counted
    same_state(final, await stored(store), *(subscriber.view for subscriber in subscribers))
    assert all(subscriber.end is not None and subscriber.end.persisted_seq == final.seq for subscriber in subscribers)
    assert tracker.statistics().late == 0
    nothing_left(tracker)


async def hand_over_while_others_report() -> None:
    """The seed's first race: a worker reports a phase while the coordinator is on to the next."""
    async with open_tracker(broadcast_interval=0.001) as tracker:
        async with tracker.session("a", PIPELINE) as session:
            calls = 0

            async def straggler(name: str) -> None:
                nonlocal calls
                await jitter(0.02)
                session.phases[name].advance()
                session.advance_to(name)
                calls += 1

            with recorded(tracker, "a") as messages:
                async with trio.open_nursery() as nursery:
                    for name in NAMES:
                        session.advance_to(name)
                        for _ in range(2):
                            nursery.start_soon(straggler, name)
                        await jitter(0.02)
        final = session.snapshot()
    assert [(phase.status, phase.attempt) for phase in final.phases] == [("completed", 1)] * 3
    for state in messages.states("a"):
        assert sum(phase.status == "running" for phase in state.phases) <= 1, "a hand-over has left a phase open"
    assert sum(phase.done for phase in final.phases) + tracker.statistics().late >= calls == 6
    check = Subscriber("a")
    for message in messages:
        check.take(message)


async def concurrent_updates_of_one_session() -> None:
    """The seed's second race: tasks that update the same counters and fields at once."""
    async with open_tracker() as tracker:
        async with tracker.session("a", PIPELINE) as session:
            with session.phase("search", total=12) as phase:

                async def update(number: int) -> None:
                    for step in range(3):
                        session.increment("calls")
                        session.set(**{f"last_{number}": step})
                        phase.advance()
                        await jitter(0.05)

                async with trio.open_nursery() as nursery:
                    for number in range(4):
                        nursery.start_soon(update, number)
        final = session.snapshot()
    assert_progress(
        final, counters={"calls": 12}, fields={f"last_{number}": 2 for number in range(4)}, phases={"search": (12, 12)}
    )


async def start_and_cleanup_of_one_id() -> None:
    """The seed's third race: one id opened, cancelled and left by many tasks. One owner at a time, one end each."""
    rng = seeded_random()
    trouble = rng.choice([0.0, 0.4])
    store = FaultyStore(delay=0.001, seed=rng.randrange(2**32) if trouble else None, trouble=trouble)
    open_now = begun = 0
    async with open_tracker(store) as tracker, trio.open_nursery() as nursery:

        async def one(number: int) -> None:
            nonlocal open_now, begun
            await jitter(0.03)
            with trio.move_on_after(rng.random() * 0.03):
                try:
                    async with tracker.session("a") as session:
                        open_now += 1
                        begun += 1
                        assert open_now == 1, "two owners of one id"
                        try:
                            session.increment("n", number)
                            await jitter(0.02)
                        finally:
                            open_now -= 1
                except SessionActiveError:
                    pass
            if rng.random() < 0.4:
                try:
                    await tracker.cancel("a", "enough")
                except (SessionNotFoundError, StoreError):
                    pass

        async def calm() -> None:
            await trio.sleep(0.06)
            store.trouble = 0.0

        nursery.start_soon(calm)
        for number in range(6):
            nursery.start_soon(one, number)
    ends: dict[int, list[int]] = {}
    for _, mode, batch in store.commits:
        for write in batch:
            if isinstance(write, Append) and write.lease is None and mode != "down":
                ends.setdefault(write.key.epoch, []).append(write.key.seq)
    assert len(ends) >= begun, f"{begun} sessions had {len(ends)} ends"
    for epoch, seqs in ends.items():
        # Where an answer was lost the very same end may have been written again.
        assert len(set(seqs)) == 1, f"epoch {epoch} had different ends: {seqs}"
        assert len(seqs) == 1 or trouble, f"epoch {epoch} ended {len(seqs)} times"
    assert (await stored(store)).ended
    nothing_left(tracker)


async def subscribe_while_it_is_published() -> None:
    """The seed's fourth race: whoever subscribes between two states misses none, and gets none twice."""
    subscribers = [Subscriber("a", leaves_after=3, away=0.01), Subscriber("a"), Subscriber("a", delay=0.05)]
    async with open_tracker(broadcast_interval=0.01) as tracker, trio.open_nursery() as outside:
        async with tracker.session("a", PIPELINE) as session:

            async def late(subscriber: Subscriber) -> None:
                await jitter(0.06)
                await subscriber.run(tracker)

            for subscriber in subscribers:
                outside.start_soon(late, subscriber)
            for name in NAMES:
                with session.phase(name, total=1) as phase:
                    for n in range(3):
                        phase.advance()
                        session.emit("found", n)
                        await jitter(0.02)
                        phase.extend(2)  # The more one finds the more there is to do: the fraction must not fall.
        final = session.snapshot()
    same_state(final, *(subscriber.view for subscriber in subscribers))
    for subscriber in subscribers:
        assert [event.n for event in subscriber.events] == list(range(1, 10))


async def burst_and_debounce() -> None:
    """A burst is conflated, and its last update is never the one that is lost."""
    subscriber = Subscriber("a")
    store = FaultyStore()
    last = -1
    async with open_tracker(store, persist_interval=1.0) as tracker, trio.open_nursery() as outside:
        outside.start_soon(subscriber.run, tracker)
        async with tracker.session("a") as session:
            with session.phase("count", total=60) as phase:
                for burst in range(3):
                    for n in range(20):
                        phase.advance()
                        last = burst * 20 + n
                        session.set(last=last)
                    await jitter(0.3)
                # Quiet: what came last must have come through by now, long before the end.
                await trio.sleep(5)
                assert subscriber.view is not None
                assert subscriber.view.fields["last"] == last
                assert subscriber.view.phase("count").done == 60
                entry = await store.inner.read("a")
                assert entry is not None
                kept = decode_record("a", *entry.key, entry.record).state
                assert kept.fields["last"] == last
    assert subscriber.received < 30
    same_state(session.snapshot(), subscriber.view, await stored(store))


async def slow_and_dying_subscribers() -> None:
    """A slow, a stalled or a vanished subscriber changes nothing for the work; who resumes is not lied to."""
    slow = Subscriber("a", delay=0.4)
    stalls = Subscriber("a", stalls_after=3)
    comes_back = Subscriber("a", leaves_after=2, away=0.15)
    vanishes = Subscriber("a", leaves_after=4, away=None)
    async with open_tracker() as tracker, trio.open_nursery() as outside:
        for subscriber in (slow, stalls, comes_back, vanishes):
            outside.start_soon(subscriber.run, tracker)
        async with tracker.session("a", PIPELINE) as session:
            begun = trio.current_time()
            for name in NAMES:
                with session.phase(name, total=4) as phase:
                    for _ in range(4):
                        phase.advance()
                        await trio.sleep(0.1)
            # 1.2 seconds of its own, and less than one that the schedule injects; a slow subscriber would take 4.8.
            assert trio.current_time() - begun < 2.2, "a subscriber has slowed the work"
        stalls.resume_from()
        final = session.snapshot()
    same_state(final, slow.view, stalls.view, comes_back.view)
    assert all(subscriber.end is not None for subscriber in (slow, stalls, comes_back))
    assert vanishes.end is None
    resumed = [greeting for greeting in comes_back.greetings[1:] if greeting.recovered]
    assert all(isinstance(greeting, Subscribed) for greeting in resumed)
    nothing_left(tracker)


async def store_down_and_back() -> None:
    """The work does not notice; when the store is back it gets the newest state, and the end with it."""
    rng = seeded_random()
    store = FaultyStore(seed=rng.randrange(2**32), trouble=0.3)
    async with open_tracker(store, persist_interval=0.05) as tracker:
        async with tracker.session("a", PIPELINE) as session:
            for name in NAMES:
                store.mode = rng.choice(["up", "down", "lost", "hang"])
                with session.phase(name, total=3) as phase:
                    for _ in range(3):
                        phase.advance()
                        await jitter(0.3)
            store.mode, store.trouble = "up", 0.0
        final = session.snapshot()
        assert tracker.statistics().final_lost == 0
    same_state(final, await stored(store))
    nothing_left(tracker)


async def leaving_while_being_cancelled() -> None:
    """Wherever a cancel comes from and whenever: one end, stored, told to the subscriber, nothing left."""
    store = FaultyStore(delay=0.01)
    subscriber = Subscriber("a")
    session = None
    async with open_tracker(store) as tracker, trio.open_nursery() as outside:
        outside.start_soon(subscriber.run, tracker)
        with trio.CancelScope() as scope:
            outside.start_soon(cancel_soon, scope)  # noqa: ASYNC111 - to cancel a scope that was left does nothing
            async with tracker.session("a", PIPELINE) as session:
                with session.phase("search", total=5) as phase:
                    for _ in range(5):
                        phase.advance()
                        await jitter(0.03)
        if session is None:
            outside.cancel_scope.cancel()
    if session is not None:
        same_state(session.snapshot(), subscriber.view, await stored(store))
        assert session.status in ("completed", "cancelled")
        assert subscriber.end is not None
        assert subscriber.end.persisted_seq == session.snapshot().seq
    nothing_left(tracker)


async def one_session_left() -> None:
    """The least that there is to leave: for all orders with few deviations, a cancel at each step among them."""
    store = FaultyStore(delay=0.01)
    subscriber = Subscriber("a")
    opened: list[Session] = []
    async with open_tracker(store) as tracker, trio.open_nursery() as outside:
        outside.start_soon(subscriber.run, tracker)
        async with cancelled_somewhere(), tracker.session("a") as session:
            opened.append(session)
            session.increment("n")
        if not opened:
            outside.cancel_scope.cancel()
    for session in opened:
        same_state(session.snapshot(), subscriber.view, await stored(store))
        assert subscriber.end is not None
        assert subscriber.end.persisted_seq == session.snapshot().seq
    nothing_left(tracker)


async def cancel_soon(scope: trio.CancelScope) -> None:
    """Cancels at a moment that the seed decides."""
    await jitter(0.12)
    scope.cancel()


async def watched_from_another_process() -> None:
    """A tracker that shares the store sees a state that only rises, cancels it from there, and sees its end."""
    shared = MemoryStore()
    subscriber = Subscriber("a")
    async with open_tracker(FaultyStore(shared)) as owner, open_tracker(FaultyStore(shared)) as other:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(subscriber.run, other)
            async with owner.session("a", PIPELINE) as session:
                nursery.start_soon(cancel_from, other)
                for name in NAMES:
                    with session.phase(name, total=2) as phase:
                        phase.advance()
                        await trio.sleep(2.2)
        final = session.snapshot()
    assert final.status in ("cancelled", "completed")
    same_state(final, subscriber.view)


async def answer_again(store: FaultyStore) -> None:
    """Has the store's answers come through again."""
    await trio.sleep(0.3)
    store.mode = "up"


async def runs_that_teach() -> None:
    """Each run is learnt once, also where the store's answer to its end is lost; the bar only rises in all of them."""
    store = FaultyStore(MemoryStore())
    async with open_tracker(store) as tracker, trio.open_nursery() as nursery:
        for number in range(4):
            shown = 0.0
            async with tracker.session(f"s{number}", PIPELINE) as session:
                for name in NAMES[:2]:
                    with session.phase(name, total=3) as phase:
                        for done in range(3 + 6 * number):
                            await jitter(3.0)
                            phase.advance()
                            if done == 1:
                                phase.extend(
                                    6 * number
                                )  # There is more to do than it seemed: it should be further back.
                            bar = session.snapshot().progress
                            assert shown <= bar < 1, f"the bar is at {bar} after {shown}"
                            shown = bar
                try:
                    with session.phase("report"):
                        await jitter(9.0)
                        raise StoreError
                except StoreError:
                    pass
                store.mode = "lost"
                nursery.start_soon(answer_again, store)
            assert session.snapshot().progress == 1
        history = await tracker.history(PIPELINE.name)
    assert history is not None
    assert history.runs == 4, f"{history.runs} runs were learnt"
    assert set(history.phases) == {"search", "analysis"}, f"learnt of {list(history.phases)}"


async def cancel_from(tracker: ProgressTracker) -> None:
    """Asks the owner, by the store."""
    await jitter(10.0)
    try:
        await tracker.cancel("a", "from elsewhere")
    except SessionNotFoundError:
        pass


SCENARIOS: tuple[Scenario, ...] = (
    one_session_two_workers,
    workers_on_overlapping_phases,
    hand_over_while_others_report,
    concurrent_updates_of_one_session,
    start_and_cleanup_of_one_id,
    subscribe_while_it_is_published,
    burst_and_debounce,
    slow_and_dying_subscribers,
    store_down_and_back,
    two_owners_and_fencing,
    leaving_while_being_cancelled,
    watched_from_another_process,
    runs_that_teach,
    fenced_by_two_who_ask_again,
    counts_by_a_file,
    followed_into_the_next_attempt,
    two_jobs_of_which_one_owns_the_part,
    a_job_ends_while_its_store_is_down,
    workers_take_what_waits,
    a_bell_reaches_somebody,
)
"""All of them, by subject; the first is the one whose speed is watched."""


def quiet() -> None:
    """Stores that fail on purpose would fill the log."""
    logging.getLogger("trio_progress").setLevel(logging.CRITICAL)
