"""Where a server is, and a stream to it."""

from __future__ import annotations

import ssl
from typing import TypeAlias, final
from urllib.parse import urlsplit

import trio

from ..telemetry.redaction import redacted, redacted_url

SocketStream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]


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
