"""Whoever follows a session gets every event or is told what is missing, and the newest state in any case."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import trio
import trio.testing

from tests.support import RecordingStore, Seeds, core_of, seeded_scheduler
from trio_progress import (
    CustomEvent,
    End,
    Gap,
    Pipeline,
    ProtocolError,
    Snapshot,
    Subscribed,
    Update,
    decode_message,
    encode_message,
    open_tracker,
)
from trio_progress.protocol.messages import Message, Position, resume_token

PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})


async def all_of(subscription: object) -> list[Message]:
    async with subscription as messages:  # type: ignore[attr-defined]
        return [message async for message in messages]


def test_events_arrive_once_and_in_order_or_a_gap_counts_them(seeds: Seeds) -> None:
    async def main(rng: random.Random) -> None:
        limit = rng.choice([1, 5, 50])
        got: list[int] = []
        missed = 0
        async with open_tracker(event_limit=limit) as tracker, trio.open_nursery() as nursery:

            async def follow() -> None:
                nonlocal missed
                since = None
                over = False
                while not over:
                    left = rng.randrange(1, 20)
                    async with tracker.subscribe("a", since=since, wait=True) as messages:
                        async for message in messages:
                            if isinstance(message, CustomEvent):
                                got.append(message.n)
                                assert message.data == {"n": message.n}
                            elif isinstance(message, Gap):
                                missed += message.dropped
                            over = over or isinstance(message, End)
                            since = messages.resume
                            left -= 1
                            if left == 0:
                                break
                            await trio.sleep(rng.random() * 0.1)

            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            async with tracker.session("a") as session:
                for number in range(1, 60):
                    session.emit("e", {"n": number})
                    await trio.sleep(rng.choice([0, 0, 0.02, 0.3]))
        assert got == sorted(set(got))
        assert len(got) + missed == 59
        assert tracker.statistics().events_dropped == missed

    for seed in seeds(8, exhaustive=200):
        with seeded_scheduler(seed) as rng:
            trio.run(main, rng, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_who_comes_late_is_given_the_retained_events_and_no_gap(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(event_limit=10) as tracker:
        async with tracker.session("a") as session:
            for number in range(25):
                session.emit("e", number)
        messages = await all_of(tracker.subscribe("a"))
    assert [message.n for message in messages if isinstance(message, CustomEvent)] == list(range(16, 26))
    assert [type(message).__name__ for message in messages][:2] == ["Subscribed", "Snapshot"]
    assert isinstance(messages[-1], End)
    assert not [message for message in messages if isinstance(message, Gap)]


async def test_a_token_goes_on_or_says_why_not(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a", PIPELINE) as session:
        with session.phase("search", total=5) as phase:
            phase.advance()
            first = session.snapshot()
            phase.advance()
            session.emit("e")
            epoch, seq, _ = Position.parse(first.resume)  # type: ignore[misc]
            reasons = {
                first.resume: (True, None),
                session.snapshot().resume: (True, None),
                resume_token(epoch + 1, seq, 0): (False, "epoch"),
                resume_token(epoch, seq + 1000, 0): (False, "too_old"),
                resume_token(epoch, 0, 0): (False, "too_old"),
                "": (False, "bad_token"),
                "x.y.z": (False, "bad_token"),
                "-1.0.0": (False, "bad_token"),
                "1" * 100: (False, "bad_token"),
            }
            for token, expected in reasons.items():
                async with tracker.subscribe("a", since=token) as messages:
                    greeting = messages.take_nowait()
                    assert isinstance(greeting, Subscribed)
                    assert (greeting.recovered, greeting.reason) == expected, token
                    if not greeting.recovered:
                        assert isinstance(messages.take_nowait(), Snapshot)
            async with tracker.subscribe("a", since=first.resume) as messages:
                messages.take_nowait()
                update = messages.take_nowait()
                assert isinstance(update, Update)
                assert update.from_ == first.seq
                assert [changed.path for changed in update.phases] == [("search",)]
                assert update.apply(first).resuming("") == session.snapshot().resuming("")
                assert isinstance(messages.take_nowait(), CustomEvent)
                with pytest.raises(trio.WouldBlock):
                    messages.take_nowait()


async def test_an_update_fits_onto_its_own_state_only(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a", PIPELINE) as session:
        first = session.snapshot()
        session.increment("n")
        second = session.snapshot()
        update = core_of(tracker, "a").state.update_since(first.seq, "")
        assert update.apply(first).counters == {"n": 1}
        with pytest.raises(ProtocolError, match="ask for a new snapshot"):
            update.apply(second)


async def test_what_an_update_says_nothing_of_is_handed_on_and_not_made_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("left alone") as alone, alone.phase("below"), session.phase("crawl") as crawl:
            with crawl.phase("site-1"), crawl.phase("site-2", total=5) as site:
                first = session.snapshot()
                site.advance()
                crawl.phase("site-3")
                newest = session.snapshot()
                after = core_of(tracker, "a").state.update_since(first.seq, "").apply(first)
    assert after.phases == newest.phases
    assert after.phases[0] is first.phases[0]
    assert after.phases[1].phases[0] is first.phases[1].phases[0]
    assert [phase.name for phase in after.phases[1].phases][:2] == ["site-1", "site-2"]
    assert after.phases[1].phases[1].done == 1


async def test_max_hz_holds_back_updates_but_not_the_end(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(broadcast_interval=0.01) as tracker, trio.open_nursery() as nursery:
        times: list[float] = []
        last: list[float] = []

        async def follow() -> None:
            async with tracker.subscribe("a", max_hz=2, wait=True) as messages:
                async for message in messages:
                    if isinstance(message, Update):
                        times.append(trio.current_time())
                    if isinstance(message, End):
                        last.append(trio.current_time())

        nursery.start_soon(follow)
        async with tracker.session("a") as session:
            for _ in range(500):
                session.increment("n")
                await trio.sleep(0.01)
            ended = trio.current_time()
    gaps = [after - before for before, after in pairwise(times[:-1])]
    assert len(times) in (10, 11, 12)
    assert min(gaps) >= 0.5 - 1e-9
    assert last == pytest.approx([ended])


async def test_a_burst_is_one_tick_and_a_slow_reader_holds_up_nobody(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, trio.open_nursery() as nursery:
        got: dict[str, list[tuple[float, int]]] = {"fast": [], "slow": []}

        async def follow(name: str, pause: float) -> None:
            async with tracker.subscribe("a", wait=True) as messages:
                async for message in messages:
                    if isinstance(message, Update):
                        got[name].append((round(trio.current_time(), 2), message.head.counters["n"]))  # type: ignore[arg-type]
                    await trio.sleep(pause)

        nursery.start_soon(follow, "fast", 0)
        nursery.start_soon(follow, "slow", 0.35)
        async with tracker.session("a") as session:
            for _ in range(4):
                await trio.sleep(0.5)
                for _ in range(10_000):
                    session.increment("n")
    assert [n for _, n in got["fast"]] == [10_000, 20_000, 30_000, 40_000, 40_000][: len(got["fast"])]
    assert [at for at, _ in got["fast"]][:3] == [0.5, 1.0, 1.5]
    assert got["slow"][-1][1] == 40_000
    assert tracker.statistics().states < 12


async def test_a_watcher_sees_merged_states_and_then_the_end(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(stall_after=5, heartbeat_interval=2) as tracker, trio.open_nursery() as nursery:
        seen: list[tuple[float, str, str]] = []

        async def follow() -> None:
            async with tracker.watch("a", wait=True) as snapshots:
                seen.extend([(one.progress, one.status, one.liveness) async for one in snapshots])

        nursery.start_soon(follow)
        async with tracker.session("a", PIPELINE) as session:
            with session.phase("search", total=2) as phase:
                phase.advance()
                await trio.sleep(8)
                phase.advance()
                await trio.sleep(1)
    assert ("stalled") in [liveness for _, _, liveness in seen]
    assert seen[-1] == (1.0, "completed", "ok")
    assert [progress for progress, _, _ in seen] == sorted(progress for progress, _, _ in seen)


async def test_all_sessions_can_be_watched_and_listed_by_label_and_status(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker, trio.open_nursery() as nursery:
        seen: dict[str, list[str]] = {}

        async def follow() -> None:
            async with tracker.watch_all(labels={"user": "u1"}) as snapshots:
                async for snapshot in snapshots:
                    seen.setdefault(snapshot.id, []).append(snapshot.status)

        await tracker.declare("queued", PIPELINE, labels={"user": "u1"}, title="later")
        nursery.start_soon(follow)
        await trio.testing.wait_all_tasks_blocked()

        async def run(number: int) -> None:
            async with tracker.session(f"s{number}", labels={"user": f"u{number % 2}"}) as session:
                session.increment("n")
                await trio.sleep(1 + number)

        async with trio.open_nursery() as sessions:
            for number in range(6):
                sessions.start_soon(run, number)
            await trio.sleep(3.5)
            running = await tracker.sessions(status="running")
            assert sorted(one.id for one in running) == ["s3", "s4", "s5"]
        assert sorted(seen) == ["queued", "s1", "s3", "s5"]
        assert seen["s3"][-1] == "completed"
        page = await tracker.sessions(limit=4)
        rest = await tracker.sessions(limit=4, cursor=page.cursor)
        assert len(page) == 4
        assert rest.cursor is None
        assert {one.id for one in [*page, *rest]} == {"queued", *(f"s{number}" for number in range(6))}
        assert [one.id for one in await tracker.sessions(labels={"user": "u1"}, status="queued")] == ["queued"]
        nursery.cancel_scope.cancel()


async def test_every_message_survives_its_encoding(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, trio.open_nursery() as nursery:
        messages: list[Message] = []

        async def follow() -> None:
            messages.extend(await all_of(tracker.subscribe("a", wait=True)))

        nursery.start_soon(follow)
        async with tracker.session("a", PIPELINE, labels={"user": "ü\u2028"}) as session:
            with session.phase("search", total=2) as phase, phase.phase("site") as site:
                await trio.sleep(12)
                site.advance()
                session.emit("e", {"deep": [1, 2.5, None, True, {"x": "y"}]})
                await trio.sleep(1)
    assert {type(message).__name__ for message in messages} == {
        "Subscribed", "Snapshot", "Update", "CustomEvent", "Bookmark", "End",
    }  # fmt: skip
    for message in messages:
        assert decode_message(encode_message(message)) == message
    for bad in (b"", b"{}", b"[]", b'{"type":"nothing"}', b'{"type":"gap"}', b"\xff", b'{"type":"end"', b"[" * 5000):
        with pytest.raises(ProtocolError):
            decode_message(bad)


async def test_the_statistics_agree_with_what_was_got(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore()
    async with open_tracker(store) as tracker, trio.open_nursery() as nursery:
        messages: list[Message] = []

        async def follow() -> None:
            messages.extend(await all_of(tracker.subscribe("a", wait=True)))

        nursery.start_soon(follow)
        async with tracker.session("a") as session:
            for _ in range(100):
                session.increment("n")
                await trio.sleep(0.03)
            assert tracker.statistics().subscribers == 1
        statistics = tracker.statistics()
    states = [message for message in messages if isinstance(message, (Snapshot, Update))]
    assert statistics.broadcasts == len(states)
    assert statistics.states == session.snapshot().seq
    assert statistics.persists == len(store.taken["a"])
    assert (statistics.sessions_begun, statistics.sessions_ended, statistics.sessions_open) == (1, 1, 0)
    assert states[0].seq + sum(1 for _ in states[1:]) + statistics.conflated == statistics.states


async def test_a_subscription_is_entered_once_and_by_async_with(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a"):
        subscription = tracker.subscribe("a")
        with pytest.raises(RuntimeError, match="enter it first"):
            aiter(subscription)
        with pytest.raises(TypeError, match="async with"):
            with subscription:  # type: ignore[attr-defined]
                pass
        async with subscription:
            pass
        with pytest.raises(RuntimeError, match="entered before"):
            async with subscription:
                pass
        with pytest.raises(trio.EndOfChannel):
            subscription.take_nowait()


async def test_who_watches_all_reads_the_ended_states_although_the_tracker_is_left(
    autojump_clock: trio.testing.MockClock,
) -> None:
    seen: list[str] = []
    async with trio.open_nursery() as outside:
        async with open_tracker() as tracker:

            async def follow() -> None:
                async with tracker.watch_all() as snapshots:
                    async for snapshot in snapshots:
                        seen.append(snapshot.status)
                        await trio.sleep(3)

            outside.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            async with tracker.session("a"):
                await trio.sleep(1)
    assert seen == ["running", "completed"]


async def test_counts_of_threads_that_came_before_the_phase_was_left_are_in_it() -> None:
    import threading

    async with open_tracker() as tracker, tracker.session("a", PIPELINE) as session:
        with session.phase("search") as phase:
            thread = threading.Thread(target=phase.from_thread().advance, args=(5,))
            thread.start()
            thread.join()
        analysis = session.advance_to("analysis")
        thread = threading.Thread(target=analysis.from_thread().advance, args=(7,))
        thread.start()
        thread.join()
        session.advance_to("report")
        assert (phase.done, analysis.done) == (5, 7)
        assert tracker.statistics().late == 0
