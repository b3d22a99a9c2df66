"""A session that may not be seen costs the store what one costs that there is not; what cannot be read is said so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest
import trio

from tests.support import PassingStore
from trio_progress import MemoryStore, ProgressTracker, StoreError, open_tracker
from trio_progress.errors import CorruptEntryError
from trio_progress.protocol.messages import ErrorMessage, Pong
from trio_progress.protocol.requests import Subscribe
from trio_progress.server import Credentials, Grant
from trio_progress.server.answers import EventStream, Request, Response
from trio_progress.server.routes import Routes
from trio_progress.server.runtime import ServerRuntime
from trio_progress.server.settings import ServerSettings
from trio_progress.server.sse import SseConnection
from trio_progress.server.transport import SocketlessTransport
from trio_progress.stores.base import Outcome, Page, Query, Stored, Write
from trio_progress.testing import memory_client

MINE = Grant(verbs=frozenset({"read", "cancel", "delete"}), labels={"user": "u1"})


class CountingStore(PassingStore):
    """Counts what it is asked for by whoever has asked for something; what readers wait for is not counted."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.calls: list[str] = []
        self.corrupt: set[str] = set()
        """Sessions whose entry cannot be read."""

    async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        self.calls.append("commit")
        return await super().commit(batch)

    async def read(self, session_id: str) -> Stored | None:
        self.calls.append("read")
        stored = await super().read(session_id)
        if stored is not None and session_id in self.corrupt:
            return replace(stored, record=b"{")
        return stored

    async def list(self, query: Query) -> Page:
        self.calls.append("list")
        return await super().list(query)


def asked(method: str, path: str, **query: str) -> Request:
    return Request(
        method=method,
        path=path,
        query=query,
        labels=[],
        headers={},
        body=b"",
        raw=b"",
        trailing=b"",
    )


async def answer(tracker: ProgressTracker, request: Request, grant: Grant = MINE) -> Response | EventStream:
    runtime = ServerRuntime(tracker, ServerSettings(), {})
    return await Routes(runtime).answer(request, request.path.removeprefix("/"), grant, "::1")


@pytest.mark.parametrize(
    "request_of",
    [
        lambda name: asked("GET", f"/sessions/{name}"),
        lambda name: asked("GET", f"/sessions/{name}/events"),
        lambda name: asked("DELETE", f"/sessions/{name}"),
        lambda name: asked("POST", f"/sessions/{name}/cancel"),
    ],
    ids=["get", "events", "delete", "cancel"],
)
async def test_over_http_the_store_is_asked_the_same_for_unknown_and_forbidden(request_of: Any) -> None:
    store = CountingStore()
    async with open_tracker(store) as tracker, open_tracker(store) as other:
        async with (
            tracker.session("here", labels={"user": "u2"}),
            other.session("elsewhere", labels={"user": "u2"}) as elsewhere,
        ):
            await elsewhere.flush()
            async with tracker.session("ended", labels={"user": "u2"}):
                pass
            answers = {}
            for name in ("unknown", "here", "elsewhere", "ended"):
                del store.calls[:]
                response = await answer(tracker, request_of(name))
                assert isinstance(response, Response)
                assert response.status == 404
                answers[name] = (store.calls[:], response.body)
            assert set(map(repr, answers.values())) == {repr((["read"], answers["unknown"][1]))}


@pytest.mark.parametrize("wait", [False, True])
async def test_over_a_websocket_the_store_is_asked_the_same_for_unknown_and_forbidden(
    wait: bool, autojump_clock: trio.abc.Clock
) -> None:
    async def mine(credentials: Credentials) -> Grant:
        del credentials
        return MINE

    store = CountingStore()
    async with open_tracker(store) as tracker, open_tracker(store) as other:
        async with tracker.session("here", labels={"user": "u2"}), other.session("elsewhere", labels={"user": "u2"}):
            async with tracker.session("ended", labels={"user": "u2"}):
                pass
            await trio.sleep(3)
            counted, told = {}, {}
            for name in ("unknown", "here", "elsewhere", "ended"):
                async with memory_client(tracker, auth=mine) as client:
                    await client.ping()
                    await client.receive()
                    del store.calls[:]
                    await client.subscribe(name, wait=wait)
                    await client.ping()
                    said = [await client.receive()]
                    if not wait:
                        said.append(await client.receive())
                    counted[name] = [call for call in store.calls if call != "commit"]
                    told[name] = [
                        message.message.replace(repr(name), "") if isinstance(message, ErrorMessage) else type(message)
                        for message in said
                    ]
            assert set(map(tuple, counted.values())) == {("read",)}
            assert told["unknown"][-1] is Pong
            assert len(set(map(repr, told.values()))) == 1


@pytest.mark.parametrize(
    ("grant", "status"),
    [
        (Grant(everything=True), 500),
        (Grant(sessions=frozenset({"bad"})), 500),
        (MINE, 404),
        (Grant(sessions=frozenset({"good"})), 404),
    ],
    ids=["all", "by its id", "by a label, which cannot be read", "another"],
)
async def test_what_cannot_be_read_is_answered_with_a_reason_and_not_to_be_tried_again(
    grant: Grant, status: int
) -> None:
    store = CountingStore()
    async with open_tracker(store) as tracker:
        async with tracker.session("bad", labels={"user": "u1"}):
            pass
        store.corrupt.add("bad")
        for path in ("/sessions/bad", "/sessions/bad/events"):
            response = await answer(tracker, asked("GET", path), grant)
            assert isinstance(response, Response)
            assert response.status == status
            if status == 500:
                said = msgspec.json.decode(response.body)
                assert said["code"] == "unreadable"
                assert "cannot be read" in said["message"]
        with pytest.raises(CorruptEntryError, match="cannot be read"):
            await tracker.snapshot("bad")
        async with tracker.session("bad", labels={"user": "u1"}):
            assert isinstance(await answer(tracker, asked("GET", "/sessions/bad"), Grant(everything=True)), Response)


async def test_over_a_websocket_what_cannot_be_read_is_said_so(autojump_clock: trio.abc.Clock) -> None:
    store = CountingStore()
    async with open_tracker(store) as tracker:
        async with tracker.session("bad"):
            pass
        store.corrupt.add("bad")
        async with memory_client(tracker) as client:
            await client.subscribe("bad")
            message = await client.receive()
            assert isinstance(message, ErrorMessage)
            assert (message.code, message.session) == ("unreadable", "bad")
            await client.cancel("bad")
            message = await client.receive()
            assert isinstance(message, ErrorMessage)
            assert message.code == "unreadable"


async def test_a_store_that_is_down_is_still_to_be_tried_again() -> None:
    class Down(CountingStore):
        async def read(self, session_id: str) -> Stored | None:
            raise StoreError(f"down: {session_id}")

    async with open_tracker(Down()) as tracker:
        response = await answer(tracker, asked("GET", "/sessions/x"))
        assert isinstance(response, Response)
        assert response.status == 503


async def test_a_stop_asks_for_no_statistics_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_tracker() as tracker:
        runtime = ServerRuntime(tracker, ServerSettings(), {})
        asked_for = EventStream(request=Subscribe(session="*"), grant=Grant(everything=True), headers={})
        connection = SseConnection(runtime, Mock(spec=SocketlessTransport), asked_for)
        monkeypatch.setattr(ProgressTracker, "statistics", lambda self: pytest.fail("it grows with the sessions"))
        watching = [connection.watching]
        async with tracker.session("a"):
            watching.append(connection.watching)
        watching.append(connection.watching)
        assert watching == [False, True, False]
