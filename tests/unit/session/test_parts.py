"""A session that follows others: each is one child phase, until it has completed, whichever process runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from trio_progress import (
    MemoryStore,
    NullPhase,
    PhaseError,
    PhaseSnapshot,
    Pipeline,
    ProgressTracker,
    SessionEndedError,
    SessionNotFoundError,
    Snapshot,
    current_session,
    open_tracker,
)
from trio_progress.stores.base import Append
from trio_progress.testing import FaultyStore

PIPELINE = Pipeline("shard", {"fetch": 1, "load": 3})


@asynccontextmanager
async def two_processes(**settings: float) -> AsyncIterator[tuple[ProgressTracker, ProgressTracker]]:
    """Two trackers on one store, as two processes have them: one for the job, one for its parts."""
    store = MemoryStore()
    async with open_tracker(store, **settings) as first, open_tracker(store, **settings) as second:  # type: ignore[arg-type]
        yield first, second


async def work(tracker: ProgressTracker, session_id: str, files: int, each: float = 1.0) -> None:
    async with tracker.session(session_id, title=f"Shard {session_id}") as session:
        with session.phase("files", total=files, unit="files") as phase:
            for number in range(files):
                await trio.sleep(each)
                phase.update(message=f"file {number}")
                phase.advance()


def part(job: Snapshot, name: str) -> PhaseSnapshot:
    return job.phase("shards", name)


@pytest.mark.parametrize("same", [False, True], ids=["two processes", "one process"])
async def test_a_followed_session_is_one_phase_that_is_as_far_as_it_is_and_ends_with_it(
    same: bool, autojump_clock: MockClock
) -> None:
    async with two_processes() as (tracker, other), trio.open_nursery() as nursery:
        began = trio.current_time()
        nursery.start_soon(work, tracker if same else other, "s-1", 20)
        async with tracker.session("job") as session:
            with session.phase("shards", total=1) as phase:
                ended: list[Snapshot] = []

                async def follow() -> None:
                    ended.append(await phase.follow("s-1"))

                async with trio.open_nursery() as inside:
                    inside.start_soon(follow)
                    await trio.sleep(8.3)
                    seen = part(session.snapshot(), "s-1")
                    assert (seen.status, seen.title, seen.unit, seen.total) == ("running", "Shard s-1", "files", 20)
                    assert 6 <= seen.done <= 8
                    assert seen.fraction == pytest.approx(seen.done / 20)
                    assert seen.phases == ()
                    assert seen.follows is not None
                    assert (seen.follows.id, seen.follows.status, seen.follows.attempt) == ("s-1", "running", 1)
                    assert seen.eta == pytest.approx(11.7, abs=1)
                    assert session.snapshot().eta == pytest.approx(11.7, abs=1)
                    assert session.snapshot().progress == pytest.approx(seen.done / 20)
                assert trio.current_time() - began == pytest.approx(20, abs=0.2)
        (last,) = ended
        assert (last.id, last.status, last.progress) == ("s-1", "completed", 1.0)
        assert part(session.snapshot(), "s-1").status == "completed"


async def test_of_several_phases_only_the_bar_is_shown_and_weights_count_as_everywhere(
    autojump_clock: MockClock,
) -> None:
    async with two_processes() as (tracker, other):

        async def shard() -> None:
            async with other.session("s-1", PIPELINE) as session:
                with session.phase("fetch", total=2) as phase:
                    phase.advance()
                    session.update(message="fetching")
                    await trio.sleep(10)

        async with trio.open_nursery() as nursery, tracker.session("job") as session:
            nursery.start_soon(shard)
            with session.phase("shards") as phase:
                nursery.start_soon(partial(phase.follow, "s-1", weight=3, title="The shard"))  # noqa: ASYNC111 - over before
                with phase.phase("own"):
                    await trio.sleep(5)
                    seen = part(session.snapshot(), "s-1")
                    assert (seen.done, seen.total, seen.fraction) == (0, None, 0.125)
                    assert (seen.title, seen.message, seen.weight) == ("The shard", "fetching", 3)
                await trio.sleep(6)


async def test_what_a_session_had_when_following_began_is_passed_over_and_not_in_the_rate(
    autojump_clock: MockClock,
) -> None:
    async with two_processes() as (tracker, other), trio.open_nursery() as nursery:
        nursery.start_soon(work, other, "s-1", 40)
        await trio.sleep(20)
        async with tracker.session("job") as session:
            with session.phase("shards", total=1) as phase:
                nursery.start_soon(phase.follow, "s-1")  # noqa: ASYNC111 - over before
                await trio.sleep(10.5)
                seen = part(session.snapshot(), "s-1")
                assert 18 <= seen.skipped <= 20
                assert seen.rate == pytest.approx(1.0, rel=0.25)
                await trio.sleep(12)


async def test_one_that_is_not_there_yet_is_waited_for_and_one_that_is_queued(autojump_clock: MockClock) -> None:
    async with two_processes() as (tracker, other), trio.open_nursery() as nursery:
        async with tracker.session("job") as session:
            with session.phase("shards", total=1) as phase:
                nursery.start_soon(phase.follow, "s-1")  # noqa: ASYNC111 - over before
                await trio.sleep(5)
                assert part(session.snapshot(), "s-1").message == "waits until it is declared or begun"
                await other.declare("s-1", title="First")
                await trio.sleep(1)
                seen = part(session.snapshot(), "s-1")
                assert (seen.message, seen.title) == ("queued", "First")
                await work(other, "s-1", 3)
                await trio.sleep(1)
                assert part(session.snapshot(), "s-1").status == "completed"


async def test_an_owner_that_dies_is_waited_for_and_its_successor_followed(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    dying = FaultyStore(store)
    settings = {"lost_after": 3.0, "heartbeat_interval": 1.0, "persist_interval": 0.5}
    async with open_tracker(store, **settings) as tracker, trio.open_nursery() as nursery:  # type: ignore[arg-type]

        async def dies() -> None:
            async with open_tracker(dying, **settings) as other:  # type: ignore[arg-type]
                async with other.session("s-1") as session:
                    with session.phase("files", total=10) as phase:
                        phase.advance(4)
                        await trio.sleep(2)
                        dying.mode = "down"
                        await trio.sleep(60)

        nursery.start_soon(dies)
        async with tracker.session("job") as session:
            with session.phase("shards", total=1) as phase:
                async with trio.open_nursery() as inside:
                    inside.start_soon(phase.follow, "s-1")
                    await trio.sleep(6)
                    seen = part(session.snapshot(), "s-1")
                    assert seen.message == "lost: waits until it is gone on with"
                    assert seen.follows is not None
                    assert seen.follows.status == "lost"
                    await trio.sleep(10)  # Written off by now.
                    assert (await tracker.snapshot("s-1")).status == "lost"
                    async with open_tracker(store, **settings) as other:  # type: ignore[arg-type]
                        async with other.session("s-1", resume="interrupted") as again:
                            with again.phase("files", total=10) as files:
                                files.advance(7)
                                await trio.sleep(3)
                                seen = part(session.snapshot(), "s-1")
                                assert (seen.done, seen.message) == (7, None)
                                assert seen.follows is not None
                                assert seen.follows.attempt == 2
        assert session.status == "completed"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("same", [False, True], ids=["two processes", "one process"])
async def test_one_that_is_interrupted_is_followed_into_each_of_its_attempts(
    same: bool, autojump_clock: MockClock
) -> None:
    async with two_processes(persist_interval=0.5) as (tracker, other), trio.open_nursery() as nursery:
        owner = tracker if same else other
        async with tracker.session("job") as session:
            with session.phase("shards", total=1) as phase:
                nursery.start_soon(phase.follow, "s-1")  # noqa: ASYNC111 - over before
                for attempt in range(3):
                    with suppress(KeyboardInterrupt):
                        async with owner.session("s-1", resume="interrupted") as shard:
                            with shard.phase("files", total=10) as files:
                                files.advance(attempt)
                                await trio.sleep(2)
                                seen = part(session.snapshot(), "s-1")
                                assert seen.follows is not None
                                assert (seen.done, seen.follows.attempt) == (attempt, attempt + 1)
                                if attempt < 2:
                                    raise KeyboardInterrupt
                    await trio.sleep(2)
                    waits = None if attempt == 2 else "interrupted: waits until it is gone on with"
                    assert part(session.snapshot(), "s-1").message == waits
                assert part(session.snapshot(), "s-1").status == "completed"


@pytest.mark.parametrize(("end", "status"), [("fail", "failed"), ("cancel", "cancelled"), ("time out", "timed_out")])
async def test_one_that_has_not_completed_raises_and_its_phase_fails(
    end: str, status: str, autojump_clock: MockClock
) -> None:
    async with two_processes() as (tracker, other), trio.open_nursery() as nursery:

        async def shard() -> None:
            with trio.move_on_after(2 if end == "time out" else 100):
                async with other.session("s-1") as session:
                    await trio.sleep(1)
                    if end == "fail":
                        session.fail("no disk")
                    elif end == "cancel":
                        session.cancel("no longer wanted")
                        await trio.sleep(1)
                    else:
                        await trio.sleep(10)

        nursery.start_soon(shard)
        async with tracker.session("job") as session:
            with session.phase("shards") as phase:
                with pytest.raises(SessionEndedError, match=r"the followed session 's-1' (has|was) ") as raised:
                    await phase.follow("s-1")
                assert (raised.value.session_id, raised.value.status) == ("s-1", status)
                assert part(session.snapshot(), "s-1").status == "failed"


@pytest.mark.parametrize("stands", ["queued", "interrupted"])
async def test_one_that_is_deleted_raises(stands: str, autojump_clock: MockClock) -> None:
    async with two_processes() as (tracker, other), trio.open_nursery() as nursery:
        if stands == "queued":
            await other.declare("s-1")
        else:
            with pytest.raises(KeyboardInterrupt):
                async with other.session("s-1"):
                    raise KeyboardInterrupt
        async with tracker.session("job") as session:
            with session.phase("shards") as phase:

                async def delete() -> None:
                    await trio.sleep(5)
                    await other.delete("s-1")

                nursery.start_soon(delete)
                with pytest.raises(SessionNotFoundError), trio.fail_after(7):
                    await phase.follow("s-1")


@pytest.mark.parametrize("stored", [True, False])
async def test_a_job_that_goes_on_does_not_wait_again_for_what_had_completed(
    stored: bool, autojump_clock: MockClock
) -> None:
    async with two_processes() as (tracker, other):
        async with other.session("s-1") as shard:
            shard.set_result({"rows": 7})
        with pytest.raises(KeyboardInterrupt):
            async with tracker.session("job") as session:
                with session.phase("shards", total=2) as phase:
                    await phase.follow("s-1")
                    raise KeyboardInterrupt
        if not stored:
            await other.delete("s-1")
        async with tracker.session("job", resume="interrupted") as session:
            with session.phase("shards", total=2) as phase:
                with trio.fail_after(0.001):
                    last = await phase.follow("s-1")
                assert (last.id, last.status, last.progress) == ("s-1", "completed", 1.0)
                assert last.result == ({"rows": 7} if stored else None)
                assert part(session.snapshot(), "s-1").attempt == 1


@pytest.mark.parametrize("links", [1, 2, 3])
@pytest.mark.parametrize("same", [False, True], ids=["processes", "one process"])
async def test_a_circle_is_an_error_also_where_all_begin_at_once(
    links: int, same: bool, autojump_clock: MockClock
) -> None:
    store = MemoryStore()
    raised: list[str] = []

    async def link(tracker: ProgressTracker, number: int) -> None:
        async with tracker.session(f"s-{number}") as session:
            with session.phase("next") as phase:
                try:
                    await phase.follow(f"s-{(number + 1) % links}")
                except PhaseError as error:
                    raised.append(str(error))
                except SessionEndedError:
                    pass

    with trio.fail_after(30):
        async with open_tracker(store) as one, trio.open_nursery() as nursery:
            for number in range(links):
                tracker = one if same else await others(nursery, store)
                nursery.start_soon(link, tracker, number)
            await trio.sleep(20)
            nursery.cancel_scope.cancel()
    assert raised
    assert all("cannot follow" in text for text in raised)


async def others(nursery: trio.Nursery, store: MemoryStore) -> ProgressTracker:
    async def opened(task_status: trio.TaskStatus[ProgressTracker]) -> None:
        async with open_tracker(store) as tracker:
            task_status.started(tracker)
            await trio.sleep_forever()

    tracker: ProgressTracker = await nursery.start(opened)
    return tracker


def appends(store: FaultyStore) -> int:
    """How many states were stored through it."""
    return sum(isinstance(write, Append) for _, _, batch in store.commits for write in batch)


@pytest.mark.parametrize("watched", [False, True])
async def test_a_followed_session_is_stored_more_often_only_while_the_job_is_watched(
    watched: bool, autojump_clock: MockClock
) -> None:
    shared = MemoryStore()
    store = FaultyStore(shared)
    async with open_tracker(shared) as tracker, open_tracker(store) as owner, trio.open_nursery() as nursery:
        nursery.start_soon(work, owner, "s-1", 200, 0.1)

        async def look() -> None:
            async with tracker.watch("job") as snapshots:
                async for _ in snapshots:
                    pass

        async with tracker.session("job") as session:
            with session.phase("shards", total=1) as phase:
                async with trio.open_nursery() as inside:
                    inside.start_soon(phase.follow, "s-1")
                    await trio.sleep(1)
                    before = appends(store)
                    if watched:
                        inside.start_soon(look)
                    await trio.sleep(10)
                    often = appends(store) - before
                    inside.cancel_scope.cancel()
        nursery.cancel_scope.cancel()
    assert (often > 60) if watched else (often <= 6)


async def test_who_watches_a_job_while_it_looks_up_its_part_has_that_stored_at_that_pace(
    autojump_clock: MockClock,
) -> None:
    shared = MemoryStore()
    store = FaultyStore(shared)
    slow = FaultyStore(shared, delay=1)
    async with open_tracker(slow) as tracker, open_tracker(store) as owner, trio.open_nursery() as nursery:
        nursery.start_soon(work, owner, "s-1", 200, 0.1)
        async with tracker.session("job") as session:
            with session.phase("shards", total=1) as phase:
                nursery.start_soon(phase.follow, "s-1")  # noqa: ASYNC111 - over before
                await trio.sleep(0.5)
                async with tracker.watch("job") as snapshots:
                    with trio.move_on_after(10):
                        async for _ in snapshots:
                            pass
                assert appends(store) > 60
                nursery.cancel_scope.cancel()


async def test_who_watches_a_job_of_another_process_makes_its_parts_be_stored_at_that_pace_and_no_longer(
    autojump_clock: MockClock,
) -> None:
    shared = MemoryStore()
    store = FaultyStore(shared)
    async with open_tracker(shared) as tracker, open_tracker(store) as owner, trio.open_nursery() as nursery:
        nursery.start_soon(work, owner, "s-1", 1000, 0.1)

        async with open_tracker(shared) as viewer, tracker.session("job") as session:
            with session.phase("shards", total=1) as phase:
                nursery.start_soon(phase.follow, "s-1")  # noqa: ASYNC111 - over before
                with trio.move_on_after(20):
                    async with viewer.watch("job", wait=True) as snapshots:
                        async for _ in snapshots:
                            pass
                before = appends(store)
                assert before > 100
                await trio.sleep(30)  # For a while the owners take it that somebody still watches.
                before = appends(store)
                await trio.sleep(10)
                assert appends(store) - before <= 6
                nursery.cancel_scope.cancel()


async def test_following_waits_for_a_store_that_is_down_when_it_begins(autojump_clock: MockClock) -> None:
    shared = MemoryStore()
    store = FaultyStore(shared)
    async with open_tracker(shared) as other, open_tracker(store) as tracker:
        await work(other, "s-1", 1)
        async with tracker.session("job") as session:
            with session.phase("shards") as phase, trio.fail_after(60):
                store.mode = "down"
                began = trio.current_time()

                async def back() -> None:
                    await trio.sleep(10)
                    store.mode = "up"

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(back)
                    assert (await phase.follow("s-1")).status == "completed"
                assert trio.current_time() - began >= 10


async def test_what_is_no_id_or_itself_or_open_already_is_refused_and_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    async with two_processes() as (tracker, _), trio.open_nursery() as nursery:
        async with tracker.session("job") as session:
            with session.phase("shards") as phase:
                with pytest.raises(PhaseError, match="cannot follow itself"):
                    await phase.follow("job")
                with pytest.raises(ValueError, match="a session id must be"):
                    await phase.follow("no id")
                with pytest.raises(TypeError, match="detach must be"):
                    await phase.follow("s-1", detach=1)  # type: ignore[arg-type]
                with pytest.raises(ValueError, match="weight"):
                    await phase.follow("s-1", weight=-1)
                assert phase.phases == {}
                nursery.start_soon(phase.follow, "s-1")  # noqa: ASYNC111 - over before
                await trio.sleep(1)
                with pytest.raises(PhaseError, match="open already"):
                    await phase.follow("s-1")
                nursery.cancel_scope.cancel()


async def test_where_nobody_follows_there_is_nothing_to_wait_for(autojump_clock: MockClock) -> None:
    with current_session().phase("shards") as phase:
        await phase.follow("s-1")
        assert isinstance(phase, NullPhase)
