"""Who waits for a session that is not theirs to see hears of the next run that is, whoever else waits, in any order.

The whole life of a topic: it is idle, its session runs here or in another process, ends, and is idle again, with
listeners over WebSockets and server-sent events, of the tracker itself, and of the list.
"""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import Any

import pytest
import trio
import trio.testing

from tests.raw import InMemory
from tests.support import Cases
from trio_progress import MemoryStore, ProgressTracker, Snapshot, open_tracker
from trio_progress.live.hub import Hub
from trio_progress.live.store_watcher import StoreWatcher
from trio_progress.protocol.messages import End, Listed
from trio_progress.server import Credentials, Grant
from trio_progress.server.connection import ConnectionHandler
from trio_progress.server.routes import Routes
from trio_progress.server.runtime import ServerRuntime
from trio_progress.server.settings import ServerSettings
from trio_progress.stores.base import Changes
from trio_progress.testing import explore, memory_client

PLACES = [("here", "here"), ("elsewhere", "elsewhere"), ("here", "elsewhere"), ("elsewhere", "here")]
"""Where alice's run is, and where bob's that follows it; listeners are here."""


async def by_name(credentials: Credentials) -> Grant | None:
    """The token is the user's name, and grants the user's sessions."""
    return None if credentials.token is None else Grant(labels={"user": credentials.token}, name=credentials.token)


async def run(tracker: ProgressTracker, user: str) -> None:
    async with tracker.session("s1", title=user, labels={"user": user}) as session:
        for number in range(3):
            session.set(number=number)
            await trio.sleep(0.25)


class Heard:
    """What each waiter was told: the titles of sessions, and the ends."""

    def __init__(self) -> None:
        self.titles: dict[str, set[str]] = {}
        self.ends: Counter[str] = Counter()

    async def websocket(self, tracker: ProgressTracker, user: str, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        name = f"{user} by WebSocket"
        titles = self.titles[name] = set()
        async with memory_client(tracker, token=user, auth=by_name) as client:
            await client.subscribe("s1", wait=True)
            await client.ping()
            task_status.started()
            async for message in client:
                if isinstance(message, Snapshot):
                    titles.add(message.title)
                elif isinstance(message, End):
                    self.ends[name] += 1
                    return

    async def listed(self, tracker: ProgressTracker, user: str, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        name = f"{user} by the list"
        titles = self.titles[name] = set()
        async with memory_client(tracker, token=user, auth=by_name) as client:
            await client.subscribe("*")
            task_status.started()
            async for message in client:
                if isinstance(message, Listed):
                    titles.add(message.head.title)
                    self.ends[name] += message.head.status == "completed"

    async def events(self, tracker: ProgressTracker, user: str, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        name = f"{user} by server-sent events"
        titles = self.titles[name] = set()
        runtime = ServerRuntime(tracker, ServerSettings(auth=by_name), {})
        near, far = map(InMemory, trio.testing.lockstep_stream_pair())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ConnectionHandler(runtime, Routes(runtime)), far)
            asked = (
                f"GET /sessions/s1/events?wait=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {user}\r\n\r\n"
            )
            await near.send_all(asked.encode())
            task_status.started()
            said = b""
            while more := await near.receive_some(65536):
                said += more
                titles.update(title for title in ("alice", "bob") if f'"title":"{title}"'.encode() in said)
                if b'"type":"end"' in said:
                    self.ends[name] += 1
                    break
            near.close()
            nursery.cancel_scope.cancel()

    async def subscribed(
        self, tracker: ProgressTracker, user: str, task_status: Any = trio.TASK_STATUS_IGNORED
    ) -> None:
        """One of this process, who may see all: a run after the other."""
        name = f"{user} by subscribe"
        titles = self.titles[name] = set()
        task_status.started()
        since = None
        while self.ends[name] < 2:
            async with tracker.subscribe("s1", wait=True, since=since) as messages:
                async for message in messages:
                    if isinstance(message, Snapshot):
                        titles.add(message.title)
                    if isinstance(message, End) and message.resume != since:
                        self.ends[name] += 1
                        since = message.resume
            await trio.sleep(0.0625)


async def runs_follow(first: str, second: str, order: tuple[tuple[str, str], ...]) -> None:
    """Alice's run and then bob's, of the same id, while both wait in this order, and carol waits for ever."""
    store, heard = MemoryStore(), Heard()
    async with open_tracker(store) as here, open_tracker(store) as elsewhere, trio.open_nursery() as nursery:
        trackers = {"here": here, "elsewhere": elsewhere}
        for how, user in (*order, ("websocket", "carol")):
            await nursery.start(getattr(heard, how), here, user)
        await trio.sleep(0.5)
        await run(trackers[first], "alice")
        await trio.sleep(0.5)
        await run(trackers[second], "bob")
        expected = {name: {"bob" if "bob" in name else "alice"} for name in heard.titles if "subscribe" not in name}
        expected |= {name: {"alice", "bob"} for name in heard.titles if "subscribe" in name}
        expected["carol by WebSocket"] = set()
        with trio.move_on_after(30):
            while not all(heard.ends[name] for name in expected if "carol" not in name):  # noqa: ASYNC110
                await trio.sleep(0.125)
        assert heard.titles == expected
        assert here.statistics().subscribers >= 1  # carol
        nursery.cancel_scope.cancel()


ORDERS = [
    *permutations((("websocket", "alice"), ("websocket", "bob"))),
    *permutations((("events", "alice"), ("events", "bob"))),
    (("events", "alice"), ("websocket", "bob"), ("websocket", "alice"), ("events", "bob")),
    (("subscribed", "root"), ("websocket", "bob"), ("events", "alice")),
    (("listed", "bob"), ("listed", "alice"), ("events", "bob"), ("websocket", "alice")),
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: ", ".join(f"{user} {how}" for how, user in order))
@pytest.mark.parametrize(("first", "second"), PLACES)
async def test_who_waits_hears_of_the_next_run_that_may_be_seen(
    first: str, second: str, order: tuple[tuple[str, str], ...], autojump_clock: trio.abc.Clock
) -> None:
    await runs_follow(first, second, order)


@pytest.mark.parametrize(("first", "second"), PLACES)
def test_under_any_schedule_who_waits_hears_of_the_next_run(first: str, second: str, seed: int, cases: Cases) -> None:
    for order in (ORDERS[0], ORDERS[3], ORDERS[-1]):
        explore(runs_follow, first, second, order, schedules=cases(1, exhaustive=8), seed=seed)


async def test_who_waits_behind_an_end_is_not_looked_for_again_and_again(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    take_in = StoreWatcher._take_in

    def counted(reader: StoreWatcher, hub: Hub, changes: Changes) -> None:
        taken.append(len(changes.sessions))
        take_in(reader, hub, changes)

    monkeypatch.setattr(StoreWatcher, "_take_in", counted)
    heard = Heard()
    async with open_tracker() as tracker, trio.open_nursery() as nursery:
        await nursery.start(heard.websocket, tracker, "bob")
        await nursery.start(heard.events, tracker, "bob")
        for _ in range(3):
            await run(tracker, "alice")
        await trio.sleep(1)
        del taken[:]
        await trio.sleep(120)
        assert sum(taken) <= 1
        assert heard.titles["bob by WebSocket"] == set()
        nursery.cancel_scope.cancel()


async def test_who_waits_for_what_may_not_be_seen_is_let_go_when_the_tracker_is_left(
    autojump_clock: trio.abc.Clock,
) -> None:
    heard = Heard()
    async with trio.open_nursery() as nursery:
        async with open_tracker() as tracker:
            await nursery.start(heard.events, tracker, "bob")  # noqa: ASYNC111 - who waits is to outlive the tracker
            await run(tracker, "alice")
        with trio.fail_after(30):
            while nursery.child_tasks:  # noqa: ASYNC110
                await trio.sleep(0.125)
