"""What standard output is: how wide, which signs it can show, and whether colours are wanted."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from typing import Final

from ..terminal.signs import ASCII, UNICODE, Signs
from ..terminal.streams import encoding_of, is_terminal

UNKNOWN: Final = 80
"""Columns where the terminal does not say."""


@dataclass(frozen=True, slots=True)
class Screen:
    """A terminal, or what a pipe is given instead."""

    terminal: bool
    width: int
    signs: Signs
    colours: bool


def screen() -> Screen:
    """What standard output is now."""
    signs = UNICODE if "utf" in (encoding_of(sys.stdout) or "") else ASCII
    terminal = is_terminal(sys.stdout)
    width = max(shutil.get_terminal_size((UNKNOWN, 24)).columns, 1)
    plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
    return Screen(terminal, width, signs, terminal and not plain)
