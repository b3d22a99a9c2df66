"""A request and a response over HTTP, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

import msgspec

from ..protocol.messages import ErrorCode, ErrorMessage


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
    body: bytes
    raw: bytes
    """The head as it came, to be replayed."""
    trailing: bytes
    """What came behind the head of an upgrade."""

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
        self.response = error(status, code, message, **headers)
