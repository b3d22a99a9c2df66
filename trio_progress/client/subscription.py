"""`connect()`: one session's messages over WebSocket, reconnecting by itself; the protocol is in `server/PROTOCOL.md`.

1. One task owns the connection, and there is one connection at a time. What it reads it hands to the reader
   over a channel without room: a reader that is slow makes the server send fewer, newer states.
2. Of each message that was handed over the resume token is kept; with the newest one the next connection goes on.
3. Updates are merged as they come. One that does not fit is not handed over: the session is subscribed to anew.
   What the server has left out, because the state here has it, is put back before.
4. A custom event that was handed over is not handed over again, whatever a new connection repeats.
5. What cannot become better by connecting again is raised to the reader: a token that is not valid, a session
   that is not there, a server that speaks another protocol.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, NamedTuple, Self, final

import msgspec
import trio

from ..contexts import BodyError, Opening
from ..errors import ProtocolError, SessionClosedError, SessionNotFoundError, require_extra
from ..protocol.backoff import Backoff
from ..protocol.merge import Update, filled, merge
from ..protocol.messages import CustomEvent, End, Message, Subscribed, decode_message
from ..protocol.requests import FASTEST, LONGEST_SINCE, MOST_EVENTS, Subscribe
from ..protocol.snapshot import Snapshot
from ..state import checks
from .connection import Connection, RetryableError, ServerAddress, Token, check_token, open_connection

logger = logging.getLogger("trio_progress")

FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 30.0
"""Seconds between two connections, before jitter."""

_TYPES: Final = frozenset({"subscribed", "snapshot", "update", "event", "bookmark", "gap", "end"})


class _Envelope(msgspec.Struct):
    """What is looked at first of every message: a newer server may send what this client does not know."""

    type: str
    session: str | None = None
    code: str | None = None
    message: str | None = None


class _Place(NamedTuple):
    """How far the reader has come."""

    state: Snapshot | None
    event: int
    resume: str | None

    def after(self, message: Message) -> _Place | None:
        """The place behind `message`; None for an event that is behind this place.

        Raises:
            ProtocolError: An update does not fit onto the state.
        """
        state, event, resume = self
        if isinstance(message, Snapshot) and state is not None and state.epoch != message.epoch:
            event = 0
        elif isinstance(message, CustomEvent):
            if message.n <= event:
                return None
            event = message.n
        if state is not None or isinstance(message, Snapshot):
            state = merge(state, message)  # Without a state it is the reader who has one, and its resume token.
        return _Place(state, event, getattr(message, "resume", None) or resume)


@final
class RemoteSubscription:
    """The messages of one session, by way of a server. Made by `connect()`; one task iterates it.

    Iterating has a checkpoint for each message; a message is not lost by being cancelled while waiting for it.
    """

    def __init__(
        self, address: ServerAddress, request: Subscribe, token: Token, ssl_context: ssl.SSLContext | None
    ) -> None:
        self._address = address
        self._request = request
        self._token = token
        self._ssl_context = ssl_context
        self._place = _Place(None, 0, request.since)
        """Behind the message that was handed over last; `state` may be one behind it."""
        self._send, self._receive = trio.open_memory_channel[tuple[Message, Snapshot | None]](0)
        self._error: BaseException | None = None
        self._begun = trio.Event()
        self.state: Snapshot | None = None
        """The newest state, merged of all that iterating has given; None as long as there was no snapshot."""
        self.connected = False
        """Whether there is a connection now on which the session is subscribed to."""
        self.reconnects = 0
        """How often another connection was made."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        try:
            message, self.state = await self._receive.receive()
            return message
        except trio.EndOfChannel:
            if self._error is not None:
                raise self._error from None
            raise StopAsyncIteration from None
        except trio.ClosedResourceError:
            raise SessionClosedError("the subscription was left: nothing more can be read of it") from None

    # The task

    async def run(self) -> None:
        """Connects, and connects again, until the session has ended or nothing helps."""
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        with self._send:
            while True:
                try:
                    # Who has given a resume token has the state as well, but it is not here.
                    sparse = self._place.state is not None or self._place.resume is None
                    async with open_connection(
                        self._address, self._token, self._ssl_context, sparse=sparse
                    ) as connection:
                        await self._follow(connection)
                    return
                except RetryableError as error:
                    if not self._begun.is_set() and self.reconnects == 0:
                        self._fail(ConnectionError(f"no connection to {self._address.name}: {error}"))
                        return
                    was_connected, self.connected = self.connected, False
                    # A renewed token is nothing to warn of, and of an outage the first word is enough.
                    logger.log(
                        logging.WARNING if was_connected and not error.soon else logging.INFO,
                        "session %r: the connection to %s is lost, another one is made: %s",
                        self._request.session,
                        self._address.name,
                        error,
                    )
                    self.reconnects += 1
                    if was_connected:
                        backoff.reset()
                    if not (was_connected and error.soon):
                        await trio.sleep(backoff.pause())
                except Exception as error:
                    self._fail(error)
                    return

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._begun.set()

    async def begun(self) -> None:
        """Waits until the session is subscribed to, or has to be waited for.

        Raises:
            ConnectionError: There is no server.
            SessionNotFoundError, ProtocolError: The server refuses.
        """
        await self._begun.wait()
        if self._error is not None:
            raise self._error

    async def _follow(self, connection: Connection) -> None:
        """Hands over what comes, until the session has ended."""
        await self._ask(connection, self._place.resume)  # It may be closed by then: a token may have expired.
        message: Message | None = None
        while not isinstance(message, End):
            message = self._read(await connection.receive())
            if message is None:
                continue
            if isinstance(message, Subscribed):
                self.connected = True
                self._begun.set()
            try:
                if isinstance(message, Update):
                    message = filled(self._place.state, message)
                place = self._place.after(message)
            except ProtocolError as error:
                logger.warning("session %r: subscribed to anew: %s", self._request.session, error)
                self._place = self._place._replace(resume=None)
                await self._ask(connection, None)
                continue
            if place is not None:
                await self._send.send((message, place.state))
                # Not before: what the reader did not take, because the connection went, comes again by the next one.
                self._place = place
        await connection.close()

    async def _ask(self, connection: Connection, since: str | None) -> None:
        await connection.send(msgspec.json.encode(msgspec.structs.replace(self._request, since=since)).decode())
        if self._request.wait:
            self._begun.set()

    def _read(self, data: str | bytes) -> Message | None:
        """The message in `data`; None where it is not about this session, or of a kind that is not known here.

        Raises:
            RetryableError, ProgressError: The server says that the session cannot be had.
        """
        try:
            envelope = msgspec.json.decode(data, type=_Envelope)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"not a message of this protocol: {error}") from None
        if envelope.type == "error":
            text = f"the server refuses: {envelope.code}: {envelope.message}"
            if envelope.code == "not_found":
                raise SessionNotFoundError(self._request.session)
            raise RetryableError(text) if envelope.code == "unavailable" else ProtocolError(text)
        if envelope.type not in _TYPES or envelope.session != self._request.session:
            return None
        return decode_message(data)


def connect(
    url: str,
    session_id: str,
    *,
    token: Token = None,
    since: str | None = None,
    max_hz: float | None = None,
    events: int | None = None,
    wait: bool = False,
    ssl_context: ssl.SSLContext | None = None,
) -> AbstractAsyncContextManager[RemoteSubscription, bool | None]:
    """A session as the protocol's messages, by way of a server; needs the extra `server`.

    `async with connect("ws://127.0.0.1:8765", "r-42") as messages`, then `async for message in messages`, as with
    `tracker.subscribe()`. When the connection breaks another one is made, after a pause that grows and is
    jittered, and goes on where the last one was; that goes on for ever, so set a deadline around it if need be.
    Where it cannot go on, a `Subscribed` that says so and a whole `Snapshot` come. `messages.state` is the merged
    state. Leaving closes the connection.

    Args:
        url: The server's, `ws://` or `wss://` (or `http://`, `https://`), with its base path if it has one.
        session_id: The session.
        token: What lets one in, or a callable, which may be async, that is asked anew for each connection. One that
            is a text and expires ends it.
        since: The resume token of the last message received earlier.
        max_hz: At most so many updates a second, above 0 up to 1000; None: as they come.
        events: At most so many of the retained custom events at first, 0 to 10000; None: all of them.
        wait: Whether to wait for a session that is not there yet.
        ssl_context: For `wss://`; None: one that checks certificate and host name.

    Raises:
        ValueError, TypeError: A value is out of range.
        ModuleNotFoundError: The extra is not installed.
        ConnectionError: When entering: there is no server. Later, it is waited for.
        ssl.SSLCertVerificationError: When entering or iterating: its certificate is not one to trust.
        SessionNotFoundError: When entering: there is no such session, or none that the token lets see, and `wait`
            is False.
        ProtocolError: When entering or iterating: the server refuses for good, or speaks otherwise.
        RuntimeError: When entering: Trio does not run here.
    """
    checks.session_id(session_id)
    if max_hz is not None and (max_hz := checks.number("max_hz", max_hz, above=0)) > FASTEST:
        raise ValueError(f"max_hz must be at most {FASTEST}, not {max_hz!r}")
    if events is not None and (events := checks.whole("events", events, least=0)) > MOST_EVENTS:
        raise ValueError(f"events must be a whole number from 0 to {MOST_EVENTS}, not {events!r:.200}")
    if since is not None and not isinstance(since, str):
        raise TypeError(f"since must be the `resume` of a message, not {since!r:.200}")
    if since is not None and len(since) > LONGEST_SINCE:
        raise ValueError(f"since must be the `resume` of a message, which is never this long: {since!r:.200}")
    check_token(token)
    with require_extra("connect()", "server"):
        import trio_websocket  # noqa: F401 - which a connection stands on
    request = Subscribe(session=session_id, since=since, max_hz=max_hz, events=events, wait=bool(wait))
    messages = RemoteSubscription(ServerAddress(url), request, token, ssl_context)
    return Opening("connect(...)", "messages", _connected(messages, session_id))


@asynccontextmanager
async def _connected(messages: RemoteSubscription, session_id: str) -> AsyncIterator[RemoteSubscription]:
    body = BodyError()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(messages.run, name=f"connection for session {session_id}")
        with body:
            await messages.begun()
            yield messages
        messages._receive.close()
        nursery.cancel_scope.cancel(reason="the subscription is left")
    body.reraise()
