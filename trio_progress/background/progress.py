"""`blocking.progress()`: everything that a script without an event loop needs to show how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Unpack

if TYPE_CHECKING:
    from ..session.scope import Resume
    from ..settings import TrackerOptions
    from ..state.pipeline import Phases
    from ..stores.base import Store
    from .session import BlockingProgress


def progress(
    name: str,
    phases: Phases | None = None,
    *,
    display: bool = True,
    serve: int | None = None,
    store: str | Store = "memory:",
    session_id: str | None = None,
    title: str | None = None,
    labels: Mapping[str, str] | None = None,
    resume: Resume = "never",
    **settings: Unpack[TrackerOptions],
) -> BlockingProgress:
    """`open_progress()` for code without an event loop: a tracker, a display and one session, in a thread of their own.

    `with progress("import", {"fetch": 3, "load": 1}) as session`, then `with session.phase("fetch") as phase`. The
    session ends as the block does: completed, failed, or interrupted at Ctrl-C. Leaving waits until it is stored, for
    at most `flush_timeout` and a second. See `BlockingSession` for what happens where it is cancelled.

    Args:
        name: What kind of work it is.
        phases: Weights by name, or a sequence of `PhaseSpec` and names; None: they come as they are entered.
        display: Whether to show it in the terminal.
        serve: The port of its page, which only this machine can reach; needs the extra `server`. None: it has none.
        store: Where the session is kept.
        session_id: The session's id; made up unless given.
        title: What people are shown; `name` unless given.
        labels: What the session can be found by.
        resume: Whether it goes on from an earlier run of `session_id` in `store`, as `tracker.session()` says.
        settings: The fields of `Settings`, as `open_tracker()` takes them.

    Raises:
        ValueError, TypeError: A value is unknown or out of range.
        OSError: When entering: the port cannot be bound.
        SessionActiveError, SessionCompletedError: When entering: it is open, or has completed and is to be resumed.
        StoreError: When entering: the store cannot be opened.
        RuntimeError: When entering: this is a Trio task, which it would block.
    """
    # Here, because whoever uses no more than the client of `blocking` loads no event loop.
    from ..script import open_progress
    from .loop import LoopThread
    from .session import BlockingProgress

    opening = open_progress(
        name,
        phases,
        display=display,
        serve=serve,
        store=store,
        session_id=session_id,
        title=title,
        labels=labels,
        resume=resume,
        **settings,
    )
    return BlockingProgress("blocking.progress()", LoopThread(opening))
