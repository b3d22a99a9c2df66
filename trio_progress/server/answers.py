"""Requests over HTTP, and what they and the messages of a WebSocket are answered, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, final

import msgspec

from ..errors import CorruptEntryError, ProgressError, SessionNotFoundError
from ..protocol.messages import ErrorCode, ErrorMessage

if TYPE_CHECKING:
    from ..protocol.requests import Subscribe
    from .auth.grants import Credentials, Grant

ALWAYS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of each response."""

UNREADABLE: Final = (
    "what is stored of this session cannot be read, and trying again does not help: begin it anew, or delete it"
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. `path` is decoded and has no base path yet; `query` keeps the first value of each name."""

    method: str
    path: str
    query: Mapping[str, str]
    labels: Sequence[str]
    """The values of `label`, which may come more than once."""
    headers: dict[str, str]
    """By lower-case name; what came more than once is joined by commas."""
    body: bytes = b""
    raw: bytes = b""
    """The head as it came, to be replayed."""
    trailing: bytes = b""
    """What came behind the head of an upgrade."""
    scope: Mapping[str, Any] | None = None
    """What an ASGI server, and the app around ours, say of it; None at our own port."""
    handshaken: bool = False
    """Whether it is for a WebSocket, and whoever took it has checked that it is well-formed."""

    @property
    def upgrades(self) -> bool:
        """Whether it asks for a WebSocket."""
        wanted = (word.strip().lower() for word in self.headers.get("connection", "").split(","))
        return self.headers.get("upgrade", "").lower() == "websocket" and "upgrade" in wanted


@final
@dataclass(slots=True, kw_only=True)
class Response:
    """One response, whole."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    def fields(self) -> dict[str, str]:
        """Its headers with those that say what the body is, where there is one (RFC 9110, sections 15.3.5, 15.4.5)."""
        if self.status in (204, 304):
            return self.headers
        return {**self.headers, "Content-Type": self.content_type, "Content-Length": str(len(self.body))}


def as_json(value: object, status: int = 200, **headers: str) -> Response:
    """A value as a JSON response."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(status=status, body=msgspec.json.encode(value), headers=named)


def error(status: int, code: ErrorCode, message: str, **headers: str) -> Response:
    """An error as a JSON response."""
    return as_json(ErrorMessage(code=code, message=message), status, **headers)


class RefusedError(Exception):
    """The request is answered with this error, and not looked at any further."""

    def __init__(self, status: int, code: ErrorCode, message: str, **headers: str) -> None:
        super().__init__(message)
        self.code = code
        self.response = error(status, code, message, **headers)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EventStream:
    """What is asked for as server-sent events: a session, or the list; answered with these headers."""

    request: Subscribe
    grant: Grant
    headers: dict[str, str]
    head_only: bool = False
    sparse: bool = False
    """Whether the client takes updates without what it has."""


@final
@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request for a WebSocket that is accepted, if only to be closed with `turned_away` as its code and reason."""

    credentials: Credentials
    grant: Grant | None
    sparse: bool = False
    """Whether the client takes updates without what it has."""
    turned_away: tuple[int, str] | None = None


Answer: TypeAlias = Response | EventStream

AnswerT = TypeVar("AnswerT", bound=Answer)


def with_headers(answer: AnswerT, added: Mapping[str, str] = MappingProxyType({})) -> AnswerT:
    """The answer with the headers that each has."""
    answer.headers.update({**ALWAYS, **answer.headers, **added})
    return answer


def not_found(session_id: str) -> ErrorMessage:
    """That there is no such session, or that it may not be seen: the two look the same."""
    return ErrorMessage(code="not_found", message=f"there is no session {session_id!r}", session=session_id)


def failed(problem: ProgressError, session_id: str) -> ErrorMessage:
    """That a session cannot be followed, and whether trying again helps."""
    if isinstance(problem, SessionNotFoundError):
        return not_found(session_id)
    if isinstance(problem, CorruptEntryError):
        return ErrorMessage(code="unreadable", message=UNREADABLE, session=session_id)
    return unavailable(session_id)


def unavailable(session_id: str | None) -> ErrorMessage:
    """That the store does not answer now."""
    return ErrorMessage(
        code="unavailable", message="the store does not answer now: try again later", session=session_id
    )
