"""What goes on between the rules of the model, and what must be true whatever happens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio
import trio.testing
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize

from tests.support import core_of
from tests.unit.scenarios.tracker_model.parts import (
    PIPELINE,
    Process,
    Reader,
    Run,
    Stage,
    T,
    Told,
    core,
    epoch_of,
)
from trio_progress import (
    FencedError,
    MemoryStore,
    ProgressError,
    SessionActiveError,
    SessionCompletedError,
    StoreError,
)
from trio_progress.protocol.snapshot import ENDED
from trio_progress.state.record import Record, decode_record
from trio_progress.stores.base import Append, Stored
from trio_progress.testing import FaultyStore
from trio_progress.tracker import runtime_of

IDS = ("a", "b")
GOES_ON = {
    "never": (),
    "interrupted": ("interrupted", "running", "lost"),
    "always": ("interrupted", "running", "lost", "failed", "cancelled", "timed_out"),
}
CALM = 60.0
"""Virtual seconds after which all is quiet: leases have lapsed, readers are back, what was lost is written off."""


class World(RuleBasedStateMachine):
    """Trackers on one store, the sessions and readers that they have, and what is checked of them."""

    stage: Stage | None = None

    @initialize(seed=st.integers(0, 2**32 - 1))
    def begin(self, seed: int) -> None:
        self.stage = Stage(seed)
        self.problems: list[BaseException] = []
        self.runs: list[Run] = []
        self.readers: list[Reader] = []
        self.deleted: set[str] = set()
        self.cancelled: set[str] = set()
        self.stores: list[FaultyStore] = []

        async def first() -> None:
            self.inner = MemoryStore()
            self.processes = [await self.started() for _ in range(2)]
            await self.opening(Run(self.processes[0], "a", "never"))

        self.do(first)

    def do(self, order: Callable[[], Awaitable[T]]) -> T:
        async def ordered() -> T:
            answer = await order()
            await trio.sleep(0.01)  # No two claims in one millisecond of the wall clock.
            return answer

        assert self.stage is not None
        try:
            return self.stage.do(ordered)
        finally:
            if self.problems:  # What a task has found comes first: the others follow from it.
                raise self.problems[0]

    def spawn(self, task: Callable[[], Awaitable[object]]) -> None:
        async def watched() -> None:
            try:
                await task()
            except Exception as error:
                self.problems.append(error)

        assert self.stage is not None
        self.stage.nursery.start_soon(watched)

    async def started(self) -> Process:
        process = Process(self.inner)
        self.stores.append(process.store)
        self.spawn(process.run)
        await process.ready.wait()
        return process

    async def stored(self, session_id: str) -> tuple[Stored, Record] | None:
        entry = await self.inner.read(session_id)
        return None if entry is None else (entry, decode_record(session_id, *entry.key, entry.record))

    def working(self, index: int) -> Run | None:
        there = [run for run in self.runs if run.working]
        return there[index % len(there)] if there else None

    def owners(self, session_id: str) -> list[Run]:
        return [run for run in self.runs if run.id == session_id and run.working]

    async def opening(self, run: Run) -> None:
        process = run.process
        before = await self.stored(run.id)
        unfinished = [other for other in self.runs if other.id == run.id and not other.left.is_set()]
        reserved = any(other.process is process for other in unfinished)
        # A request that could not be read in time is read by the next run of that id.
        run.asked = process.troubled and run.id in self.cancelled
        self.runs.append(run)
        self.spawn(lambda: self.owner(run))
        await run.opened.wait()
        if run.refused is None:
            assert not reserved, "two sessions of one id in one process"
            await self.check_begun(run, before, calm=not unfinished)
            return
        self.runs.remove(run)
        after = await self.stored(run.id)
        match run.refused:
            case SessionActiveError():
                alive = any(entry is not None and entry[0].alive for entry in (before, after))
                assert reserved or alive, "it was refused, and nobody has it"
            case SessionCompletedError():
                assert run.resume != "never"
                assert after is not None
                assert after[1].state.status == "completed"
            case StoreError():
                assert run.resume != "never"
                assert process.store.mode != "up"
            case error:
                raise error

    async def owner(self, run: Run) -> None:
        """The task that a session's block stands in."""
        around = trio.CancelScope()
        session = None
        try:
            with around:
                async with run.process.tracker.session(run.id, PIPELINE, resume=run.resume) as session:  # type: ignore[arg-type]
                    run.session, run.core = session, core_of(run.process.tracker, run.id)
                    run.opened.set()
                    await run.leave.wait()
                    if run.way == "raises":
                        raise KeyError(run.id)
                    if run.way == "outside":
                        around.cancel()
                    if run.way == "cancels":
                        session.cancel("enough")
                    if run.way == "too slow":
                        around.deadline = trio.current_time() + 0.5
                    if run.way != "returns":
                        await trio.sleep(1)
        except FencedError:
            run.fenced = True
        except KeyError:
            assert run.way == "raises"
        except ProgressError as error:
            assert session is None
            run.refused = error
        run.left.set()
        run.opened.set()
        if session is not None and run.process.alive:
            await self.check_end(run)

    async def check_begun(self, run: Run, before: tuple[Stored, Record] | None, *, calm: bool) -> None:
        session = run.session
        assert session is not None
        state = session.snapshot()
        if session.attempt > 1:
            assert before is not None
            assert before[1].state.status in GOES_ON[run.resume] or not calm
            assert session.attempt == before[1].state.attempt + 1 or not calm
            epoch = before[0].key.epoch
            run.told = Told.of(state, session.saved)
            if calm:
                # A run that was lost may have been written off under an epoch of nobody's. A declared one had no run.
                runs = [one for one in self.runs if one is not run and one.id == run.id and 0 < epoch_of(one) <= epoch]
                last = max(runs, key=epoch_of, default=None)
                found = [Told()] if last is None else [told.gone_on() for told in last.history[last.acked :]]
                assert run.told in found or run.id in self.deleted, f"{run.told} goes on from none of {found}"
        elif calm and before is not None and run.process.store.mode == "up":
            assert before[1].state.status not in GOES_ON[run.resume], "it has begun anew, and should have gone on"
        assert Told.of(state, session.saved) == run.told
        run.note()

    async def check_end(self, run: Run) -> None:
        """Right after the block was left."""
        session = run.session
        assert session is not None
        state = session.snapshot()
        ways = {"returns": "completed", "raises": "failed", "outside": "cancelled", "cancels": "cancelled"}
        expected = {**ways, "too slow": "timed_out"}[run.way]
        if run.failed and expected != "timed_out":
            expected = "failed"
        if run.fenced and state.status == "failed":
            pass  # Else it was found out while the end was flushed.
        elif run.asked:
            assert state.status in (expected, "failed" if run.failed else "cancelled")
        else:
            assert run.leave.is_set(), f"the session has ended by itself, as {state.status}"
            assert state.status == expected
        assert Told.of(state, session.saved) == run.told.ended(state.status)
        assert runtime_of(run.process.tracker).open.get(run.id) is None
        entry = await self.stored(run.id)
        if run.fenced:
            # Somebody else has it; or had it all the time, where the claim was still pending.
            assert run.core is not None
            assert run.core.persister is not None
            pending = run.core.persister.stored is None
            assert entry is None or entry[0].key.epoch > session.epoch or pending or run.id in self.deleted
        elif entry is not None and entry[0].key == (session.epoch, state.seq):
            assert entry[1].state.resuming("") == state.resuming("")
            assert not entry[0].alive

    async def left(self, process: Process) -> None:
        """A tracker is left, and nothing is left of it."""
        process.leave.set()
        await process.over.wait()
        for reader in self.readers:
            reader.subscriber.resume_from()
        await trio.sleep(CALM)  # Slow readers read what there was to its end.
        runtime = runtime_of(process.tracker)
        assert not runtime.open
        assert not runtime.hub.topics
        assert not runtime.held()["writers"]
        assert all(run.left.is_set() for run in self.runs if run.process is process)

    async def quiet(self) -> None:
        for process in self.processes:
            process.store.mode = "up"
        for reader in self.readers:
            reader.subscriber.resume_from()
        await trio.sleep(CALM)
        for session_id in IDS:
            await self.agree(session_id)

    async def agree(self, session_id: str) -> None:
        entry = await self.stored(session_id)
        owners = self.owners(session_id)
        assert len(owners) <= 1, "two owners of one session"
        if entry is None:
            assert not owners
            return
        stored = entry[1].state
        assert stored.status in ENDED or stored.status == "queued" or owners, "a session that nobody runs is not lost"
        for run in owners:
            assert run.session is not None
            assert core(run.session.snapshot()) == core(stored)
        for process in self.processes:
            assert core(await process.tracker.snapshot(session_id)) == core(stored)
        for reader in self.readers:
            subscriber = reader.subscriber
            if subscriber.id != session_id or subscriber.view is None:
                continue
            if not reader.over:
                assert core(subscriber.view) == core(stored), "a subscriber has been left behind"
            elif subscriber.end is None:
                assert session_id in self.deleted, "a subscription is over, and nobody said why"
            for run in self.runs:
                known = run.session
                if known is not None and run.id == session_id and known.epoch == subscriber.view.epoch:
                    assert core(known.snapshot()) == core(subscriber.view) or not run.process.alive

    def teardown(self) -> None:
        if self.stage is None:
            return
        try:
            if not self.problems:
                self.do(self.finishing)
                self.check_ends()
        finally:
            self.stage.close()

    async def finishing(self) -> None:
        await self.quiet()
        for run in self.runs:
            run.leave.set()
        await self.quiet()
        for process in self.processes:
            await self.left(process)

    def check_ends(self) -> None:
        """No epoch of a session has two ends."""
        ends: dict[tuple[str, int], set[int]] = {}
        for store in self.stores:
            for _, mode, batch in store.commits:
                for write in batch:
                    if isinstance(write, Append) and write.lease is None and mode != "down":
                        ends.setdefault((write.id, write.key.epoch), set()).add(write.key.seq)
        assert all(len(seqs) == 1 for seqs in ends.values()), ends
