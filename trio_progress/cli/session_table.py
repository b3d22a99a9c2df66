"""The table of `ls`: pure, and never wider than the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..protocol.snapshot import Snapshot, ran
from ..terminal import words
from ..terminal.cells import cells, column, cut, padded
from ..terminal.printable import printable
from ..terminal.symbols import STYLES

if TYPE_CHECKING:
    from .output import Stdout

GAP: Final = 2
"""Spaces between two columns."""

INDENT: Final = "  "
"""Before the id of a part, for each session above it."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    name: str
    rank: int = 0
    """Where the room is too small, columns are left out from the highest rank down; those of rank 0 stay."""
    least: int | None = None
    """Cells to which it may be cut; None: it is shown whole or not at all."""


def table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    width: int,
    ellipsis: str = "…",
    paint: Callable[[int, int, str], str] = lambda _row, _column, text: text,
) -> list[str]:
    """Lines of at most `width` cells: one with the columns' names, and one for each row. Empty columns are left out.

    Args:
        columns: All columns.
        rows: One text for each column; texts may hold anything.
        width: Columns of the terminal, at least 1.
        ellipsis: Stands at the end of a text that was cut.
        paint: Colours a text that is cut to size, given the number of its row and column.
    """
    clean = [[printable(text) for text in row] for row in rows]
    shown = [number for number in range(len(columns)) if any(row[number] for row in clean)]
    full = {
        number: max([cells(columns[number].name), *(cells(row[number]) for row in clean)])
        for number in range(len(columns))
    }

    def least(number: int) -> int:
        wanted = columns[number]
        return full[number] if wanted.least is None else min(full[number], max(wanted.least, len(wanted.name)))

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
        texts = [column(row[number], given[number], ellipsis) for number in shown]
        if spare >= 0:
            texts = [paint(count, number, text) for number, text in zip(shown, texts, strict=True)]
        lines.append((" " * GAP).join(texts).rstrip())
    return lines if spare >= 0 else [cut(line, width, ellipsis) for line in lines]


COLUMNS: Final = (
    Column("ID"),
    Column("STATUS"),
    Column("DONE", 1),
    Column("BEGUN", 2),
    Column("TOOK", 4),
    Column("LEFT", 4),
    Column("TITLE", 3, least=16),
    Column("LABELS", 5, least=12),
)


def session_table(sessions: Sequence[Snapshot], now: float, stdout: Stdout) -> list[str]:
    """The table of `ls`, in which the parts of a session stand below it."""
    indented = with_parts(sessions)
    sessions = [one for one, _ in indented]
    rows = [
        (
            INDENT * depth + one.id,
            words.status(one).replace("_", " "),
            words.percent(one.progress),
            words.ago(one.started_at or one.queued_at, now),
            "" if one.started_at is None else words.duration(ran(one, last_heard(one, now))),
            words.session_left(one, now),
            "" if one.title == one.id else one.title,
            labels(one.labels),
        )
        for one, depth in indented
    ]

    def paint(row: int, column: int, text: str) -> str:
        return stdout.paint(text, STYLES[words.status(sessions[row])]) if COLUMNS[column].name == "STATUS" else text

    return table(COLUMNS, rows, stdout.width, stdout.symbols.ellipsis, paint)


def with_parts(sessions: Sequence[Snapshot]) -> list[tuple[Snapshot, int]]:
    """Each session with its depth, its parts right below it, the oldest part first.

    Those that are no part of a listed session keep their order; those that are parts of each other come last.
    """
    listed = {one.id for one in sessions}
    parts: dict[str | None, list[Snapshot]] = {}
    for one in sessions:
        parts.setdefault(one.parent if one.parent in listed else None, []).append(one)
    found: dict[str, tuple[Snapshot, int]] = {}
    for first in (*parts.get(None, ()), *sessions):
        waiting = [(first, 0)]
        while waiting:
            one, depth = waiting.pop()
            if one.id not in found:
                found[one.id] = one, depth
                waiting += [(part, depth + 1) for part in parts.get(one.id, ())]
    return list(found.values())


def last_heard(snapshot: Snapshot, now: float) -> float:
    """Until when a session is known to have run: a lost one until its last heartbeat, others until `now`."""
    if snapshot.status == "lost" and snapshot.heartbeat_at is not None:
        return snapshot.heartbeat_at.timestamp()
    return now


def labels(values: Mapping[str, str]) -> str:
    """Labels as text: "user=u1 team=t2"."""
    return " ".join(f"{name}={value}" for name, value in values.items())
