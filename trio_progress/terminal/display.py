"""`open_display()`: a task beside the work that shows it, and never gets in its way."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import IO, TYPE_CHECKING, Final, Protocol, final

import trio

from .._text import printable
from ..errors import ProgressError
from ..state.messages import CustomEvent
from ..state.snapshot import Snapshot
from ..tracker import ProgressTracker
from .plain import PlainLines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

logger = logging.getLogger("trio_progress")

REFRESH: Final = 0.125
"""Seconds between two frames, where something has changed."""

ANIMATE: Final = 0.5
"""Seconds between two frames where nothing has: elapsed times and the signs of life."""

PLAIN_INTERVAL: Final = 5.0
"""Seconds between two plain lines of a session that is only moving on."""

SESSIONS_KEPT: Final = 50
"""Sessions that the display remembers; those that ended longest ago go first."""

EVENTS_KEPT: Final = 3


class _Screen(Protocol):
    """What is drawn on. No method waits."""

    def show(self, model: _Model, *, final: bool) -> None:
        """Shows how things stand."""
        ...

    def close(self) -> None:
        """Gives the terminal back as it was."""
        ...


@final
class _Model:
    """What is known of the sessions, newest state and last events."""

    def __init__(self) -> None:
        self.snapshots: dict[str, Snapshot] = {}
        self.events: dict[str, deque[str]] = {}
        self.changed = True

    def put(self, snapshot: Snapshot) -> None:
        """A newer state."""
        self.snapshots[snapshot.id] = snapshot
        self.changed = True
        if snapshot.ended:
            self.events.pop(snapshot.id, None)
        while len(self.snapshots) > SESSIONS_KEPT:
            ended = next((one.id for one in self.snapshots.values() if one.ended), next(iter(self.snapshots)))
            del self.snapshots[ended]
            self.events.pop(ended, None)

    def tell(self, session_id: str, event: CustomEvent) -> None:
        """A custom event."""
        if session_id in self.snapshots and not self.snapshots[session_id].ended:
            self.events.setdefault(session_id, deque(maxlen=EVENTS_KEPT)).append(described(event))
            self.changed = True

    def ordered(self) -> list[Snapshot]:
        """Those that run first, then the queued, then the ended ones, newest first."""
        rank = {"running": 0, "lost": 0, "queued": 1}
        return sorted(
            self.snapshots.values(),
            key=lambda one: (rank.get(one.status, 2), -one.ended_at.timestamp() if one.ended_at else 0.0),
        )


def described(event: CustomEvent) -> str:
    """An event as one line: its name and what it carries, cut where nobody would read on."""
    data = event.data
    if isinstance(data, dict):
        data = ", ".join(f"{name}={value}" for name, value in data.items())
    return event.name if data is None else f"{event.name}  {data}"[:300]


@final
class _Plain:
    """Lines of text, in the order in which things happened."""

    def __init__(self, file: IO[str], interval: float) -> None:
        self._file = file
        self._lines = PlainLines(interval)

    def show(self, model: _Model, *, final: bool) -> None:
        for snapshot in list(model.snapshots.values()):
            line = self._lines.due(snapshot, trio.current_time())
            if line is not None:
                print(line, file=self._file, flush=True)

    def close(self) -> None:
        pass


@final
class _Live:
    """A region of the terminal that is drawn anew, by rich."""

    def __init__(self, console: Console, wall: Callable[[], float]) -> None:
        self._console = console
        self._wall = wall
        self._size = console.size
        self._live = self._begin()

    def _begin(self) -> Live:
        from rich.live import Live

        live = Live(
            console=self._console,
            auto_refresh=False,  # No thread: Trio says when.
            redirect_stderr=True,
            # What is printed meanwhile goes above the display; but what is piped stays in its pipe.
            redirect_stdout=sys.stdout.isatty(),
            vertical_overflow="crop",
        )
        live.start()
        return live

    def show(self, model: _Model, *, final: bool) -> None:
        from rich.console import Group

        from .layout import ASCII, UNICODE, Frame, View, draw

        if self._console.size != self._size:
            # A terminal that was made narrower has broken our lines: the region is no longer where it was.
            self._size = self._console.size
            self._live.stop()
            self._console.clear()
            self._live = self._begin()
        signs = UNICODE if "utf" in self._console.encoding.lower() else ASCII
        frame = Frame(self._size.width, max(self._size.height - 1, 1), self._wall(), signs)
        views = [View(one, tuple(model.events.get(one.id, ()))) for one in model.ordered()]
        self._live.update(Group(*draw(views, frame)), refresh=True)

    def close(self) -> None:
        self._live.stop()


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_display(
    tracker: ProgressTracker,
    *,
    console: Console | None = None,
    file: IO[str] | None = None,
    interval: float = PLAIN_INTERVAL,
) -> AsyncIterator[None]:
    """Shows the tracker's sessions in the terminal as long as the block runs, and leaves their last state there.

    Where `file` is a terminal (and rich is installed), a live display: phases as a tree with bars, rates and
    times, counters, liveness, the last events. Else plain lines: at once what matters, the rest at a slow
    beat. `NO_COLOR` takes the colours away, `TERM=dumb` the live display. A display that fails is logged and
    ends; the work goes on. The body's own exception leaves as itself.

    Args:
        tracker: Whose sessions to show.
        console: The rich console to draw on, instead of one for `file`.
        file: Where to write; standard error unless given, so that standard output stays clean.
        interval: Seconds between plain lines of a session that is only moving on; above 0.

    Raises:
        ValueError: `interval` is not above 0.
    """
    if not interval > 0:
        raise ValueError(f"interval must be above 0 seconds, not {interval!r}")
    screen = _screen(console, file, interval)
    model = _Model()
    left: BaseException | None = None
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            await nursery.start(_follow, tracker, model)
            nursery.start_soon(_draw, screen, model)
            try:
                yield
            except BaseException as error:  # noqa: ASYNC103 - raised below, as itself
                left = error
            finally:
                await _last_states(tracker, model)  # noqa: ASYNC102 - shields itself, with a deadline
                nursery.cancel_scope.cancel(reason="the display is left")
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt):
            raise KeyboardInterrupt from left
        raise
    finally:
        _try(lambda: screen.show(model, final=True))
        _try(screen.close)
    if left is not None:
        raise left


def _screen(console: Console | None, file: IO[str] | None, interval: float) -> _Screen:
    target = sys.stderr if file is None else file
    if console is None and (not target.isatty() or os.environ.get("TERM") == "dumb"):
        return _Plain(target, interval)
    try:
        from rich.console import Console
    except ImportError:
        return _Plain(target, interval)
    console = Console(file=target, highlight=False, markup=False) if console is None else console
    return _Live(console, time.time) if console.is_terminal else _Plain(console.file, interval)


def _try(action: Callable[[], None]) -> bool:
    """Does it, or logs why not: the terminal may be gone, and that is not the work's concern."""
    try:
        action()
    except Exception:
        logger.exception("the display failed; the work goes on without it")
        return False
    return True


async def _draw(screen: _Screen, model: _Model) -> None:
    """Frames until cancelled, or until drawing fails."""
    drawn = float("-inf")
    while True:
        now = trio.current_time()
        if model.changed or now - drawn >= ANIMATE:
            model.changed = False
            drawn = now
            if not _try(lambda: screen.show(model, final=False)):
                return
        await trio.sleep(REFRESH)


async def _follow(tracker: ProgressTracker, model: _Model, *, task_status: trio.TaskStatus[None]) -> None:
    """Takes in states and events until cancelled."""
    async with tracker.watch_all(here=True) as snapshots, trio.open_nursery() as nursery:
        task_status.started()
        followed: set[tuple[str, int]] = set()
        async for snapshot in snapshots:
            model.put(snapshot)
            owner = (snapshot.id, snapshot.epoch)
            if snapshot.status == "running" and snapshot.events and owner not in followed:
                followed.add(owner)
                nursery.start_soon(_events, tracker, snapshot.id, model)


async def _events(tracker: ProgressTracker, session_id: str, model: _Model) -> None:
    try:
        async with tracker.subscribe(session_id, max_hz=1) as messages:
            async for message in messages:
                if isinstance(message, CustomEvent):
                    model.tell(session_id, message)
    except ProgressError as error:
        logger.debug("the events of session %r are not shown: %s", session_id, error)


async def _last_states(tracker: ProgressTracker, model: _Model) -> None:
    """The states that came since the last round; those of sessions that the block has just left among them."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
        for session_id in [one.id for one in model.snapshots.values() if not one.ended]:
            try:
                model.put(await tracker.snapshot(session_id))
            except ProgressError as error:
                logger.debug("the last state of session %r is not shown: %s", printable(session_id), error)
