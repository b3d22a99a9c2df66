"""Replays the same schedules to trio-progress: the clock jumps, and the seed shuffles the scheduler."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import TypeVar

import trio
import trio._core._run as trio_run
import trio.testing

from trio_progress import MemoryStore, Pipeline, ProgressTracker, Session, SessionActiveError, open_tracker
from trio_progress.protocol.messages import End, Message, Update
from trio_progress.protocol.snapshot import Snapshot
from trio_progress.state.record import decode_record
from trio_progress.stores.base import Append, Changes, Claim, Claimed, Done, Outcome, Page, Query, Seen, Stored, Write

from .drive_asyncio import AFTERWARDS, ID
from .old import ROOM, STORE_SECONDS
from .outcome import NEVER, Cancelled, Look, Replay, Stays
from .schedule import PHASES, Call, Client, Schedule, Stay

T = TypeVar("T")

PIPELINE = Pipeline("research", PHASES)

OVER = ("completed", "skipped")

CHILDREN = ("Heartbeat of", "Persister of", "Broadcaster of")
"""What the names of a session's tasks begin with."""


class TimedStore:
    """A memory store that takes as long as the models' does, and remembers when it took which state."""

    def __init__(self) -> None:
        self._inner = MemoryStore()
        self.taken: list[float] = []
        self.numbers: list[int] = []

    async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        """Stores; counts the states that were taken."""
        await trio.sleep(STORE_SECONDS)
        outcomes = await self._inner.commit(batch)
        for write, outcome in zip(batch, outcomes, strict=True):
            if isinstance(write, Append) and isinstance(outcome, Done):
                self.numbers.append(write.key.seq)
            elif isinstance(write, Claim) and isinstance(outcome, Claimed):
                self.numbers.append(write.seq)
            else:
                continue
            self.taken.append(trio.current_time())
        return outcomes

    async def read(self, session_id: str) -> Stored | None:
        """As the memory store does."""
        return await self._inner.read(session_id)

    async def list(self, query: Query) -> Page:
        """As the memory store does."""
        return await self._inner.list(query)

    async def changes(self, mark: str | None, seen: Mapping[str, Seen | None]) -> Changes:
        """As the memory store does."""
        return await self._inner.changes(mark, seen)

    async def aclose(self) -> None:
        """As the memory store does."""
        await self._inner.aclose()


class TrioProgress:
    """trio-progress as a contender.

    Args:
        room: Messages that a client's socket takes before a sender has to wait.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._room = room

    def replay(self, schedule: Schedule, seed: int) -> Replay:
        """Replays a schedule; the order of tasks within a tick is the seed's."""
        return _run(seed, _Replaying(schedule, self._room).run)

    def stays(self, stays: Sequence[Stay], seed: int) -> Stays:
        """Lets each caller open the session, and leave it."""
        return _run(seed, partial(_stays, stays))

    def cancelled(self, seed: int) -> Cancelled:
        """A run is cancelled about when it hands over to its second phase."""
        return _run(seed, partial(_cancelled, random.Random(seed).randrange(4)))


def _run(seed: int, main: Callable[[], Awaitable[T]]) -> T:
    with shuffled(seed):
        return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@contextmanager
def shuffled(seed: int) -> Iterator[None]:
    """Trio shuffles every batch of runnable tasks, by this seed.

    The names are Trio's private ones: without them it mostly reverses a batch or not, by a seed of its own.
    """
    private = vars(trio_run)
    kept = {name: private[name] for name in ("_ALLOW_DETERMINISTIC_SCHEDULING", "_r")}
    private.update(_ALLOW_DETERMINISTIC_SCHEDULING=True, _r=random.Random(seed))
    try:
        yield
    finally:
        private.update(kept)


class _Reader:
    """One client behind a socket that holds some messages: what it has, and what was wrong with what it got."""

    def __init__(self, client: Client, room: int) -> None:
        self.client = client
        self._socket, self._other_end = trio.open_memory_channel[Message](room)
        self.has: Snapshot | None = None
        self.at = 0.0
        self.got = 0
        self.conflated = 0
        self.broken = 0
        self.reordered = 0
        self.history: list[float] = []
        self.ended = False

    async def serve(
        self, tracker: ProgressTracker, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """The server's side of the socket: takes the next message when there is room for it."""
        async with tracker.subscribe(ID) as messages, self._socket:
            task_status.started()
            async for message in messages:
                await self._socket.send(message)

    async def read(self) -> None:
        """The client: takes what comes, at its pace, until the socket is closed."""
        async with self._other_end:
            async for message in self._other_end:
                await trio.sleep(self.client.pace)
                if isinstance(message, (Snapshot, Update)):
                    self._take(message)
                self.ended = self.ended or isinstance(message, End)

    def _take(self, message: Snapshot | Update) -> None:
        before, self.at = self.has, trio.current_time()
        self.got += 1
        self.history += (self.at, message.seq)
        if before is not None and message.seq <= before.seq:
            self.reordered += 1
        if isinstance(message, Snapshot):
            self.has = message
        elif before is None or (before.seq, before.epoch) != (message.from_, message.head.epoch):
            self.broken += 1  # A browser would ask for a new snapshot; what lay between is lost on it.
        else:
            self.conflated += message.seq - message.from_ - 1
            self.has = message.apply(before)


class _Replaying:
    def __init__(self, schedule: Schedule, room: int) -> None:
        self._schedule = schedule
        self._room = room
        self._found = Replay()
        self._late = 0
        self._begin = 0.0

    async def run(self) -> Replay:
        schedule, found, store = self._schedule, self._found, TimedStore()
        readers = [_Reader(client, self._room) for client in schedule.clients]
        async with open_tracker(store) as tracker:
            async with trio.open_nursery() as reading:  # noqa: SIM117 - the order in which they are left
                async with tracker.session(ID, PIPELINE) as session:
                    self._begin = trio.current_time()
                    for reader in readers:
                        await reading.start(reader.serve, tracker)
                        reading.start_soon(reader.read)
                    async with trio.open_nursery() as working:
                        for calls in schedule.by_caller.values():
                            working.start_soon(self._call, session, calls)
                        working.start_soon(self._look, session)
                    await self._until(schedule.end)
            await trio.sleep(AFTERWARDS)
            final = session.snapshot()
            stored = await store.read(ID)
            found.final_stored = stored is not None and _state(stored) == (final.status, final.seq, final.phases)
            found.stored_at = [at - self._begin for at in store.taken]
            found.left_behind = tracker.statistics().sessions_open + tracker.statistics().subscribers
            self._judge(readers, final)
            self._compare(tracker, readers, store, final)
        return found

    async def _call(self, session: Session, calls: Sequence[tuple[int, Call]]) -> None:
        for _, call in calls:
            await self._until(call.at)
            begun = trio.current_time()
            self._say(session, call)
            await trio.lowlevel.checkpoint()
            self._found.longest_call = max(self._found.longest_call, trio.current_time() - begun)

    def _say(self, session: Session, call: Call) -> None:
        if call.kind == "count":
            phase = session.phases[call.phase]
        else:
            self._late += session.phases[call.phase].status in OVER
            phase = session.advance_to(call.phase, total=call.total or None)
        if call.kind != "enter":
            self._late += phase.status != "running"
            if call.kind == "count":
                phase.advance()
            else:
                phase.update(done=call.done)

    async def _look(self, session: Session) -> None:
        for moment in self._schedule.looks:
            await self._until(moment)
            over = frozenset(name for name, phase in session.phases.items() if phase.status in OVER)
            self._found.looks.append(Look(moment, session.snapshot().progress * 100, over))
            self._found.tasks = max(self._found.tasks, len(_tasks()))

    def _judge(self, readers: Sequence[_Reader], final: Snapshot) -> None:
        found, last_call = self._found, self._begin + self._schedule.calls[-1].at
        for reader in readers:
            has = reader.has
            right = has is not None and (has.status, has.seq, has.phases) == (final.status, final.seq, final.phases)
            found.sent += reader.got
            found.lost += reader.broken
            found.reordered += reader.reordered
            found.wrong_end += not (right and reader.ended)
            if not reader.client.slow:
                found.lag = max(found.lag, reader.at - last_call if right else NEVER)
        found.history = hash(tuple(moment for reader in readers for moment in reader.history))

    def _compare(
        self, tracker: ProgressTracker, readers: Sequence[_Reader], store: TimedStore, final: Snapshot
    ) -> None:
        counted = tracker.statistics()
        for name, says, got in (
            ("broadcasts", counted.broadcasts, sum(reader.got for reader in readers)),
            ("conflated", counted.conflated, sum(reader.conflated for reader in readers)),
            ("persists", counted.persists, len(store.numbers)),
            ("persists_coalesced", counted.persists_coalesced, _passed_over(store.numbers)),
            ("states", counted.states, final.seq),
            ("late", counted.late, self._late),
            ("sessions", counted.sessions_ended, 1),
            ("final_lost", counted.final_lost, int(not self._found.final_stored)),
        ):
            if says != got:
                self._found.disagreements.append(f"{name} says {says}, it was {got}")

    async def _until(self, moment: float) -> None:
        await trio.sleep_until(self._begin + moment)


def _passed_over(numbers: Sequence[int]) -> int:
    """How many published states lie between those that were stored."""
    return sum(max(then - number - 1, 0) for number, then in pairwise(numbers))


def _state(stored: Stored) -> tuple[object, ...]:
    state = decode_record(ID, *stored.key, stored.record).state
    return state.status, state.seq, state.phases


async def _stays(stays: Sequence[Stay]) -> Stays:
    found = Stays()

    async def stay(tracker: ProgressTracker, one: Stay) -> None:
        await trio.sleep_until(begin + one.at)
        try:
            async with tracker.session(ID):
                await trio.sleep(one.seconds)
        except SessionActiveError:
            found.refused += 1
        except Exception:
            found.errors += 1

    async with open_tracker(TimedStore()) as tracker:
        begin = trio.current_time()
        async with trio.open_nursery() as nursery:
            for one in stays:
                nursery.start_soon(stay, tracker, one)
        await trio.sleep(AFTERWARDS)
        found.heartbeats_left = sum(task.name.startswith(CHILDREN) for task in _tasks())
    return found


async def _cancelled(passes: int) -> Cancelled:
    async with open_tracker(TimedStore()) as tracker:
        before = len(_tasks())

        async def run(task_status: trio.TaskStatus[None]) -> None:
            async with tracker.session(ID, PIPELINE) as session:
                session.advance_to("classification", total=1).advance()
                task_status.started()
                await trio.lowlevel.checkpoint()
                session.advance_to("search", total=10)
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            for _ in range(passes):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        classification, search, *_ = (await tracker.snapshot(ID)).phases
        lost = search.status != "pending" and classification.status != "completed"
        await trio.sleep(AFTERWARDS)
        return Cancelled(lost, len(_tasks()) - before)


def _tasks() -> list[trio.lowlevel.Task]:
    """All tasks of the run."""
    root = trio.lowlevel.current_root_task()
    found: list[trio.lowlevel.Task] = []
    todo = [] if root is None else [root]
    while todo:
        task = todo.pop()
        found.append(task)
        todo += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found
