"""The state of a session that is declared, and that nobody runs yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Never

from . import checks
from .pipeline import Pipeline
from .session import SessionState

if TYPE_CHECKING:
    from ..protocol.clock import Clock
    from .limits import Limits


class _Nobody:
    """The host of a queued session: there is nobody to wake, and nothing that could end."""

    def _ignore(self, *_: object) -> None:
        """Nobody listens."""

    mark_dirty = request_persist = drain = timed = late = refuse_result = _ignore

    def drop(self, error: Exception) -> Never:
        raise error


def checked_pipeline(given: object) -> Pipeline | None:
    """A pipeline, or None.

    Raises:
        TypeError: It is something else.
    """
    if given is not None and not isinstance(given, Pipeline):
        raise TypeError(f"pipeline must be a trio_progress.Pipeline or None, not {given!r:.200}")
    return given


def queued_state(
    session_id: str,
    pipeline: Pipeline | None,
    title: str | None,
    labels: Mapping[str, str] | None,
    clock: Clock,
    limits: Limits,
) -> SessionState:
    """A session as queued, published.

    Raises:
        ValueError, TypeError: A value is out of range.
    """
    state = SessionState(
        checks.session_id(session_id),
        host=_Nobody(),
        clock=clock,
        pipeline=checked_pipeline(pipeline),
        title=None if title is None else checks.title("title", title, limits),
        labels=checks.labels(labels, limits),
        limits=limits,
    )
    state.queued = clock.wall()
    state.touch()
    state.publish()
    return state
