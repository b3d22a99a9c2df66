"""The tracker as its callers see it, in one process and through a store that several trackers share."""

from __future__ import annotations

import gc
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Any, Literal

import pytest
import trio
import trio.testing

from tests.support import RecordingStore, Seeds, seeded_scheduler
from trio_progress import (
    CustomEvent,
    End,
    FencedError,
    Gap,
    Limits,
    MemoryStore,
    NullSession,
    Pipeline,
    ProgressError,
    ProgressTracker,
    Session,
    SessionActiveError,
    SessionClosedError,
    SessionCompletedError,
    SessionNotFoundError,
    Snapshot,
    StoreError,
    Subscribed,
    Update,
    current_session,
    open_tracker,
)
from trio_progress.live.listing import list_heads
from trio_progress.protocol.messages import Message, Position
from trio_progress.state.session import SessionState
from trio_progress.stores.paging import TURN
from trio_progress.tracker import runtime_of

PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})


class Reader:
    """Reads a subscription to its end, and holds every update against what it has."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.view: Snapshot | None = None

    async def read(self, subscription: AbstractAsyncContextManager[AsyncIterator[Message]]) -> None:
        async with subscription as messages:
            async for message in messages:
                self.messages.append(message)
                if isinstance(message, Snapshot):
                    self.view = message
                elif isinstance(message, Update):
                    assert self.view is not None
                    self.view = message.apply(self.view)

    @property
    def kinds(self) -> list[str]:
        return [type(message).__name__ for message in self.messages]


def plain(snapshot: Snapshot | None) -> Snapshot | None:
    return None if snapshot is None else snapshot.resuming("")


# Declaring


async def test_a_declared_session_is_queued_until_it_is_run_and_followed_to_its_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker, trio.open_nursery() as nursery:
        declared = await tracker.declare("a", PIPELINE, title="Later", labels={"user": "u1"})
        assert (declared.status, declared.pipeline, declared.started_at) == ("queued", "research", None)
        assert [phase.status for phase in declared.phases] == ["pending"] * 3
        assert await tracker.snapshot("a") == declared
        position = Position.parse(declared.resume)
        assert position is not None
        assert position.epoch == declared.epoch > 0
        seen: list[tuple[str, str]] = []
        reader = Reader()

        async def follow() -> None:
            async with tracker.watch("a") as snapshots:
                seen.extend([(snapshot.status, snapshot.title) async for snapshot in snapshots])

        nursery.start_soon(follow)
        nursery.start_soon(reader.read, tracker.subscribe("a"))
        await trio.sleep(5)
        async with tracker.session("a", PIPELINE) as session:
            assert session.epoch > declared.epoch
            snapshot = session.snapshot()
            assert (snapshot.title, snapshot.labels) == ("Later", {"user": "u1"})
            assert snapshot.queued_at == declared.queued_at
            await trio.sleep(1)
    assert seen[0] == ("queued", "Later")
    assert seen[-1] == ("completed", "Later")
    assert reader.kinds[:4] == ["Subscribed", "Snapshot", "Subscribed", "Snapshot"]
    assert isinstance(reader.messages[2], Subscribed)
    assert (reader.messages[2].recovered, reader.messages[2].reason) == (False, "epoch")
    assert plain(reader.view) == plain(session.snapshot())


async def test_what_the_session_says_comes_before_what_was_declared(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        await tracker.declare("a", title="first", labels={"a": "1"})
        await tracker.declare("a", title="second", labels={"b": "2"})
        assert [one.title for one in await tracker.sessions()] == ["second"]
        async with tracker.session("a", title="third", labels={}) as session:
            assert (session.snapshot().title, session.snapshot().labels) == ("third", {})
            with pytest.raises(SessionActiveError):
                await tracker.declare("a")


async def test_a_session_without_an_id_gets_one_of_its_own(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session() as one, tracker.session() as other:
        assert one.id != other.id
        assert (await tracker.snapshot(one.id)).title == one.id
        assert {session.id for session in await tracker.sessions()} == {one.id, other.id}


# Listing


async def test_pages_show_every_session_once_and_newest_first(
    rng: random.Random, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker:
        wanted: list[str] = []
        for number in range(25):
            if rng.random() < 0.8:
                await trio.sleep(1)
            labels = {"kind": rng.choice(["x", "y"])}
            await tracker.declare(f"s{number:02}", labels=labels)
            wanted += [f"s{number:02}"] * (labels["kind"] == "x")
        for limit in (1, 3, 7, 25, 1000):
            got: list[str] = []
            times: list[float] = []
            cursor = None
            while True:
                page = await tracker.sessions(labels={"kind": "x"}, limit=limit, cursor=cursor)
                assert len(page) <= limit
                got += [snapshot.id for snapshot in page]
                times += [snapshot.queued_at.timestamp() for snapshot in page if snapshot.queued_at is not None]
                cursor = page.cursor
                if cursor is None:
                    break
            assert sorted(got) == wanted
            assert times == sorted(times, reverse=True)
        assert len(await tracker.sessions(labels={"kind": "x", "none": "such"})) == 0


async def test_a_page_is_never_longer_than_its_limit_though_others_lie_between(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker, AsyncExitStack() as stack:
        for number in range(12):
            if number % 3 == 1:
                await stack.enter_async_context(tracker.session(f"open{number}"))
            else:
                await tracker.declare(f"queued{number}")
            await trio.sleep(1)
        got: list[str] = []
        cursor = None
        for _ in range(4):
            page = await tracker.sessions(status="queued", limit=3, cursor=cursor)
            assert len(page) <= 3
            got += [snapshot.id for snapshot in page]
            cursor = page.cursor
            if cursor is None:
                break
        assert got == [f"queued{number}" for number in (11, 9, 8, 6, 5, 3, 2, 0)]


async def test_a_list_shows_what_is_open_here_as_it_is_now(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(persist_interval=1000, broadcast_interval=1000) as tracker:
        async with tracker.session("a", PIPELINE) as session:
            await trio.sleep(1)
            session.increment("n", 5)
            (listed,) = await tracker.sessions(status="running")
            assert listed.counters == {"n": 5}
            assert (await tracker.snapshot("a")).counters == {"n": 5}
            assert len(await tracker.sessions(status="completed")) == 0
        assert len(await tracker.sessions(status="running")) == 0
        assert len(await tracker.sessions(status="completed")) == 1


async def test_while_a_long_list_is_made_others_have_their_turns(autojump_clock: trio.testing.MockClock) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    store = MemoryStore()
    async with open_tracker(store) as owner, open_tracker(store) as tracker, trio.open_nursery() as nursery:
        for number in range(200):
            await owner.declare(f"s{number}")
        nursery.start_soon(take_turns)
        for listing in (partial(tracker.sessions, limit=200), partial(list_heads, tracker._runtime.hub, {}, 200)):
            turns = 0
            await listing()
            assert turns >= 200 // TURN
        turns = 0
        async with tracker.watch_all() as sessions:
            assert turns >= 200 // TURN
            assert len({(await anext(sessions)).id for _ in range(200)}) == 200
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("cursor", ["", "garbage", "0x1p0", "0x1p99999 a", "nan a", "1 2 3", "é é"])
async def test_a_cursor_that_is_none_of_ours_is_a_bad_value_or_an_empty_page_and_no_crash(
    cursor: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker:
        await tracker.declare("a")
        raised, page = "", None
        try:
            page = await tracker.sessions(cursor=cursor)
        except ValueError as error:
            raised = str(error)
        assert "cursor" in raised if page is None else page.cursor is None


@pytest.mark.parametrize(
    "given",
    [
        {"limit": 0},
        {"limit": 1001},
        {"limit": True},
        {"limit": "5"},
        {"limit": None},
        {"status": "done"},
        {"status": 1},
        {"cursor": 5},
        {"labels": {"a": 1}},
        {"labels": "a"},
        {"labels": {"": "x"}},
    ],
)
async def test_a_list_that_cannot_be_is_refused(given: dict[str, Any], autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        with pytest.raises((ValueError, TypeError)):
            await tracker.sessions(**given)


# Cancelling, deleting, waiting


async def test_a_session_that_is_being_entered_can_be_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(RecordingStore(delay=0.5)) as tracker, trio.open_nursery() as nursery:
        ended: list[tuple[str, float]] = []

        async def run() -> None:
            async with tracker.session("a") as session:
                await trio.sleep(100)
            ended.append((session.status, trio.current_time()))

        nursery.start_soon(run)
        await trio.sleep(0.2)
        await tracker.cancel("a", "changed my mind")
    assert [status for status, _ in ended] == ["cancelled"]
    assert ended[0][1] < 5


async def test_cancelling_twice_or_what_has_ended_changes_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        async with tracker.session("a") as session:
            await tracker.cancel("a", "first")
            with trio.CancelScope(shield=True):
                await tracker.cancel("a", "second")
            await trio.sleep(1)
        ended = await tracker.snapshot("a")
        await tracker.cancel("a", "third")
        assert await tracker.snapshot("a") == ended
        assert ended.status == session.status == "cancelled"


async def test_whoever_waits_for_the_end_gets_it_when_nothing_is_left(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore(delay=0.3)
    async with open_tracker(store) as tracker, trio.open_nursery() as nursery:
        waited: list[Snapshot] = []

        async def wait() -> None:
            waited.append(await tracker.wait_ended("a"))
            assert tracker.statistics().sessions_open == 0
            assert store.leases == {}
            async with tracker.session("a"):
                pass

        async with tracker.session("a") as session:
            nursery.start_soon(wait)
            await trio.sleep(2)
            session.set_result({"answer": 42})
        await trio.testing.wait_all_tasks_blocked()
    assert [(snapshot.status, snapshot.result) for snapshot in waited] == [("completed", {"answer": 42})]


async def test_who_waits_for_the_end_does_not_wait_for_the_next_run(autojump_clock: trio.testing.MockClock) -> None:
    waited: list[tuple[float, int, str]] = []
    async with open_tracker() as tracker, trio.open_nursery() as nursery:

        async def wait() -> None:
            snapshot = await tracker.wait_ended("a")
            waited.append((trio.current_time(), snapshot.attempt, snapshot.status))

        for attempt in (1, 2):
            with pytest.raises(ValueError, match="again"):
                async with tracker.session("a", resume="always"):
                    if attempt == 1:
                        nursery.start_soon(wait)
                    await trio.sleep(10)
                    raise ValueError("again")
    assert waited == [(10, 1, "failed")]


async def test_who_waits_for_an_end_is_told_where_there_is_none(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore()
    raised: dict[str, type[BaseException]] = {}

    async def wait(tracker: ProgressTracker, session_id: str) -> None:
        try:
            await tracker.wait_ended(session_id)
        except ProgressError as error:
            raised[session_id] = type(error)

    async with open_tracker(store) as owner, owner.session("running"), trio.open_nursery() as nursery:
        await owner.declare("deleted")
        await owner.declare("queued")
        async with open_tracker(store) as tracker:
            for session_id in ("running", "deleted", "queued"):
                nursery.start_soon(wait, tracker, session_id)  # noqa: ASYNC111 - it is left while they wait
            await trio.sleep(1)
            await tracker.delete("deleted")
            await trio.sleep(1)
            assert raised == {"deleted": SessionNotFoundError}
    assert raised == {"deleted": SessionNotFoundError, "running": SessionClosedError, "queued": SessionClosedError}


async def test_being_cancelled_while_waiting_leaves_no_listener(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("open"):
        await tracker.declare("queued")

        async def all_snapshots(session_id: str) -> None:
            async with tracker.watch(session_id, wait=True) as snapshots:
                async for _ in snapshots:
                    pass

        async def all_messages(session_id: str) -> None:
            async with tracker.subscribe(session_id, wait=True) as messages:
                async for _ in messages:
                    pass

        for session_id in ("open", "queued", "not-there"):
            for wait in (all_snapshots, all_messages):
                with trio.move_on_after(3) as scope:
                    await wait(session_id)
                assert scope.cancelled_caught
        with trio.move_on_after(3):
            await tracker.wait_ended("open")
        assert tracker.statistics().subscribers == 0


async def test_being_cancelled_while_entering_leaves_nothing_registered(autojump_clock: trio.testing.MockClock) -> None:
    store = MemoryStore()
    async with open_tracker(store) as other, other.session("elsewhere"), open_tracker(store) as tracker:
        for n in range(40):
            await other.declare(f"q{n}")
        for checkpoints in range(60):
            for stream in (tracker.watch_all(), tracker.watch("elsewhere"), tracker.subscribe("elsewhere")):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(drain, stream)
                    for _ in range(checkpoints):
                        await trio.lowlevel.checkpoint()
                    nursery.cancel_scope.cancel()
                assert tracker.statistics().subscribers == 0
                assert not tracker._runtime.hub.observers


LATE: dict[str, Callable[[ProgressTracker], Awaitable[object]]] = {
    "declare": lambda tracker: tracker.declare("new"),
    "cancel": lambda tracker: tracker.cancel("queued"),
    "delete": lambda tracker: tracker.delete("queued"),
    "session": lambda tracker: tracker.session("new").__aenter__(),
    "wait_ended": lambda tracker: tracker.wait_ended("queued"),
}


async def drain(stream: AbstractAsyncContextManager[AsyncIterator[object]]) -> None:
    """Reads on until the stream ends, or says that the tracker has been left."""
    try:
        async with stream as items:
            async for _ in items:
                pass
    except SessionClosedError:
        pass


@pytest.mark.parametrize("call", LATE)
async def test_a_tracker_that_was_left_refuses_and_keeps_nobody_waiting(
    call: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker:
        await tracker.declare("queued")
    with trio.fail_after(60), pytest.raises(SessionClosedError, match="left"):
        await LATE[call](tracker)


async def test_who_waits_for_a_write_that_a_tracker_gives_up_is_told(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore(delay=4)
    raised: dict[str, float] = {}

    async def declare(tracker: ProgressTracker, session_id: str) -> None:
        with pytest.raises(StoreError, match="left"):
            await tracker.declare(session_id)
        raised[session_id] = trio.current_time()

    with trio.fail_after(60):
        async with trio.open_nursery() as outside:
            async with open_tracker(store, flush_timeout=2) as tracker:
                outside.start_soon(declare, tracker, "under-way")  # noqa: ASYNC111 - it outlives it
                await trio.sleep(0.5)
                outside.start_soon(declare, tracker, "waiting")  # noqa: ASYNC111 - it outlives it
                await trio.sleep(0.5)
    assert raised == {"under-way": 3, "waiting": 3}


@pytest.mark.parametrize("session_id", ["queued", "not-there"])
async def test_no_stream_of_a_tracker_that_was_left_goes_on_for_ever(
    session_id: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_tracker() as tracker:
        await tracker.declare("queued")
    with trio.fail_after(60):
        await drain(tracker.watch(session_id, wait=True))
        await drain(tracker.subscribe(session_id, wait=True))
        await drain(tracker.watch_all())


async def test_whoever_still_waits_when_the_tracker_is_left_is_let_go(autojump_clock: trio.testing.MockClock) -> None:
    with trio.fail_after(60):
        async with trio.open_nursery() as outside:
            async with open_tracker() as tracker:
                await tracker.declare("queued")
                streams: list[AbstractAsyncContextManager[AsyncIterator[object]]] = [
                    tracker.watch("queued"),
                    tracker.subscribe("queued"),
                    tracker.watch("not-there", wait=True),
                    tracker.subscribe("not-there", wait=True),
                    tracker.watch_all(),
                ]
                for stream in streams:
                    outside.start_soon(drain, stream)
                await trio.sleep(1)
            await trio.testing.wait_all_tasks_blocked()


async def test_a_busy_reader_of_all_sessions_still_sees_how_they_ended(autojump_clock: trio.testing.MockClock) -> None:
    seen: list[tuple[str, str]] = []
    async with trio.open_nursery() as outside:
        async with open_tracker() as tracker:

            async def follow() -> None:
                async with tracker.watch_all() as snapshots:
                    async for snapshot in snapshots:
                        seen.append((snapshot.id, snapshot.status))
                        await trio.sleep(50)

            async def run(session_id: str) -> None:
                async with tracker.session(session_id):
                    await trio.sleep_forever()

            outside.start_soon(follow)
            outside.start_soon(run, "a")
            outside.start_soon(run, "b")
            await trio.sleep(1)
    assert dict(seen) == {"a": "cancelled", "b": "cancelled"}


# Watching


async def test_watching_all_shows_each_session_newest_first_of_each_and_filters(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker, trio.open_nursery() as nursery:
        states: dict[str, list[tuple[int, str]]] = {}

        async def follow() -> None:
            async with tracker.watch_all({"team": "red"}) as snapshots:
                async for snapshot in snapshots:
                    states.setdefault(snapshot.id, []).append((snapshot.attempt, snapshot.status))

        async with tracker.session("before", labels={"team": "red"}), tracker.session("other", labels={"team": "blue"}):
            nursery.start_soon(follow)
            await trio.sleep(1)
            resumes: list[Literal["never", "always"]] = ["never", "always"]
            for resume in resumes:
                async with tracker.session("again", labels={"team": "red"}, resume=resume) as session:
                    session.fail("x")
                    await trio.sleep(1)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert set(states) == {"before", "again"}
    assert states["before"] == [(1, "running"), (1, "completed")]
    assert states["again"] == [(1, "running"), (1, "failed"), (2, "running"), (2, "failed")]


async def test_what_who_watches_all_leaves_unread_is_bounded_and_its_loss_is_counted(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_progress.live.subscription.UNREAD", 10)
    async with open_tracker() as tracker, tracker.watch_all() as snapshots:
        async with tracker.session("open") as session:
            for n in range(30):
                async with tracker.session(f"s{n}", labels={"n": str(n)}) as ended:
                    ended.increment("n")
            gc.collect()
            kept = {found.id for found in gc.get_objects() if type(found) is SessionState}
            assert not kept & {f"s{n}" for n in range(29)}, "the last state is kept, and not the session"
            session.increment("n")
            seen = [snapshots.take_nowait() for _ in range(11)]
            with pytest.raises(trio.WouldBlock):
                snapshots.take_nowait()
    assert [(snapshot.id, snapshot.status) for snapshot in seen] == [
        ("open", "running"),
        *((f"s{n}", "completed") for n in range(20, 30)),
    ]
    assert tracker.statistics().ends_dropped == 20


async def test_a_watcher_sees_each_state_once_and_the_ended_one_last(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(broadcast_interval=0.05) as tracker, trio.open_nursery() as nursery:
        keys: list[tuple[int, int, str]] = []

        async def follow() -> None:
            async with tracker.watch("a", wait=True) as snapshots:
                async for snapshot in snapshots:
                    keys.append((snapshot.epoch, snapshot.seq, snapshot.status))
                    await trio.sleep(0.07)

        nursery.start_soon(follow)
        async with tracker.session("a") as session:
            for _ in range(50):
                session.increment("n")
                await trio.sleep(0.03)
    assert keys == sorted(set(keys))
    assert keys[-1] == (session.epoch, session.snapshot().seq, "completed")


# Several trackers on one store


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
                    update = await anext(messages)
                    assert isinstance(update, Update)
                    assert update.from_ == known.seq
                    assert plain(update.apply(known)) == plain(session.snapshot())


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


# Statistics


async def test_statistics_count_what_was_late_refused_and_watched(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker(strict=False) as tracker:
        async with tracker.session("a", PIPELINE) as session:
            with session.phase("search") as phase:
                pass
            phase.advance()
            session.advance_to("search")
            phase.advance(-1)
            session.increment("")
            with session.phase("unknown"):
                pass
            async with tracker.subscribe("a"), tracker.watch("a"), tracker.watch("b", wait=True):
                statistics = tracker.statistics()
                assert (statistics.late, statistics.refused, statistics.subscribers) == (2, 3, 3)
                assert (statistics.sessions_open, statistics.sessions_ended, statistics.store_up) == (1, 0, True)
            assert tracker.statistics().subscribers == 0
        statistics = tracker.statistics()
        assert (statistics.sessions_open, statistics.sessions_ended) == (0, 1)
        assert statistics.states == session.snapshot().seq


async def test_a_store_that_does_not_answer_is_seen_in_the_statistics(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore()
    async with open_tracker(store) as tracker, tracker.session("a") as session:
        await trio.sleep(1)
        store.mode = "down"
        session.set_result(1)
        await trio.sleep(1)
        statistics = tracker.statistics()
        assert not statistics.store_up
        assert statistics.persists_failed == len(store.tries) - statistics.persists > 0
        store.mode = "up"
        await session.flush()
        assert tracker.statistics().store_up


# The session of a task


async def test_the_innermost_session_is_current_in_a_task_and_in_what_it_starts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async def current_id() -> str:
        await trio.lowlevel.checkpoint()
        return current_session().id

    seen: list[str] = []

    async def child() -> None:
        seen.append(await current_id())

    assert isinstance(current_session(), NullSession)
    async with open_tracker() as tracker, trio.open_nursery() as outside:
        async with tracker.session("outer") as outer, trio.open_nursery() as nursery:
            async with tracker.session("inner"):
                nursery.start_soon(child)  # It is started in the outer nursery, but here.
                assert await current_id() == "inner"
                assert await trio.to_thread.run_sync(lambda: current_session().id) == "inner"
                outside.start_soon(child)
                await trio.testing.wait_all_tasks_blocked()
            current = current_session()
            assert isinstance(current, Session)
            assert current is outer
        assert isinstance(current_session(), NullSession)
    assert seen == ["inner", "inner"]


async def test_who_was_not_there_is_not_found_and_wait_waits(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        for stream in (tracker.watch("a"), tracker.subscribe("a")):
            with pytest.raises(SessionNotFoundError, match="wait=True"):
                await stream.__aenter__()
        async with tracker.subscribe("a", wait=True) as messages:
            with pytest.raises(trio.WouldBlock):
                messages.take_nowait()
            async with tracker.session("a"):
                assert isinstance(await anext(messages), Subscribed)
            assert tracker.statistics().subscribers == 0
            rest = [message async for message in messages]
            assert isinstance(rest[-1], End)


async def test_the_debug_view_shows_what_a_tracker_holds_on_to_until_it_is_gone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker:
        held = runtime_of(tracker).held
        async with tracker.session("a") as session, tracker.watch_all(here=True) as everything:
            session.update(message="something to write")
            assert (held()["sessions"], held()["topics"], held()["observers"]) == (("a",), ("a",), (everything,))
            core = runtime_of(tracker).open["a"].core
            assert core is not None
            assert core.state.message == "something to write"
        assert held() == {"sessions": (), "topics": (), "observers": (), "writers": ()}
