"""Scenarios of jobs that follow their parts: into other processes and attempts, and to whatever end."""

from __future__ import annotations

from contextlib import suppress

import trio

from trio_progress import (
    FencedError,
    MemoryStore,
    ProgressTracker,
    Session,
    SessionEndedError,
    Snapshot,
    open_tracker,
)
from trio_progress.testing import FaultyStore, jitter, seeded_random

from ._scenario_parts import nothing_left, stored

ONE = {"lost_after": 1.5, "heartbeat_interval": 0.4, "persist_interval": 0.2}


async def work(session: Session, files: int = 6) -> None:
    """What a part does."""
    with session.phase("files", total=files) as phase:
        while phase.done < files:
            phase.advance()
            await jitter(0.3)


async def followed_into_the_next_attempt() -> None:
    """A part's owner is cut off, another goes on with it; a job whose store is slow follows both, to the right end."""
    shared = MemoryStore()
    rng = seeded_random()
    cut_off, slow = FaultyStore(shared), FaultyStore(shared, delay=rng.choice([0.0, 0.05, 0.3]))
    last: list[Snapshot] = []

    async def first() -> None:
        async with open_tracker(cut_off, **ONE) as tracker:  # type: ignore[arg-type]
            with suppress(FencedError):
                async with tracker.session("part") as session:
                    await jitter(0.5)
                    if rng.random() < 0.5:
                        cut_off.mode = "down"
                        await trio.sleep(8)
                        cut_off.mode = "up"
                    await work(session)

    async def second() -> None:
        async with open_tracker(shared, **ONE) as tracker:  # type: ignore[arg-type]
            while (state := await tracker.snapshot("part")).status != "completed":
                if state.status == "lost":
                    await trio.sleep(rng.choice([0.0, 4.0]))  # By then it is written off.
                    async with tracker.session("part", resume="interrupted") as session:
                        await work(session)
                await trio.sleep(0.5)

    async with trio.open_nursery() as nursery, open_tracker(slow, **ONE) as tracker:  # type: ignore[arg-type]
        async with open_tracker(shared) as front:
            await front.declare("part", parent="job")
        nursery.start_soon(first)
        nursery.start_soon(second)
        async with tracker.session("job") as session:
            with session.phase("parts", total=1) as phase:
                last.append(await phase.follow("part"))
        final = session.snapshot()
    mirror = final.phase("parts", "part")
    assert (final.status, final.progress, mirror.status, mirror.fraction) == ("completed", 1.0, "completed", 1.0)
    assert mirror.follows is not None
    assert (mirror.follows.status, mirror.follows.attempt) == ("completed", last[0].attempt)
    assert (mirror.done, mirror.total) == (6, 6)
    end = await stored(slow, "part")
    assert (last[0].epoch, last[0].seq, end.status) == (end.epoch, end.seq, "completed")
    assert (await stored(slow, "job")).phase("parts", "part") == mirror
    nothing_left(tracker)


async def two_jobs_of_which_one_owns_the_part() -> None:
    """One job stops following, or is cancelled, at any moment; another one owns the part, and is cancelled or not."""
    shared = MemoryStore()
    rng = seeded_random()
    cancels, leaves = rng.random() < 0.5, rng.random() < 0.5

    async def job(tracker: ProgressTracker, name: str, patience: float, cancelled: bool) -> str:
        try:
            async with tracker.session(name) as session:
                try:
                    async with trio.open_nursery() as nursery:
                        if cancelled:
                            nursery.start_soon(cancel_soon, session)
                        with session.phase("parts", total=1) as phase, trio.move_on_after(patience):
                            await phase.follow("part")
                        nursery.cancel_scope.cancel()
                finally:
                    opened[name] = session
        except* SessionEndedError:
            pass
        return opened[name].status

    ends: dict[str, str] = {}
    opened: dict[str, Session] = {}
    async with open_tracker(shared, **ONE) as tracker, open_tracker(shared, **ONE) as other:  # type: ignore[arg-type]
        await other.declare("part", parent="owns")
        async with trio.open_nursery() as nursery:

            async def part() -> None:
                async with other.session("part") as session:
                    await work(session)

            async def run(name: str, patience: float, cancelled: bool) -> None:
                ends[name] = await job(tracker, name, patience, cancelled)

            nursery.start_soon(part)
            nursery.start_soon(run, "owns", 100.0, cancels)
            nursery.start_soon(run, "looks-on", rng.uniform(0.0, 1.0) if leaves else 100.0, not leaves)
        end = (await stored(FaultyStore(shared), "part")).status
        assert end in (("completed", "cancelled") if ends["owns"] == "cancelled" else ("completed",)), (end, ends)
        if end == "cancelled":
            assert ends["owns"] == "cancelled"
        nothing_left(tracker)
        nothing_left(other)


async def follow(session: Session) -> None:
    """Follows the part."""
    with session.phase("parts") as phase:
        await phase.follow("part")


async def a_minute(tracker: ProgressTracker) -> None:
    """A part that takes longer than the job."""
    async with tracker.session("part"):
        await trio.sleep(60)


async def takes_over(tracker: ProgressTracker) -> None:
    """Goes on with the job once it is lost."""
    async with tracker.watch("job", wait=True) as snapshots:
        async for snapshot in snapshots:
            if snapshot.status == "lost":
                break
        else:
            return  # It has ended before.
    async with tracker.session("job", resume="interrupted"):
        await trio.sleep(20)


async def cancel_soon(session: Session) -> None:
    """Cancels at a moment that the seed decides."""
    await jitter(1.5)
    if session.status == "running":
        session.cancel()


async def a_job_ends_while_its_store_is_down() -> None:
    """Its part is cancelled where the store takes the end of a job without success; never where it was fenced."""
    shared = MemoryStore()
    rng = seeded_random()
    store = FaultyStore(shared)
    how = rng.choice(["failed", "cancelled", "interrupted", "fenced"])

    async def job() -> None:
        async with open_tracker(store, **ONE) as tracker:  # type: ignore[arg-type]
            try:
                async with tracker.session("job") as session, trio.open_nursery() as nursery:
                    nursery.start_soon(follow, session)
                    await session.flush()
                    await jitter(0.5)
                    store.mode = rng.choice(["down", "lost"])
                    nursery.start_soon(back, 6.0 if how == "fenced" else rng.uniform(0.0, 2.0))
                    await trio.sleep(5.0 if how == "fenced" else 0.1)
                    if how == "interrupted":
                        raise KeyboardInterrupt
                    if how == "cancelled":
                        session.cancel()
                        await trio.sleep(1)
                    raise OSError("no disk")
            except* (OSError, KeyboardInterrupt, FencedError):
                pass
        nothing_left(tracker)

    async def back(after: float) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(after)
            store.mode = "up"

    async with open_tracker(shared, **ONE) as other, trio.open_nursery() as nursery:  # type: ignore[arg-type]
        await other.declare("part", parent="job")
        nursery.start_soon(a_minute, other)
        await trio.sleep(0.1)
        if how == "fenced":
            async with trio.open_nursery() as both:
                both.start_soon(job)
                both.start_soon(takes_over, other)
        else:
            await job()
        await trio.sleep(3)  # Above the second in all by which the explorer may hold a schedule up.
        end, part = (await other.snapshot("job")).status, await other.snapshot("part")
        # Away for long, it was written off and fenced, whatever it wanted to say.
        cancels = end in ("failed", "cancelled")
        # Begun only when it had been cancelled already, it is another run, and nobody's part.
        assert (part.parent, part.status) in (
            [("job", "cancelled"), (None, "running")] if cancels else [("job", "running")]
        )
        nursery.cancel_scope.cancel()
