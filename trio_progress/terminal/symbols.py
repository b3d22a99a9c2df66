"""The symbols and colours of statuses, alike wherever they are shown."""

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
class Symbols:
    """The characters that the terminal can show."""

    status: dict[str, str]
    spinner: str
    full: str
    empty: str
    ellipsis: str

    def bar(self, fraction: float, width: int) -> tuple[str, str]:
        """The filled and the empty part of a bar."""
        filled = int(min(max(fraction, 0.0), 1.0) * width)
        return self.full * filled, self.empty * (width - filled)


UNICODE: Final = Symbols(
    {
        "pending": "·", "queued": "·", "completed": "✔", "skipped": "↷", "failed": "✘", "cancelled": "⊘",
        "timed_out": "✘", "interrupted": "⊘", "lost": "?", "stalled": "!",
    },
    "⠋⠙⠹⠸⠼⠴⠦⠧",
    "━",
    "─",
    "…",
)  # fmt: skip
ASCII: Final = Symbols(
    {
        "pending": ".", "queued": ".", "completed": "+", "skipped": ">", "failed": "x", "cancelled": "-",
        "timed_out": "x", "interrupted": "-", "lost": "?", "stalled": "!",
    },
    "|/-\\",
    "#",
    "-",
    "~",
)  # fmt: skip
