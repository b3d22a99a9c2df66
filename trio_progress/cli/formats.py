"""Tables and times as people read them: pure, and never wider than it is told to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ..terminal.cells import cells, cut, padded
from ..terminal.printable import printable

GAP: Final = 2
"""Spaces between two columns."""

_ANSI: Final = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def ago(moment: datetime | None, now: float) -> str:
    """How long ago that was: "3 min ago"; the date where that is more than a week; "-" for never.

    Clocks of other processes may be ahead of ours, so a moment to come is shown as it is.
    """
    if moment is None:
        return "-"
    seconds = now - moment.timestamp()
    if -5 < seconds < 1:
        return "now"
    if 0 < seconds < 60:
        return f"{int(seconds)} s ago"
    if 0 < seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if 0 < seconds < 86400:
        return f"{int(seconds // 3600)} h ago"
    if 0 < seconds < 7 * 86400:
        days = int(seconds // 86400)
        return f"{days} day{'s' if days > 1 else ''} ago"
    return clock(moment)


def clock(moment: datetime) -> str:
    """The moment in the reader's own time zone."""
    try:
        moment = moment.astimezone()
    except (OverflowError, ValueError, OSError):
        pass  # In the years 1 and 9999 not every zone has it.
    return moment.replace(tzinfo=None).isoformat(sep=" ", timespec="seconds")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    rank: int = 0
    """Where there is no room, columns go from the highest rank down; those of rank 0 stay."""
    least: int | None = None
    """It may be cut down to so many columns of the terminal; None: it is shown whole or not at all."""


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    width: int,
    ellipsis: str = "…",
    paint: Callable[[int, int, str], str] = lambda row, column, text: text,
) -> list[str]:
    """Lines of at most `width`: a line of names, and one for each row. Empty columns are left out.

    Args:
        columns: What there is to show.
        rows: One text for each column; may hold anything.
        width: Columns of the terminal, at least 1.
        ellipsis: What says that a text goes on.
        paint: Called with the number of a row, of a column and with a text that is cut to size: gives it colours.
    """
    clean = [[printable(text) for text in row] for row in rows]
    shown = [number for number in range(len(columns)) if any(row[number] for row in clean)]
    full = {
        number: max([cells(columns[number].name), *(cells(row[number]) for row in clean)])
        for number in range(len(columns))
    }

    def least(number: int) -> int:
        column = columns[number]
        return full[number] if column.least is None else min(full[number], max(column.least, len(column.name)))

    while sum(map(least, shown)) + GAP * (len(shown) - 1) > width:
        last = max(shown, key=lambda number: columns[number].rank, default=None)
        if last is None or columns[last].rank == 0:
            break
        shown.remove(last)
    given = {number: least(number) for number in shown}
    spare = width - sum(given.values()) - GAP * (len(shown) - 1)
    for number in shown:
        more = max(min(full[number] - given[number], spare), 0)
        given[number] += more
        spare -= more
    lines = [(" " * GAP).join(padded(columns[number].name, given[number]) for number in shown).rstrip()]
    for count, row in enumerate(clean):
        texts = [padded(cut(row[number], given[number], ellipsis), given[number]) for number in shown]
        if spare >= 0:
            texts = [paint(count, number, text) for number, text in zip(shown, texts, strict=True)]
        lines.append((" " * GAP).join(texts).rstrip())
    return lines if spare >= 0 else [cut(line, width, ellipsis) for line in lines]


def painted(text: str, style: str, *, colours: bool) -> str:
    """The text in a style of `terminal.signs`, for a terminal that knows ECMA-48's colours."""
    codes = ";".join(_ANSI[word] for word in style.split() if word in _ANSI)
    return f"\x1b[{codes}m{text}\x1b[0m" if colours and codes and text else text
