"""The client for code without Trio beside owners of sessions, in many threads, in asyncio and after a fork."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from tests.support import PATIENCE
from trio_progress import (
    Pipeline,
    Session,
    SessionActiveError,
    SessionNotFoundError,
    open_tracker,
)
from trio_progress.blocking import Client
from trio_progress.stores.sqlite.machine import MachineClock
from trio_progress.stores.threaded import SqliteStore

RESEARCH = Pipeline("research", {"search": 3, "report": 1})

pytestmark = pytest.mark.integration


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path / 'progress.db'}"


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


def run_beside(url: str, body: Callable[[Session], Any], do: Callable[[], None], session_id: str = "r") -> None:
    """A session in a thread with its own Trio, `do` in this one while it is open."""
    begun = threading.Event()
    failed: list[BaseException] = []

    async def owner() -> None:
        async with open_tracker(url, lost_after=PATIENCE, heartbeat_interval=0.5, persist_interval=0.05) as tracker:
            async with tracker.session(session_id, RESEARCH) as session:
                await session.flush()
                begun.set()
                await body(session)

    def work() -> None:
        try:
            trio.run(owner)
        except BaseException as error:  # noqa: ASYNC103 - raised below
            failed.append(error)
            begun.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert begun.wait(PATIENCE)
        do()
    finally:
        thread.join(PATIENCE)
    assert not thread.is_alive()
    if failed:
        raise failed[0]


def test_an_open_session_is_cancelled_by_its_owner_and_cannot_be_removed_or_declared(client: Client, url: str) -> None:
    async def forever(session: Session) -> None:
        await trio.sleep_forever()

    def do() -> None:
        assert client.snapshot("r").status == "running"
        with pytest.raises(SessionActiveError):
            client.delete("r")
        with pytest.raises(SessionActiveError):
            client.declare("r")
        client.cancel("r", "enough")
        ended = client.wait_ended("r", timeout=60)
        assert ended.status == "cancelled"
        assert ended.error is not None
        assert ended.error.message == "enough"

    run_beside(url, forever, do)
    client.delete("r")
    with pytest.raises(SessionNotFoundError):
        client.snapshot("r")


def test_waiting_returns_the_last_state_as_soon_as_there_is_one(client: Client, url: str) -> None:
    async def short(session: Session) -> None:
        await trio.sleep(0.3)
        session.set_result({"answer": 42})

    def do() -> None:
        ended = client.wait_ended("r")
        assert (ended.status, ended.result) == ("completed", {"answer": 42})

    run_beside(url, short, do)
    assert client.wait_ended("r", timeout=0).result == {"answer": 42}


def test_waiting_lasts_no_longer_than_it_may_and_says_how_the_session_stands(client: Client) -> None:
    client.declare("r")
    for timeout in (0, 0.2):
        began = time.monotonic()
        with pytest.raises(TimeoutError, match=f"'r' is still queued after {timeout} s"):
            client.wait_ended("r", timeout)
        assert timeout <= time.monotonic() - began < timeout + PATIENCE


def test_waiting_for_what_is_removed_ends(client: Client, url: str) -> None:
    client.declare("r")

    def remove() -> None:
        time.sleep(0.1)
        with Client(url) as other:
            other.delete("r")

    thread = threading.Thread(target=remove)
    thread.start()
    with pytest.raises(SessionNotFoundError):
        client.wait_ended("r", timeout=60)
    thread.join()


def test_a_session_without_a_sign_of_life_is_lost_and_waiting_for_it_ends(client: Client, url: str) -> None:
    async def die(session: Session) -> None:
        session.update(message="the last word")
        await session.flush()

    run_beside(url, die, lambda: None)
    connection = sqlite3.connect(url.removeprefix("sqlite:"), isolation_level=None)
    record = connection.execute("SELECT record FROM sessions").fetchone()[0]
    data = msgspec.json.decode(record)
    data["state"].update(status="running", ended_at=None)
    connection.execute("UPDATE sessions SET status = 'running', record = ?", (msgspec.json.encode(data),))
    connection.close()
    assert client.snapshot("r").status == "lost"
    assert client.wait_ended("r", timeout=60).status == "lost"
    assert [one.id for one in client.sessions(status="lost")] == ["r"]
    assert not client.sessions(status="running")
    client.cancel("r")
    assert client.snapshot("r").status == "lost"


def test_what_is_declared_is_kept_for_the_retention(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    clock = MachineClock("boot", lambda: now[0], lambda: now[0])
    monkeypatch.setattr("trio_progress.stores.sqlite.backend.MachineClock", lambda: clock)
    with Client(url, retention=0.05, unfinished_retention=0.05) as client:
        client.declare("r")
        assert client.snapshot("r").status == "queued"
        now[0] += 0.1
        with pytest.raises(SessionNotFoundError):
            client.snapshot("r")
        assert not client.sessions()


def test_many_threads_share_one_client(url: str) -> None:
    # Each writes when it is its turn, however long a busy machine takes for those before it.
    store = SqliteStore(url.removeprefix("sqlite:"), busy_timeout=PATIENCE)
    client = Client(store)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(15):
                session_id = f"r-{number}-{turn}"
                client.declare(session_id, labels={"thread": str(number)})
                assert client.snapshot(session_id).status == "queued"
                if turn % 2:
                    client.cancel(session_id)
                    assert client.wait_ended(session_id, timeout=60).status == "cancelled"
                if turn % 3 == 0:
                    client.delete(session_id)
            assert len(client.sessions({"thread": str(number)})) == 10
        except BaseException as error:  # noqa: ASYNC103 - raised below
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    assert len(client.sessions()) == 60
    store.backend.close()


def test_asyncio_waits_in_a_thread_while_its_loop_goes_on(client: Client, url: str) -> None:
    turned = threading.Event()

    async def until_it_has_turned(session: Session) -> None:
        await trio.to_thread.run_sync(turned.wait, PATIENCE)

    async def wait() -> str:
        waiting = asyncio.create_task(asyncio.to_thread(client.wait_ended, "r", PATIENCE))
        for _ in range(6):
            await asyncio.sleep(0.01)
        assert not waiting.done()
        turned.set()
        return (await waiting).status

    def do() -> None:
        assert asyncio.run(wait()) == "completed"

    run_beside(url, until_it_has_turned, do)


class Delayed:
    """A backend that lets something happen right before the first write."""

    def __init__(self, backend: Any, first: Callable[[], None]) -> None:
        self._backend = backend
        self._first: Callable[[], None] | None = first

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def commit(self, batch: Any) -> Any:
        first, self._first = self._first, None
        if first is not None:
            first()
        return self._backend.commit(batch)


def test_a_cancellation_that_meets_the_beginning_of_the_session_reaches_its_owner(client: Client, url: str) -> None:
    client.declare("r", RESEARCH)
    ready, running = threading.Event(), threading.Event()

    def begin() -> None:
        ready.set()
        assert running.wait(PATIENCE)

    client._backend = Delayed(client._backend, begin)

    async def forever(session: Session) -> None:
        running.set()
        await trio.sleep_forever()

    cancelling = threading.Thread(target=client.cancel, args=("r", "enough"))
    cancelling.start()
    assert ready.wait(PATIENCE)
    run_beside(url, forever, lambda: cancelling.join(PATIENCE))
    assert client.snapshot("r").status == "cancelled"


def test_a_cancellation_that_meets_another_declaration_cancels_that_one(client: Client, url: str) -> None:
    client.declare("r", title="first")
    with Client(url) as other:

        def again() -> None:
            other.declare("r", title="second")

        client._backend = Delayed(client._backend, again)
        client.cancel("r", "enough")
        ended = other.snapshot("r")
    assert (ended.title, ended.status) == ("second", "cancelled")


FORKING = """
import os, sys
from trio_progress.blocking import Client
from trio_progress.stores.sqlite.machine import MachineClock
from trio_progress.stores.threaded import SqliteStore
client = Client(sys.argv[1])
client.declare("parent")
child = os.fork()
if not child:
    client.declare("child")
    assert client.wait_ended("parent", timeout=60).status == "cancelled"
    client.close()
    os._exit(0)
client.cancel("parent")
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 0
print(sorted(one.id for one in client.sessions()))
client.close()
"""


def test_a_client_that_was_made_before_a_fork_works_on_both_sides(url: str) -> None:
    command = [sys.executable, "-W", "error", "-c", FORKING, url]
    package = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=package)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['child', 'parent']\n"
    connection = sqlite3.connect(url.removeprefix("sqlite:"))
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
