"""What several tests stand on: a store that remembers, and Trio's scheduler with a seed."""

from __future__ import annotations

import random
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import hypothesis
import trio
import trio._core._run as trio_run
from hypothesis import strategies

from trio_progress import MemoryStore, ProgressTracker, StoreError
from trio_progress.protocol.snapshot import ENDED, Snapshot
from trio_progress.session.core import SessionCore
from trio_progress.state.record import decode_record
from trio_progress.stores.base import (
    Append,
    Changes,
    Claim,
    Claimed,
    Done,
    Key,
    Outcome,
    Page,
    Query,
    Renew,
    Seen,
    Store,
    Stored,
    Write,
)
from trio_progress.tracker import runtime_of


class Seeds(Protocol):
    """What the fixture `seeds` is: so many fresh seeds, or with `--exhaustive` as many as that says."""

    def __call__(self, count: int, *, exhaustive: int | None = None) -> Iterator[int]: ...


class Cases(Protocol):
    """What the fixture `cases` is: the usual number, or with `--exhaustive` as many as that says, or a part of them."""

    def __call__(self, usual: int, *, exhaustive: int) -> int: ...


PATIENCE = 60.0
"""Seconds in which anything comes to pass that is bound to, on a machine that is slow and busy."""


def examples(count: int) -> int:
    """How many examples a test by hypothesis tries that with `--exhaustive` tries `count`."""
    return max(5, count * hypothesis.settings().max_examples // 100)


TEXT = strategies.characters(exclude_categories=["Cs"])
"""What `strategies.text()` draws by itself, without trying all there is to find out, which takes it two seconds."""


def reserve(port: int) -> bool:
    """Takes a port for this process, of all tests that run beside it; False where another one of them has it.

    Who is to listen there begins later, and until then a look at the port finds it free. Held until the process ends,
    by a name that ports have the same scope as: that of an abstract socket.
    """
    if sys.platform != "linux":
        return True
    name = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        name.bind(f"\0trio-progress-test-port-{port}")
    except OSError:
        name.close()
        return False
    name.detach()
    return True


def free_port() -> int:
    """A port that nobody has, below those that a system gives to whoever says none, as the tests beside this do."""
    for port in random.SystemRandom().sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            if reserve(port):
                return port
    raise AssertionError("a hundred ports are taken")


def core_of(tracker: ProgressTracker, session_id: str) -> SessionCore:
    """The inside of a session that is open in this tracker."""
    core = runtime_of(tracker).open[session_id].core
    assert core is not None
    return core


def logs_of(store: MemoryStore) -> dict[str, Any]:
    """What a store in memory holds, for what comes over it from outside: a FLUSHALL, an older backup."""
    return store._logs


class PassingStore:
    """A store that passes all on to another one, which belongs to somebody else; tests derive theirs from it."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        return await self.inner.commit(batch)

    async def read(self, session_id: str) -> Stored | None:
        return await self.inner.read(session_id)

    async def list(self, query: Query) -> Page:
        return await self.inner.list(query)

    async def changes(self, mark: str | None, seen: Mapping[str, Seen | None]) -> Changes:
        return await self.inner.changes(mark, seen)

    async def aclose(self) -> None:
        pass


class RecordingStore:
    """A memory store that remembers what it has taken, answers after `delay` seconds, and can be out of order.

    Trackers that share what they keep, as processes do, are given stores with the same `inner`.
    """

    def __init__(self, delay: float = 0.0, inner: MemoryStore | None = None) -> None:
        self.inner = MemoryStore() if inner is None else inner
        self.delay = delay
        self.mode = "up"
        """"up"; "down": raises at once; "hang": never answers; "lost": does it, but the answer is lost."""
        self.tries: list[float] = []
        """When it was asked to commit."""
        self.answered = 0
        """Commits that it answered."""
        self.unanswered = 0
        """Writes in the commits that it did not."""
        self.taken: dict[str, list[tuple[Key, Snapshot]]] = {}
        self.leases: dict[str, int] = {}
        """The epoch that holds a lease, by session; those that were released are not in it."""

    async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        self.tries.append(trio.current_time())
        await trio.sleep(self.delay)
        self.unanswered += len(batch)
        await self._trouble()
        outcomes = await self.inner.commit(batch)
        for write, outcome in zip(batch, outcomes, strict=True):
            if isinstance(write, Claim) and isinstance(outcome, Claimed):
                self._take(write.id, Key(outcome.epoch, write.seq), write.record, write.lease)
            elif isinstance(write, Append) and isinstance(outcome, Done):
                self._take(write.id, write.key, write.record, write.lease)
            elif isinstance(write, Renew) and isinstance(outcome, Done):
                self.leases[write.id] = write.epoch
        if self.mode == "lost":
            raise StoreError("the connection broke")
        self.unanswered -= len(batch)
        self.answered += 1
        return outcomes

    async def _trouble(self) -> None:
        if self.mode == "down":
            raise StoreError("connection refused")
        if self.mode == "hang":
            await trio.sleep_forever()

    def _take(self, session_id: str, key: Key, record: bytes, lease: float | None) -> None:
        self.taken.setdefault(session_id, []).append((key, decode_record(session_id, *key, record).state))
        if lease is None:
            self.leases.pop(session_id, None)
        else:
            self.leases[session_id] = key.epoch

    async def read(self, session_id: str) -> Stored | None:
        await self._trouble()
        return await self.inner.read(session_id)

    async def list(self, query: Query) -> Page:
        await self._trouble()
        return await self.inner.list(query)

    async def changes(self, mark: str | None, seen: Mapping[str, Seen | None]) -> Changes:
        await self._trouble()
        return await self.inner.changes(mark, seen)

    async def aclose(self) -> None:
        await self.inner.aclose()

    def ends(self, session_id: str) -> dict[int, Sequence[Snapshot]]:
        """The ended states that were taken, by epoch."""
        taken = self.taken.get(session_id, ())
        return {
            epoch: tuple(state for key, state in taken if key.epoch == epoch and state.status in ENDED)
            for epoch in {key.epoch for key, _ in taken}
        }


@contextmanager
def seeded_scheduler(seed: int) -> Iterator[random.Random]:
    """Trio shuffles every batch of runnable tasks, by this seed; and so do `random` and the test.

    The names are Trio's private ones: without them Trio shuffles on its own, and nothing could be replayed.
    """
    private = vars(trio_run)
    kept = {name: private[name] for name in ("_ALLOW_DETERMINISTIC_SCHEDULING", "_r")}
    private.update(_ALLOW_DETERMINISTIC_SCHEDULING=True, _r=random.Random(seed + 1))
    try:
        yield random.Random(seed)
    finally:
        private.update(kept)


class QuietHost:
    """The host of a state that nobody owns; it counts what it is told."""

    def __init__(self) -> None:
        self.stirs = self.urges = self.lates = 0
        self.dropped: list[Exception] = []
        self.refused: list[Exception] = []

    def mark_dirty(self) -> None:
        self.stirs += 1

    def request_persist(self) -> None:
        self.urges += 1

    def drain(self, node: object) -> None:
        pass

    def timed(self, node: object) -> None:
        pass

    def refuse_result(self, error: Exception) -> None:
        self.refused.append(error)

    def late(self, what: str, where: str) -> None:
        self.lates += 1

    def drop(self, error: Exception) -> None:
        self.dropped.append(error)
