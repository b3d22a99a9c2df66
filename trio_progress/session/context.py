"""`current_session()`: the session that a task works for, without handing it down."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from .null import NULL_SESSION

if TYPE_CHECKING:
    from .interfaces import ProgressSession
    from .session import Session

current: ContextVar[Session | None] = ContextVar("trio_progress_session", default=None)
"""Set while a session is open, in the task that opened it and in all that are started there."""


def current_session() -> ProgressSession:
    """The session that this task works for: the innermost one that was open where the task was started.

    Where there is none, a `NullSession` whose calls do nothing, so that code deep inside a pipeline can
    report its progress without asking whether anybody follows it.
    """
    session = current.get()
    return NULL_SESSION if session is None else session
