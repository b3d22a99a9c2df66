"""`open_display()`: a task that shows the work and never holds it up."""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import IO, TYPE_CHECKING

import trio

from ..contexts import BodyError, Opening
from ..errors import ProgressError
from ..protocol.messages import CustomEvent
from ..telemetry.logs import log_event, logger
from .display_model import DisplayModel
from .notebook import NotebookScreen, in_notebook
from .plain_lines import PlainLines
from .redirection import would_write_to
from .screen import PLAIN_INTERVAL, Screen, draw_frames, open_screen
from .writer import LEAVING

if TYPE_CHECKING:
    from rich.console import Console

    from ..tracker import ProgressTracker


def open_display(
    tracker: ProgressTracker,
    *,
    console: Console | None = None,
    file: IO[str] | None = None,
    interval: float = PLAIN_INTERVAL,
) -> AbstractAsyncContextManager[None, bool | None]:
    """Shows the tracker's sessions in the terminal as long as the block runs, and leaves their last state there.

    In a notebook it is an output of the cell, which is replaced as the work goes on.
    Where `file` is a terminal (and rich is installed), it is a live display: phases as a tree with bars, rates and
    times, counters, liveness, the last events. Elsewhere it is plain lines: changes of status at once, figures every
    `interval` seconds. `NO_COLOR` turns colours off, `TERM=dumb` the live display. Where nothing can be written, there
    is no display.

    Nothing here waits for the terminal, pipe or file: while it takes nothing, frames and lines that newer ones replace
    are left out, and leaving tries the last ones for a second. A display that fails is logged and ends; the work goes
    on. The body's own exception leaves as itself.

    Args:
        tracker: Whose sessions to show.
        console: The rich console to draw on, instead of one for `file`.
        file: Where to write; unless given the notebook, or standard error, so that standard output stays clean.
        interval: Seconds between plain lines of a session whose figures alone change; above 0.

    Raises:
        ValueError: `interval` is not above 0.
    """
    if not interval > 0:
        raise ValueError(f"interval must be above 0 seconds, not {interval!r}")
    return Opening("open_display(tracker)", "_", _opened(tracker, console, file, interval))


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def _opened(
    tracker: ProgressTracker, console: Console | None, file: IO[str] | None, interval: float
) -> AsyncIterator[None]:
    screen: Screen
    if console is None and file is None and in_notebook():
        screen = NotebookScreen()
    else:
        screen = await open_screen(console, sys.stderr if file is None else file, PlainLines(interval))
    model = DisplayModel()
    view = _Display(screen, model)
    body = BodyError()
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            await nursery.start(_follow, tracker, model)
            nursery.start_soon(view.run)
            with body:
                yield
            await _last_states(tracker, model)
            nursery.cancel_scope.cancel(reason="the display is left")
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt):
            raise KeyboardInterrupt from body.error
        raise
    finally:
        await view.aclose()  # noqa: ASYNC102 - shields itself, with a deadline
    body.reraise()


class _Display:
    """A screen whose errors are logged: the terminal may be gone, and the work goes on."""

    def __init__(self, screen: Screen, model: DisplayModel) -> None:
        self._screen = screen
        self._model = model
        self._failed = False

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Draws frames until cancelled, or until that fails."""
        self._fail(await draw_frames(self._screen, self._model))

    async def aclose(self) -> None:
        """Draws the last frame and gives the terminal back; waits for that a bounded time."""
        if not self._failed:
            self._try(lambda: self._screen.show(self._model, final=True))
        self._try(self._screen.close)
        writer = self._screen.writer
        if writer is None:
            return
        await writer.aclose()
        if isinstance(writer.error, TimeoutError):
            # A warning would be written to the same stream, and wait there, where a handler has that.
            level = logging.INFO if would_write_to(writer.stream, logger) else logging.WARNING
            what = "the display's last lines (%d of them) are not shown: nobody took them within %g s"
            log_event(level, "display_incomplete", what, writer.lost, LEAVING)
        elif writer.error is not None:
            self._fail(writer.error)

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            log_event(logging.ERROR, "display_failed", "the display failed; the work goes on without it", error=error)


async def _follow(tracker: ProgressTracker, model: DisplayModel, *, task_status: trio.TaskStatus[None]) -> None:
    """Takes in states and events until cancelled."""
    async with tracker.watch_all(here=True) as snapshots, trio.open_nursery() as nursery:
        task_status.started()
        followed: set[tuple[str, int]] = set()
        async for snapshot in snapshots:
            model.put(snapshot)
            owner = (snapshot.id, snapshot.epoch)
            if snapshot.ended:
                followed.discard(owner)
            elif snapshot.status == "running" and snapshot.events and owner not in followed:
                followed.add(owner)
                nursery.start_soon(follow_events, tracker, snapshot.id, model)


async def follow_events(tracker: ProgressTracker, session_id: str, model: DisplayModel) -> None:
    """Takes in the custom events of one session until it has ended, or cancelled."""
    try:
        async with tracker.subscribe(session_id, max_hz=1) as messages:
            async for message in messages:
                if isinstance(message, CustomEvent):
                    model.add_event(session_id, message)
    except ProgressError as error:
        what = "the events of session %r are not shown: %s"
        log_event(logging.DEBUG, "display_incomplete", what, session_id, error, session=session_id, reason=error)


async def _last_states(tracker: ProgressTracker, model: DisplayModel) -> None:
    """Takes in the newest states, among them those of sessions that the block has just left."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
        for session_id in [one.id for one in model.snapshots.values() if not one.ended]:
            try:
                model.put(await tracker.snapshot(session_id))
            except ProgressError as error:
                what = "the last state of session %r is not shown: %s"
                log_event(
                    logging.DEBUG, "display_incomplete", what, session_id, error, session=session_id, reason=error
                )
