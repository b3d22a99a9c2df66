"""What has changed is found out once for all who are sent the list, and sent to each who may see it."""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing

from trio_progress import MemoryStore, ProgressTracker, StoreError, open_tracker
from trio_progress.server import Grant
from trio_progress.server.auth.grants import ALL
from trio_progress.server.encoder import Encoder
from trio_progress.server.list.feed import PIECE, Change, ChangeLog, ListCursor, ListFeed, ListView
from trio_progress.telemetry.statistics import Tally
from trio_progress.testing import FaultyStore

ENCODE = Encoder(Tally(), lambda message, data: data + b"\n")
EVERYTHING = ListView(ALL.bare, (), ENCODE)
PAUSE = 0.25


@dataclass
class Kept:
    """A tracker and the feed of its sessions."""

    tracker: ProgressTracker
    feed: ListFeed
    told: list[dict[str, Any]] = field(default_factory=list)

    async def read(self, reader: ListCursor, rounds: int = 1) -> list[dict[str, Any]]:
        """What the reader is told in so many rounds."""
        told: list[dict[str, Any]] = []
        for _ in range(rounds):
            told += messages(await reader.next())
        return told


def messages(data: bytes | None) -> list[dict[str, Any]]:
    assert data is not None
    return [json.loads(line) for line in data.splitlines()]


def brief(told: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """What happened to which session."""
    return [(one["session"], one.get("head", {}).get("status", one["type"])) for one in told]


@asynccontextmanager
async def kept(store: Any = None, **settings: Any) -> AsyncIterator[Kept]:
    async with (
        open_tracker(store or MemoryStore(), **{"broadcast_interval": 0.1, **settings}) as tracker,
        trio.open_nursery() as nursery,
    ):
        feed = ListFeed(tracker)
        nursery.start_soon(feed.run)
        try:
            yield Kept(tracker, feed)
        finally:
            nursery.cancel_scope.cancel()


async def test_all_who_see_the_same_are_told_the_same_bytes(autojump_clock: trio.testing.MockClock) -> None:
    log = ChangeLog()
    async with open_tracker() as tracker:
        await tracker.declare("a")
        await tracker.declare("b", labels={"team": "x"})
        for snapshot in await tracker.sessions():
            log.append(snapshot)
    everything, read = log.since(0, EVERYTHING)
    assert read == 2
    assert log.since(0, ListView(Grant(verbs=ALL.verbs, everything=True), (), ENCODE))[0] is everything
    assert sorted(brief(messages(everything))) == [("a", "queued"), ("b", "queued")]
    for sight, verbs in (
        (ListView(Grant(labels={"team": "x"}), (), ENCODE), ["read"]),
        (ListView(ALL.bare, (("team", "x"),), ENCODE), ["read", "cancel", "delete"]),
    ):
        (found,) = messages(log.since(0, sight)[0])
        assert (found["session"], found["verbs"]) == ("b", verbs)
        assert "phases" not in found["head"]
    assert len(messages(log.since(1, EVERYTHING)[0])) == 1
    assert log.since(2, EVERYTHING) == (b"", 2)


async def test_each_session_is_followed_once_for_all_who_read(autojump_clock: trio.testing.MockClock) -> None:
    async with kept() as room, room.tracker.session("a"), room.tracker.session("b"), AsyncExitStack() as readers:
        for _ in range(5):
            await readers.enter_async_context(room.feed.subscribe(EVERYTHING, PAUSE))
            await trio.sleep(1)
            assert room.tracker.statistics().subscribers == 2
        await readers.aclose()
        await trio.sleep(1)
        assert room.tracker.statistics().subscribers == 0


async def test_who_is_slow_is_told_the_newest_of_each_session_once(autojump_clock: trio.testing.MockClock) -> None:
    async with (
        kept() as room,
        room.feed.subscribe(EVERYTHING, PAUSE) as quick,
        room.feed.subscribe(EVERYTHING, PAUSE) as slow,
    ):
        async with room.tracker.session("a") as a, room.tracker.session("b") as b:
            await room.read(quick)
            await room.read(slow)
            for n in range(30):
                (a if n % 3 else b).set(n=n)
                await trio.sleep(0.5)
                await room.read(quick)
            told = await room.read(slow)
            assert [(one["session"], one["head"]["fields"]) for one in told] == [("b", {"n": 27}), ("a", {"n": 29})]
            with trio.move_on_after(30) as nothing_more:
                await slow.next()
            assert nothing_more.cancelled_caught


async def test_no_more_than_a_piece_is_made_for_who_reads_slowly_and_the_rest_is_the_newest(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with kept() as room, room.feed.subscribe(EVERYTHING, PAUSE) as reader, AsyncExitStack() as stack:
        sessions = [await stack.enter_async_context(room.tracker.session(f"s-{n:03}")) for n in range(100)]
        for session in sessions:
            session.set(n=1, padding="x" * 1000)
        await trio.sleep(1)
        first = await reader.next()
        assert first is not None
        assert PIECE <= len(first) < PIECE + 3000
        some = {one["session"] for one in messages(first)}
        for session in sessions:
            session.set(n=2)
        await trio.sleep(1)
        seen: dict[str, int] = {}
        while len(seen) < len(sessions):
            told = await reader.next()
            assert told is not None
            assert len(told) < PIECE + 3000
            for one in messages(told):
                assert one["session"] not in seen
                seen[one["session"]] = one["head"]["fields"]["n"]
        assert some < set(seen)
        assert set(seen.values()) == {2}


async def test_the_reader_in_the_greatest_hurry_sets_the_pace(autojump_clock: trio.testing.MockClock) -> None:
    async def rounds(reader: ListCursor) -> int:
        number = 0
        with trio.move_on_after(10):
            while await reader.next() is not None:
                number += 1
        return number

    async def count(reader: ListCursor, into: list[int]) -> None:
        into.append(await rounds(reader))

    async with kept(broadcast_interval=0.01) as room, room.tracker.session("a") as session:
        async with (
            room.feed.subscribe(EVERYTHING, 1.0) as slow,
            room.feed.subscribe(EVERYTHING, 0.1) as quick,
            trio.open_nursery() as nursery,
        ):
            of_slow: list[int] = []
            of_quick: list[int] = []
            nursery.start_soon(count, slow, of_slow)
            nursery.start_soon(count, quick, of_quick)
            for n in range(1000):
                session.set(n=n)
                await trio.sleep(0.01)
        assert 9 <= of_slow[0] <= 11
        assert 90 <= of_quick[0] <= 101


async def test_a_reader_in_no_hurry_holds_up_nobody_who_comes_later(autojump_clock: trio.testing.MockClock) -> None:
    async with kept() as room, room.feed.subscribe(EVERYTHING, 1000.0), room.tracker.session("a") as session:
        await trio.sleep(1)
        async with room.feed.subscribe(EVERYTHING, PAUSE) as quick:
            session.set(n=1)
            with trio.fail_after(1):
                assert brief(await room.read(quick)) == [("a", "running")]


async def test_what_all_have_read_is_not_kept(autojump_clock: trio.testing.MockClock) -> None:
    async with kept() as room:
        async with room.feed.subscribe(EVERYTHING, PAUSE) as reader:
            for n in range(50):
                async with room.tracker.session(f"s-{n}"):
                    pass
                await trio.sleep(1)
                await room.read(reader)
            gc.collect()
            assert sum(type(one) is Change for one in gc.get_objects()) <= 2


async def test_a_session_that_is_deleted_or_hidden_by_new_labels_is_gone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    mine = ListView(Grant(labels={"team": "x"}), (), ENCODE)
    async with kept() as room, room.feed.subscribe(mine, PAUSE) as reader:
        async with room.tracker.session("a", labels={"team": "x"}):
            pass
        await trio.sleep(1)
        assert brief(await room.read(reader)) == [("a", "completed")]
        async with room.tracker.session("a", labels={"team": "y"}, resume="never") as session:
            assert brief(await room.read(reader)) == [("a", "unlisted")]
            session.set(n=1)
            with trio.move_on_after(1):
                raise AssertionError(await room.read(reader))  # It was said.
        async with room.tracker.session("b", labels={"team": "x"}):
            await trio.sleep(1)
            room.feed.forget("b")
            with trio.move_on_after(0.1):
                raise AssertionError(await room.read(reader))


async def test_what_the_store_had_is_known_to_be_gone_as_well(autojump_clock: trio.testing.MockClock) -> None:
    async with kept() as room:
        async with room.tracker.session("a", labels={"team": "x"}):
            pass
        page = await room.tracker.sessions()
        async with room.feed.subscribe(ListView(Grant(labels={"team": "x"}), (), ENCODE), PAUSE) as reader:
            assert brief(messages(b"".join(reader.initial(page)))) == [("a", "completed")]
            async with room.tracker.session("a", labels={"team": "y"}):
                assert brief(await room.read(reader)) == [("a", "unlisted")]


async def test_a_store_that_does_not_answer_is_told_to_all_who_wait_and_asked_again_later(
    autojump_clock: trio.testing.MockClock,
) -> None:
    store = FaultyStore()
    async with kept(store, require_store=False) as room:
        store.mode = "down"
        failed = 0

        async def fail() -> None:
            nonlocal failed
            with pytest.raises(StoreError, match="cannot be followed"):
                async with room.feed.subscribe(EVERYTHING, PAUSE):
                    pass
            failed += 1

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(fail)
        assert failed == 3
        store.mode = "up"
        async with room.feed.subscribe(EVERYTHING, PAUSE) as reader, room.tracker.session("a"):
            assert brief(await room.read(reader)) == [("a", "running")]


async def test_it_can_be_left_at_any_time_and_read_again(autojump_clock: trio.testing.MockClock) -> None:
    async with kept(FaultyStore(delay=0.5)) as room, room.tracker.session("a") as session:
        for patience in (0.0, 0.25, 0.75):
            with trio.move_on_after(patience):
                async with room.feed.subscribe(EVERYTHING, PAUSE):
                    await trio.sleep_forever()
            async with room.feed.subscribe(EVERYTHING, PAUSE) as reader:
                session.set(patience=patience)
                assert brief(await room.read(reader)) == [("a", "running")]
        await trio.sleep(1)
        assert room.tracker.statistics().subscribers == 0


async def test_reading_ends_with_the_tracker(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        async with open_tracker() as tracker:
            feed = ListFeed(tracker)
            nursery.start_soon(feed.run)
            left = trio.Event()

            async def read() -> None:
                async with feed.subscribe(EVERYTHING, PAUSE) as reader:
                    while await reader.next() is not None:
                        pass
                left.set()

            nursery.start_soon(read)
            async with tracker.session("a"):
                await trio.sleep(1)
        with trio.fail_after(5):
            await left.wait()
        nursery.cancel_scope.cancel()


async def test_who_reads_a_log_that_breaks_is_told_so_and_the_next_one_reads_another(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(feed: ListFeed, log: ChangeLog) -> None:
        del feed
        log.opened.set()
        await trio.sleep(1)
        raise RuntimeError("it breaks")

    async with kept() as room:
        with monkeypatch.context() as patched:
            patched.setattr(ListFeed, "_follow", broken)
            async with room.feed.subscribe(EVERYTHING, PAUSE) as reader:
                with pytest.raises(StoreError, match="cannot be followed"):
                    await reader.next()
        assert "it breaks" in caplog.text
        async with room.feed.subscribe(EVERYTHING, PAUSE) as reader, room.tracker.session("a"):
            assert brief(await room.read(reader)) == [("a", "running")]
