"""Failovers by real sentinels under load: no acknowledged end is lost, no job is run twice, no call takes too long."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from tests.relay import Relay
from tests.sentinels import SentinelGroup, open_group, wait_until
from tests.support import free_port
from trio_progress import (
    FencedError,
    ProgressTracker,
    SessionActiveError,
    SessionCompletedError,
    SessionEndedError,
    SessionNotFoundError,
    StoreError,
    open_tracker,
)
from trio_progress.blocking import Client
from trio_progress.stores.base import Changes, Outcome, Page, Pause, Query, Seen, Stored, Write
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.threaded import ThreadedStore

pytestmark = [pytest.mark.integration, pytest.mark.exhaustive]

TIMEOUT = 1.0
JOBS = 60
PACE = 0.1
BUSY = 2.0
"""Seconds that a thread on a busy machine may take besides what it waits for, now and then."""


class Timed:
    """A store in Redis that remembers how long each call that does not wait for news has taken."""

    def __init__(self, url: str) -> None:
        self.inner = RedisBackend(url, timeout=TIMEOUT)
        self.address = self.inner.address
        self.corrupt = self.inner.corrupt
        self.took: list[float] = []
        self.open, self.close = self.inner.open, self.inner.close
        self.history, self.histories = self.inner.history, self.inner.histories

    @contextmanager
    def timed(self) -> Iterator[None]:
        since = time.monotonic()
        try:
            yield
        finally:
            self.took.append(time.monotonic() - since)

    def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        with self.timed():
            return self.inner.commit(batch)

    def read(self, session_id: str) -> Stored | None:
        with self.timed():
            return self.inner.read(session_id)

    def list(self, query: Query) -> Page:
        with self.timed():
            return self.inner.list(query)

    def changes(self, mark: str | None, seen: Mapping[str, Seen | None], pause: Pause) -> Changes:
        return self.inner.changes(mark, seen, pause)


class Work:
    """Jobs that workers of two trackers take from a list, as often as they can be had."""

    def __init__(self) -> None:
        self.runs: dict[str, int] = {}
        self.acknowledged: set[str] = set()

    async def take(self, tracker: ProgressTracker) -> None:
        while True:
            try:
                for job in await tracker.sessions(status="queued", limit=20):
                    await self.run(tracker, job.id)
            except StoreError:
                pass
            await trio.sleep(PACE)

    async def run(self, tracker: ProgressTracker, job: str) -> None:
        lost = tracker.statistics().final_lost
        try:
            async with tracker.session(job, resume="waiting") as session:
                await session.flush()
                await trio.sleep(PACE)
                self.runs[job] = self.runs.get(job, 0) + 1
        except (SessionActiveError, SessionEndedError, SessionCompletedError, SessionNotFoundError, FencedError):
            return
        except StoreError:
            return
        if tracker.statistics().final_lost == lost:
            self.acknowledged.add(job)


async def go_through(group: SentinelGroup, fail: Callable[[], None], *options: str) -> None:
    """Works on jobs while a failover goes on, and looks at what has become of them."""
    url = group.url(*options)
    with Client(url) as client:
        for n in range(JOBS):
            client.declare(f"job-{n}")
    before = group.primary_port()
    backends = [Timed(url), Timed(url)]
    work = Work()
    with trio.fail_after(400):
        async with trio.open_nursery() as nursery:
            for backend in backends:
                nursery.start_soon(run_workers, backend, work, nursery.cancel_scope)
            while len(work.acknowledged) < JOBS // 6:  # noqa: ASYNC110 - whoever works tells nobody
                await trio.sleep(0.05)
            await trio.to_thread.run_sync(fail)
            await trio.to_thread.run_sync(wait_until, lambda: group.primary_port() != before)
            while not await trio.to_thread.run_sync(all_completed, url):  # noqa: ASYNC110 - as above
                await trio.sleep(1)  # Each look asks all anew, by a client of its own.
            nursery.cancel_scope.cancel()
    with Client(url) as client:
        stored = {job: client.snapshot(job).status for job in sorted(work.acknowledged)}
    assert [(job, status) for job, status in stored.items() if status != "completed"] == []
    assert {job: runs for job, runs in work.runs.items() if runs != 1} == {}
    took = sorted(seconds for backend in backends for seconds in backend.took)
    assert took[-len(took) // 50] < 2 * TIMEOUT
    assert took[-1] < 2 * TIMEOUT + BUSY, took[-5:]


def all_completed(url: str) -> bool:
    """Whether the store says so; an end may reach it by the spool, which no worker is told."""
    try:
        with Client(url) as client:
            return len(list(client.sessions(status="completed", limit=JOBS))) == JOBS
    except StoreError:
        return False


async def run_workers(backend: Timed, work: Work, scope: trio.CancelScope) -> None:
    store = ThreadedStore(backend)
    async with open_tracker(store, lost_after=20.0, heartbeat_interval=5.0) as tracker, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(work.take, tracker)
    await store.aclose()


async def test_a_primary_that_is_killed(redis_program: str, tmp_path: Path) -> None:
    with open_group(redis_program, tmp_path) as group:
        await go_through(group, group.servers[0].kill)


async def test_a_primary_that_is_frozen_and_comes_back(redis_program: str, tmp_path: Path) -> None:
    with open_group(redis_program, tmp_path) as group:
        await go_through(group, group.servers[0].freeze)
        group.servers[0].thaw()


async def test_a_primary_that_is_killed_while_the_first_sentinel_is_silent(redis_program: str, tmp_path: Path) -> None:
    with open_group(redis_program, tmp_path) as group:

        def fail() -> None:
            group.sentinels[0].send_signal(signal.SIGSTOP)
            group.servers[0].kill()

        await go_through(group, fail)


async def test_a_partition_with_replicas_that_a_primary_must_have(redis_program: str, tmp_path: Path) -> None:
    primary, through = free_port(), free_port()
    relay = Relay(primary, through)
    required = ("--min-replicas-to-write", "1", "--min-replicas-max-lag", "2")
    with open_group(redis_program, tmp_path, *required, primary=primary, through=through) as group:

        def fail() -> None:
            relay.cut = True

        await go_through(group, fail)
        with group.servers[0].client() as inside:
            assert inside.info("replication")["min_slaves_good_slaves"] == 0
    relay.close()


async def test_a_replica_that_lags_with_wait_replicas(redis_program: str, tmp_path: Path) -> None:
    primary, through = free_port(), free_port()
    relay = Relay(primary, through)
    with open_group(redis_program, tmp_path, primary=primary, through=through) as group:

        def fail() -> None:
            relay.replicas_cut = True
            time.sleep(2.0)
            group.servers[0].kill()
            relay.close()

        await go_through(group, fail, "wait_replicas=1")
