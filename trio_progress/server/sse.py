"""Server-sent events: one session, or the list, over one response that does not end by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

import trio

from ..errors import ProgressError, SessionNotFoundError
from ..protocol.messages import Unlisted
from .auth.expiry import until_expired
from .auth.grants import Grant
from .list.sending import tell_list
from .outbox import Outbox, Subscriber, failed, not_found
from .runtime import ServerRuntime
from .wire import Transport, Wire

COMMENT_EVERY: Final = 15.0
"""Seconds between two comments, by which a client, and proxies, see that the stream lives."""

MOST_INBOUND: Final = 64 * 1024
"""Bytes that a client may send while it is told: it has nothing to say."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EventStream:
    """What is asked for as server-sent events. `session` is None for the list."""

    session: str | None
    grant: Grant
    since: str | None = None
    interval: float = 0.0
    max_hz: float | None = None
    events: int | None = None
    wait: bool = False
    labels: dict[str, str]
    headers: dict[str, str]
    head_only: bool = False


@final
class EventConnection:
    """One client that is told by server-sent events."""

    def __init__(self, runtime: ServerRuntime, transport: Transport, asked: EventStream) -> None:
        self._runtime = runtime
        self._asked = asked
        self._transport = transport
        self._wire = Wire(transport, patience=runtime.settings.write_timeout)
        self._outbox = Outbox(self._wire, runtime.hub, runtime.as_events, asked.grant, self._ended)

    @property
    def watching(self) -> bool:
        """Whether it is yet to be told of an end."""
        if self._asked.session is None:
            return self._runtime.sessions_open
        return any(one.keyed and not one.refused for one in self._outbox.subscribers.values())

    def stop(self, *, over: bool) -> None:
        """Ends the response behind what there is to tell now."""
        del over
        self._outbox.close()
        self._wire.finish_soon()

    def _ended(self, subscriber: Subscriber, ended: bool) -> None:
        del subscriber, ended
        self._wire.finish_soon()

    def unlisted(self, message: Unlisted, labels: Mapping[str, str]) -> None:
        """A session that had these labels was deleted."""
        if self._asked.session is None and self._outbox.grant.allows("read", message.session, labels):
            self._outbox.say(message)

    async def run(self) -> None:
        """Tells until all is told, the client goes, or its token expires."""
        head = "".join(f"{name}: {value}\r\n" for name, value in self._asked.headers.items())
        body = "" if self._asked.head_only else "retry: 1000\n\n"
        self._outbox.head(f"HTTP/1.1 200 OK\r\n{head}\r\n{body}".encode("latin-1"))
        self._wire.open()
        if self._asked.head_only:
            self._wire.finish_soon()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._wire.pump)
            nursery.start_soon(self._listen, nursery.cancel_scope)
            nursery.start_soon(self._comment)
            nursery.start_soon(self._expire)
            if not self._asked.head_only:
                nursery.start_soon(self._subscribe)
            await self._wire.flushed.wait()
            with trio.move_on_after(1.0):
                await self._wire.half_close()
            nursery.cancel_scope.cancel(reason="all is told")

    async def _subscribe(self) -> None:
        asked = self._asked
        if asked.session is None:
            try:
                await tell_list(self._runtime, self._outbox, asked.grant, asked.labels, asked.max_hz)
            except trio.BrokenResourceError:
                return
            self._wire.finish_soon()
            return
        subscriber = Subscriber(
            self._outbox,
            asked.session,
            since=asked.since,
            interval=asked.interval,
            events=asked.events,
            wait=asked.wait,
            close=True,
        )
        try:
            await self._outbox.subscribe(subscriber)
        except SessionNotFoundError:
            self._outbox.say(not_found(asked.session))
            self._wire.finish_soon()
        except ProgressError as problem:
            self._outbox.say(failed(problem, asked.session))
            self._wire.finish_soon()

    async def _listen(self, scope: trio.CancelScope) -> None:
        """Notices that the client has gone."""
        received = 0
        try:
            while received <= MOST_INBOUND:
                data = await self._transport.receive_some(4096)
                received += len(data)
                if not data:
                    break
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        scope.cancel(reason="the client has gone")

    async def _comment(self) -> None:
        while not self._wire.dead:
            await trio.sleep(COMMENT_EVERY)
            self._outbox.head(b": keepalive\n\n")

    async def _expire(self) -> None:
        await until_expired(self._runtime.auth, self._asked.grant)
        self._outbox.close()
        self._wire.finish_soon()

    def kill(self) -> None:
        """Leaves the session and closes the connection. Does not wait."""
        self._outbox.close()
        self._wire.kill()
