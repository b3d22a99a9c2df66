"""The last lines of a terminal, drawn anew: pure, from frames to what a terminal is sent.

A frame is drawn over the one that is there, whichever that is. So frames may be left out, and what is printed above
them may come at any time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

HIDE = "\x1b[?25l"
SHOW = "\x1b[?25h"


@final
class Region:
    """Remembers what stands in the region."""

    def __init__(self) -> None:
        self._shown: Sequence[str] = ()
        self._open = False

    def text(self, above: str, frame: Sequence[str] | None, *, clear: bool = False, leave: bool = False) -> str:
        r"""What changes the terminal from how it is to how it shall be.

        Args:
            above: Whole lines that are to stand above the region, each with its "\n"; empty: none.
            frame: The lines of the region; None: as they are.
            clear: Whether the terminal no longer shows what it was sent, and so is to be cleared first.
            leave: Whether the region is left as it is from now on, and the cursor given back below it.
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
