"""Server-sent events: one session, or the list, over one response that does not end by itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, final

import trio

from .list.pages import send_list
from .outbox import Subscriber
from .runtime import ServerConnection
from .transport import Transport, half_close
from .wire import Wire

if TYPE_CHECKING:
    from .answers import EventStream
    from .runtime import ServerRuntime

COMMENT_EVERY: Final = 15.0
"""Seconds between two comments, by which a client, and proxies, see that the stream lives."""

MOST_INBOUND: Final = 64 * 1024
"""Bytes that a client may send during its stream, on which it has nothing to say."""


@final
class SseConnection(ServerConnection):
    """One client of server-sent events.

    Args:
        transport: Where they go.
        asked: What is asked for.
        head: What is sent before all else: the head of the response, unless it was sent by other means.
    """

    def __init__(self, runtime: ServerRuntime, transport: Transport, asked: EventStream, head: bytes = b"") -> None:
        self._asked = asked
        self._head = head
        self._transport = transport
        open_wire = partial(Wire, transport, patience=runtime.settings.write_timeout)
        super().__init__(runtime, open_wire, runtime.as_events, asked.grant, sparse=asked.sparse)

    @property
    def listing(self) -> bool:
        """Whether it is sent the list of sessions."""
        return self._asked.request.session == "*"

    def stop(self, *, over: bool) -> None:
        """Ends the response behind what is to be sent now."""
        del over
        self._outbox.close()
        self._wire.finish_soon()

    def _subscription_over(self, subscriber: Subscriber, ended: bool) -> None:
        del subscriber, ended
        self._wire.finish_soon()

    async def run(self) -> None:
        """Sends until all is sent, the client goes, or its token expires."""
        self._outbox.head(self._head + (b"" if self._asked.head_only else b"retry: 1000\n\n"))
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
                await half_close(self._transport)
            nursery.cancel_scope.cancel(reason="all is sent")

    async def _subscribe(self) -> None:
        if self.listing:
            try:
                await send_list(self._runtime.list_feed, self._outbox, self._asked.request)
            except trio.BrokenResourceError:
                return
            self._wire.finish_soon()
        elif not await self._subscribe_to(Subscriber(self._outbox, self._asked.request)):
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
        await self._runtime.auth.until_expired(self._asked.grant)
        self.stop(over=False)
