"""Sessions of other trackers are followed through the store: found, lost, gone, and taken up again."""

from __future__ import annotations

import gc

import msgspec
import pytest
import trio
import trio.testing

from tests.support import QuietHost, RecordingStore
from trio_progress import (
    Bookmark,
    CustomEvent,
    End,
    Limits,
    MemoryStore,
    Pipeline,
    SessionActiveError,
    SessionNotFoundError,
    Snapshot,
    Update,
    open_tracker,
)
from trio_progress.live.feed import Feed
from trio_progress.live.hub import REMEMBERED
from trio_progress.live.remote import RemoteState
from trio_progress.protocol.clock import Clock
from trio_progress.protocol.messages import Message
from trio_progress.state.record import encode_event, encode_record
from trio_progress.state.session import SessionState
from trio_progress.stores.base import Key, Stored
from trio_progress.tracker import runtime_of

PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})


async def test_sessions_of_another_tracker_are_followed_and_cancelled_through_the_store(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shared = MemoryStore()
    async with open_tracker(shared) as owner, open_tracker(shared) as other, trio.open_nursery() as nursery:
        view: list[Snapshot] = []
        messages: list[Message] = []

        async def follow() -> None:
            async with other.subscribe("a", wait=True) as subscription:
                async for message in subscription:
                    messages.append(message)
                    if isinstance(message, Snapshot):
                        view[:] = [message]
                    elif isinstance(message, Update):
                        view[:] = [message.apply(view[0])]

        nursery.start_soon(follow)
        await trio.testing.wait_all_tasks_blocked()
        async with owner.session("a", PIPELINE) as session:
            with pytest.raises(SessionActiveError):
                async with other.session("a"):
                    pass
            with pytest.raises(SessionActiveError):
                await other.delete("a")
            with session.phase("search", total=100) as phase:
                for number in range(30):
                    phase.advance()
                    session.emit("e", number)
                    if number == 20:
                        await other.cancel("a", "from afar")
                    await trio.sleep(0.5)
        assert session.status == "cancelled"
        ended = await other.wait_ended("a")
        assert ended.error is not None
        assert (ended.status, ended.error.message) == ("cancelled", "from afar")
    assert isinstance(messages[-1], End)
    assert view[0].resuming("").phases == session.snapshot().phases
    events = [message.n for message in messages if isinstance(message, CustomEvent)]
    assert events == list(range(1, len(events) + 1))
    assert len(events) == 21


async def test_who_comes_back_by_way_of_the_store_after_phases_folded_into_the_session_has_its_state(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shared = MemoryStore()
    async with (
        open_tracker(shared, limits=Limits(phases=5)) as owner,
        open_tracker(shared) as other,
        owner.session("a") as session,
    ):
        view: Snapshot | None = None
        since: str | None = None
        for turn in range(4):
            for number in range(4):
                with session.phase(f"phase {turn}-{number}"):
                    pass
            await session.flush()
            # Nobody follows it between two visits: each finds the newest stored state alone.
            async with other.subscribe("a", since=since) as messages:
                async for message in messages:
                    if isinstance(message, Snapshot):
                        view = message
                    elif isinstance(message, Update):
                        assert view is not None
                        view = message.apply(view)
                    if view is not None and view.seq == session.snapshot().seq:
                        break
                since = messages.resume
            assert view is not None
            assert view.phases == session.snapshot().phases
            await trio.sleep(60)


async def test_an_owner_that_is_heard_of_no_more_is_lost_to_those_who_watch(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shared = MemoryStore()
    mine = RecordingStore(inner=shared)
    async with open_tracker(mine, lost_after=30) as owner, open_tracker(shared) as other:
        async with owner.session("a"):
            await trio.sleep(1)
            mine.mode = "down"
            async with other.watch("a") as snapshots:
                async for snapshot in snapshots:
                    if snapshot.status == "lost":
                        break
            assert snapshot.liveness == "lost"
            assert 30 <= trio.current_time() <= 32
            assert [one.status for one in await other.sessions(status="lost")] == ["lost"]
            mine.mode = "up"
            async with other.watch("a") as snapshots:
                async for snapshot in snapshots:
                    if snapshot.status == "running":
                        break
        assert (await other.snapshot("a")).status == "completed"


async def test_who_subscribes_while_the_owner_is_not_heard_of_sees_it_come_back_with_nothing_new_to_tell(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shared = MemoryStore()
    mine = RecordingStore(inner=shared)
    async with open_tracker(mine, lost_after=30) as owner, open_tracker(shared) as other, owner.session("a") as session:
        await trio.sleep(1)
        mine.mode = "down"
        await trio.sleep(40)
        assert (await other.snapshot("a")).status == "lost"
        async with other.subscribe("a") as messages:
            messages.take_nowait()
            state = messages.take_nowait()
            assert isinstance(state, Snapshot)
            # It is a guess, so that it is no part of the state which (epoch, seq) stands for.
            assert (state.status, state.liveness) == ("running", "lost")
            mine.mode = "up"
            news = await messages.__anext__()
            assert isinstance(news, Bookmark)
            assert (news.liveness, news.seq) == ("ok", state.seq)
            assert core(state) == core(session.snapshot())


def core(state: Snapshot) -> Snapshot:
    return msgspec.structs.replace(state.resuming(""), liveness="ok", heartbeat_at=None)


async def test_unknown_sessions_are_not_found_and_deleted_ones_are_gone(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        for call in (tracker.snapshot, tracker.cancel, tracker.delete, tracker.wait_ended):
            with pytest.raises(SessionNotFoundError, match="'nobody'"):
                await call("nobody")
        with pytest.raises(SessionNotFoundError):
            async with tracker.watch("nobody"):
                pass
        async with tracker.session("a"):
            with pytest.raises(SessionActiveError):
                await tracker.delete("a")
        await tracker.cancel("a")
        await tracker.delete("a")
        with pytest.raises(SessionNotFoundError):
            await tracker.snapshot("a")


async def test_a_queued_session_that_is_cancelled_has_ended_and_one_that_is_deleted_is_gone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker, trio.open_nursery() as nursery:
        declared = await tracker.declare("a", PIPELINE, title="later")
        assert declared == await tracker.snapshot("a")
        await tracker.declare("b", PIPELINE)
        ended: dict[str, str] = {}

        async def follow(session_id: str) -> None:
            try:
                ended[session_id] = (await tracker.wait_ended(session_id)).status
            except SessionNotFoundError:
                ended[session_id] = "gone"

        nursery.start_soon(follow, "a")
        nursery.start_soon(follow, "b")
        await trio.testing.wait_all_tasks_blocked()
        await tracker.cancel("a", "not needed")
        await tracker.delete("b")
        await trio.sleep(1)
        assert ended == {"a": "cancelled", "b": "gone"}
        assert (await tracker.snapshot("a")).status == "cancelled"
        with pytest.raises(SessionNotFoundError):
            await tracker.snapshot("b")


async def test_those_who_find_the_same_end_share_one_look_at_it_and_a_new_run_is_seen(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = MemoryStore()

    async def found(session_id: str) -> Feed:
        stored = await store.read(session_id)
        assert stored is not None
        return runtime_of(tracker).hub.found(stored)

    def there() -> int:
        gc.collect()
        return sum(type(one) is RemoteState for one in gc.get_objects())

    before = there()
    async with open_tracker(store) as tracker:
        async with tracker.session("ended-0") as session:
            running = await found("ended-0")
            assert running.ended is None
            assert await found("ended-0") is not running  # What is stored of it changes.
        first = await found("ended-0")
        assert first.ended is not None
        assert await found("ended-0") is first
        async with tracker.session("ended-0") as session:
            session.set(n=2)
        again = await found("ended-0")
        assert again is not first
        assert again.snapshot().fields == (await tracker.snapshot("ended-0")).fields == {"n": 2}
        del running, first, again
        for n in range(1, REMEMBERED + 3):
            async with tracker.session(f"ended-{n}"):
                pass
            await found(f"ended-{n}")
        assert there() - before == REMEMBERED


def test_events_that_were_read_are_decoded_again_only_where_there_are_others() -> None:
    state = SessionState("a", host=QuietHost(), clock=Clock())
    state.begin(1)
    told: list[list[int]] = []

    def remembered(limit: int) -> Stored:
        state.publish()
        events = tuple(encode_event(event) for event in list(state.event_log.after(0))[-limit:])
        return Stored("a", Key(1, state.seq), encode_record(state), alive=True, heartbeat=None, events=events)

    state.emit("first")
    remote = RemoteState(remembered(3), Clock(), 3)
    for step in ("count", "emit", "emit", "emit", "count"):
        log = remote.event_log
        if step == "emit":
            state.emit("more")
        state.increment("n")
        assert remote.take_in(remembered(3))
        assert (remote.event_log is log) == (step == "count")
        told.append([event.n for event in remote.event_log.after(0)])
    assert told == [[1], [1, 2], [1, 2, 3], [2, 3, 4], [2, 3, 4]]
