"""How an encoded message is put on the wire: as a WebSocket frame, or as a server-sent event."""

from __future__ import annotations

from ..protocol.messages import WireMessage
from .frames import frame


def as_frame(message: WireMessage, data: bytes) -> bytes:
    """One text frame."""
    return frame(data)


def as_event(message: WireMessage, data: bytes) -> bytes:
    """One event; its id is the resume token, for those messages that have one (HTML standard, section 9.2)."""
    resume = getattr(message, "resume", None)
    if resume:
        return b"id: %s\ndata: %s\n\n" % (resume.encode(), data)
    return b"data: %s\n\n" % data
