"""Whether a request is a WebSocket's handshake, for this protocol."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..protocol.messages import SPARSE, SUBPROTOCOL
from .answers import error

if TYPE_CHECKING:
    from .answers import Request, Response


def check_handshake(request: Request) -> Response | None:
    """Refuses what is no handshake of this protocol (RFC 6455, section 4.2.1)."""
    headers = request.headers
    if not request.handshaken:
        if request.method != "GET" or not request.upgrades:
            return error(426, "bad_request", "this path takes only WebSockets", Upgrade="websocket")
        if headers.get("sec-websocket-version") != "13":
            return error(426, "bad_request", "Sec-WebSocket-Version must be 13", Sec_WebSocket_Version="13")
        if not _is_key(headers.get("sec-websocket-key", "")):
            return error(400, "bad_request", "Sec-WebSocket-Key must be 16 bytes in base64")
    if SUBPROTOCOL not in _offered(request):
        return error(400, "bad_request", f"Sec-WebSocket-Protocol must offer {SUBPROTOCOL}")
    return None


def takes_sparse(request: Request) -> bool:
    """Whether the client takes updates without what it has."""
    return SPARSE in _offered(request)


def _offered(request: Request) -> Iterable[str]:
    return map(str.strip, request.headers.get("sec-websocket-protocol", "").split(","))


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False
