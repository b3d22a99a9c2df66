"""What standard output can show: how wide it is, which symbols it has, and whether colours are wanted."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from typing import Final

from ..terminal.streams import encoding_of, is_terminal
from ..terminal.symbols import ASCII, UNICODE, Symbols

UNKNOWN: Final = 80
"""Columns where the terminal does not say."""

_ANSI: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(frozen=True, slots=True)
class Stdout:
    """A terminal, or what a pipe is given instead."""

    terminal: bool
    width: int
    symbols: Symbols
    colours: bool

    def paint(self, text: str, style: str) -> str:
        """The text in a style of `terminal.symbols`, where colours are wanted."""
        codes = ";".join(_ANSI[word] for word in style.split() if word in _ANSI)
        return f"\x1b[{codes}m{text}\x1b[0m" if self.colours and codes and text else text


def stdout() -> Stdout:
    """What standard output is now."""
    symbols = UNICODE if "utf" in (encoding_of(sys.stdout) or "") else ASCII
    terminal = is_terminal(sys.stdout)
    width = max(shutil.get_terminal_size((UNKNOWN, 24)).columns, 1)
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return Stdout(terminal, width, symbols, terminal and not plain)
