"""`tracker.next_session()`: the oldest session that waits, for workers of one process and of several."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.support import PassingStore, logs_of
from trio_progress import (
    MemoryStore,
    PhaseError,
    PhaseSpec,
    Pipeline,
    ProgressTracker,
    SessionClosedError,
    SessionNotFoundError,
    Store,
    StoreError,
    open_tracker,
)
from trio_progress.stores.base import Claim, Claimed, Outcome, Stored, Write
from trio_progress.stores.taking import RESERVED_FOR, Release, Take, Taken
from trio_progress.testing import FaultyStore
from trio_progress.tracker import runtime_of

PIPELINE = Pipeline("import", [PhaseSpec("fetch", 3, title="Fetching", unit="rows", total=10), "load"])
LOST_AFTER = 30.0


async def declare(tracker: ProgressTracker, *ids: str, **given: Any) -> None:
    for session_id in ids:
        await tracker.declare(session_id, **given)
        await trio.sleep(0.001)  # Each is queued later than the one before.


async def next_id(tracker: ProgressTracker, **given: Any) -> str:
    """The next session, which completes at once."""
    async with tracker.next_session(**given) as session:
        return session.id


async def left_interrupted(tracker: ProgressTracker, **given: Any) -> str:
    """The next session, which this worker leaves half done."""
    with pytest.raises(KeyboardInterrupt):
        async with tracker.next_session(**given) as session:
            raise KeyboardInterrupt
    return session.id


@asynccontextmanager
async def processes(number: int) -> AsyncIterator[list[tuple[ProgressTracker, FaultyStore]]]:
    """Trackers that share what they keep, as processes do."""
    shared = MemoryStore()
    async with trio.open_nursery() as nursery:
        opened: list[tuple[ProgressTracker, FaultyStore]] = []

        async def process(task_status: trio.TaskStatus[None]) -> None:
            store = FaultyStore(shared)
            async with open_tracker(store, lost_after=LOST_AFTER) as tracker:
                opened.append((tracker, store))
                task_status.started()
                await trio.sleep_forever()

        for _ in range(number):
            await nursery.start(process)
        yield opened
        nursery.cancel_scope.cancel()


# Which one


async def test_the_oldest_comes_first_whatever_it_waits_as(autojump_clock: MockClock) -> None:
    async with processes(2) as [(tracker, _), (other, _)]:
        await declare(tracker, "a", "b", "c", "d")
        assert await left_interrupted(tracker) == "a"
        assert [await next_id(each) for each in (other, tracker, other, tracker)] == ["a", "b", "c", "d"]


async def test_it_is_of_the_pipelines_and_has_the_labels_that_are_asked_for(autojump_clock: MockClock) -> None:
    async with open_tracker() as tracker:
        await declare(tracker, "other", pipeline="other", labels={"user": "u1"})
        await declare(tracker, "named", pipeline="named", labels={"user": "u1"})
        await declare(tracker, "import", pipeline=PIPELINE, labels={"user": "u2", "team": "t"})
        assert await next_id(tracker, labels={"team": "t", "user": "u2"}) == "import"
        assert await next_id(tracker, pipeline=[PIPELINE, "named"]) == "named"
        assert await next_id(tracker, pipeline="other") == "other"


async def test_it_goes_on_from_what_the_attempt_before_has_left(autojump_clock: MockClock) -> None:
    async with open_tracker() as tracker:
        await declare(tracker, "a", pipeline=PIPELINE, title="An import", labels={"user": "u1"})
        with pytest.raises(KeyboardInterrupt):
            async with tracker.next_session(PIPELINE) as session:
                with session.phase("fetch"):
                    session.save({"row": 7})
                raise KeyboardInterrupt
        async with tracker.next_session(PIPELINE) as session:
            state = session.snapshot()
            assert (state.attempt, state.title, state.labels) == (2, "An import", {"user": "u1"})
            assert session.saved == {"row": 7}
            assert [phase.status for phase in state.phases] == ["completed", "pending"]


@pytest.mark.parametrize("again", [False, True])
async def test_without_a_pipeline_it_has_the_phases_that_it_was_declared_with(
    again: bool, autojump_clock: MockClock
) -> None:
    async with open_tracker() as tracker:
        await declare(tracker, "a", pipeline=PIPELINE)
        if again:
            await left_interrupted(tracker)
        async with tracker.next_session() as session:
            state = session.snapshot()
            assert [(one.name, one.title, one.weight, one.unit, one.total) for one in state.phases] == [
                ("fetch", "Fetching", 0.75, "rows", 10),
                ("load", "load", 0.25, None, None),
            ]
            assert state.pipeline == "import"
            if not again:
                with pytest.raises(PhaseError):
                    session.phase("unknown").__enter__()
            session.advance_to("load")


async def test_phases_that_come_as_they_are_entered_stay_so(autojump_clock: MockClock) -> None:
    async with open_tracker() as tracker:
        await declare(tracker, "a", pipeline="loose")
        with pytest.raises(KeyboardInterrupt):
            async with tracker.next_session() as session:
                with session.phase("first"):
                    pass
                raise KeyboardInterrupt
        async with tracker.next_session("loose") as session:
            assert [phase.name for phase in session.snapshot().phases] == ["first"]
            with session.phase("second"):
                pass


class TellingStore(PassingStore):
    """A store that tells what is stored of the sessions that it hands out.

    Args:
        inner: Where they are.
        declares: Declares the sessions anew that are named in `anew`, before it has told.
    """

    hands_out = True

    def __init__(self, inner: MemoryStore, declares: ProgressTracker) -> None:
        super().__init__(inner)
        self._declares = declares
        self.anew: set[str] = set()
        self.reads: list[str] = []

    async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        return [await self._told(each) if isinstance(each, Taken) else each for each in await super().commit(batch)]

    async def _told(self, taken: Taken) -> Taken:
        records: dict[str, bytes] = {}
        for chosen in taken.sessions:
            stored = await super().read(chosen.id)
            assert stored is not None
            records[chosen.id] = stored.record
            if chosen.id in self.anew:
                self.anew.remove(chosen.id)
                await self._declares.declare(chosen.id, title="anew")
        return replace(taken, records=records)

    async def read(self, session_id: str) -> Stored | None:
        self.reads.append(session_id)
        return await super().read(session_id)


@pytest.mark.parametrize("anew", [False, True])
async def test_what_the_store_tells_is_not_read_unless_somebody_has_written_since(
    anew: bool, autojump_clock: MockClock
) -> None:
    shared = MemoryStore()
    async with open_tracker(shared) as front:
        store = TellingStore(shared, front)
        async with open_tracker(store) as tracker:
            await declare(front, "a", title="declared", pipeline=PIPELINE, labels={"user": "u1"})
            store.anew |= {"a"} if anew else set()
            async with tracker.next_session() as session:
                state = session.snapshot()
            assert (state.title, len(state.phases)) == (("anew", 0) if anew else ("declared", 2))
            assert store.reads == ["a"] * anew


# Waiting


async def test_a_worker_waits_until_something_is_declared_and_is_woken(autojump_clock: MockClock) -> None:
    async with processes(2) as [(front, _), (worker, _)]:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def work() -> None:
                assert await next_id(worker) == "a"
                assert trio.current_time() - declared < 0.5, "it has looked again, and was not rung"

            await trio.sleep(100.05)
            declared = trio.current_time()
            await declare(front, "a")


async def test_without_waiting_it_says_that_there_is_none(autojump_clock: MockClock) -> None:
    async with open_tracker() as tracker:
        with pytest.raises(
            SessionNotFoundError, match=r"of the pipeline 'import' with the labels.*fewer than 2 times"
        ) as info:
            await next_id(tracker, pipeline=PIPELINE, labels={"user": "u1"}, wait=False, max_attempts=2)
        assert info.value.session_id == ""
        await declare(tracker, "a")
        assert await next_id(tracker, wait=False) == "a"


async def test_a_pool_of_tasks_asks_no_more_often_than_one(autojump_clock: MockClock) -> None:
    async def asked(tasks: int) -> int:
        async with processes(1) as [(tracker, store)], trio.open_nursery() as nursery:
            for _ in range(tasks):
                nursery.start_soon(next_id, tracker)
            await trio.sleep(3)
            store.commits.clear()
            await trio.sleep(60)
            takes = [write for _, _, batch in store.commits for write in batch]
            assert all(isinstance(write, Take) and write.wanted[0].count == tasks for write in takes)
            nursery.cancel_scope.cancel()
        return len(takes)

    assert 24 <= await asked(1) <= 41
    assert 24 <= await asked(50) <= 41


async def test_jobs_are_done_once_each_by_a_pool_in_each_of_several_processes(autojump_clock: MockClock) -> None:
    done: list[str] = []
    async with processes(3) as opened:
        names = [f"job-{number:02}" for number in range(40)]
        await declare(opened[0][0], *names)

        async def work(tracker: ProgressTracker) -> None:
            while True:
                async with tracker.next_session() as session:
                    done.append(session.id)
                    await trio.sleep(0.05)

        async with trio.open_nursery() as nursery:
            for tracker, _ in opened:
                for _ in range(3):
                    nursery.start_soon(work, tracker)
            await trio.sleep(5)
            nursery.cancel_scope.cancel()
        outcomes = [write for _, store in opened for _, _, batch in store.commits for write in batch]
    assert sorted(done) == names
    assert max(abs(names.index(name) - place) for place, name in enumerate(done)) <= 9
    claims = [write for write in outcomes if isinstance(write, Claim) and write.lease is not None]
    assert len(claims) == 40, "a claim was refused"


async def test_a_store_that_is_away_is_waited_for(autojump_clock: MockClock) -> None:
    async with processes(2) as [(front, _), (worker, store)]:
        store.mode = "down"
        with pytest.raises(StoreError):
            await next_id(worker, wait=False)
        await declare(front, "a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(next_id, worker)
            await trio.sleep(20)
            store.mode = "up"
        assert (await front.snapshot("a")).status == "completed"


# Cancelled, killed, left


async def test_cancelled_while_it_waits_the_store_forgets_it(autojump_clock: MockClock) -> None:
    async with processes(3) as [(front, _), (first, store), (second, _)]:
        with trio.move_on_after(1):
            await next_id(first)
        assert runtime_of(first).held()["takers"] == ()
        await wait_all_tasks_blocked()
        assert any(write == Release(write.id, leaves=True) for _, _, batch in store.commits for write in batch)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(next_id, second)
            await trio.sleep(10.05)
            declared = trio.current_time()
            await declare(front, "a")
        assert trio.current_time() - declared < 0.5, "the bell went to who has left"


@pytest.mark.parametrize("delay", [0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
async def test_cancelled_at_any_moment_nothing_stays_claimed_or_reserved(
    delay: float, autojump_clock: MockClock
) -> None:
    async with processes(2) as [(worker, store), (other, _)]:
        await declare(worker, "a")
        store.delay = 1.0
        begun = False
        with trio.move_on_after(delay):
            async with worker.next_session():
                begun = True
                await trio.sleep_forever()
        assert not begun
        store.delay = 0.0
        with trio.fail_after(4):  # What the call under way still brings is given back.
            assert await next_id(other) == "a"


async def test_a_worker_that_is_killed_costs_its_own_session_a_lease(autojump_clock: MockClock) -> None:
    async with processes(2) as [(worker, store), (other, _)]:
        await declare(worker, "a", "b")
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def dies() -> None:
                async with worker.next_session():
                    store.mode = "hang"  # Nothing of this process is heard of any more.
                    await trio.sleep_forever()

            await trio.sleep(0.5)
            begun = trio.current_time()
            assert await next_id(other) == "b"
            assert await next_id(other) == "a"
            assert LOST_AFTER - 1 < trio.current_time() - begun < LOST_AFTER + 3
            nursery.cancel_scope.cancel()
            store.mode = "up"


async def test_a_session_that_always_fails_its_worker_holds_up_no_other(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "trio_progress")
    begun: Counter[str] = Counter()
    async with open_tracker() as tracker:
        await declare(tracker, "bad", "good")
        for _ in range(3):
            begun[await left_interrupted(tracker)] += 1
        assert begun == {"bad": 3}
        assert await next_id(tracker) == "good"
        with pytest.raises(SessionNotFoundError):
            await next_id(tracker, wait=False)
        assert (await tracker.snapshot("bad")).status == "interrupted"
        left = [
            record.getMessage() for record in caplog.records if getattr(record, "event", "") == "session_left_waiting"
        ]
        assert left == [next(text for text in left if "'bad' was begun 3 times" in text)]
        assert await next_id(tracker, max_attempts=4) == "bad"


async def test_a_tracker_that_is_being_left_takes_none(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    refused: list[BaseException] = []

    async def wait(tracker: ProgressTracker) -> None:
        for _ in range(2):
            with pytest.raises(SessionClosedError) as info:
                await next_id(tracker)
            refused.append(info.value)

    async with trio.open_nursery() as nursery:
        async with open_tracker(store) as tracker:
            nursery.start_soon(wait, tracker)  # noqa: ASYNC111 - leaving the tracker ends it
            await trio.sleep(10)
    assert len(refused) == 2
    async with open_tracker(store) as other:
        await declare(other, "a")
        assert await next_id(other) == "a"


async def test_a_session_that_cannot_be_read_is_passed_over(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "trio_progress")
    store = MemoryStore()
    async with open_tracker(store) as tracker:
        await declare(tracker, "a")
        stored = await store.read("a")
        assert stored is not None
        (claim,) = [Claim("bad", 1, "x", b"{}", logs_of(store)["a"].index, None, 1e6)]
        assert isinstance((await store.commit([claim]))[0], Claimed)
        assert await next_id(tracker) == "a"
        with pytest.raises(SessionNotFoundError):
            await next_id(tracker, wait=False)
    assert [getattr(record, "event", "") for record in caplog.records].count("session_passed_over") == 1


async def test_one_that_is_still_being_left_here_is_waited_for(autojump_clock: MockClock) -> None:
    store = FaultyStore()
    async with open_tracker(store) as tracker, trio.open_nursery() as nursery:
        await declare(tracker, "a")
        nursery.start_soon(left_interrupted, tracker)
        await trio.sleep(1)
        assert await next_id(tracker) == "a"
        assert (await tracker.snapshot("a")).attempt == 2


# Other stores


class HandsNoneOut:
    """A store of somebody else, which knows nothing of that."""

    def __init__(self) -> None:
        store: Store = MemoryStore()
        self.commit, self.read, self.list, self.changes = store.commit, store.read, store.list, store.changes
        self.aclose = store.aclose


@pytest.mark.parametrize("kind", ["sqlite"])
async def test_the_other_stores_hand_out_as_well(kind: str, tmp_path: Path) -> None:
    url = f"{kind}:{tmp_path / 'store.db'}"
    done: list[str] = []
    async with open_tracker(url) as front, open_tracker(url) as worker:

        async def work() -> None:
            while len(done) < 3:
                with trio.move_on_after(1):
                    async with worker.next_session() as session:
                        done.append(session.id)

        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(work)
                await declare(front, "a", "b", "c")
    assert sorted(done) == ["a", "b", "c"]


async def test_a_store_that_hands_none_out_is_told_at_the_call() -> None:
    async with open_tracker(HandsNoneOut()) as tracker:
        with pytest.raises(TypeError, match="a HandsNoneOut does not"):
            tracker.next_session()


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"pipeline": []}, ValueError),
        ({"pipeline": [None, 3]}, TypeError),
        ({"pipeline": 7}, TypeError),
        ({"labels": {"": "x"}}, ValueError),
        ({"max_attempts": 0}, ValueError),
        ({"max_attempts": 101}, ValueError),
        ({"max_attempts": "3"}, ValueError),
    ],
)
async def test_bad_values_are_refused_at_the_call(given: dict[str, Any], error: type[Exception]) -> None:
    async with open_tracker() as tracker:
        with pytest.raises(error):
            tracker.next_session(**given)


def test_a_reservation_outlasts_the_claim() -> None:
    assert RESERVED_FOR >= 2 * 2.0
