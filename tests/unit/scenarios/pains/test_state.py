"""The pains of what is shown and stored: too much of it, counts that are wrong, ends that look alike.

How the tests are numbered, and what stands elsewhere, says `test_delivery.py`.
"""

from __future__ import annotations

import io

import pytest
import trio
import trio.testing

from tests.support import Cases
from tests.unit.scenarios.pains.keeping import NAMES, kept, same
from trio_progress import (
    End,
    MemoryStore,
    Pipeline,
    connect,
    open_display,
    open_tracker,
)
from trio_progress.server.auth.authenticator import token_of
from trio_progress.testing import FaultyStore, Subscriber, explore, jitter, recorded

PIPELINE = Pipeline("research", dict(zip(NAMES, (3, 2, 1), strict=True)))


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


def test_pain_16_no_count_is_lost_whichever_workers_add_at_once(seed: int, cases: Cases) -> None:
    explore(workers_count_at_once, schedules=cases(12, exhaustive=60), seed=seed)


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
                assert session.snapshot().progress > 0.995
                assert repr(session) == "<Session 'a' running 99%>"
            assert repr(session) == "<Session 'a' completed 100%>"
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
