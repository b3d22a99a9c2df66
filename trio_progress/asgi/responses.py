"""Whole responses, by way of an ASGI server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import trio

from ..server.transport import PIECE

if TYPE_CHECKING:
    from ..server.answers import Response
    from .requests import Scope, Send


def head_of(scope: Scope, headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them; without what HTTP/2 forbids (RFC 9113, section 8.2.2)."""
    forbidden = () if str(scope.get("http_version", "1.1")).startswith("1") else ("connection", "upgrade")
    pairs = [(name.lower(), value) for name, value in headers.items()]
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in pairs if name not in forbidden]


async def respond(scope: Scope, send: Send, response: Response, patience: float) -> None:
    """Sends a response.

    Args:
        scope: Of the request.
        send: What takes the events of the response.
        response: What is sent.
        patience: Seconds that the client may take to read 64 KiB.

    Raises:
        trio.BrokenResourceError: It does not read.
    """
    body = b"" if response.status in (204, 304) or scope.get("method") == "HEAD" else response.body
    head = {"status": response.status, "headers": head_of(scope, response.fields())}
    await _respond(send, "http.response", head, body, patience)


async def deny(scope: Scope, send: Send, response: Response, patience: float) -> None:
    """Answers a WebSocket's handshake that is refused: with why, where the server can say it, or with a bare 403.

    Raises:
        trio.BrokenResourceError: It does not read.
    """
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 4507})
        return
    head = {"status": response.status, "headers": head_of(scope, response.fields())}
    await _respond(send, "websocket.http.response", head, response.body, patience)


async def _respond(send: Send, kind: str, head: dict[str, Any], body: bytes, patience: float) -> None:
    with trio.move_on_after(patience) as scope:
        await send({"type": f"{kind}.start", **head})
        for at in range(0, max(len(body), 1), PIECE):
            scope.deadline = trio.current_time() + patience
            more = at + PIECE < len(body)
            await send({"type": f"{kind}.body", "body": body[at : at + PIECE], "more_body": more})
    if scope.cancelled_caught:
        raise trio.BrokenResourceError("the client does not read")
