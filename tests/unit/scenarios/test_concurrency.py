"""Many workers, overlapping phases, hand-overs, subscribers: no completion and no count is ever lost."""

from __future__ import annotations

import itertools
import random

import trio
import trio.testing

from tests.support import RecordingStore, Seeds, seeded_scheduler
from trio_progress import End, Pipeline, ProgressTracker, Snapshot, Update, open_tracker
from trio_progress.protocol.snapshot import PhaseSnapshot

NAMES = ("search", "credibility", "analysis", "synthesis", "review")
PIPELINE = Pipeline("research", {name: weight for weight, name in enumerate(NAMES, 1)})


def completed(phases: tuple[PhaseSnapshot, ...], above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for phase in phases:
        path = (*above, phase.name)
        if phase.status == "completed":
            found.add(path)
        found |= completed(phase.phases, path)
    return found


class Follower:
    """A subscriber that merges what it gets, slowly, and holds every state against the one before."""

    def __init__(self) -> None:
        self.view: Snapshot | None = None
        self.end: End | None = None

    async def follow(self, tracker: ProgressTracker, rng: random.Random) -> None:
        since = None
        while self.end is None:
            leaves_after = rng.randrange(1, 30)
            async with tracker.subscribe("a", since=since, wait=True) as messages:
                async for message in messages:
                    if isinstance(message, Snapshot):
                        self._see(message)
                    elif isinstance(message, Update):
                        assert self.view is not None
                        self._see(message.apply(self.view))
                    elif isinstance(message, End):
                        self.end = message
                    since = messages.resume
                    leaves_after -= 1
                    if not leaves_after and self.end is None:
                        break
                    await trio.sleep(rng.random() * 0.3)

    def _see(self, state: Snapshot) -> None:
        if self.view is not None:
            assert (state.epoch, state.seq) >= (self.view.epoch, self.view.seq)
            assert state.progress >= self.view.progress
            assert completed(state.phases) >= completed(self.view.phases)
        self.view = state


async def pipeline(store: RecordingStore, rng: random.Random) -> None:
    counted = dict.fromkeys(NAMES, 0)
    followers = [Follower() for _ in range(3)]
    async with open_tracker(store) as tracker, trio.open_nursery() as outside:
        for follower in followers:
            outside.start_soon(follower.follow, tracker, random.Random(rng.random()))
        async with tracker.session("a", PIPELINE) as session, trio.open_nursery() as nursery:

            async def worker(name: str) -> None:
                for _ in range(rng.randrange(1, 8)):
                    n = rng.randrange(1, 4)
                    session.phases[name].advance(n)
                    counted[name] += n
                    session.increment("calls")
                    await trio.sleep(rng.choice([0, 0.001, 0.05, 0.2]))

            async def phase(name: str, overlap: float) -> None:
                await trio.sleep(overlap)
                with session.phase(name, total=50) as part:
                    async with trio.open_nursery() as workers:
                        for _ in range(rng.randrange(1, 5)):
                            workers.start_soon(worker, name)
                        with part.phase("sub") as sub:
                            sub.advance()
                            await trio.sleep(rng.random() * 0.1)

            for name in NAMES:
                nursery.start_soon(phase, name, rng.random() * 0.5)
        final = session.snapshot()
    assert {name: final.phase(name).done for name in NAMES} == counted
    assert completed(final.phases) == {(name,) for name in NAMES} | {(name, "sub") for name in NAMES}
    assert final.progress == 1.0
    stored = store.taken["a"]
    assert [state.progress for _, state in stored] == sorted(state.progress for _, state in stored)
    for (_, before), (_, after) in itertools.pairwise(stored):
        assert completed(after.phases) >= completed(before.phases)
    for view in (stored[-1][1], *(follower.view for follower in followers)):
        assert view is not None
        assert view.resuming("") == final.resuming("")
    for follower in followers:
        assert follower.end is not None
        assert follower.end.persisted_seq == final.seq
    statistics = tracker.statistics()
    assert statistics.persists == len(stored)
    assert statistics.late == statistics.events_dropped == statistics.final_lost == 0


def test_workers_on_overlapping_phases_lose_no_completion_and_no_count(seeds: Seeds) -> None:
    for seed in seeds(15, exhaustive=300):
        store = RecordingStore(delay=random.Random(seed).choice([0, 0.01, 0.3]))
        with seeded_scheduler(seed) as rng:
            trio.run(pipeline, store, rng, clock=trio.testing.MockClock(autojump_threshold=0))


async def hand_over(store: RecordingStore, rng: random.Random) -> None:
    """The seed's first race: workers report a phase while the coordinator is on to the next one."""
    async with open_tracker(store) as tracker:
        async with tracker.session("a", PIPELINE) as session:

            async def straggler(name: str) -> None:
                await trio.sleep(rng.random() * 0.02)
                session.phases[name].advance()
                session.advance_to(name)

            async with trio.open_nursery() as nursery:
                for name in NAMES:
                    session.advance_to(name)
                    for _ in range(3):
                        nursery.start_soon(straggler, name)
                    await trio.sleep(rng.random() * 0.02)
        final = session.snapshot()
    assert [phase.status for phase in final.phases] == ["completed"] * len(NAMES)
    assert sum(phase.done for phase in final.phases) + tracker.statistics().late >= 3 * len(NAMES)


def test_a_hand_over_records_every_phase_whoever_reports_meanwhile(seeds: Seeds) -> None:
    for seed in seeds(15, exhaustive=300):
        with seeded_scheduler(seed) as rng:
            trio.run(hand_over, RecordingStore(0.001), rng, clock=trio.testing.MockClock(autojump_threshold=0))
