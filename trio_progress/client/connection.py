"""One WebSocket to a server: where that is, what is shown to it, opening and reading, and noticing that it has gone.

How a connection has ended says what follows: another one, or an error for whoever reads.
"""

from __future__ import annotations

import inspect
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final
from urllib.parse import urlsplit

import trio

from ..errors import ProgressError, ProtocolError
from ..protocol.messages import SPARSE, SUBPROTOCOL
from ..telemetry.redaction import redacted, redacted_url

if TYPE_CHECKING:
    from trio_websocket import WebSocketConnection

Token: TypeAlias = str | Callable[[], str | Awaitable[str]] | None
SocketStream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]

CONNECT: Final = 10.0
"""Seconds in which a connection is to be open, and what is sent is to be taken."""

SILENCE: Final = 20.0
"""Seconds between two looks whether the server is still there, and that it has to answer in."""

LARGEST: Final = 64 * 1024 * 1024
"""Characters of one message; a state is smaller by `Limits`."""

_FINAL_CODES: Final = frozenset({1003, 1007, 1009})
_FINAL_STATUSES: Final = frozenset({400, 401, 403, 404, 405, 421, 426})
"""HTTP statuses that the same request would be given again."""


@final
class ServerAddress:
    """Where a server's WebSocket is.

    Raises:
        ValueError, TypeError: The URL is not one of a server.
    """

    __slots__ = ("host", "name", "path", "port", "secure")

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
        usual_port = 443 if self.secure else 80
        self.host = parts.hostname
        self.port = parts.port or usual_port
        path = parts.path.rstrip("/")
        self.path = path if path.endswith("/ws") else f"{path}/ws"
        host = f"[{self.host}]" if ":" in self.host else self.host
        self.name = host if self.port == usual_port else f"{host}:{self.port}"
        """As the header `Host` has it, and as errors name the server."""

    async def open_stream(self, ssl_context: ssl.SSLContext | None) -> SocketStream:
        """A stream to the server; a secure one has shaken hands.

        Raises:
            ssl.SSLError: The server's certificate is not one to trust, or it does not speak TLS.
        """
        if not self.secure:
            return await trio.open_tcp_stream(self.host, self.port)
        context = ssl.create_default_context() if ssl_context is None else ssl_context
        stream = await trio.open_ssl_over_tcp_stream(self.host, self.port, ssl_context=context, https_compatible=True)
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


def check_token(token: object) -> None:
    """Checks what is given as `token` before there is a connection.

    Raises:
        ValueError, TypeError: It is none.
    """
    if isinstance(token, str):
        _checked(token)
    elif token is not None and not callable(token):
        raise TypeError("token must be a str, a callable that gives one, or None")


async def authorization(token: Token) -> list[tuple[bytes, bytes]]:
    """The headers that show the token; none without one."""
    if callable(token):
        given = token()
        token = await given if inspect.isawaitable(given) else given
    return [] if token is None else [(b"Authorization", f"Bearer {_checked(token)}".encode())]


def _checked(token: object) -> str:
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("token must be a text of visible ASCII characters, or a callable that gives one")
    return token


class RetryableError(Exception):
    """The connection has ended, and another one may do better. `soon`: without a pause."""

    def __init__(self, why: str, *, soon: bool = False) -> None:
        super().__init__(why)
        self.soon = soon


def first_error(group: BaseExceptionGroup[Any]) -> Exception:
    """Any one exception of a group of them: they are all of one connection that has broken."""
    leaf: BaseException = group
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    assert isinstance(leaf, Exception)
    return leaf


def _classified(error: Exception, token: Token) -> Exception:
    """A `RetryableError` where another connection may do better, else the error to raise to the reader.

    Args:
        error: How the connection has ended.
        token: What the server was shown.
    """
    import h11
    from trio_websocket import ConnectionClosed, ConnectionRejected, HandshakeError

    if isinstance(error, (RetryableError, ProgressError, ssl.SSLCertVerificationError)):
        return error
    if isinstance(error, ConnectionClosed):
        return _classified_close(error.reason, token)
    if isinstance(error, ConnectionRejected):
        if error.status_code in _FINAL_STATUSES:
            return ProtocolError(f"the server refuses: HTTP {error.status_code}")
        return RetryableError(f"HTTP {error.status_code}")
    if isinstance(error, trio.TooSlowError):
        return RetryableError(f"it does not answer within {CONNECT:g} s")
    if isinstance(error, h11.ProtocolError):
        return RetryableError(f"it does not answer as a WebSocket: {error}")
    if isinstance(error, (OSError, trio.BrokenResourceError, trio.ClosedResourceError, HandshakeError)):
        return RetryableError(str(error) or type(error).__name__)
    return error


def _classified_close(reason: Any, token: Token) -> Exception:
    code = 1006 if reason is None else reason.code
    text = f"closed with {code}" + (f" ({reason.reason})" if reason is not None and reason.reason else "")
    if code == 4500 and token is None:
        return ProtocolError(f"the server wants a token, and none was given: {text}")
    if code == 4005 and isinstance(token, str):
        # It would be shown the same one for ever.
        return ProtocolError(f"the server refuses: {text}; a callable as `token` is asked for one each time")
    if code in _FINAL_CODES or 4500 <= code <= 4999:
        return ProtocolError(f"the server refuses: {text}")
    return RetryableError(text, soon=code == 4005)


@final
class Connection:
    """An open WebSocket, of which one task reads."""

    def __init__(self, websocket: WebSocketConnection) -> None:
        self._websocket = websocket
        self._reading_since = float("inf")
        """When the reader began to wait for what comes next; infinite while it is busy with what came."""

    async def send(self, text: str) -> None:
        """Sends one message."""
        with trio.fail_after(CONNECT):
            await self._websocket.send_message(text)

    async def receive(self) -> str | bytes:
        """The next message; waits for it."""
        self._reading_since = trio.current_time()
        try:
            return await self._websocket.get_message()
        finally:
            self._reading_since = float("inf")

    async def close(self) -> None:
        """Closes it politely, as far as the server joins in."""
        with trio.move_on_after(1.0):
            await self._websocket.aclose()

    async def watch(self, scope: trio.CancelScope) -> None:
        """Cancels the scope once the server does not answer, which the network may never say."""
        from trio_websocket import ConnectionClosed

        try:
            while True:
                await trio.sleep(SILENCE)
                asked = trio.current_time()
                with trio.move_on_after(SILENCE) as patience:
                    await self._websocket.ping()
                # While the reader is busy nothing is read, an answer neither.
                if patience.cancelled_caught and self._reading_since <= asked:
                    scope.cancel(reason="the server does not answer")
        except ConnectionClosed:
            return  # The reader knows it as well.


@asynccontextmanager
async def open_connection(
    address: ServerAddress, token: Token, ssl_context: ssl.SSLContext | None, *, sparse: bool
) -> AsyncIterator[Connection]:
    """A connection to the server for the length of a block; leaving drops it.

    `sparse`: whether updates may leave out what the state has that they go from.

    Raises:
        RetryableError: It has failed, before or in the block, and another one may do better.
        ProtocolError, ssl.SSLCertVerificationError: It will not become better.
    """
    headers = await authorization(token)
    failure: Exception | None = RetryableError("it was closed")
    try:
        async with trio.open_nursery() as nursery:
            try:
                with trio.fail_after(CONNECT):
                    stream = await address.open_stream(ssl_context)
                try:
                    with trio.fail_after(CONNECT):
                        connection = Connection(await _shaken_hands(nursery, stream, address, headers, sparse=sparse))
                    nursery.start_soon(connection.watch, nursery.cancel_scope)
                    yield connection
                    failure = None
                finally:
                    await trio.aclose_forcefully(stream)  # noqa: ASYNC102 - it does not wait
            except Exception as error:
                failure = error
            nursery.cancel_scope.cancel()
    except* Exception as group:
        # What trio-websocket's own task has met; what was met here is said first.
        if not isinstance(failure, (ProgressError, ConnectionError)):
            failure = first_error(group)
    if failure is not None:
        raise _classified(failure, token)


async def _shaken_hands(
    nursery: trio.Nursery,
    stream: SocketStream,
    address: ServerAddress,
    headers: list[tuple[bytes, bytes]],
    *,
    sparse: bool,
) -> WebSocketConnection:
    from trio_websocket import wrap_client_stream

    websocket = await wrap_client_stream(
        nursery,
        stream,
        address.name,
        address.path,
        subprotocols=[SUBPROTOCOL, SPARSE] if sparse else [SUBPROTOCOL],
        extra_headers=headers,
        max_message_size=LARGEST,
        receive_buffer_size=65536,
    )
    if websocket.subprotocol != SUBPROTOCOL:
        raise ProtocolError(f"the server at {address.name} does not speak {SUBPROTOCOL}")
    return websocket
