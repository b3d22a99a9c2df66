"""What a client asks for over a WebSocket, whoever reads its frames.

The messages come by a function that is given, and what is said goes out by the wire: over our own transport
(`websocket.py`), or by way of somebody else's server (`asgi/`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import trio

from ..errors import ProgressError, ProtocolError
from ..protocol.messages import ErrorCode, ErrorMessage, Pong
from ..protocol.requests import Auth, Cancel, Ping, Subscribe, Unsubscribe, decode_request
from ..state import checks
from .answers import RefusedError, failed, not_found
from .auth.authenticator import AuthUnavailableError, UnauthorizedError
from .auth.grants import Grant
from .encoder import close_frame
from .list.pages import send_list
from .outbox import Subscriber
from .runtime import ServerConnection

if TYPE_CHECKING:
    from .answers import Upgrade
    from .runtime import ServerRuntime
    from .wire import Source, Wire

NO_SESSION: Final = Grant(verbs=frozenset({"read"}))
"""Nothing at all: a grant for no session."""


class MessageConnection(ServerConnection):
    """One client that sends messages.

    Args:
        asked: Who it is, and what it may do; no grant where its first message must say who asks.
    """

    def __init__(self, runtime: ServerRuntime, open_wire: Callable[[Source], Wire], asked: Upgrade) -> None:
        super().__init__(runtime, open_wire, runtime.as_frames, asked.grant or NO_SESSION, sparse=asked.sparse)
        self._credentials = asked.credentials
        self._granted = asked.grant is not None
        self._turned_away = asked.turned_away
        self._until_expiry = trio.CancelScope()
        """Around the wait for the end of the grant."""
        self._scope = trio.CancelScope()
        """Around all that reads what the client sends; cancelled when nothing more is to be read."""
        self._list: trio.CancelScope | None = None
        self._list_request: Subscribe | None = None
        """How the list was asked for last."""
        self._nursery: trio.Nursery | None = None

    @property
    def listing(self) -> bool:
        """Whether it is sent the list of sessions."""
        return self._list is not None

    def stop(self, *, over: bool) -> None:
        """Closes it: what was watched has ended, or will not before the server does."""
        self._close(1001 if over else 4001, "the server stops")

    async def _handle_all(self, receive: Callable[[], Awaitable[str | bytes]]) -> None:
        """Does what the client asks for, until it is closed; whatever `receive` raises ends it."""
        if self._turned_away is not None:
            self._close(*self._turned_away)
            return
        if not self._granted:
            first = None
            with trio.move_on_after(self._runtime.settings.auth_timeout):
                first = await receive()
            if first is not None:  # Who decides has a patience of its own: the client has done its part.
                await self._handle(first)
            if not self._granted:
                self._close(4500, "the first message must be `auth`, sent in time")
                return
        while True:
            await self._handle(await receive())

    async def _handle(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._close(1003, "text only")
            return
        try:
            request = decode_request(message)
        except ProtocolError as error:
            self._close(4501, str(error))
            return
        if isinstance(request, Auth):
            await self._authorise(request.token)
        elif not self._granted:
            return
        elif isinstance(request, Subscribe):
            await self._subscribe(request)
        elif isinstance(request, Unsubscribe):
            self._unsubscribe(request.session)
        elif isinstance(request, Cancel):
            await self._cancel(request)
        elif isinstance(request, Ping):
            self._outbox.say(Pong(data=request.data))

    async def _authorise(self, token: str) -> None:
        try:
            grant = await self._runtime.auth.grant(replace(self._credentials, token=token))
        except UnauthorizedError as error:
            self._close(4005 if error.expired else 4500, str(error))
        except AuthUnavailableError as error:
            self._close(4001, str(error))
        else:
            self._granted = True
            self._until_expiry.cancel(reason="there is a newer token")
            again = self._list is not None and not grant.grants_as(self._outbox.grant)
            for subscriber in self._outbox.regrant(grant):
                await self._subscribe_to(subscriber)
            if again and self._list_request is not None:
                self._begin_list(self._list_request)  # What may be seen now is more, or less.

    async def _subscribe(self, request: Subscribe) -> None:
        session = request.session
        known = session in self._outbox.subscribers or (session == "*" and self.listing)
        number = len(self._outbox.subscribers) + self.listing
        limit = self._runtime.settings.max_subscriptions
        if not known and number >= limit:
            self._refuse("too_many", f"a connection has at most {limit} subscriptions", session)
            return
        if session == "*":
            self._begin_list(request)
            return
        try:
            checks.session_id(session)
        except ValueError as error:
            self._refuse("bad_request", str(error), session)
            return
        if request.labels:
            self._refuse("bad_request", "labels are for the list only", session)
            return
        await self._subscribe_to(Subscriber(self._outbox, request))

    def _begin_list(self, request: Subscribe) -> None:
        self._unsubscribe("*")
        assert self._nursery is not None
        self._list, self._list_request = trio.CancelScope(), request
        self._nursery.start_soon(self._send_list, request, self._list)

    async def _send_list(self, request: Subscribe, scope: trio.CancelScope) -> None:
        with scope:
            try:
                await send_list(self._runtime.list_feed, self._outbox, request)
            except trio.BrokenResourceError:
                pass
        if self._list is scope:
            self._list = None

    def _unsubscribe(self, session: str) -> None:
        if session != "*":
            self._outbox.unsubscribe(session)
        elif self._list is not None:
            self._list.cancel(reason="unsubscribed")
            self._list = None

    async def _cancel(self, request: Cancel) -> None:
        session = request.session
        try:
            checks.session_id(session)
            snapshot = await self._runtime.seen(self._outbox.grant, session, "cancel")
            await self._runtime.cancel(snapshot, request.reason, self._credentials.address)
        except RefusedError as refused:
            self._refuse(refused.code, str(refused), session)
        except ValueError:
            self._outbox.say(not_found(session))
        except ProgressError as problem:
            self._outbox.say(failed(problem, session))

    def _refuse(self, code: ErrorCode, message: str, session: str) -> None:
        self._outbox.say(ErrorMessage(code=code, message=message, session=session))

    # What ends it

    def _close(self, code: int, reason: str) -> None:
        """Closes the connection, behind what is on its way. Does not wait."""
        self._wire.finish(close_frame(code, reason))
        self._scope.cancel(reason=reason)

    def _subscription_over(self, subscriber: Subscriber, ended: bool) -> None:
        if subscriber.request.close and ended:
            # Behind the end, which the wire has or is about to be given.
            self._wire.finish_soon(close_frame(1000, "the session has ended"))
            self._scope.cancel(reason="what was asked for has ended")

    async def _expire(self) -> None:
        """Closes when the token expires, unless a newer one comes before."""
        while True:
            with trio.CancelScope() as self._until_expiry:
                await self._runtime.auth.until_expired(self._outbox.grant)
                self._close(4005, "the token has expired: get a new one")
                return
