"""A session as a timeline: when each phase ran, beside one another where they ran together. Pure.

1. Times are seconds after the session's attempt began, by its owner's monotonic clock. Phases of an earlier attempt lie
   before that, by the stamps of the wall clock.
2. A row is a phase: a bar from its beginning to its end, or until now, over the time that is usual for it. What waits
   has only the latter, behind what comes before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..protocol.snapshot import PhaseSnapshot, Snapshot, phase_ran, ran
from ..terminal import words
from ..terminal.cells import cells, column, cut, indent
from ..terminal.printable import printable
from ..terminal.symbols import STYLES
from .session_table import last_heard

if TYPE_CHECKING:
    from .output import Stdout

ROWS: Final = 500
"""Rows that are made at most."""

TOOK: Final = 9
"""Columns of the terminal for how long a phase took."""


@dataclass(frozen=True, slots=True)
class Row:
    """A phase, and when it ran."""

    phase: PhaseSnapshot
    depth: int
    """0 for the session's own phases, 1 for their children."""
    begin: float | None
    """Seconds after the attempt began; None: it has not begun."""
    end: float | None
    """When it ended, or now."""
    usual: tuple[float, float] | None
    """Where it would lie if it took as long as expected; None: that is not known."""


def timeline(snapshot: Snapshot, now: float) -> list[Row]:
    """The rows of a session, parents before their children.

    Args:
        snapshot: The newest state.
        now: The owner's wall clock, in seconds since 1970.
    """
    now = last_heard(snapshot, now)
    whole = ran(snapshot, now)
    began = None if snapshot.started_at is None else snapshot.started_at.timestamp()
    rows: list[Row] = []
    follows = whole
    for phase in snapshot.phases:
        row = _row(phase, 0, whole, began, now)
        if row.begin is None and row.phase.status == "pending" and phase.expected is not None and not snapshot.ended:
            row = Row(phase, 0, None, None, (follows, follows + phase.expected.seconds))
        if row.usual is not None and phase.status in ("pending", "running"):
            follows = max(follows, row.usual[1])
        rows.append(row)
        rows.extend(_below(phase, 1, whole, began, now))
        if len(rows) > ROWS:
            break
    return rows[:ROWS]


def _below(phase: PhaseSnapshot, depth: int, whole: float, began: float | None, now: float) -> Iterator[Row]:
    for child in phase.phases:
        yield _row(child, depth, whole, began, now)
        yield from _below(child, depth + 1, whole, began, now)


def _row(phase: PhaseSnapshot, depth: int, whole: float, began: float | None, now: float) -> Row:
    if phase.started_at is None or phase.status == "skipped":
        return Row(phase, depth, None, None, None)
    begin = phase.started_after
    if begin is None:
        begin = 0.0 if began is None else phase.started_at.timestamp() - began
    usual = None if phase.expected is None else (begin, begin + phase.expected.seconds)
    return Row(phase, depth, begin, begin + phase_ran(phase, whole, now), usual)


def extent(rows: Sequence[Row]) -> tuple[float, float]:
    """From the first beginning to the last end, of what ran and of what is usual; never empty."""
    edges = [edge for row in rows for edge in (row.begin, row.end, *(row.usual or ())) if edge is not None]
    first, last = min([0.0, *edges]), max([0.0, *edges])
    return first, max(last, first + 0.001)


def timeline_page(snapshot: Snapshot, now: float, stdout: Stdout) -> list[str]:
    """The lines of `show --timeline`: a bar for each phase, never wider than the terminal."""
    rows = timeline(snapshot, now)
    if not rows:
        return [f"{snapshot.id}: no phases yet"]
    first, last = extent(rows)
    names = [indent(row.depth, stdout.width) + printable(row.phase.title) for row in rows]
    name_width = min(max(map(cells, names)), max(stdout.width // 4, 4))
    width = max(stdout.width - name_width - TOOK - 6, 4)
    scale = words.duration(last - first)
    edge = f"{words.duration(0)}{scale:>{width - 2}}" if width > len(scale) + 4 else ""
    lines = [f"{'':{name_width}}    {edge}".rstrip()]
    for row, name in zip(rows, names, strict=True):
        status = row.phase.status
        symbol = ">" if status == "running" else stdout.symbols.status[status]
        bar = _bar(row, first, last, width, stdout)
        took = ""
        if row.begin is not None and row.end is not None:
            took = (words.duration if status == "running" else words.short)(row.end - row.begin)
        said = took or ("" if status == "pending" else status)
        line = f"{column(name, name_width, stdout.symbols.ellipsis)}  {bar}  {said:>{TOOK}}".rstrip()
        line = cut(line, max(stdout.width - 2, 1), stdout.symbols.ellipsis) if stdout.terminal else line
        lines.append(f"{stdout.paint(symbol, STYLES[status])} {line}")
    if any(row.usual for row in rows):
        lines += ["", f"  {stdout.symbols.full * 3} ran   {stdout.symbols.empty * 3} usual"]
    return lines


def _bar(row: Row, first: float, last: float, width: int, stdout: Stdout) -> str:
    """What is usual, and over it what was."""
    places = [" "] * width
    for span, symbol in ((row.usual, stdout.symbols.empty), ((row.begin, row.end), stdout.symbols.full)):
        if span is None or span[0] is None or span[1] is None:
            continue
        begin = min(int((span[0] - first) / (last - first) * width), width - 1)
        # What ran is seen, however short it was.
        end = max(min(int((span[1] - first) / (last - first) * width + 0.5), width), begin + 1)
        places[begin:end] = symbol * (end - begin)
    return "".join(places)
