"""What a client is answered where a session, or the list, cannot be followed."""

from __future__ import annotations

from typing import Final

from ..errors import CorruptEntryError, ProgressError
from ..protocol.messages import ErrorMessage

UNREADABLE: Final = (
    "what is stored of this session cannot be read, and trying again does not help: begin it anew, or delete it"
)


def not_found(session_id: str) -> ErrorMessage:
    """That there is no such session, or that it may not be seen: the two look the same."""
    return ErrorMessage(code="not_found", message=f"there is no session {session_id!r}", session=session_id)


def failed(problem: ProgressError, session_id: str) -> ErrorMessage:
    """That a session cannot be followed, and whether trying again helps."""
    if isinstance(problem, CorruptEntryError):
        return ErrorMessage(code="unreadable", message=UNREADABLE, session=session_id)
    return unavailable(session_id)


def unavailable(session_id: str | None) -> ErrorMessage:
    """That the store does not answer now."""
    return ErrorMessage(
        code="unavailable", message="the store does not answer now: try again later", session=session_id
    )
