"""What a request is answered with: a response, a stream of events, or a WebSocket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, final

from .http import Response

if TYPE_CHECKING:
    from .auth.grants import Credentials, Grant


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EventStream:
    """What is asked for as server-sent events. `session` is None for the list."""

    session: str | None
    grant: Grant
    since: str | None = None
    interval: float = 0.0
    max_hz: float | None = None
    events: int | None = None
    wait: bool = False
    labels: dict[str, str]
    headers: dict[str, str]
    head_only: bool = False


@final
@dataclass(frozen=True, slots=True)
class Upgrade:
    """A request for a WebSocket that is accepted, if only to be closed with `turned_away` as its code and reason."""

    credentials: Credentials
    grant: Grant | None
    turned_away: tuple[int, str] | None = None


Answer: TypeAlias = Response | EventStream
