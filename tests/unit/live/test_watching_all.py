"""Who watches all sessions meets those of other processes as well, and costs their owners nothing."""

from __future__ import annotations

from collections import Counter

import pytest
import trio
import trio.testing

from tests.support import RecordingStore
from trio_progress import MemoryStore, Pipeline, ProgressTracker, open_tracker
from trio_progress.stores.base import Append, Claim, Index
from trio_progress.testing import FaultyStore
from trio_progress.tracker import runtime_of

PIPELINE = Pipeline("p", ["search", "analysis"])


class Seen:
    """What was seen of each session, in order, without saying the same twice."""

    def __init__(self) -> None:
        self.statuses: dict[str, list[str]] = {}
        self.shown = Counter[tuple[str, int, int, str]]()

    async def follow(
        self,
        tracker: ProgressTracker,
        labels: dict[str, str] | None = None,
        *,
        here: bool = False,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async with tracker.watch_all(labels, here=here) as snapshots:
            task_status.started()
            async for snapshot in snapshots:
                self.shown[snapshot.id, snapshot.epoch, snapshot.seq, snapshot.liveness] += 1
                statuses = self.statuses.setdefault(snapshot.id, [])
                if not statuses or statuses[-1] != snapshot.status:
                    statuses.append(snapshot.status)


async def test_sessions_of_another_process_are_met_whenever_they_come(autojump_clock: trio.testing.MockClock) -> None:
    shared = MemoryStore()
    seen, reds, mine = Seen(), Seen(), Seen()
    async with open_tracker(shared) as owner, open_tracker(shared) as other, trio.open_nursery() as nursery:
        await owner.declare("queued", PIPELINE)
        async with owner.session("ended-before", PIPELINE):
            pass
        async with owner.session("before", PIPELINE):
            await nursery.start(seen.follow, other)
            await nursery.start(reds.follow, other, {"team": "red"})
            await nursery.start(lambda task_status: mine.follow(other, here=True, task_status=task_status))
            await trio.sleep(5)
            async with owner.session("while", PIPELINE, labels={"team": "red"}) as session:
                await trio.sleep(5)
                session.fail("x")
            await trio.sleep(2.3)
            async with owner.session("between-two-looks", PIPELINE):
                pass
            async with owner.session("while", PIPELINE, labels={"team": "red"}, resume="always"):
                await trio.sleep(5)
            async with owner.session("queued", PIPELINE):
                await trio.sleep(5)
            async with other.session("own", PIPELINE, labels={"team": "red"}):
                await trio.sleep(5)
            await trio.sleep(3)
        await trio.sleep(3)
        nursery.cancel_scope.cancel()
    assert seen.statuses == {
        "before": ["running", "completed"],
        "queued": ["queued", "running", "completed"],
        "while": ["running", "failed", "running", "completed"],
        "between-two-looks": ["completed"],
        "own": ["running", "completed"],
    }
    assert reds.statuses == {key: seen.statuses[key] for key in ("while", "own")}
    assert mine.statuses == {"own": ["running", "completed"]}
    assert [shown for shown, times in seen.shown.items() if times > 1] == []


async def test_a_list_does_not_make_owners_store_more_but_a_watcher_does(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shared = MemoryStore()
    store = RecordingStore(inner=shared)
    stored: list[int] = []
    soon: list[int] = []

    async def work(tracker: ProgressTracker) -> None:
        async with tracker.session("a", PIPELINE) as session, trio.open_nursery():
            while True:
                session.increment("n")
                await trio.sleep(0.05)

    async with (
        open_tracker(store, persist_interval=2.0) as owner,
        open_tracker(shared) as other,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(work, owner)
        seen = Seen()
        await nursery.start(seen.follow, other)
        for keen in (False, True):
            if keen:
                nursery.start_soon(drain, other)
            await trio.sleep(0.1 if keen else 1.2)
            before = len(store.taken["a"])
            await trio.sleep(1)
            soon.append(len(store.taken["a"]) - before)
            await trio.sleep(20)
            stored.append(len(store.taken["a"]) - before)
        nursery.cancel_scope.cancel()
    assert 9 <= stored[0] <= 12, "every two seconds"
    assert 180 <= stored[1] <= 230, "ten times a second"
    assert soon[1] >= 9, "from the moment on that somebody watches"


async def drain(tracker: ProgressTracker) -> None:
    async with tracker.watch("a") as snapshots:
        async for _ in snapshots:
            pass


async def test_a_session_whose_owner_is_gone_is_seen_as_lost_and_what_cannot_be_read_is_left_out(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = MemoryStore()
    async with open_tracker(store) as tracker, tracker.session("a", PIPELINE) as session:
        await session.flush()
        stored = await store.read("a")
        assert stored is not None
        record = stored.record.replace(b'"a"', b'"b"')
        key = stored.key._replace(epoch=1, seq=99)
    index = Index("running", "p", {}, 1.0)
    await store.commit([Claim("b", 1, "gone", record, index, 5.0, 1e5), Claim("bad", 1, "gone", b"{", index, 5.0, 1e5)])
    seen = Seen()
    async with open_tracker(store, lost_after=1000) as tracker, trio.open_nursery() as nursery:
        await nursery.start(seen.follow, tracker)
        await trio.sleep(3)
        assert seen.statuses == {"b": ["running"]}
        await trio.sleep(30)
        assert seen.statuses == {"b": ["running", "lost"]}
        await store.commit([Append("b", key, record, index, 5.0, 1e5, 1.0)])
        await trio.sleep(3)
        assert seen.statuses == {"b": ["running", "lost", "running"]}
        nursery.cancel_scope.cancel()
    assert caplog.text.count("of session 'bad' cannot be read") <= 2, "not once a second"


async def test_nobody_looks_while_nobody_watches_all(autojump_clock: trio.testing.MockClock) -> None:
    class Counting(RecordingStore):
        lists = 0

        async def list(self, query: object) -> object:  # type: ignore[override]
            self.lists += 1
            return await super().list(query)  # type: ignore[arg-type]

    store = Counting()
    async with open_tracker(store, lost_after=1e6) as tracker:  # type: ignore[arg-type]
        await trio.sleep(100)
        assert store.lists == 0
        async with trio.open_nursery() as nursery:
            await nursery.start(Seen().follow, tracker)
            await trio.sleep(10)
            assert 10 <= store.lists <= 30
            nursery.cancel_scope.cancel()
        await trio.sleep(2)
        before = store.lists
        await trio.sleep(100)
        assert store.lists == before


async def test_nothing_is_followed_for_who_has_left_in_the_middle_of_a_look(
    autojump_clock: trio.testing.MockClock,
) -> None:
    shared = MemoryStore()
    async with open_tracker(shared) as owner, owner.session("elsewhere"):
        for tenths in range(1, 31):
            async with open_tracker(FaultyStore(shared, delay=0.3)) as other:
                with trio.move_on_after(tenths / 10 + 0.05):
                    await Seen().follow(other)
                await trio.sleep(5)
                assert other.statistics().sessions_followed == 0
                assert not runtime_of(other).hub.topics
