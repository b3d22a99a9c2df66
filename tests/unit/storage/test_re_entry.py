"""Whoever opens a session that was there before goes on with it, begins anew or is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

from tests.support import RecordingStore, logs_of
from trio_progress import (
    MemoryStore,
    Pipeline,
    SessionActiveError,
    SessionCompletedError,
    SessionEndedError,
    SessionNotFoundError,
    StoreError,
    open_tracker,
)
from trio_progress.storage.ownerless import written_off
from trio_progress.stores.base import Claimed
from trio_progress.telemetry.statistics import Tally
from trio_progress.tracker import runtime_of

PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})


@pytest.mark.parametrize("resume", ["never", "interrupted", "always", "waiting"])
@pytest.mark.parametrize(
    "stored",
    [
        "nothing",
        "queued",
        "completed",
        "failed",
        "cancelled",
        "timed_out",
        "interrupted",
        "lost",
        "written_off",
        "alive",
    ],
)
async def test_re_entry(stored: str, resume: str, autojump_clock: trio.testing.MockClock) -> None:
    """The table of DESIGN section 3: stored state by `resume`."""
    store = MemoryStore()
    async with open_tracker(store) as tracker, trio.open_nursery() as nursery:
        await leave_behind(store, tracker, stored, nursery)
        goes_on = (
            stored
            in {
                "never": (),
                "interrupted": ("interrupted", "lost", "written_off"),
                "always": ("interrupted", "lost", "written_off", "failed", "cancelled", "timed_out"),
                "waiting": ("interrupted", "lost", "written_off"),
            }[resume]
        )
        scope = tracker.session("a", PIPELINE, resume=resume)  # type: ignore[arg-type]
        if stored == "alive":
            with pytest.raises(SessionActiveError):
                await scope.__aenter__()
        elif stored == "completed" and resume != "never":
            with pytest.raises(SessionCompletedError):
                await scope.__aenter__()
        elif stored == "nothing" and resume == "waiting":
            with pytest.raises(SessionNotFoundError):
                await scope.__aenter__()
        elif stored in ("failed", "cancelled", "timed_out") and resume == "waiting":
            with pytest.raises(SessionEndedError, match="does not wait to be run") as caught:
                await scope.__aenter__()
            assert caught.value.status == stored
        else:
            async with scope as session:
                assert session.attempt == (2 if goes_on else 1)
                assert session.saved == ({"page": 7} if goes_on else None)
                assert session.phases["search"].status == ("completed" if goes_on else "pending")
                assert session.phases["analysis"].status == "pending"
                assert session.phases["analysis"].attempt == (1 if goes_on else 0)
                with session.phase("analysis") as phase:
                    assert phase.attempt == (2 if goes_on else 1)
                if stored == "queued":
                    assert session.snapshot().title == "declared"
        nursery.cancel_scope.cancel()


async def test_a_job_that_is_cancelled_or_deleted_while_it_is_taken_is_not_run(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Late(RecordingStore):
        """Something happens between the look at the store and the claim."""

        then: Callable[[], Awaitable[object]] | None = None

        async def read(self, session_id: str) -> Any:
            found = await super().read(session_id)
            if self.then is not None:
                then, self.then = self.then, None
                await then()
            return found

    late = Late()
    async with open_tracker(late) as front, open_tracker(late) as worker:
        for session_id, meanwhile, raised in (
            ("a", front.cancel, SessionEndedError),
            ("b", front.delete, SessionNotFoundError),
        ):
            await front.declare(session_id, PIPELINE, labels={"user": "u1"})
            late.then = partial(meanwhile, session_id)
            with pytest.raises(raised):
                async with worker.session(session_id, PIPELINE, resume="waiting"):
                    pytest.fail("it was run")
        await front.declare("c", PIPELINE, labels={"user": "u1"})
        async with worker.session("c", PIPELINE, resume="waiting") as session:
            assert session.snapshot().labels == {"user": "u1"}


async def leave_behind(store: MemoryStore, tracker: object, stored: str, nursery: trio.Nursery) -> None:
    """A first attempt of session "a" that ended, or was left, as `stored` says."""

    async def first(fate: str) -> None:
        async with open_tracker(store, lost_after=2, heartbeat_interval=1) as other:
            if stored == "queued":
                await other.declare("a", PIPELINE, title="declared")
                return
            try:
                with trio.move_on_after(1 if stored == "timed_out" else 1000):
                    async with other.session("a", PIPELINE) as session:
                        session.save({"page": 7})
                        with session.phase("search"):
                            pass
                        with session.phase("analysis"):
                            await session.flush()
                            if stored == "failed":
                                raise ValueError
                            if stored == "interrupted":
                                raise KeyboardInterrupt
                            if stored == "cancelled":
                                session.cancel()
                            if stored != "completed":
                                await trio.sleep_forever()
            except (ValueError, KeyboardInterrupt):
                pass

    if stored == "nothing":
        return
    if stored in ("lost", "written_off", "alive"):
        # An owner in a run of its own that is just no longer heard of, or not yet.
        async with open_tracker(store, lost_after=2, heartbeat_interval=1) as other:
            async with other.session("a", PIPELINE) as session:
                session.save({"page": 7})
                with session.phase("search"):
                    pass
                session.advance_to("analysis")
                await session.flush()
                read = await store.read("a")
                usual = dict(logs_of(store))
        logs_of(store).update(usual)
        assert read is not None
        log = logs_of(store)["a"]
        log.key, log.record = read.key, read.record
        log.lease_until = trio.current_time() + (1000 if stored == "alive" else -1)
        if stored == "written_off":
            (outcome,) = await store.commit([written_off(read, 1000.0, Tally())])
            assert isinstance(outcome, Claimed)
        return
    await first(stored)


async def test_a_claim_expects_what_was_read_and_reads_again_where_somebody_was_faster(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Two trackers resume one lost session at the same moment: one wins, the other is refused."""
    shared = MemoryStore()
    async with open_tracker(shared) as first:
        async with first.session("a") as session:
            session.save({"n": 1})
            session.fail("to be resumed")
    won: list[int] = []
    refused: list[str] = []
    async with (
        open_tracker(RecordingStore(0.01, shared)) as one,
        open_tracker(RecordingStore(0.01, shared)) as two,
        trio.open_nursery() as nursery,
    ):
        for tracker in (one, two):

            async def go(tracker: object = tracker) -> None:
                try:
                    async with tracker.session("a", resume="always") as session:  # type: ignore[attr-defined]
                        won.append(session.attempt)
                        await trio.sleep(1)
                except SessionActiveError as error:
                    refused.append(str(error))

            nursery.start_soon(go)
    assert won == [2]
    assert len(refused) == 1


async def test_resuming_needs_a_store_that_answers(autojump_clock: trio.testing.MockClock) -> None:
    store = RecordingStore()
    store.mode = "down"
    async with open_tracker(store) as tracker:
        with pytest.raises(StoreError):
            async with tracker.session("a", resume="interrupted"):
                pass
        assert runtime_of(tracker).open == {}
