"""The lines of the live display, from snapshots: pure, and never larger than the frame.

1. Every line is cut to the width, and there are never more lines than the height.
2. A session gets a headline, a line of counters, its phases and its last events. Running phases are never hidden
   behind ended ones: where not all fit, those that run (and those above them) stay, then the last that failed, and
   those between are folded into one line that counts them. Ended sessions get the rest of the room.
3. All text of others passes `printable` and is never read as markup. Each colour comes with a symbol or a word that
   means the same.
4. Widths are columns of the terminal, not characters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from rich.text import Text

from ..protocol.snapshot import PhaseSnapshot, Snapshot, ran
from . import words
from .cells import cells, column, cut, fit, indent, padded
from .printable import printable
from .symbols import STYLES, UNICODE, Symbols

EVENTS: Final = 3
"""Events shown for a session, where there is room."""

SESSION_LEAST: Final = 3
"""Lines that each session has at least; where they do not suffice for all, sessions are left out."""


@dataclass(frozen=True, slots=True)
class View:
    """One session: its newest state, and its last events, newest last."""

    snapshot: Snapshot
    events: Sequence[str] = ()
    now: float | None = None
    """Its owner's wall clock; None: the frame's."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The size of the region, and the moment in seconds since 1970."""

    width: int
    height: int
    now: float
    symbols: Symbols = UNICODE


def draw(views: Sequence[View], frame: Frame) -> list[Text]:
    """The lines for these sessions, in their order: at most `frame.height`, each at most `frame.width` wide."""
    if frame.height < 1 or frame.width < 1:
        return []
    active = [view for view in views if not view.snapshot.ended][: max(frame.height // SESSION_LEAST, 1)]
    ended = [view for view in views if view.snapshot.ended]
    least = [_least(view.snapshot) for view in active]
    room = frame.height
    # A headline for each ended session, where the running ones leave room for it.
    ended = ended[: max(room - sum(least), 0) if active else max(room // SESSION_LEAST, 1)]
    if room > 1 and len(active) + len(ended) < len(views):
        room -= 1
        ended = ended[: max(room - sum(least), 0) if active else None]
    lines: list[Text] = []
    # Lines that one session does not need are left for the next ones.
    for number, view in enumerate(active):
        left = room - len(lines)
        fair = (left - len(ended)) // (len(active) - number)
        lines += _session(view, frame, max(fair, min(least[number], left - sum(least[number + 1 :])), 1))
    for number, view in enumerate(ended):
        lines += _session(view, frame, max((room - len(lines)) // (len(ended) - number), 1))
    left_out = len(views) - len(active) - len(ended)
    if left_out and frame.height > 1:
        lines = [*lines[:room], Text(f"+ {left_out} more sessions", "dim")]
    return [_cut(line, frame) for line in lines[: frame.height]]


def _least(snapshot: Snapshot) -> int:
    """The lines that show all running phases: two above, one for each phase and one for each gap."""
    return 2 + 2 * _running(snapshot.phases)


def _running(phases: Sequence[PhaseSnapshot]) -> int:
    return sum((phase.status == "running") + _running(phase.phases) for phase in phases)


def _session(view: View, frame: Frame, room: int) -> list[Text]:
    snapshot = view.snapshot
    now = frame.now if view.now is None else view.now
    lines = [_headline(snapshot, frame, now)]
    details = _details(snapshot)
    if details and room > 1:
        lines.append(Text("  ").append(details, "dim"))
    events = [Text("    ").append(printable(event), "dim italic") for event in view.events[-EVENTS:]]
    if snapshot.ended:
        events = []
    phases = list(_rows(snapshot.phases, frame, 1, words.times_of(snapshot, now)))
    spare = room - len(lines)
    if len(phases) + len(events) > spare:
        # In a low window the events are left out, else phases are folded.
        running = 2 * _running(snapshot.phases) + 1  # with a line for each gap
        if spare < 4 * EVENTS or spare - len(events) < running <= spare:
            events = []
    lines += _folded(phases, spare - len(events))
    return [*lines, *events][:room]


def _headline(snapshot: Snapshot, frame: Frame, now: float) -> Text:
    status = words.status(snapshot)
    style = STYLES[status]
    line = Text().append(_symbol(status, frame) + " ", style)
    title = printable(snapshot.title)
    bar = _bar(snapshot.progress, frame, max(min(frame.width // 4, 40), 0), style)
    figures = [words.percent(snapshot.progress).rjust(5), words.standing(snapshot, now)]
    figures.append(words.labelled(words.session_left(snapshot, now)))
    figures.append(words.duration(ran(snapshot, now)))
    figures.append(words.attempt(snapshot))
    tail = "  ".join(filter(None, figures))
    space = frame.width - line.cell_len - bar.cell_len - len(tail) - 2
    if space < 8:
        bar, space = Text(), frame.width - line.cell_len - len(tail) - 1
    named = cut(title, max(space, 1), frame.symbols.ellipsis)
    return (
        line.append(padded(named, min(space, 20)), "bold").append(" ").append_text(bar).append(" ").append(tail, style)
    )


def _details(snapshot: Snapshot) -> str:
    message = snapshot.message if not snapshot.ended else None
    return printable("  |  ".join(filter(None, (words.error(snapshot), message, words.counters(snapshot, 6)))))


_RANK: Final = {"running": 2, "failed": 1}


@dataclass(frozen=True, slots=True)
class _Row:
    text: Text
    status: str
    rank: int
    """2: it runs, or a phase below it does; 1: it failed, or a phase below it did; 0: all others."""


def _rows(phases: Sequence[PhaseSnapshot], frame: Frame, depth: int, times: words.Times) -> Sequence[_Row]:
    rows: list[_Row] = []
    for phase in phases:
        # An ended phase is one line; its children were shown while they ran.
        below = _rows(phase.phases, frame, depth + 1, times) if phase.status not in ("completed", "skipped") else []
        rank = max([_RANK.get(phase.status, 0), *(row.rank for row in below)])
        rows.append(_Row(_phase(phase, frame, depth, times), phase.status, rank))
        rows.extend(below)
    return rows


def _phase(phase: PhaseSnapshot, frame: Frame, depth: int, times: words.Times) -> Text:
    style = STYLES[phase.status]
    line = Text(indent(depth, frame.width)).append(_symbol(phase.status, frame) + " ", style)
    name_width = max(min(frame.width // 3, 36) - line.cell_len, 6)
    name = column(printable(phase.title), name_width, frame.symbols.ellipsis)
    line.append(name, "" if phase.status == "running" else style)
    if phase.status == "running":
        if frame.width >= 60:
            line.append(" ").append_text(_bar(phase.fraction, frame, min(frame.width // 5, 30), style))
        line.append(" " + (words.percent(phase.fraction) if phase.fraction is not None else "").rjust(5))
    for text in words.figures(phase, times, label=False):
        line.append("  " + text)
    if phase.message:
        line.append("  ").append(printable(phase.message), "dim")
    return line


def _folded(rows: Sequence[_Row], room: int) -> list[Text]:
    """The rows that fit, with a line that counts the others where they were."""
    if len(rows) <= room:
        return [row.text for row in rows]
    if room <= 0:
        return []
    kept = _kept(rows, room)
    lines: list[Text] = []
    start = 0
    for number in [*kept, len(rows)]:
        if number > start:
            lines.append(_fold_line(rows[start:number]))
        if number < len(rows):
            lines.append(rows[number].text)
        start = number + 1
    return lines[:room]


def _kept(rows: Sequence[_Row], room: int) -> Sequence[int]:
    """The rows that stay: those that run, then those that failed, the last first; each gap takes a line."""
    kept: list[int] = []
    running = [number for number, row in enumerate(rows) if row.rank == 2]
    failed = [number for number, row in enumerate(rows) if row.rank == 1]
    for number in (*running, *reversed(failed)):
        more = sorted((*kept, number))
        if len(more) + _gaps(more, len(rows)) > room:
            break
        kept = more
    return kept


def _gaps(kept: Sequence[int], total: int) -> int:
    edges = [-1, *kept, total]
    return sum(after - before > 1 for before, after in pairwise(edges))


def _fold_line(rows: Sequence[_Row]) -> Text:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.status] = counts.get(row.status, 0) + 1
    return Text("  + " + ", ".join(f"{count} {status}" for status, count in counts.items()), "dim")


def _symbol(status: str, frame: Frame) -> str:
    if status == "running":
        return frame.symbols.spinner[int(frame.now * 8) % len(frame.symbols.spinner)]
    return frame.symbols.status[status]


def _bar(fraction: float | None, frame: Frame, width: int, style: str) -> Text:
    if width < 4:
        return Text()
    if fraction is None:
        # A moving block: it runs, and its fraction is not known.
        block = max(width // 4, 1)
        start = int(frame.now * 8) % (width - block + 1)
        return (
            Text()
            .append(frame.symbols.empty * start, "dim")
            .append(frame.symbols.full * block, style)
            .append(frame.symbols.empty * (width - block - start), "dim")
        )
    filled, empty = frame.symbols.bar(fraction, width)
    return Text().append(filled, style).append(empty, "dim")


def _cut(line: Text, frame: Frame) -> Text:
    line.no_wrap = True
    plain = line.plain
    if 2 * len(plain) > frame.width and cells(plain) > frame.width:
        ellipsis = frame.symbols.ellipsis
        line = line[: fit(plain, frame.width - cells(ellipsis))]
        line.no_wrap = True
        line.append(ellipsis)
    line.truncate(frame.width, overflow="crop")  # Where rich counts more columns than we do.
    return line
