"""The signs and colours of statuses, alike wherever they are shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

STYLES: Final = {
    "queued": "dim",
    "pending": "dim",
    "running": "cyan",
    "completed": "green",
    "skipped": "dim",
    "failed": "bold red",
    "cancelled": "yellow",
    "timed_out": "bold red",
    "interrupted": "yellow",
    "lost": "bold red",
    "stalled": "bold yellow",
}
"""In the words of rich."""


@dataclass(frozen=True, slots=True)
class Signs:
    """The characters that the terminal can show."""

    status: dict[str, str]
    spinner: str
    full: str
    empty: str
    ellipsis: str


UNICODE: Final = Signs(
    {
        "pending": "·", "queued": "·", "completed": "✔", "skipped": "↷", "failed": "✘", "cancelled": "⊘",
        "timed_out": "✘", "interrupted": "⊘", "lost": "?", "stalled": "!",
    },
    "⠋⠙⠹⠸⠼⠴⠦⠧",
    "━",
    "─",
    "…",
)  # fmt: skip
ASCII: Final = Signs(
    {
        "pending": ".", "queued": ".", "completed": "+", "skipped": ">", "failed": "x", "cancelled": "-",
        "timed_out": "x", "interrupted": "-", "lost": "?", "stalled": "!",
    },
    "|/-\\",
    "#",
    "-",
    "~",
)  # fmt: skip
