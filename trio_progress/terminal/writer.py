"""Text for a terminal, pipe or file, written beside the event loop: who puts lines or frames never waits.

1. Lines are kept in order, up to `KEPT` characters of them; above, the oldest are left out, and a line in their place
   says how many. Of the frames only the newest is kept.
2. One thread writes, and ends when it has nothing to do for a while. It is a daemon: neither leaving nor the
   interpreter's exit waits for it.
3. Leaving waits until all is written, but at most `LEAVING` seconds, by the real clock also in tests.
4. A stream that fails is not written again. `error` says why; the owner of the writer reports it.
5. A stream that never waits (one in memory) is written at once, without a thread.
6. A frame is drawn over the one before it, whichever that is. So frames may be left out, and lines may come above
   them at any time.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, final

from .streams import GivenUpError, sink_for

KEPT: Final = 4 * 1024 * 1024
"""Characters of lines that are kept while the stream takes none."""

BEHIND: Final = 16_384
"""Characters of lines that may wait for a stream that still keeps up."""

LEAVING: Final = 1.0
"""Seconds that the last lines have to be written."""

IDLE: Final = 1.0
"""Seconds without anything to write after which the thread ends; the next line begins another one."""


HIDE = "\x1b[?25l"
SHOW = "\x1b[?25h"


@final
class Region:
    """The last lines of a terminal, drawn anew: makes frames into the text that draws them. Pure."""

    def __init__(self) -> None:
        self._shown: Sequence[str] = ()
        self._open = False

    def text(self, above: str, frame: Sequence[str] | None, *, clear: bool = False, leave: bool = False) -> str:
        r"""The text that draws a frame.

        Args:
            above: Whole lines to stand above the region, each with its "\n"; empty: none.
            frame: The lines of the region; None: as they are.
            clear: Whether to clear the terminal, which no longer shows what was drawn.
            leave: Whether the region stays as it is from now on, and the cursor returns below it.
        """
        if not self._open and frame is None:
            return above
        parts: list[str] = [] if self._open else [HIDE]
        self._open = True
        if clear:
            parts.append("\x1b[H\x1b[2J")
        elif self._shown:
            up = len(self._shown) - 1
            parts.append("\r" + (f"\x1b[{up}A" if up else "") + "\x1b[J")
        if frame is not None:
            self._shown = frame
        parts += [above, "\n".join(self._shown)]
        if leave:
            parts.append(("\n" if self._shown else "") + SHOW)
            self._shown = ()
            self._open = False
        return "".join(parts)


@final
class Writer:
    """Writes to one stream, which must be `usable`, in a thread where that may wait."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.error: Exception | None = None
        """Why nothing is written any more."""
        self.lost = 0
        """Lines that the stream did not take and that were left out."""
        self._sink = sink_for(stream)
        self._region = Region()
        self._change = threading.Condition()
        self._given_up = threading.Event()
        self._lines: deque[str] = deque()
        self._characters = 0
        self._left_out = 0
        self._frame: Sequence[str] | None = None
        self._clear = self._leave = False
        self._writing = 0
        """Characters that are being written."""
        self._writing_lines = 0
        self._finished = False
        """Whether nothing more is expected; what still comes is still written."""
        self._thread: threading.Thread | None = None
        self._process = os.getpid()

    @property
    def behind(self) -> bool:
        """Whether the stream takes less than it is given: a frame waits, or more lines than `BEHIND`."""
        return self._frame is not None or self._characters + self._writing > BEHIND

    def put(self, text: str) -> None:
        r"""Takes whole lines, the last with its "\n" too. Never waits."""
        if os.getpid() != self._process:
            # A forked child has the writer, but not its thread.
            self._sink.write(text, self._given_up)
            return
        with self._change:
            if self.error is not None or not text:
                return
            self._lines.append(text)
            self._characters += len(text)
            while self._characters > KEPT and len(self._lines) > 1:
                oldest = self._lines.popleft()
                self._characters -= len(oldest)
                self._left_out += oldest.count("\n")
            self._changed()

    def draw(self, frame: Sequence[str], *, clear: bool = False) -> None:
        """Takes the lines of a frame, in place of the last one; `clear` clears the terminal first. Never waits."""
        with self._change:
            if self.error is None:
                self._frame = frame
                self._clear |= clear
                self._changed()

    def leave(self) -> None:
        """Leaves the last frame where it is; lines that come later stand below it. Never waits."""
        with self._change:
            if self.error is None:
                self._leave = True
                self._changed()

    def finish(self) -> bool:
        """Waits until all is written, `LEAVING` seconds at most; returns whether it was."""
        with self._change:
            self._finished = True
            self._change.notify_all()
            done = self._change.wait_for(lambda: not self._pending() and not self._busy(), LEAVING)
            if not done:
                self._given_up.set()
                self.lost += self._left_out + self._writing_lines + sum(text.count("\n") for text in self._lines)
                self._fail(TimeoutError("the stream takes nothing"))
                self._change.notify_all()
            thread = self._thread
        if done and thread is not None:
            thread.join(LEAVING)  # It has nothing left to write, and ends.
        return done and self.error is None

    async def drain(self) -> None:
        """Waits until all is written, however long that takes; after a cancel it is written later.

        Raises the stream's own error where it takes nothing any more.
        """
        import trio

        if self._pending() or self._busy():
            limiter = trio.CapacityLimiter(1)
            await trio.to_thread.run_sync(self._wait_written, abandon_on_cancel=True, limiter=limiter)
        else:
            await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error

    def _wait_written(self) -> None:
        with self._change:
            self._change.wait_for(lambda: (not self._pending() and not self._busy()) or self._given_up.is_set())

    async def aclose(self) -> None:
        """As `finish()`, for an event loop. It is not cancelled, and takes `LEAVING` seconds at most."""
        if not self._pending() and not self._busy():
            self.finish()  # At once.
            return
        import trio

        with trio.CancelScope(shield=True):  # The wait has a deadline of its own.
            # Not Trio's limiter: the threads of others may all be taken, for any time.
            await trio.to_thread.run_sync(self.finish, limiter=trio.CapacityLimiter(1))

    def _pending(self) -> bool:
        return bool(self._lines) or self._frame is not None or self._leave

    def _busy(self) -> bool:
        return self._writing > 0

    def _changed(self) -> None:
        if not self._sink.waits:
            self._write_next()
        elif self._thread is None:
            self._thread = threading.Thread(target=self._run, name="trio-progress writer", daemon=True)
            self._thread.start()
        else:
            self._change.notify_all()

    def _run(self) -> None:
        with self._change:
            while self._change.wait_for(lambda: self._pending() or self._finished, IDLE) and self._pending():
                self._write_next()
            self._thread = None

    def _write_next(self) -> None:
        """Writes all that waits. The caller holds the lock, which is released while a thread writes."""
        text = self._take()
        self._writing = max(len(text), 1)
        try:
            if self._sink.waits:
                self._change.release()
                try:
                    self._sink.write(text, self._given_up)
                finally:
                    self._change.acquire()
            else:
                self._sink.write(text, self._given_up)
        except GivenUpError:
            pass
        except Exception as error:
            self._fail(error)
        finally:
            self._writing = self._writing_lines = 0
            self._change.notify_all()

    def _take(self) -> str:
        lines = "".join(self._lines)
        if self._left_out:
            self.lost += self._left_out
            lines = f"({self._left_out} lines are missing here: nobody took them in time)\n{lines}"
        self._writing_lines = lines.count("\n")
        frame, clear, leave = self._frame, self._clear, self._leave
        self._lines.clear()
        self._characters = self._left_out = 0
        self._frame = None
        self._clear = self._leave = False
        return self._region.text(lines, frame, clear=clear, leave=leave)

    def _fail(self, error: Exception) -> None:
        if self.error is None:
            self.error = error
        self._lines.clear()
        self._characters = self._left_out = 0
        self._frame = None
        self._leave = False
