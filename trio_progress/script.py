"""`open_progress()`: everything that a script of five lines needs to show how far it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Unpack

from .contexts import Opening
from .settings import TrackerOptions, checked_settings
from .state.pipeline import Phases, Pipeline
from .tracker import ProgressTracker, open_tracker

if TYPE_CHECKING:
    from .session.scope import Resume, SessionScope
    from .session.session import Session
    from .stores.base import Store


def open_progress(
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
) -> AbstractAsyncContextManager[Session, bool | None]:
    """A tracker, a display in the terminal, and one session; where phases are given, of a pipeline called `name`.

    `async with open_progress("import", {"fetch": 3, "load": 1}) as session`. The body's own exception leaves
    as itself; see `open_tracker()`, `open_display()` and `tracker.session()` for the parts.

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
        RuntimeError: When entering: Trio does not run here.
    """
    others = ("display", "serve", "store", "session_id", "title", "labels", "resume")
    checked_settings("open_progress()", settings, *others)
    if not isinstance(name, str):
        # Without this, one that has a title would be opened without its phases.
        raise TypeError(
            f"name must be a str, not {name!r:.200}: give a name and phases, or open the session of a Pipeline by "
            "`open_tracker()` and `tracker.session(pipeline=...)`"
        )
    pipeline = None if phases is None else Pipeline(name, phases)

    def enter(tracker: ProgressTracker) -> SessionScope:
        shown = name if title is None else title
        return tracker.session(session_id, pipeline, title=shown, labels=labels, resume=resume)

    opened = _opened(open_tracker(store, **settings), display, serve, enter)
    return Opening("open_progress()", "session", opened)


@asynccontextmanager
async def _opened(
    opening: AbstractAsyncContextManager[ProgressTracker, bool | None],
    display: bool,
    serve: int | None,
    enter: Callable[[ProgressTracker], SessionScope],
) -> AsyncIterator[Session]:
    async with AsyncExitStack() as stack:
        tracker = await stack.enter_async_context(opening)
        if display:
            from .terminal import open_display

            await stack.enter_async_context(open_display(tracker))
        if serve is not None:
            from .server import open_server

            await stack.enter_async_context(open_server(tracker, serve))
        yield await stack.enter_async_context(enter(tracker))
