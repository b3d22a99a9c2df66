"""What the tests of the ASGI app call it with: a request or WebSocket, by a server that is strict."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_progress.protocol.messages import SUBPROTOCOL

AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]


def scope_of(path: str, *, kind: str = "http", method: str = "GET", **given: Any) -> dict[str, Any]:
    """A scope as a server makes it; `headers` by their names."""
    path, _, query = path.partition("?")
    headers: Mapping[str, str] = {"host": "localhost", **given.pop("headers", {})}
    scope: dict[str, Any] = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http" if kind == "http" else "ws",
        "path": path,
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 40_000),
        "server": ("127.0.0.1", 8000),
    }
    scope |= {"method": method} if kind == "http" else {"subprotocols": [SUBPROTOCOL]}
    return scope | given


class Call:
    """One scope that an app answers: what it is told, and what it says.

    Args:
        reads: Whether the client reads; else what the app sends is never taken.
    """

    def __init__(self, scope: Mapping[str, Any], *, reads: bool = True) -> None:
        self.scope = scope
        self.reads = reads
        self.shielded = False
        """Whether the server keeps its writes from being cancelled, as Hypercorn does on Trio."""
        self._read = trio.Event()
        self.gone = False
        """Whether the client has gone: what is sent then raises, as ASGI says since 2.4."""
        self.sent: list[dict[str, Any]] = []
        self._tell, self._told = trio.open_memory_channel[dict[str, Any]](math.inf)
        self._state = "open"
        self._said = trio.Event()
        self.returned = False

    def tell(self, kind: str, **event: Any) -> None:
        self._tell.send_nowait({"type": kind, **event})

    def leave(self) -> None:
        """The client goes away."""
        self.gone = True
        self.tell("http.disconnect" if self.scope["type"] == "http" else "websocket.disconnect", code=1006)

    def read_on(self) -> None:
        """The client reads again, or is given up by the kernel."""
        self.reads = True
        self._read.set()

    async def receive(self) -> dict[str, Any]:
        return await self._told.receive()

    async def send(self, event: dict[str, Any]) -> None:
        """What a server takes, and in which order (ASGI, HTTP & WebSocket, 2.4)."""
        await trio.lowlevel.checkpoint()
        if not self.reads:
            with trio.CancelScope(shield=self.shielded):
                await self._read.wait()
        if self.gone:
            raise OSError("the client has gone")
        kind = event["type"]
        after = {
            ("open", "http.response.start"): "started",
            ("started", "http.response.body"): "started" if event.get("more_body") else "over",
            ("open", "websocket.http.response.start"): "denied",
            ("denied", "websocket.http.response.body"): "denied" if event.get("more_body") else "over",
            ("open", "websocket.accept"): "accepted",
            ("accepted", "websocket.send"): "accepted",
            ("open", "websocket.close"): "over",
            ("accepted", "websocket.close"): "over",
            ("open", "lifespan.startup.complete"): "open",
            ("open", "lifespan.shutdown.complete"): "over",
        }.get((self._state, kind))
        assert after is not None, f"{kind} while {self._state}"
        for name, value in event.get("headers", ()):
            assert (type(name), type(value), name) == (bytes, bytes, name.lower())
        if kind == "websocket.send":
            assert type(event["text"]) is str
        if kind.endswith(".body"):
            assert type(event["body"]) is bytes
        self._state = after
        self.sent.append(event)
        self._said.set()
        self._said = trio.Event()
        if kind == "websocket.close":
            self.tell("websocket.disconnect", code=event["code"])

    async def until(self, found: Callable[[], Any]) -> Any:
        """Waits until what the app has said answers the question."""
        while not (answer := found()):
            await self._said.wait()
        return answer

    # What it says

    @property
    def status(self) -> int:
        return next((int(event["status"]) for event in self.sent if "status" in event), 0)

    @property
    def headers(self) -> dict[str, str]:
        found: list[tuple[bytes, bytes]] = next((event["headers"] for event in self.sent if "headers" in event), [])
        return {name.decode(): value.decode("latin-1") for name, value in found}

    @property
    def body(self) -> bytes:
        return b"".join(event["body"] for event in self.sent if "body" in event)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was said over a WebSocket."""
        return [json.loads(event["text"]) for event in self.sent if event["type"] == "websocket.send"]

    @property
    def closed(self) -> tuple[int, str] | None:
        """How the app closed a WebSocket."""
        found = (event for event in self.sent if event["type"] == "websocket.close")
        return next(((event["code"], event.get("reason", "")) for event in found), None)

    @property
    def over(self) -> bool:
        return self._state == "over"

    def say(self, **message: Any) -> None:
        """The client sends a message."""
        self.tell("websocket.receive", text=json.dumps(message))

    async def of(self, kind: str) -> dict[str, Any]:
        """The first message of a type."""
        found: dict[str, Any] = await self.until(lambda: next((m for m in self.messages if m["type"] == kind), None))
        return found


async def ask(app: AsgiApp, path: str, *, body: bytes = b"", **given: Any) -> Call:
    """A request, answered whole."""
    call = Call(scope_of(path, **given))
    call.tell("http.request", body=body)
    await app(call.scope, call.receive, call.send)
    return call


@asynccontextmanager
async def calling(app: AsgiApp, call: Call) -> AsyncIterator[Call]:
    """A request, or a WebSocket, that goes on; leaving the block cancels it, as a server that stops does."""

    async def run() -> None:
        await app(call.scope, call.receive, call.send)
        call.returned = True

    call.tell("http.request" if call.scope["type"] == "http" else "websocket.connect")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        yield call
        nursery.cancel_scope.cancel()
