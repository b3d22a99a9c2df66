"""Sessions that are declared, and lists of those there are, page by page."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tests.unit.tracker.reading import Reader, plain
from trio_progress import (
    MemoryStore,
    Pipeline,
    SessionActiveError,
    Subscribed,
    open_tracker,
)
from trio_progress.live.listing import list_heads
from trio_progress.protocol.messages import Position
from trio_progress.stores.paging import TURN
from trio_progress.tracker import runtime_of

PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})


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
        for listing in (partial(tracker.sessions, limit=200), partial(list_heads, runtime_of(tracker).hub, {}, 200)):
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
