"""Trackers that share a store: each tells its readers what the others' sessions do."""

from __future__ import annotations

import random

import pytest
import trio
import trio.testing

from tests.support import RecordingStore, Seeds, seeded_scheduler
from tests.unit.tracker.reading import Reader, plain
from trio_progress import (
    CustomEvent,
    End,
    FencedError,
    Gap,
    Limits,
    MemoryStore,
    Pipeline,
    ProgressTracker,
    SessionActiveError,
    SessionCompletedError,
    Snapshot,
    Subscribed,
    Update,
    open_tracker,
)

PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})


async def test_a_token_is_good_at_a_tracker_that_never_saw_its_state(autojump_clock: trio.testing.MockClock) -> None:
    shared = MemoryStore()
    async with open_tracker(shared, persist_interval=0.5) as owner, owner.session("a", PIPELINE) as session:
        states = []
        with session.phase("search", total=9) as phase:
            for number in range(6):
                session.emit("e", number)
                phase.advance()
                await trio.sleep(1)
                states.append(session.snapshot())
        with session.phase("analysis") as analysis, analysis.phase("part", total=3):
            pass
        await session.flush()
        for number, known in enumerate(states, 1):
            async with open_tracker(shared) as other, other.subscribe("a", since=known.resume) as messages:
                greeting, update, *events = [messages.take_nowait() for _ in range(2 + 6 - number)]
                assert isinstance(greeting, Subscribed)
                assert (greeting.recovered, greeting.reason) == (True, None)
                assert isinstance(update, Update)
                assert plain(update.apply(known)) == plain(session.snapshot())
                assert [event.n for event in events if isinstance(event, CustomEvent)] == list(range(number + 1, 7))
                with pytest.raises(trio.WouldBlock):
                    messages.take_nowait()
                session.increment("n")
                await session.flush()
                more = await anext(messages)
                assert isinstance(more, Update)
                assert more.phases == ()


async def test_a_token_from_before_phases_folded_is_too_old_for_a_tracker_that_did_not_see_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shared = MemoryStore()
    async with open_tracker(shared, limits=Limits(phases=4), persist_interval=0.5) as owner:
        async with owner.session("a") as session, open_tracker(shared) as other:
            with session.phase("work") as work:
                with work.phase("first"):
                    await session.flush()
                    known = session.snapshot()
                for number in range(10):
                    with work.phase(f"part {number}"):
                        await trio.sleep(1)
                await session.flush()
                async with other.subscribe("a", since=known.resume) as messages:
                    greeting, state = messages.take_nowait(), messages.take_nowait()
                assert isinstance(greeting, Subscribed)
                assert (greeting.recovered, greeting.reason) == (False, "too_old")
                assert isinstance(state, Snapshot)
                assert plain(state) == plain(session.snapshot())


async def test_who_was_told_more_elsewhere_is_shown_nothing_older_by_a_tracker_that_is_behind(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shared = MemoryStore()
    cut_off = RecordingStore(inner=shared)
    async with open_tracker(shared) as owner, open_tracker(cut_off) as behind, owner.session("a", PIPELINE) as session:
        async with behind.watch("a"):
            cut_off.mode = "down"
            with session.phase("search", total=9) as phase:
                phase.advance()
                session.emit("e")
                await session.flush()
                await trio.sleep(5)
                known = session.snapshot()
                async with behind.subscribe("a", since=known.resume) as messages:
                    greeting = messages.take_nowait()
                    assert isinstance(greeting, Subscribed)
                    assert greeting.recovered
                    await trio.sleep(5)
                    with pytest.raises(trio.WouldBlock):
                        messages.take_nowait()
                    cut_off.mode = "up"
                    phase.advance()
                    await session.flush()
                    newest = session.snapshot()
                    update = await anext(messages)
                    assert isinstance(update, Update)
                    assert update.from_ == known.seq
                    assert plain(update.apply(known)) == plain(newest)


async def test_phases_that_fold_between_two_stored_states_are_told_to_other_trackers(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shared = MemoryStore()
    limits = Limits(phases=4)
    async with open_tracker(shared, limits=limits, persist_interval=0.5) as owner, open_tracker(shared) as other:
        async with trio.open_nursery() as nursery:
            reader = Reader()
            nursery.start_soon(reader.read, other.subscribe("a", wait=True))
            await trio.testing.wait_all_tasks_blocked()
            async with owner.session("a") as session:
                with session.phase("work") as work:
                    for number in range(40):
                        with work.phase(f"part {number % 3}") as part:
                            part.advance()
                            await trio.sleep(0.3)
                        with work.phase(f"other {number % 7}") as part, part.phase("deep"):
                            pass
    assert reader.kinds.count("Update") > 5
    assert reader.kinds.count("Snapshot") == 1
    assert plain(reader.view) == plain(session.snapshot())


async def test_who_takes_over_a_lost_session_goes_on_and_everybody_follows(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shared = MemoryStore()
    cut_off = RecordingStore(inner=shared)
    async with (
        open_tracker(cut_off, lost_after=11) as first_owner,
        open_tracker(shared) as second_owner,
        open_tracker(shared) as third,
        trio.open_nursery() as nursery,
    ):
        reader = Reader()
        nursery.start_soon(reader.read, third.subscribe("a", wait=True))
        fenced: list[FencedError] = []

        async def lose() -> None:
            try:
                async with first_owner.session("a", PIPELINE) as session:
                    session.save({"page": 7})
                    with session.phase("search", total=3) as phase:
                        phase.advance(3)
                    session.emit("found", 1)
                    await session.flush()
                    cut_off.mode = "down"
                    await trio.sleep_forever()
            except FencedError as error:
                fenced.append(error)

        nursery.start_soon(lose)
        await trio.sleep(5)
        with pytest.raises(SessionActiveError):
            async with second_owner.session("a", PIPELINE, resume="interrupted"):
                pass
        await trio.sleep(20)
        assert (await third.snapshot("a")).status == "lost"
        async with second_owner.session("a", PIPELINE, resume="interrupted") as session:
            assert (session.attempt, session.saved) == (2, {"page": 7})
            assert session.phases["search"].status == "completed"
            cut_off.mode = "up"
            with session.phase("report"):
                session.emit("found", 2)
                await trio.sleep(30)
        with pytest.raises(SessionCompletedError):
            async with third.session("a", PIPELINE, resume="interrupted"):
                pass
    assert len(fenced) == 1
    greetings = [message for message in reader.messages if isinstance(message, Subscribed)]
    assert [greeting.recovered for greeting in greetings] == [False, False]
    assert isinstance(reader.messages[-1], End)
    assert reader.kinds.count("End") == 1
    assert plain(reader.view) == plain(session.snapshot())
    # The epoch is another one: its events are told anew, from the oldest that is retained.
    again = reader.messages[reader.messages.index(greetings[1]) :]
    assert [message.n for message in again if isinstance(message, CustomEvent)] == [1, 2]


def test_subscribers_anywhere_come_to_the_same_end_with_all_events(seeds: Seeds) -> None:
    async def main(rng: random.Random) -> None:
        shared = MemoryStore(event_limit=8)
        async with open_tracker(shared, event_limit=8, persist_interval=0.4) as owner, open_tracker(shared) as other:
            async with trio.open_nursery() as nursery:
                readers = {Reader(): rng.choice([owner, other]) for _ in range(4)}

                async def join(reader: Reader, tracker: ProgressTracker) -> None:
                    await trio.sleep(rng.random() * 4)
                    hz = rng.choice([None, 1.5, 20])
                    await reader.read(tracker.subscribe("a", wait=True, max_hz=hz))

                for reader, tracker in readers.items():
                    nursery.start_soon(join, reader, tracker)
                async with owner.session("a", PIPELINE) as session:
                    for name in ("search", "analysis", "report"):
                        with session.phase(name, total=8) as phase:
                            for _ in range(8):
                                phase.advance()
                                session.emit("e")
                                await trio.sleep(rng.choice([0, 0.01, 0.3]))
                    await trio.sleep(5)
        for reader in readers:
            assert plain(reader.view) == plain(session.snapshot())
            assert reader.kinds[0] == "Subscribed"
            assert reader.kinds.index("End") == len(reader.kinds) - 1
            expected = None
            for message in reader.messages:
                if isinstance(message, Gap) and expected is not None:
                    expected += message.dropped
                elif isinstance(message, CustomEvent):
                    assert expected in (None, message.n)
                    expected = message.n + 1
            assert expected == 25

    for seed in seeds(10, exhaustive=30):
        with seeded_scheduler(seed) as rng:
            trio.run(main, rng, clock=trio.testing.MockClock(autojump_threshold=0))
