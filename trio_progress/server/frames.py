"""WebSocket frames (RFC 6455, section 5.2), as a server sends them: whole and unmasked."""

from __future__ import annotations

import struct
from typing import Final

TEXT: Final = 0x81
CLOSE: Final = 0x88


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """The payload as one unmasked frame (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", opcode, size) + payload
    if size < 65536:
        return struct.pack("!BBH", opcode, 126, size) + payload
    return struct.pack("!BBQ", opcode, 127, size) + payload


def close_frame(code: int, reason: str) -> bytes:
    """A CLOSE with its code; the reason is cut to what a control frame holds."""
    text = reason.encode()[:123].decode(errors="ignore").encode()
    return frame(struct.pack("!H", code) + text, CLOSE)
