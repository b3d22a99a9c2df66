"""`open_progress()`: everything that a script of five lines needs to show how far it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from .session import Session
from .state.pipeline import Phases, Pipeline
from .stores.base import Store
from .tracker import open_tracker


@asynccontextmanager
async def open_progress(
    name: str,
    phases: Phases | None = None,
    *,
    display: bool = True,
    serve: int | None = None,
    store: str | Store = "memory:",
    session_id: str | None = None,
    title: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> AsyncIterator[Session]:
    """A tracker, a display in the terminal, and one session of a pipeline called `name`.

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

    Raises:
        ValueError, TypeError: A value is out of range.
        OSError: The port cannot be bound.
    """
    pipeline = None if phases is None else Pipeline(name, phases)
    async with AsyncExitStack() as stack:
        tracker = await stack.enter_async_context(open_tracker(store))
        if display:
            from .terminal import open_display

            await stack.enter_async_context(open_display(tracker))
        if serve is not None:
            from .server import open_server

            await stack.enter_async_context(open_server(tracker, serve))
        scope = tracker.session(session_id, pipeline, title=name if title is None else title, labels=labels)
        yield await stack.enter_async_context(scope)
