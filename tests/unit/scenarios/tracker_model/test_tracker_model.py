"""Two whole trackers on one store beside a simple model: whatever happens to them in whatever order, they agree.

Hypothesis draws what happens: sessions that are declared, begun, resumed, worked on, handed over, cancelled, failed,
left and deleted; owners that crash, or are cut off for so long that somebody else takes over; stores that are
down, hang or lose their answers; subscribers that are slow, stall, vanish and resume. The model knows of each run
what it was told, and that is all that it knows.

The trackers live in a run of Trio of their own, in virtual time, in a thread that goes on only while a rule waits
for it; in which order tasks run is drawn as well. `--exhaustive` tries more than the usual few, and
EXAMPLES=1000 in the environment more than that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import trio
import trio.testing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.support import examples
from tests.unit.scenarios.tracker_model.parts import NAMES, PIPELINE, Reader, Run, Told
from tests.unit.scenarios.tracker_model.world import GOES_ON, IDS, World
from trio_progress import (
    FencedError,
    ProgressError,
    Session,
    SessionActiveError,
    SessionClosedError,
    SessionNotFoundError,
    StoreError,
)
from trio_progress.testing import Subscriber

EXAMPLES = int(os.environ.get("EXAMPLES", "0")) or examples(25)

which = st.integers(0, 5)
process_of = st.integers(0, 1)
some_id = st.sampled_from(IDS)
some_name = st.sampled_from(NAMES)
some_resume = st.sampled_from(list(GOES_ON))


def somebody_works(model: TrackerModel) -> bool:
    return any(run.working for run in model.runs)


class TrackerModel(World):
    """What happens."""

    # Sessions come and go

    @rule(number=process_of, session_id=some_id, resume=some_resume)
    def open(self, number: int, session_id: str, resume: str) -> None:
        if self.processes[number].store.mode != "hang" or resume == "never":  # To go on it has to be read.
            self.do(lambda: self.opening(Run(self.processes[number], session_id, resume)))

    @precondition(lambda model: any(not model.owners(session_id) for session_id in IDS))
    @rule(number=process_of, resume=some_resume)
    def open_again(self, number: int, resume: str) -> None:
        """One that nobody runs now."""
        self.open(number, next(session_id for session_id in IDS if not self.owners(session_id)), resume)

    @precondition(somebody_works)
    @rule(index=which, resume=some_resume, seconds=st.sampled_from([5.0, 13.0, 40.0]))
    def take_over(self, index: int, resume: str, seconds: float) -> None:
        """An owner is cut off from the store, for long enough or not, and another process wants its session."""
        run = self.working(index)
        assert run is not None
        number = self.processes.index(run.process)

        async def cutting() -> None:
            run.process.store.mode = "down"
            run.process.troubled = True
            await trio.sleep(seconds)

        self.do(cutting)
        self.open(1 - number, run.id, resume)

    @rule(index=which, way=st.sampled_from(["returns", "raises", "outside", "cancels", "too slow"]), wait=st.booleans())
    @precondition(somebody_works)
    def leave(self, index: int, way: str, wait: bool) -> None:
        run = self.working(index)
        if run is None or run.leave.is_set():
            return

        async def leaving() -> None:
            run.way = way
            run.leave.set()
            if wait:
                await run.left.wait()

        self.do(leaving)

    @rule(number=process_of, session_id=some_id)
    def declare(self, number: int, session_id: str) -> None:
        process = self.processes[number]

        async def declaring() -> None:
            try:
                state = await process.tracker.declare(session_id, PIPELINE)
            except SessionActiveError:
                assert any(run.id == session_id for run in self.runs)
            except StoreError:
                assert process.store.mode != "up"
            else:
                assert state.status == "queued"
                self.deleted.add(session_id)  # What was there before is no longer what the id stands for.

        if process.store.mode != "hang":
            self.do(declaring)

    @rule(number=process_of, session_id=some_id)
    def cancel(self, number: int, session_id: str) -> None:
        process = self.processes[number]

        async def cancelling() -> None:
            self.cancelled.add(session_id)
            for run in self.runs:
                run.asked = run.asked or run.id == session_id
            before = await self.stored(session_id)
            try:
                await process.tracker.cancel(session_id, "please")
            except SessionNotFoundError:
                assert before is None
            except StoreError:
                assert process.store.mode != "up"

        if process.store.mode != "hang":
            self.do(cancelling)

    @rule(number=process_of, session_id=some_id)
    def delete(self, number: int, session_id: str) -> None:
        process = self.processes[number]

        async def deleting() -> None:
            self.deleted.add(session_id)
            try:
                await process.tracker.delete(session_id)
            except SessionActiveError:
                assert any(run.id == session_id for run in self.runs)
            except SessionNotFoundError:
                pass
            except StoreError:
                assert process.store.mode != "up"

        if process.store.mode != "hang":
            self.do(deleting)

    # The work

    def work(self, index: int, what: Callable[[Run, Session], object]) -> None:
        run = self.working(index)
        if run is None:
            return

        async def working() -> None:
            # The session may have ended while we came here; then it is no work any more.
            if run.working and run.session is not None:
                what(run, run.session)
                run.note()

        self.do(working)

    @rule(index=which, name=some_name, total=st.none() | st.integers(0, 9))
    @precondition(somebody_works)
    def enter(self, index: int, name: str, total: int | None) -> None:
        def what(run: Run, session: Session) -> None:
            if run.told.phases[name][0] in ("pending", "failed", "cancelled"):
                session.phase(name, total=total).__enter__()
                run.told.phases[name] = ("running", 0.0)
                run.totals[name] = total
                run.failing.discard(name)

        self.work(index, what)

    @rule(index=which, name=some_name, n=st.integers(0, 5))
    @precondition(somebody_works)
    def advance(self, index: int, name: str, n: int) -> None:
        def what(run: Run, session: Session) -> None:
            status, done = run.told.phases[name]
            if status != "pending":
                session.phases[name].advance(n)
            if status == "running":
                run.told.phases[name] = (status, done + n)

        self.work(index, what)

    @rule(index=which, name=some_name, error=st.sampled_from([None, KeyError()]))
    @precondition(somebody_works)
    def exit(self, index: int, name: str, error: Exception | None) -> None:
        def what(run: Run, session: Session) -> None:
            status, done = run.told.phases[name]
            if status == "running":
                session.phases[name].__exit__(None if error is None else type(error), error, None)
                total = run.totals.get(name)
                failed = error is not None or (name in run.failing and (total is None or done < total))
                run.told.phases[name] = ("failed" if failed else "completed", done)

        self.work(index, what)

    @rule(index=which, name=some_name)
    @precondition(somebody_works)
    def hand_over(self, index: int, name: str) -> None:
        def what(run: Run, session: Session) -> None:
            session.advance_to(name)
            phases = run.told.phases
            if phases[name][0] in ("completed", "skipped"):
                return
            for before in NAMES[: NAMES.index(name)]:
                status, done = phases[before]
                if status in ("running", "pending"):
                    phases[before] = ("completed" if status == "running" else "skipped", done)
            if phases[name][0] != "running":
                phases[name] = ("running", 0.0)
                run.failing.discard(name)

        self.work(index, what)

    @rule(index=which, n=st.integers(-3, 3), name=st.sampled_from("xy"))
    @precondition(somebody_works)
    def values(self, index: int, n: int, name: str) -> None:
        def what(run: Run, session: Session) -> None:
            session.increment(name, n)
            run.told.counters[name] = run.told.counters.get(name, 0) + n
            session.set(**{name: n})
            run.told.fields[name] = n

        self.work(index, what)

    @rule(index=which, count=st.integers(1, 3))
    @precondition(somebody_works)
    def emit(self, index: int, count: int) -> None:
        def what(run: Run, session: Session) -> None:
            for _ in range(count):
                session.emit("found", run.told.events)
                run.told.events += 1

        self.work(index, what)

    @rule(index=which, data=st.integers(0, 99), result=st.booleans())
    @precondition(somebody_works)
    def keep(self, index: int, data: int, result: bool) -> None:
        def what(run: Run, session: Session) -> None:
            session.save(data)
            run.told.saved = data
            if result:
                session.set_result(data)
                run.told.result = data

        self.work(index, what)

    @rule(index=which)
    @precondition(somebody_works)
    def fail(self, index: int) -> None:
        def what(run: Run, session: Session) -> None:
            session.fail("no luck")
            run.failed = True
            run.failing |= {name for name, (status, _) in run.told.phases.items() if status == "running"}

        self.work(index, what)

    @rule(index=which)
    @precondition(somebody_works)
    def flush(self, index: int) -> None:
        run = self.working(index)
        if run is None or run.process.store.mode == "hang":
            return

        async def flushing() -> None:
            session, upto = run.session, len(run.history) - 1
            assert session is not None
            with trio.move_on_after(5):
                try:
                    await session.flush()
                except (FencedError, ProgressError):
                    return
                run.acked = max(run.acked, upto)

        self.do(flushing)

    @rule(index=which)
    @precondition(somebody_works)
    def look(self, index: int) -> None:
        def what(run: Run, session: Session) -> None:
            assert Told.of(session.snapshot(), session.saved) == run.told

        self.work(index, what)

    # Who reads

    @rule(
        number=process_of,
        session_id=some_id,
        delay=st.sampled_from([0.0, 0.05, 1.0]),
        stalls_after=st.sampled_from([None, None, 1, 3]),
        leaves_after=st.sampled_from([None, None, 2, 5]),
        away=st.sampled_from([0.0, 0.5, 20.0]),
    )
    @precondition(lambda self: len(self.readers) < 5)
    def subscribe(self, number: int, session_id: str, **habits: Any) -> None:
        reader = Reader(self.processes[number], Subscriber(session_id, **habits))
        self.readers.append(reader)

        async def reading() -> None:
            while not reader.over:
                try:
                    await reader.subscriber.run(reader.process.tracker)
                except StoreError:
                    assert reader.process.troubled or not reader.process.alive
                    if not reader.process.alive:
                        return
                    await trio.sleep(1)
                except SessionClosedError:
                    assert reader.process.leave.is_set() or not reader.process.alive
                    return
                except AssertionError as error:
                    # Begun while the store was down, a session has an epoch that it may never be granted.
                    excused = "epoch" in str(error) or "twice" in str(error)
                    # Deleted while its owner was taken for lost, it may come back with the epoch of that owner.
                    misled = reader.subscriber.id in self.deleted or any(map(reader.misled_by, self.runs))
                    if not (excused and misled):
                        raise
                    self.readers.remove(reader)
                    return
                else:
                    reader.over = True

        async def subscribing() -> None:
            self.spawn(reading)

        self.do(subscribing)

    # What goes wrong

    @rule(number=process_of, mode=st.sampled_from(["up", "up", "down", "hang", "lost"]))
    def store(self, number: int, mode: str) -> None:
        async def setting() -> None:
            process = self.processes[number]
            process.store.mode = mode  # type: ignore[assignment]
            process.troubled = process.troubled or mode != "up"

        self.do(setting)

    @rule(number=process_of, polite=st.booleans())
    def crash(self, number: int, polite: bool) -> None:
        """A process dies, and what it knew is gone; or its tracker is left. Another one takes its place."""
        process = self.processes[number]

        async def crashing() -> None:
            if polite:
                for run in self.runs:
                    run.asked = run.asked or run.process is process
                await self.left(process)
            process.alive = False
            process.store.mode = "down"
            process.scope.cancel()
            self.readers = [reader for reader in self.readers if reader.process is not process]
            self.processes[number] = await self.started()

        self.do(crashing)

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.3, 2.0, 7.0, 30.0]))
    def wait(self, seconds: float) -> None:
        async def waiting() -> None:
            await trio.sleep(seconds)

        self.do(waiting)

    # What must be true once all is quiet

    @rule()
    def calm(self) -> None:
        self.do(self.quiet)


TestTrackerModel = TrackerModel.TestCase
TestTrackerModel.settings = settings(max_examples=EXAMPLES, stateful_step_count=40)
