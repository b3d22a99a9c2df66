"""A subscriber over WebSocket that reconnects and resumes by itself; the protocol is in `server/PROTOCOL.md`.

1. One task owns the connection, and there is one connection at a time. What it reads it hands to the reader
   over a channel without room: a reader that is slow makes the server send fewer, newer states.
2. Of each message that was handed over the resume token is kept; with the newest one the next connection goes on.
3. Updates are merged as they come. One that does not fit is not handed over: the session is subscribed to anew.
4. A custom event that was handed over is not handed over again, whatever a new connection repeats.
5. What cannot become better by connecting again is raised to the reader: a token that is not valid, a session
   that is not there, a server that speaks another protocol.
"""

from __future__ import annotations

import inspect
import logging
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Self, final
from urllib.parse import urlsplit

import msgspec
import trio

from ..contexts import Opening
from ..errors import ProgressError, ProtocolError, SessionClosedError, SessionNotFoundError, require_extra
from ..protocol.messages import Bookmark, CustomEvent, End, Message, Subscribed, Update, decode_message
from ..protocol.requests import FASTEST, LONGEST_SINCE
from ..protocol.snapshot import Snapshot
from ..state import checks
from ..telemetry.redaction import redacted, redacted_url
from .retry import AgainError, Token, closed, first, judged

if TYPE_CHECKING:
    from trio_websocket import WebSocketConnection

logger = logging.getLogger("trio_progress")

SUBPROTOCOL: Final = "trio-progress.v1"

CONNECT: Final = 10.0
"""Seconds in which a connection is to be open."""

FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 30.0
"""Seconds between two connections, before jitter; they double from one failure to the next."""

SILENCE: Final = 20.0
"""Seconds between two looks whether the server is still there, and that it has to answer in."""

LARGEST: Final = 64 * 1024 * 1024
"""Characters of one message; a state is smaller by `Limits`."""

_TYPES: Final = frozenset({"subscribed", "snapshot", "update", "event", "bookmark", "gap", "end"})


class _Envelope(msgspec.Struct):
    """What is looked at first of every message."""

    type: str
    session: str | None = None
    code: str | None = None
    message: str | None = None


class _Address:
    """Where a server is.

    Raises:
        ValueError, TypeError: The URL is none of a server.
    """

    def __init__(self, url: str) -> None:
        if not isinstance(url, str):
            raise TypeError(f"url must be a str such as 'ws://127.0.0.1:8765', not {redacted(repr(url)):.200}")
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
            raise ValueError(
                f"url must be like 'ws://127.0.0.1:8765' or 'wss://example.org/base', not {redacted_url(url)!r:.200}"
            )
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError(
                "url must have no user, query or fragment: tokens are given by `token`, never in an address"
            )
        self.secure = parts.scheme in ("wss", "https")
        self.host = parts.hostname
        self.port = parts.port or (443 if self.secure else 80)
        path = parts.path.rstrip("/")
        self.path = path if path.endswith("/ws") else f"{path}/ws"
        usual = self.port == (443 if self.secure else 80)
        bracketed = f"[{self.host}]" if ":" in self.host else self.host
        self.named = bracketed if usual else f"{bracketed}:{self.port}"


@final
class RemoteSubscription:
    """The messages of one session, by way of a server. Made by `connect()`; one task iterates it.

    Iterating has a checkpoint for each message; a message is not lost by being cancelled while waiting for it.
    """

    def __init__(
        self,
        address: _Address,
        subscribe: dict[str, Any],
        token: Token,
        ssl_context: ssl.SSLContext | None,
        since: str | None,
    ) -> None:
        self._address = address
        self._subscribe = subscribe
        self._token = token
        self._ssl_context = ssl_context
        self._resume = since
        self._event = 0
        self._merged: Snapshot | None = None
        """`state`, as it was when the reader took the newest message; the reader may be about to see that only."""
        self._waits = False
        """Whether a message waits for the reader."""
        self._moved_at = 0.0
        """When a message came last, or was taken."""
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
        failures = 0
        with self._send:
            while True:
                try:
                    if await self._connection():
                        return
                    failures = 0
                except AgainError as error:
                    if not self._begun.is_set() and self.reconnects == 0:
                        self._fail(ConnectionError(f"no connection to {self._address.named}: {error}"))
                        return
                    failures = 0 if self.connected else failures + 1
                    # A renewed token is nothing to warn of, and of an outage the first word is enough.
                    lost = self.connected and not error.soon
                    logger.log(
                        logging.WARNING if lost else logging.INFO,
                        "session %r: the connection to %s is lost, another one is made: %s",
                        self._subscribe["session"],
                        self._address.named,
                        error,
                    )
                    self.reconnects += 1
                    self.connected = False
                    if not (error.soon and failures == 0):
                        pause = min(FIRST_PAUSE * 2 ** min(failures, 20), LONGEST_PAUSE)
                        await trio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
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

    async def _connection(self) -> bool:
        """One connection; True when the session has ended.

        Raises:
            AgainError: It has ended too early.
        """
        headers = await self._credentials()
        over: bool | Exception = AgainError("it was closed")
        try:
            async with trio.open_nursery() as nursery:
                try:
                    with trio.fail_after(CONNECT):
                        stream = await self._stream()
                    try:
                        over = await self._talk(nursery, stream, headers)
                    finally:
                        await trio.aclose_forcefully(stream)  # noqa: ASYNC102 - it does not wait
                except Exception as error:
                    over = error
                nursery.cancel_scope.cancel()
        except* Exception as group:
            # What trio-websocket's own task has met; what was met here is said first.
            if not isinstance(over, (ProgressError, ConnectionError)):
                over = first(group)
        if isinstance(over, bool):
            return over
        raise judged(over, CONNECT)

    async def _credentials(self) -> list[tuple[bytes, bytes]]:
        token = self._token
        if callable(token):
            asked = token()
            token = await asked if inspect.isawaitable(asked) else asked
        if token is None:
            return []
        return [(b"Authorization", f"Bearer {_checked_token(token)}".encode())]

    async def _stream(self) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
        address = self._address
        if not address.secure:
            return await trio.open_tcp_stream(address.host, address.port)
        context = ssl.create_default_context() if self._ssl_context is None else self._ssl_context
        stream = await trio.open_ssl_over_tcp_stream(
            address.host, address.port, ssl_context=context, https_compatible=True
        )
        try:
            # Here, and not with the first bytes: trio-websocket would wait for an answer that cannot come.
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            await trio.aclose_forcefully(stream)
            if isinstance(error.__cause__, ssl.SSLError):
                raise error.__cause__ from None
            raise
        except BaseException:
            await trio.aclose_forcefully(stream)  # noqa: ASYNC102 - it does not wait
            raise
        return stream

    async def _talk(
        self,
        nursery: trio.Nursery,
        stream: trio.SocketStream | trio.SSLStream[trio.SocketStream],
        headers: list[tuple[bytes, bytes]],
    ) -> bool:
        from trio_websocket import ConnectionClosed, wrap_client_stream

        address = self._address
        try:
            with trio.fail_after(CONNECT):
                connection = await wrap_client_stream(
                    nursery,
                    stream,
                    address.named,
                    address.path,
                    subprotocols=[SUBPROTOCOL],
                    extra_headers=headers,
                    max_message_size=LARGEST,
                    receive_buffer_size=65536,
                )
                if connection.subprotocol != SUBPROTOCOL:
                    raise ProtocolError(f"the server at {address.named} does not speak {SUBPROTOCOL}")
                await self._ask(connection)  # It may be closed by then, as with a token that has expired.
            nursery.start_soon(self._look_after, connection, nursery.cancel_scope)
            while True:
                over = await self._take(connection, await connection.get_message())
                if over:
                    with trio.move_on_after(1.0):
                        await connection.aclose()
                    return True
        except ConnectionClosed as error:
            raise closed(error, self._token) from None

    async def _ask(self, connection: WebSocketConnection) -> None:
        asked = self._subscribe if self._resume is None else {**self._subscribe, "since": self._resume}
        await connection.send_message(msgspec.json.encode(asked).decode())
        if self._subscribe.get("wait"):
            self._begun.set()

    async def _look_after(self, connection: WebSocketConnection, scope: trio.CancelScope) -> None:
        """Ends a connection whose server is not there any more, which the network may never say."""
        from trio_websocket import ConnectionClosed

        try:
            while True:
                await trio.sleep(SILENCE)
                asked = trio.current_time()
                with trio.move_on_after(SILENCE) as patience:
                    await connection.ping()
                # While the reader is busy nothing is read, an answer neither.
                if patience.cancelled_caught and not self._waits and self._moved_at <= asked:
                    scope.cancel(reason="the server does not answer")
        except ConnectionClosed:
            return  # The other task knows it as well.

    # Messages

    async def _take(self, connection: WebSocketConnection, raw: str | bytes) -> bool:
        """Takes in one message; True for the last one of the session.

        Raises:
            AgainError, ProgressError: The server says that it cannot be had.
        """
        try:
            envelope = msgspec.json.decode(raw, type=_Envelope)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"not a message of this protocol: {error}") from None
        if envelope.type == "error":
            self._refused(envelope)
        if envelope.type not in _TYPES or envelope.session != self._subscribe["session"]:
            return False
        message = decode_message(raw)
        merged, event = self._merged, self._event
        if isinstance(message, Subscribed):
            self.connected = True
            self._begun.set()
        elif isinstance(message, Snapshot):
            if merged is not None and merged.epoch != message.epoch:
                event = 0
            merged = message
        elif isinstance(message, Update) and merged is not None:
            try:
                merged = message.apply(merged)
            except ProtocolError as error:
                logger.warning("session %r: subscribed to anew: %s", message.session, error)
                self._resume = None
                await self._ask(connection)
                return False
        elif isinstance(message, CustomEvent):
            if message.n <= event:
                return False
            event = message.n
        elif isinstance(message, Bookmark) and merged is not None and merged.seq == message.seq:
            merged = msgspec.structs.replace(
                merged,
                liveness=message.liveness,
                heartbeat_at=message.heartbeat_at,
                progressed_at=message.progressed_at,
                resume=message.resume,
            )
        await self._hand_over(message, merged)
        # Not before: what the reader did not take, because the connection went, comes again by the next one.
        self._merged, self._event = merged, event
        self._resume = getattr(message, "resume", None) or self._resume
        return isinstance(message, End)

    async def _hand_over(self, message: Message, merged: Snapshot | None) -> None:
        self._waits = True
        try:
            await self._send.send((message, merged))
        finally:
            self._waits = False
            self._moved_at = trio.current_time()

    def _refused(self, envelope: _Envelope) -> None:
        text = f"the server refuses: {envelope.code}: {envelope.message}"
        if envelope.code == "not_found":
            raise SessionNotFoundError(self._subscribe["session"])
        if envelope.code == "unavailable":
            raise AgainError(text)
        raise ProtocolError(text)


def _checked_token(token: object) -> str:
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("token must be a text of visible ASCII characters, or a callable that gives one")
    return token


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
    subscribe: dict[str, Any] = {"type": "subscribe", "session": checks.session_id(session_id)}
    if max_hz is not None:
        subscribe["max_hz"] = max_hz = checks.number("max_hz", max_hz, above=0)
        if max_hz > FASTEST:
            raise ValueError(f"max_hz must be at most {FASTEST}, not {max_hz!r}")
    if events is not None:
        events = checks.whole("events", events, least=0)
        if events > 10_000:
            raise ValueError(f"events must be a whole number from 0 to 10000, not {events!r:.200}")
        subscribe["events"] = events
    if wait:
        subscribe["wait"] = True
    if since is not None and not isinstance(since, str):
        raise TypeError(f"since must be the `resume` of a message, not {since!r:.200}")
    if since is not None and len(since) > LONGEST_SINCE:
        raise ValueError(f"since must be the `resume` of a message, which is never this long: {since!r:.200}")
    if isinstance(token, str):
        _checked_token(token)
    elif token is not None and not callable(token):
        raise TypeError("token must be a str, a callable that gives one, or None")
    with require_extra("connect()", "server"):
        import trio_websocket  # noqa: F401 - which a connection stands on
    messages = RemoteSubscription(_Address(url), subscribe, token, ssl_context, since)
    return Opening("connect(...)", "messages", _connected(messages, session_id))


@asynccontextmanager
async def _connected(messages: RemoteSubscription, session_id: str) -> AsyncIterator[RemoteSubscription]:
    body_error: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(messages.run, name=f"connection for session {session_id}")
        try:
            await messages.begun()
            yield messages
        except BaseException as error:  # noqa: ASYNC103 - raised below, as itself
            body_error = error
        finally:
            messages._receive.close()
        nursery.cancel_scope.cancel(reason="the subscription is left")
    if body_error is not None:
        raise body_error
