"""What is counted agrees with what subscribers and the store really got, under seeded schedules and faults."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing

from tests.support import RecordingStore, Seeds, seeded_scheduler
from trio_progress import (
    End,
    Gap,
    MemoryStore,
    PhaseSnapshot,
    Pipeline,
    ProgressTracker,
    Session,
    SessionClosedError,
    Snapshot,
    StoreError,
    TrackerStatistics,
    Update,
    open_tracker,
)
from trio_progress.protocol.messages import Message
from trio_progress.telemetry.statistics import (
    OTHER,
    PHASES,
    PIPELINES,
    BoundedLabels,
    Distribution,
    Histogram,
    PipelineMetrics,
)

RESEARCH = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})
IMPORT = Pipeline("import", ["fetch", "load"])


@dataclass
class Got:
    """What arrived where it was sent to."""

    messages: list[Message] = field(default_factory=list)
    watches: list[list[Snapshot]] = field(default_factory=list)
    ended: list[Snapshot] = field(default_factory=list)
    late: int = 0
    declared: int = 0


async def subscribe(tracker: ProgressTracker, session_id: str, got: Got, rng: random.Random) -> None:
    """Reads slowly, goes away in between, and comes back with its token or without."""
    since, over = None, False
    while not over:
        reads = rng.randrange(1, 20)
        pause = rng.choice([0, 0.03, 0.4, 2])
        try:
            async with tracker.subscribe(session_id, since=since, max_hz=rng.choice([None, 2]), wait=True) as messages:
                async for message in messages:
                    got.messages.append(message)
                    over = isinstance(message, End)
                    reads -= 1
                    if over or not reads:
                        break
                    await trio.sleep(pause)
            since = rng.choice([None, messages.resume])
        except StoreError:
            await trio.sleep(0.5)


async def watch(tracker: ProgressTracker, session_id: str, got: Got, rng: random.Random) -> None:
    seen: list[Snapshot] = []
    got.watches.append(seen)
    pause = rng.choice([0, 0.05, 0.7])
    try:
        async with tracker.watch(session_id, wait=True) as snapshots:
            async for snapshot in snapshots:
                seen.append(snapshot)
                await trio.sleep(pause)
    except StoreError:
        pass  # It was down when the watch began.


async def work(session: Session, got: Got, rng: random.Random) -> None:
    names = [spec.name for spec in session.pipeline] if session.pipeline is not None else ["a", "b", "c"]
    for name in names:
        with session.phase(name, total=20) as phase:
            for n in range(rng.randrange(1, 15)):
                phase.advance()
                if rng.random() < 0.3:
                    session.emit("found", n)
                if rng.random() < 0.2:
                    with phase.phase(f"site {n}") as site:
                        site.advance()
                await trio.sleep(rng.choice([0, 0.01, 0.1, 0.5]))
            if rng.random() < 0.1:
                raise ValueError("no luck")
        if rng.random() < 0.5:
            phase.advance()
            got.late += 1
        if rng.random() < 0.1:
            session.cancel()
        await trio.lowlevel.checkpoint()


async def run_one(
    tracker: ProgressTracker, session_id: str, pipeline: Pipeline | None, got: Got, rng: random.Random
) -> None:
    if rng.random() < 0.3:
        try:
            await tracker.declare(session_id, pipeline)
            got.declared += 1
        except StoreError:
            pass
    scope = tracker.session(session_id, pipeline)
    session = None
    try:
        async with scope as session:
            await work(session, got, rng)
    except ValueError:
        pass
    assert session is not None
    got.ended.append(session.snapshot())


async def trouble(store: RecordingStore, rng: random.Random) -> None:
    while True:
        await trio.sleep(rng.random() * 2)
        store.mode = "down"
        await trio.sleep(rng.random())
        store.mode = "up"


def wall() -> float:
    return 1e9 + trio.current_time()


async def scenario(store: RecordingStore, rng: random.Random) -> TrackerStatistics:
    got = Got()
    children = [random.Random(rng.random()) for _ in range(20)]
    limit = rng.choice([2, 1000])
    async with open_tracker(store, event_limit=limit, flush_timeout=60, wall_clock=wall) as tracker:
        async with trio.open_nursery() as nursery, trio.open_nursery() as readers:
            nursery.start_soon(trouble, store, children.pop())
            async with trio.open_nursery() as sessions:
                for number, pipeline in enumerate(rng.choices([RESEARCH, IMPORT, None], k=3)):
                    for _ in range(rng.randrange(0, 3)):
                        readers.start_soon(subscribe, tracker, f"s-{number}", got, children.pop())
                    readers.start_soon(watch, tracker, f"s-{number}", got, children.pop())
                    sessions.start_soon(run_one, tracker, f"s-{number}", pipeline, got, children.pop())
            await trio.sleep(10)
            readers.cancel_scope.cancel()  # Who came back without a token, to what has ended, waits for ever.
            nursery.cancel_scope.cancel()
        statistics = tracker.statistics()
    check_delivery(statistics, got)
    check_store(tracker.statistics(), got, store)
    check_sessions(statistics, got)
    return tracker.statistics()


def check_delivery(statistics: TrackerStatistics, got: Got) -> None:
    updates = [message for message in got.messages if isinstance(message, Update)]
    whole = sum(isinstance(message, Snapshot) for message in got.messages)
    pairs = [pair for seen in got.watches for pair in itertools.pairwise(seen)]
    steps = [(before, after) for before, after in pairs if before.epoch == after.epoch]
    assert statistics.broadcasts == len(updates) + whole + sum(map(len, got.watches))
    assert statistics.conflated == sum(update.seq - update.from_ - 1 for update in updates) + sum(
        max(after.seq - before.seq - 1, 0) for before, after in steps
    )
    assert statistics.delivery_lag.count == len(updates) + sum(after.seq > before.seq for before, after in steps)
    assert statistics.events_dropped == sum(message.dropped for message in got.messages if isinstance(message, Gap))
    assert statistics.late == got.late


def check_store(statistics: TrackerStatistics, got: Got, store: RecordingStore) -> None:
    taken = sum(map(len, store.taken.values()))
    assert statistics.persists == taken
    assert statistics.persists_coalesced == statistics.states - (taken - got.declared)
    assert statistics.persists_failed == store.unanswered
    assert statistics.persist_seconds.count == store.answered
    assert statistics.final_lost == 0


def check_sessions(statistics: TrackerStatistics, got: Got) -> None:
    assert statistics.states == sum(snapshot.seq for snapshot in got.ended)
    ended = Counter((snapshot.pipeline or OTHER, snapshot.status) for snapshot in got.ended)
    counted = {(name, status): n for name, row in statistics.ended.items() for status, n in row.items() if n}
    assert counted == ended
    took: dict[tuple[str, str], list[float]] = {}
    for snapshot in got.ended:
        for phase in snapshot.phases:
            name = phase.name if snapshot.pipeline else OTHER
            for label, found in ((name, phase), *((OTHER, child) for child in phase.phases)):
                if found.status == "completed":
                    took.setdefault((snapshot.pipeline or OTHER, label), []).append(seconds(found))
    for key, times in took.items():
        distribution = statistics.phase_seconds[key]
        assert distribution.count == len(times)
        assert distribution.sum == pytest.approx(sum(times), abs=1e-4)
    assert sum(found.count for found in statistics.phase_seconds.values()) == sum(map(len, took.values()))


def seconds(phase: PhaseSnapshot) -> float:
    assert phase.started_at is not None
    assert phase.ended_at is not None
    return (phase.ended_at - phase.started_at).total_seconds()


def test_the_counts_agree_with_what_subscribers_and_the_store_got(seeds: Seeds) -> None:
    runs: list[TrackerStatistics] = []
    for seed in seeds(15, exhaustive=100):
        store = RecordingStore(delay=random.Random(seed).choice([0, 0.01, 0.3]))
        with seeded_scheduler(seed) as rng:
            runs.append(trio.run(scenario, store, rng, clock=trio.testing.MockClock(autojump_threshold=0)))
    if len(runs) > 1:  # Every count was put to the test.
        for name in ("conflated", "events_dropped", "late", "persists_coalesced", "persists_failed"):
            assert sum(getattr(run, name) for run in runs) > 0, name


async def test_delivery_lag_is_the_age_of_what_a_subscriber_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        session.increment("n")
        await trio.sleep(100)
        async with tracker.subscribe("a") as messages:
            await anext(messages)
            await anext(messages)
            assert tracker.statistics().delivery_lag.count == 0, "nobody waited for the old state"
            session.increment("n")
            session.snapshot()
            await trio.sleep(0.7)
            await anext(messages)
            lag = tracker.statistics().delivery_lag
            assert lag.count == 1
            assert lag.sum == pytest.approx(0.7)
            assert lag.counts[lag.bounds.index(1.0)] == 1
            token = messages.resume
        session.increment("n")
        session.snapshot()
        await trio.sleep(50)
        async with tracker.subscribe("a", since=token) as messages:
            await anext(messages)
            await trio.sleep(0.2)
            assert isinstance(await anext(messages), Update)
        # Away for 50 s, but the tracker kept it waiting only since it came back.
        assert tracker.statistics().delivery_lag.sum == pytest.approx(0.9)


async def test_persist_lag_grows_while_the_store_does_not_answer(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore()
    async with open_tracker(store) as tracker, tracker.session("a") as session:
        for _ in range(50):
            session.increment("n")
            await trio.sleep(0.31)
            assert tracker.statistics().persist_lag == 0.0, "what the interval holds back does not lag"
        await trio.sleep(10)
        store.mode = "down"
        await trio.sleep(100)
        assert tracker.statistics().persist_lag == 0.0, "nothing waits to be stored"
        session.increment("n")
        await trio.sleep(7)
        session.increment("n")
        await trio.sleep(5)
        assert tracker.statistics().persist_lag == pytest.approx(12)
        store.mode = "up"
        await trio.sleep(2)
        assert tracker.statistics().persist_lag == 0.0


async def test_a_store_call_is_timed_once_however_many_it_writes(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore(delay=0.3)
    async with open_tracker(store) as tracker:
        async with trio.open_nursery() as nursery:

            async def one(name: str) -> None:
                async with tracker.session(name):
                    pass

            for number in range(20):
                nursery.start_soon(one, f"s-{number}")
        timed = tracker.statistics().persist_seconds
    assert timed.count == len(store.tries) < 20
    assert timed.sum == pytest.approx(0.3 * timed.count)


async def test_stalled_and_missing_sessions_are_counted(autojump_clock: trio.testing.MockClock) -> None:
    inner = MemoryStore()
    async with open_tracker(inner, stall_after=60, heartbeat_interval=5, lost_after=12) as tracker:
        async with tracker.session("a") as session:
            await trio.sleep(50)
            assert tracker.statistics().sessions_stalled == 0
            await trio.sleep(20)
            assert (tracker.statistics().sessions_open, tracker.statistics().sessions_stalled) == (1, 1)
            session.increment("n")
            session.snapshot()
            assert tracker.statistics().sessions_stalled == 0

        store = RecordingStore(inner=inner)
        with trio.CancelScope() as killed:
            async with open_tracker(store, heartbeat_interval=5, lost_after=12, flush_timeout=0) as other:
                async with other.session("b", RESEARCH):
                    store.mode = "hang"  # From here on nothing is heard of it, as if it had been killed.
                    killed.cancel()
                    await trio.sleep_forever()
        await trio.sleep(18)
        assert tracker.statistics().sessions_missing == 1
        await trio.sleep(20)
        statistics = tracker.statistics()
        assert (statistics.sessions_missing, statistics.sessions_lost) == (0, 1)
        assert statistics.ended[OTHER]["lost"] == 1, "no session of that pipeline has begun here"


def test_a_value_on_a_bound_falls_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.0, 1.0, 1.5, 2.0, 2.1, 1e9):
        histogram.observe(value)
    assert histogram.frozen().counts == (2, 2, 2)
    assert histogram.frozen().sum == pytest.approx(1e9 + 6.6)
    assert histogram.frozen().count == 6
    assert (histogram.frozen() + histogram.frozen()).counts == (4, 4, 4)
    with pytest.raises(ValueError, match="do not add up"):
        histogram.frozen() + Distribution((1.0,), (0, 0), 0.0)


def test_the_first_come_keep_their_place() -> None:
    places: BoundedLabels[str] = BoundedLabels(2)
    assert [places.has(key) for key in "abcacb"] == [True, True, False, True, False, True]


def test_a_pipelines_rows_are_there_from_its_first_session_on() -> None:
    ledger = PipelineMetrics()
    ledger.begin("research", (spec.name for spec in RESEARCH))
    assert set(ledger.ended) == {OTHER, "research"}
    assert set(ledger.ended["research"].values()) == {0}
    assert {phase for pipeline, phase in ledger.phase_seconds if pipeline == "research"} == {
        "search", "analysis", "report", OTHER,
    }  # fmt: skip


def test_pipelines_and_phases_beyond_the_bounds_share_a_row() -> None:
    ledger = PipelineMetrics()
    for number in range(5 * PIPELINES):
        pipeline = Pipeline(f"p-{number}", [f"phase-{phase}" for phase in range(10)])
        ledger.begin(pipeline.name, (spec.name for spec in pipeline))
        for spec in pipeline:
            ledger.phase(pipeline.name, spec.name, 1.0)
        ledger.phase(pipeline.name, None, 1.0)
        ledger.end(pipeline.name, "completed")
    ledger.phase("never begun", "x", 1.0)
    ledger.end("never begun", "failed")
    assert len(ledger.ended) == PIPELINES + 1
    assert len(ledger.phase_seconds) == PHASES + PIPELINES + 1
    assert sum(sum(row.values()) for row in ledger.ended.values()) == 5 * PIPELINES + 1
    assert sum(found.frozen().count for found in ledger.phase_seconds.values()) == 5 * PIPELINES * 11 + 1
    assert ledger.ended["p-0"]["completed"] == 1
    assert ledger.ended[OTHER]["completed"] == 4 * PIPELINES


@pytest.mark.parametrize("how", ["returns", "raises", "cancelled"])
async def test_who_waits_for_a_tracker_to_be_left_is_called_once_when_all_is_counted(
    how: str, autojump_clock: trio.testing.MockClock
) -> None:
    store = RecordingStore(delay=0.5)
    told: list[tuple[str, TrackerStatistics]] = []
    left: ProgressTracker | None = None
    with pytest.RaisesGroup(ValueError) if how == "raises" else trio.CancelScope() as scope:
        async with open_tracker(store) as tracker, trio.open_nursery() as nursery:
            left = tracker
            tracker.on_left(lambda: told.append(("first", tracker.statistics())))
            tracker.on_left(lambda: told.append(("second", tracker.statistics())))

            async def hold() -> None:
                async with tracker.session("a") as session:
                    session.increment("n")
                    await trio.sleep(5 if how == "returns" else 1000)

            nursery.start_soon(hold)
            await trio.sleep(3)
            if how == "raises":
                raise ValueError("x")
            if how == "cancelled":
                assert isinstance(scope, trio.CancelScope)
                scope.cancel()
            assert not told
    assert [name for name, _ in told] == ["second", "first"]
    for _, statistics in told:
        assert (statistics.sessions_open, statistics.sessions_ended) == (0, 1)
        assert statistics.persists == len(store.taken["a"])
        assert store.ends("a")
    assert left is not None
    with pytest.raises(SessionClosedError, match="has been left"):
        left.on_left(lambda: None)
