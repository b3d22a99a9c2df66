"""What an ASGI server says of a request, as a request of ours; the same bounds hold for it as at our own port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import trio

from ..server.answers import RefusedError, Request
from ..server.http_connection import LARGEST_BODY, joined_headers, parse_query

Scope: TypeAlias = Mapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Mapping[str, Any]]]
Send: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]

NO_ADDRESS: Final = ""
"""The address of a client of which the server knows none: of a Unix socket's."""


def request_of(scope: Scope) -> Request:
    """A request without its body, or a WebSocket's handshake, as our routes take it.

    Raises:
        RefusedError: It has too many headers, one twice of which there may be one, or a query that cannot be read.
    """
    websocket = scope["type"] == "websocket"
    query, labels = parse_query(bytes(scope.get("query_string", b"")).decode("latin-1"))
    headers = joined_headers(scope["headers"])
    if websocket:  # HTTP/2 has a handshake of its own, without most of the headers of HTTP/1.1 (RFC 8441).
        headers["sec-websocket-protocol"] = ", ".join(scope.get("subprotocols") or ())
    return Request(
        method="GET" if websocket else scope["method"],
        path=full_path(scope),
        query=query,
        labels=labels,
        headers=headers,
        handshaken=websocket,
        scope=scope,
    )


def base_of(scope: Scope) -> str:
    """Under which path the app is mounted, with a slash at its end."""
    return _root(scope) + "/"


def full_path(scope: Scope) -> str:
    """The path of a request, with that under which the app is mounted; some servers leave that away."""
    root, path = _root(scope), str(scope["path"])
    return path if path == root or path.startswith(f"{root}/") else root + path


def _root(scope: Scope) -> str:
    return str(scope.get("root_path") or "").rstrip("/")


def peer_of(scope: Scope) -> str:
    """The address at the other end of the connection; `NO_ADDRESS` where there is none."""
    client = scope.get("client")
    return str(client[0]) if client else NO_ADDRESS


async def read_body(receive: Receive, patience: float) -> bytes | None:
    """The body of a request; None where the client has gone.

    Args:
        receive: What gives the events of the request.
        patience: Seconds that it may take to come.

    Raises:
        RefusedError: It is too large, or comes too slowly.
    """
    body = bytearray()
    with trio.move_on_after(patience):
        while (event := await receive())["type"] == "http.request":
            body += event.get("body", b"")
            if len(body) > LARGEST_BODY:
                raise RefusedError(413, "too_large", f"a body is at most {LARGEST_BODY} bytes")
            if not event.get("more_body", False):
                return bytes(body)
        return None
    raise RefusedError(408, "bad_request", "the request came too slowly")
