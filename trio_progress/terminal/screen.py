"""Where sessions are shown: a region of the terminal that is drawn anew, or plain lines."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, Final, TypeAlias, cast, final

import trio
import trio.to_thread

from .display_model import OwnerClock
from .redirection import AboveDisplay, RedirectedHandlers
from .streams import encoding_of, is_terminal, usable
from .symbols import ASCII, UNICODE
from .writer import Writer

if TYPE_CHECKING:
    from rich.console import Console

    from .display_model import DisplayModel
    from .notebook import NotebookScreen
    from .plain_lines import PlainLines

REFRESH: Final = 0.125
"""Seconds between two frames, where something has changed."""

ANIMATE: Final = 0.5
"""Seconds between two frames where nothing has: elapsed times and spinners move."""

PLAIN_INTERVAL: Final = 5.0
"""Seconds between two plain lines of a session whose figures alone change."""

_hinted = False
"""Whether this process has printed how to install the live display."""


@final
class NoScreen:
    """Shows nothing, where nothing can be written."""

    writer = None

    def show(self, model: DisplayModel, *, final: bool) -> None:
        """Forgets what there was to show."""
        model.evicted.clear()

    def close(self) -> None:
        """Does nothing."""


@final
class PlainScreen:
    """Lines of text, in the order of what happened."""

    def __init__(self, writer: Writer, lines: PlainLines) -> None:
        self.writer = writer
        self._lines = lines

    def show(self, model: DisplayModel, *, final: bool) -> None:
        """Writes the lines that are due. A stream that falls behind gets only the newest state of each session."""
        if self.writer.behind and not final:
            return
        if model.unlisted:
            self.writer.put(f"({model.unlisted} sessions ended that have no line here: nobody took them in time)\n")
            model.unlisted = 0
        ended = list(model.evicted)
        model.evicted.clear()
        for snapshot in (*ended, *model.snapshots.values()):
            line = self._lines.due(snapshot, trio.current_time())
            if line is not None:
                self.writer.put(line + "\n")

    def close(self) -> None:
        """Does nothing."""


@final
class LiveScreen:
    """A region of the terminal that is drawn anew. Rich makes its lines, and a `Writer` writes them.

    `wall` gives seconds since 1970.
    """

    def __init__(self, console: Console, wall: Callable[[], float]) -> None:
        self._console = console
        self._wall = wall
        self._time = OwnerClock()
        self._size = console.size
        self._file: Any = console.file
        self.writer = Writer(self._file)
        self._streams: list[tuple[str, Any, AboveDisplay]] = []
        # What is printed meanwhile goes above the display, unless its stream is a pipe or a file.
        for name in ("stdout", "stderr"):
            own = getattr(sys, name)
            if is_terminal(own):
                above = AboveDisplay(own, self.writer.put)
                self._streams.append((name, own, above))
                setattr(sys, name, above)
        self._diverted = RedirectedHandlers({id(own): above for _, own, above in self._streams})
        # A console that follows `sys.stdout` has changed with it; one with a file of its own is told to print above.
        self._printing = AboveDisplay(self._file, self.writer.put) if console.file is self._file else None
        if self._printing is not None:
            console.file = cast("IO[str]", self._printing)

    def show(self, model: DisplayModel, *, final: bool) -> None:
        """Draws a frame."""
        from rich.console import Group

        from .layout import Frame, View, draw

        model.evicted.clear()  # There is room for the newest only.
        model.unlisted = 0
        if self.writer.behind and not final:
            return
        size = self._console.size
        # A terminal that was made narrower has wrapped our lines: the region is no longer where it was.
        clear, self._size = size != self._size, size
        symbols = UNICODE if "utf" in (encoding_of(self._file) or "utf-8") else ASCII
        passed, now = trio.current_time(), self._wall()
        frame = Frame(size.width, max(size.height - 1, 1), now, symbols)
        views = [
            View(one, tuple(model.events.get(one.id, ())), self._time.now(one, passed, now)) for one in model.ordered()
        ]
        self._time.keep(model.snapshots)
        lines = draw(views, frame)
        with self._console.capture() as captured:
            self._console.print(Group(*lines))
        self.writer.draw(captured.get().removesuffix("\n").split("\n") if lines else (), clear=clear)

    def close(self) -> None:
        """Leaves the last frame where it is, and gives the streams back."""
        self._diverted.restore()
        for name, own, above in self._streams:
            if getattr(sys, name) is above:
                setattr(sys, name, own)
            above.end()
        if self._printing is not None:
            self._printing.end()
            self._console.file = self._file
        self.writer.leave()


Screen: TypeAlias = "NoScreen | PlainScreen | LiveScreen | NotebookScreen"
"""Shows a model, of which a frame is left out while the last one is not taken; `writer` is None where nothing can be
written. No method waits."""


async def open_screen(console: Console | None, file: Any, lines: PlainLines) -> Screen:
    """What `file` can show: a live display in a terminal (where rich is installed), plain lines, or nothing.

    Args:
        console: The rich console to draw on, instead of one for `file`.
        file: Where to write; None: nowhere.
        lines: Decides which plain lines are due.
    """
    if console is not None:
        file = console.file
    if not usable(file):
        return NoScreen()
    if isinstance(file, AboveDisplay):
        return PlainScreen(Writer(file), lines)  # Something is drawn there already.
    if console is None and (not is_terminal(file) or os.environ.get("TERM") == "dumb"):
        return PlainScreen(Writer(file), lines)
    try:
        if "trio_progress.terminal.layout" not in sys.modules:
            # It takes a while, in which the loop must run. A limiter of its own, for all default threads may be busy.
            await trio.to_thread.run_sync(_load_rich, limiter=trio.CapacityLimiter(1))
        from rich.console import Console
    except ImportError:
        return _without_rich(file, lines)
    if console is None:
        console = Console(file=file, highlight=False, markup=False)
    return LiveScreen(console, time.time) if console.is_terminal else PlainScreen(Writer(file), lines)


def _load_rich() -> None:
    """Loads all that a frame needs; rich loads some of it with the first one only."""
    import io

    from rich.console import Console
    from rich.text import Text

    from . import layout  # noqa: F401 - it imports more of rich

    Console(file=io.StringIO(), force_terminal=True).print(Text("·"))


def _without_rich(file: IO[str], lines: PlainLines) -> PlainScreen:
    global _hinted  # noqa: PLW0603 - once in a process, whichever display it is
    writer = Writer(file)
    if not _hinted:
        _hinted = True
        writer.put("trio-progress: for live bars in this terminal, pip install 'trio-progress[terminal]'\n")
    return PlainScreen(writer, lines)


async def draw_frames(screen: Screen, model: DisplayModel) -> Exception:
    """Draws frames until cancelled, or until that fails: then it returns the error."""
    drawn = float("-inf")
    while screen.writer is None or screen.writer.error is None:
        now = trio.current_time()
        if model.changed or now - drawn >= ANIMATE:
            model.changed = False
            drawn = now
            try:
                screen.show(model, final=False)
            except Exception as error:
                return error
        await trio.sleep(REFRESH)
    return screen.writer.error
