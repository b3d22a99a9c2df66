"""What sessions are shown on: a region of the terminal that is drawn anew, or plain lines."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Final, Protocol, final

import trio

from ..state.messages import CustomEvent
from ..state.snapshot import Snapshot
from .handlers import Diverted
from .passing import OwnersTime
from .plain import PlainLines

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

REFRESH: Final = 0.125
"""Seconds between two frames, where something has changed."""

ANIMATE: Final = 0.5
"""Seconds between two frames where nothing has: elapsed times and the signs of life."""

PLAIN_INTERVAL: Final = 5.0
"""Seconds between two plain lines of a session that is only moving on."""

SESSIONS_KEPT: Final = 50
"""Sessions that the display remembers; those that ended longest ago go first."""

UNSHOWN: Final = 10_000
"""Ended ones among those that went before a line has told their end; the oldest of them go unsaid."""

EVENTS_KEPT: Final = 3


class Screen(Protocol):
    """What is drawn on. No method waits."""

    def show(self, model: Model, *, final: bool) -> None:
        """Shows how things stand."""
        ...

    def close(self) -> None:
        """Gives the terminal back as it was."""
        ...


@final
class Model:
    """What is known of the sessions, newest state and last events."""

    def __init__(self) -> None:
        self.snapshots: dict[str, Snapshot] = {}
        self.events: dict[str, deque[str]] = {}
        self.gone: deque[Snapshot] = deque(maxlen=UNSHOWN)
        """Ended ones that had to go since the last frame."""
        self.changed = True

    def put(self, snapshot: Snapshot) -> None:
        """A newer state."""
        self.snapshots[snapshot.id] = snapshot
        self.changed = True
        if snapshot.ended:
            self.events.pop(snapshot.id, None)
        while len(self.snapshots) > SESSIONS_KEPT:
            least = next((one.id for one in self.snapshots.values() if one.ended), next(iter(self.snapshots)))
            gone = self.snapshots.pop(least)
            self.events.pop(least, None)
            if gone.ended:
                self.gone.append(gone)

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
class PlainScreen:
    """Lines of text, in the order in which things happened."""

    def __init__(self, file: IO[str], lines: PlainLines) -> None:
        self._file = file
        self._lines = lines

    def show(self, model: Model, *, final: bool) -> None:
        """Prints the lines that are due."""
        ended = list(model.gone)
        model.gone.clear()
        for snapshot in (*ended, *model.snapshots.values()):
            line = self._lines.due(snapshot, trio.current_time())
            if line is not None:
                print(line, file=self._file, flush=True)

    def close(self) -> None:
        """Nothing is to be given back."""


@final
class LiveScreen:
    """A region of the terminal that is drawn anew, by rich."""

    def __init__(self, console: Console, wall: Callable[[], float]) -> None:
        self._console = console
        self._wall = wall
        self._time = OwnersTime()
        self._size = console.size
        self._live, self._diverted = self._begin()

    def _begin(self) -> tuple[Live, Diverted]:
        from rich.live import Live

        own = sys.stderr, sys.stdout
        live = Live(
            console=self._console,
            auto_refresh=False,  # No thread: Trio says when.
            redirect_stderr=True,
            # What is printed meanwhile goes above the display; but what is piped stays in its pipe.
            redirect_stdout=sys.stdout.isatty(),
            vertical_overflow="crop",
        )
        live.start()
        return live, Diverted({id(own[0]): sys.stderr, id(own[1]): sys.stdout})

    def show(self, model: Model, *, final: bool) -> None:
        """Draws a frame."""
        from rich.console import Group

        from .layout import Frame, View, draw
        from .signs import ASCII, UNICODE

        if self._console.size != self._size:
            # A terminal that was made narrower has broken our lines: the region is no longer where it was.
            self._size = self._console.size
            self.close()
            self._console.clear()
            self._live, self._diverted = self._begin()
        signs = UNICODE if "utf" in self._console.encoding.lower() else ASCII
        passed, now = trio.current_time(), self._wall()
        frame = Frame(self._size.width, max(self._size.height - 1, 1), now, signs)
        views = [
            View(one, tuple(model.events.get(one.id, ())), self._time.now(one, passed, now)) for one in model.ordered()
        ]
        self._time.keep(model.snapshots)
        model.gone.clear()  # There is room for the newest only.
        self._live.update(Group(*draw(views, frame)), refresh=True)

    def close(self) -> None:
        """Leaves the last frame where it is."""
        self._diverted.restore()
        self._live.stop()


def open_screen(console: Console | None, file: IO[str], lines: PlainLines) -> Screen:
    """What `file` can show: a live display in a terminal (where rich is installed), else plain lines.

    Args:
        console: The rich console to draw on, instead of one for `file`.
        file: Where to write.
        lines: Says which lines are due, where it is lines.
    """
    if console is None and (not file.isatty() or os.environ.get("TERM") == "dumb"):
        return PlainScreen(file, lines)
    try:
        from rich.console import Console
    except ImportError:
        return PlainScreen(file, lines)
    console = Console(file=file, highlight=False, markup=False) if console is None else console
    return LiveScreen(console, time.time) if console.is_terminal else PlainScreen(console.file, lines)
