"""Owners in processes of their own that are killed, stopped and fenced, while others watch through Redis."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_progress import End, Pipeline, ProgressTracker, Snapshot, Subscribed, Update, open_tracker

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
WORKER = ROOT / "tests" / "integration" / "session_worker.py"
PIPELINE = Pipeline("work", {"count": 3, "report": 1})
KILLS = 20
LOST_AFTER = 1.0


@pytest.fixture
def store(redis_url: str) -> str:
    return f"{redis_url}?prefix=test:{uuid.uuid4().hex[:12]}"


def gateway(store: str) -> Any:
    """A tracker that owns nothing, as a gateway has."""
    return open_tracker(store, heartbeat_interval=0.3, lost_after=LOST_AFTER, broadcast_interval=0.02, spool=False)


@asynccontextmanager
async def worker(store: str, session_id: str, ending: str) -> AsyncIterator[trio.Process]:
    """A process that owns a session, once it has begun; killed afterwards, should it still be there."""
    process = await trio.lowlevel.open_process(
        [sys.executable, str(WORKER), store, session_id, ending],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        with trio.fail_after(60):
            assert b"begun" in await process.stdout.receive_some()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 10):
            await process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    await stream.aclose()


class Client:
    """Somebody who watches one session through one gateway, and what they were told."""

    def __init__(self, tracker: ProgressTracker, session_id: str) -> None:
        self.tracker = tracker
        self._id = session_id
        self.state: Snapshot | None = None
        self.ends: list[End] = []
        self.went_on: list[bool] = []

    async def watch(self, since: str | None = None) -> None:
        async with self.tracker.subscribe(self._id, wait=True, since=since) as messages:
            async for message in messages:
                if isinstance(message, Subscribed):
                    self.went_on.append(message.recovered)
                elif isinstance(message, Snapshot):
                    self.state = message
                elif isinstance(message, Update):
                    assert self.state is not None
                    self.state = message.apply(self.state)
                elif isinstance(message, End):
                    self.ends.append(message)


async def test_a_worker_that_is_killed_is_lost_exactly_once_and_resume_goes_on(store: str) -> None:
    at_once = trio.Semaphore(4)
    async with gateway(store) as one, gateway(store) as other:

        async def kill(session_id: str) -> None:
            async with at_once:
                clients = [Client(tracker, session_id) for tracker in (one, other)]
                with trio.fail_after(90):
                    async with trio.open_nursery() as nursery:
                        for client in clients:
                            nursery.start_soon(client.watch)
                        async with worker(store, session_id, "lost") as process:
                            assert await process.wait() == -signal.SIGKILL
                for client in clients:
                    assert [end.status for end in client.ends] == ["lost"]
                    assert client.ends[0].resumable
                    assert client.state is not None
                    assert client.state.status == "lost"
                    assert client.state.counters["steps"] >= 5
                epochs = {client.state.epoch for client in clients if client.state is not None}
                assert len(epochs) == 1, "it was written off once"

        async with trio.open_nursery() as nursery:
            for n in range(KILLS):
                nursery.start_soon(kill, f"killed-{n}")
        assert one.statistics().sessions_lost + other.statistics().sessions_lost == KILLS
        for n in range(KILLS):
            async with one.session(f"killed-{n}", PIPELINE, resume="interrupted") as session:
                assert session.attempt == 2
                session.increment("steps")
            ended = await other.snapshot(f"killed-{n}")
            assert (ended.status, ended.attempt) == ("completed", 2)
            assert ended.counters["steps"] >= 6


async def test_an_owner_that_is_stopped_for_too_long_is_fenced_when_it_wakes(store: str) -> None:
    async with gateway(store) as tracker, worker(store, "stopped", "hang") as process:
        process.send_signal(signal.SIGSTOP)
        client = Client(tracker, "stopped")
        with trio.fail_after(30):
            await client.watch()
        assert [end.status for end in client.ends] == ["lost"]
        async with tracker.session("stopped", PIPELINE, resume="interrupted") as session:
            process.send_signal(signal.SIGCONT)
            with trio.fail_after(30):
                assert await process.wait() != 0
            assert process.stderr is not None
            assert b"FencedError" in b"".join([part async for part in process.stderr])
            session.set_result("mine")
        ended = await tracker.snapshot("stopped")
        assert (ended.status, ended.attempt, ended.result) == ("completed", 2, "mine")


async def test_an_owner_elsewhere_is_cancelled_and_what_it_owned_is_deleted(store: str) -> None:
    async with gateway(store) as tracker, worker(store, "remote", "hang") as process:
        client = Client(tracker, "remote")
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.watch)
                await trio.sleep(0.5)
                await tracker.cancel("remote", "no longer needed")
            assert await process.wait() == 0
        assert [end.status for end in client.ends] == ["cancelled"]
        await tracker.delete("remote")
        assert await tracker.sessions() is not None
        assert (await tracker.sessions()).sessions == ()


async def test_a_gateway_that_is_restarted_under_its_clients_lets_them_go_on(store: str) -> None:
    async with worker(store, "long", "hang") as process:
        client: Client | None = None
        shown: list[tuple[int, int]] = []
        counts: list[float] = []
        for _ in range(4):
            async with gateway(store) as tracker:
                client = Client(tracker, "long") if client is None else client
                client.tracker = tracker
                with trio.move_on_after(1.0):
                    await client.watch(since=None if client.state is None else client.state.resume)
                assert client.state is not None
                shown.append((client.state.epoch, client.state.seq))
                counts.append(client.state.counters.get("steps", 0))
        assert client is not None
        assert len(client.went_on) == 4, "each gateway has said whether it could go on"
        assert shown == sorted(set(shown))
        assert len({epoch for epoch, _ in shown}) == 1
        assert counts == sorted(set(counts)), "each went on to newer states"
        process.terminate()
        with trio.fail_after(30):
            await process.wait()
        async with gateway(store) as tracker:
            assert (await tracker.snapshot("long")).status == "interrupted"


async def test_a_watched_session_arrives_at_broadcast_pace_and_an_unwatched_one_costs_its_persist_interval(
    store: str,
) -> None:
    async with (
        open_tracker(store, persist_interval=1.0, broadcast_interval=0.05) as owner,
        gateway(store) as watcher,
        owner.session("paced") as session,
        trio.open_nursery() as nursery,
    ):

        async def work() -> None:
            while True:
                session.increment("n")
                await trio.sleep(0.01)

        nursery.start_soon(work)
        await trio.sleep(0.3)
        before = owner.statistics().persists
        await trio.sleep(2.0)
        unwatched = owner.statistics().persists - before
        client = Client(watcher, "paced")
        nursery.start_soon(client.watch)
        await trio.sleep(1.0)
        before = owner.statistics().persists
        await trio.sleep(2.0)
        watched = owner.statistics().persists - before
        nursery.cancel_scope.cancel()
    assert unwatched <= 4
    assert watched >= 12


def test_code_that_blocks_uses_the_same_sessions(store: str) -> None:
    from trio_progress.blocking import Client as Blocking

    with Blocking(store) as client:
        client.declare("queued", PIPELINE, labels={"user": "u1"})
        assert [snapshot.id for snapshot in client.sessions(labels={"user": "u1"}).sessions] == ["queued"]
        client.cancel("queued", "not needed")
        assert client.wait_ended("queued", timeout=10).status == "cancelled"
        client.delete("queued")
        assert client.sessions().sessions == ()
