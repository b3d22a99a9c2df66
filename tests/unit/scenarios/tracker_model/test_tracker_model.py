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

import copy
import os
import queue
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import trio
import trio.testing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.support import examples, seeded_scheduler
from trio_progress import (
    FencedError,
    MemoryStore,
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
    open_tracker,
)
from trio_progress.protocol.snapshot import ENDED
from trio_progress.state.record import Record, decode_record
from trio_progress.stores.base import Append, Stored
from trio_progress.testing import FaultyStore, Subscriber

T = TypeVar("T")

EXAMPLES = int(os.environ.get("EXAMPLES", "0")) or examples(25)

IDS = ("a", "b")
NAMES = ("search", "analysis", "report")
PIPELINE = Pipeline("research", dict(zip(NAMES, (3, 2, 1), strict=True)))
GOES_ON = {
    "never": (),
    "interrupted": ("interrupted", "running", "lost"),
    "always": ("interrupted", "running", "lost", "failed", "cancelled", "timed_out"),
}
SETTINGS: dict[str, Any] = {"lost_after": 12.0, "heartbeat_interval": 4.0, "flush_timeout": 3.0, "retention": 1e6}
CALM = 60.0
"""Virtual seconds after which all is quiet: leases have lapsed, readers are back, what was lost is written off."""

which = st.integers(0, 5)
process_of = st.integers(0, 1)
some_id = st.sampled_from(IDS)
some_name = st.sampled_from(NAMES)
some_resume = st.sampled_from(list(GOES_ON))


class Stage:
    """A run of Trio in a thread, which stands still unless it is asked to do something."""

    def __init__(self, seed: int) -> None:
        self._orders: queue.SimpleQueue[Callable[[], Awaitable[Any]] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()
        self._seed = seed
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with seeded_scheduler(self._seed):
            try:
                trio.run(self._main, clock=trio.testing.MockClock(autojump_threshold=0))
            except BaseException as error:  # noqa: ASYNC103 - handed over to the thread that waits
                self._answers.put((None, error))
            else:
                self._answers.put((None, None))

    async def _main(self) -> None:
        async with trio.open_nursery() as self.nursery:
            while (order := self._orders.get()) is not None:
                answer, problem = None, None
                try:
                    with trio.fail_after(10_000):
                        answer = await order()
                except Exception as error:
                    problem = error
                self._answers.put((answer, problem))
            self.nursery.cancel_scope.cancel()

    def do(self, order: Callable[[], Awaitable[T]]) -> T:
        self._orders.put(order)
        answer, error = self._answers.get()
        if error is not None:
            raise error
        return answer  # type: ignore[no-any-return]

    def close(self) -> None:
        self._orders.put(None)
        _, error = self._answers.get()
        self._thread.join()
        if error is not None:
            raise error


@dataclass
class Told:
    """What a run was told."""

    phases: dict[str, tuple[str, float]] = field(default_factory=lambda: dict.fromkeys(NAMES, ("pending", 0.0)))
    counters: dict[str, float] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    events: int = 0
    saved: Any = None
    result: Any = None

    def gone_on(self) -> Told:
        """What the next attempt finds."""
        phases = {
            name: phase if phase[0] in ("completed", "skipped") else ("pending", 0.0)
            for name, phase in self.phases.items()
        }
        return Told(phases, dict(self.counters), dict(self.fields), self.events, self.saved, None)

    def ended(self, status: str) -> Told:
        """What the end makes of it."""
        ended = copy.deepcopy(self)
        becomes = status if status in ("completed", "failed") else "cancelled"
        for name, (phase, done) in self.phases.items():
            if phase == "running":
                ended.phases[name] = (becomes, done)
            elif phase == "pending" and status == "completed":
                ended.phases[name] = ("skipped", done)
        return ended

    @classmethod
    def of(cls, state: Snapshot, saved: Any) -> Told:
        """What a state says. What is skipped counts as done, and is no count of ours."""
        phases: dict[str, tuple[str, float]]
        phases = {phase.name: (phase.status, float(phase.done)) for phase in state.phases}
        return cls(phases, dict(state.counters), dict(state.fields), state.events, saved, state.result)


class Process:
    """A tracker with its own way to the store, until it is left or dies."""

    def __init__(self, inner: MemoryStore) -> None:
        self.store = FaultyStore(inner)
        self.scope = trio.CancelScope()
        self.leave = trio.Event()
        self.ready = trio.Event()
        self.over = trio.Event()
        self.alive = True
        self.troubled = False
        """Whether its store has ever failed."""
        self.tracker: ProgressTracker

    async def run(self) -> None:
        with self.scope:
            async with open_tracker(self.store, wall_clock=wall, **SETTINGS) as self.tracker:
                self.ready.set()
                await self.leave.wait()
        self.over.set()


@dataclass(eq=False)
class Run:
    """A session that somebody has begun."""

    process: Process
    id: str
    resume: str
    told: Told = field(default_factory=Told)
    history: list[Told] = field(default_factory=list)
    """All that it was told so far, after each time."""
    acked: int = 0
    """The place in `history` of what the store is known to hold."""
    way: str = "returns"
    leave: trio.Event = field(default_factory=trio.Event)
    opened: trio.Event = field(default_factory=trio.Event)
    left: trio.Event = field(default_factory=trio.Event)
    session: Session | None = None
    refused: Exception | None = None
    fenced: bool = False
    failed: bool = False
    failing: set[str] = field(default_factory=set)
    """The phases that were open when it was said to have failed."""
    totals: dict[str, int | None] = field(default_factory=dict)
    asked: bool = False
    """Whether it was asked to end by somebody else."""

    @property
    def working(self) -> bool:
        return self.process.alive and self.session is not None and not self.session._core.state.over

    def note(self) -> None:
        self.history.append(copy.deepcopy(self.told))


@dataclass(eq=False)
class Reader:
    """A subscriber, and where it is."""

    process: Process
    subscriber: Subscriber
    over: bool = False

    def misled_by(self, run: Run) -> bool:
        """Whether it was shown a run whose claim the store never took."""
        persister = None if run.session is None else run.session._core.persister
        here = run.process is self.process and run.id == self.subscriber.id
        return here and persister is not None and persister.stored is None


def wall() -> float:
    return 1e9 + trio.current_time()


def core(state: Snapshot) -> tuple[object, ...]:
    """What must be the same everywhere, at any time; how alive it is and how long it will take is of the moment."""
    phases = tuple((phase.name, phase.status, phase.done, phase.total, phase.fraction) for phase in state.phases)
    values = (state.status, state.attempt, state.progress, state.message, state.result, state.error)
    return (state.epoch, state.seq, *values, state.counters, state.fields, state.events, phases)


def somebody_works(model: TrackerModel) -> bool:
    return any(run.working for run in model.runs)


class TrackerModel(RuleBasedStateMachine):
    """What happens, and what must be true whatever happens."""

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
                    run.session = session
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
        assert run.process.tracker._runtime.open.get(run.id) is None
        entry = await self.stored(run.id)
        if run.fenced:
            # Somebody else has it; or had it all the time, where the claim was still pending.
            assert session._core.persister is not None
            pending = session._core.persister.stored is None
            assert entry is None or entry[0].key.epoch > session.epoch or pending or run.id in self.deleted
        elif entry is not None and entry[0].key == (session.epoch, state.seq):
            assert entry[1].state.resuming("") == state.resuming("")
            assert not entry[0].alive

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

    async def left(self, process: Process) -> None:
        """A tracker is left, and nothing is left of it."""
        process.leave.set()
        await process.over.wait()
        for reader in self.readers:
            reader.subscriber.resume_from()
        await trio.sleep(CALM)  # Slow readers read what there was to its end.
        runtime = process.tracker._runtime
        assert not runtime.open
        assert not runtime.hub.topics
        assert not runtime.committer._waiting
        assert all(run.left.is_set() for run in self.runs if run.process is process)

    @rule(seconds=st.sampled_from([0.0, 0.05, 0.3, 2.0, 7.0, 30.0]))
    def wait(self, seconds: float) -> None:
        async def waiting() -> None:
            await trio.sleep(seconds)

        self.do(waiting)

    # What must be true once all is quiet

    @rule()
    def calm(self) -> None:
        self.do(self.quiet)

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


def epoch_of(run: Run) -> int:
    return 0 if run.session is None else run.session.epoch


TestTrackerModel = TrackerModel.TestCase
TestTrackerModel.settings = settings(max_examples=EXAMPLES, stateful_step_count=40)
