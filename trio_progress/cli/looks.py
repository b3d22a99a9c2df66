"""Sessions as text: the table of `ls` and the page of `show`. Pure; all text of others passes `printable`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ..protocol.snapshot import PhaseSnapshot, Snapshot, phase_ran
from ..terminal import words
from ..terminal.cells import cells, cut, padded
from ..terminal.printable import printable
from ..terminal.signs import STYLES
from .formats import Column, ago, clock, painted, table
from .screens import Screen

COLUMNS: Final = (
    Column("ID"),
    Column("STATUS"),
    Column("DONE", 1),
    Column("BEGUN", 2),
    Column("TOOK", 4),
    Column("TITLE", 3, least=16),
    Column("LABELS", 5, least=12),
)

RESULT_LINES: Final = 30
"""Lines of a result that are shown; `--json` has all of it."""


def standing(snapshot: Snapshot) -> str:
    """The status, or "stalled" where that says more."""
    return "stalled" if snapshot.status == "running" and snapshot.liveness == "stalled" else snapshot.status


def listed(sessions: Sequence[Snapshot], now: float, screen: Screen) -> list[str]:
    """The table of `ls`."""
    rows = [
        (
            one.id,
            standing(one).replace("_", " "),
            words.percent(one.progress),
            ago(one.started_at or one.queued_at, now),
            "" if one.started_at is None else words.duration(words.elapsed(one, _until(one, now))),
            "" if one.title == one.id else one.title,
            _labels(one.labels),
        )
        for one in sessions
    ]

    def paint(row: int, column: int, text: str) -> str:
        style = STYLES[standing(sessions[row])] if COLUMNS[column].name == "STATUS" else ""
        return painted(text, style, colours=screen.colours)

    return table(COLUMNS, rows, screen.width, screen.signs.ellipsis, paint)


def _until(snapshot: Snapshot, now: float) -> float:
    """Nobody knows how long a lost session ran after its last sign of life."""
    if snapshot.status == "lost" and snapshot.heartbeat_at is not None:
        return snapshot.heartbeat_at.timestamp()
    return now


def _labels(labels: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in labels.items())


def described(snapshot: Snapshot, now: float, screen: Screen) -> list[str]:
    """The page of `show`."""
    style = STYLES[standing(snapshot)]
    head = [
        painted(standing(snapshot).replace("_", " "), style, colours=screen.colours),
        words.percent(snapshot.progress),
    ]
    if snapshot.status == "running":
        head.append(words.duration(words.elapsed(snapshot, now)))
        if words.moves(snapshot) and snapshot.eta is not None:
            head.append(f"ETA {words.duration(snapshot.eta)}")
    lines = [f"{snapshot.id}  {'  '.join(head)}"]
    if snapshot.title != snapshot.id:
        lines.append(printable(snapshot.title))
    for name, text in _facts(snapshot, now):
        lines.append(f"  {name:<10}  {printable(text)}")
    if snapshot.phases:
        until = _until(snapshot, now)
        times = _Times(until, words.elapsed(snapshot, until))
        lines += ["", "phases", *_tree(snapshot.phases, times, screen, 1, words.moves(snapshot))]
    for name, values in (("counters", snapshot.counters), ("fields", snapshot.fields)):
        if values:
            lines += ["", name, *_pairs(values)]
    if snapshot.result is not None:
        lines += ["", "result", *_result(snapshot.result)]
    return lines if not screen.terminal else [_fitting(line, screen) for line in lines]


def _fitting(line: str, screen: Screen) -> str:
    """Cut to the width; a line with colours is one that has been measured."""
    return line if "\x1b" in line else cut(line, screen.width, screen.signs.ellipsis)


def _facts(snapshot: Snapshot, now: float) -> Iterator[tuple[str, str]]:
    if snapshot.message:
        yield "message", snapshot.message
    if snapshot.error is not None:
        yield "error", ": ".join(filter(None, (snapshot.error.type, snapshot.error.message)))
        if snapshot.error.details:
            yield "details", json.dumps(snapshot.error.details, ensure_ascii=False)
    if snapshot.pipeline is not None:
        yield "pipeline", snapshot.pipeline
    if snapshot.labels:
        yield "labels", _labels(snapshot.labels)
    if snapshot.attempt > 1:
        yield "attempt", str(snapshot.attempt)
    for name, moment in (
        ("queued", snapshot.queued_at),
        ("begun", snapshot.started_at),
        ("progressed", snapshot.progressed_at),
        ("ended", snapshot.ended_at),
    ):
        if moment is not None and not (name == "queued" and moment == snapshot.started_at):
            yield name, f"{clock(moment)}  ({ago(moment, now)})"
    if snapshot.ended_at is not None:
        yield "took", words.duration(words.elapsed(snapshot, now))
    if snapshot.status in ("running", "lost"):
        heard = "" if snapshot.heartbeat_at is None else f", heard of {ago(snapshot.heartbeat_at, now)}"
        yield "liveness", snapshot.liveness + heard
    if snapshot.events:
        yield "events", str(snapshot.events)


class _Times(NamedTuple):
    """What the duration of a phase that runs follows from."""

    now: float
    """Seconds since 1970."""
    elapsed: float
    """Seconds that the session has run."""


def _tree(phases: Sequence[PhaseSnapshot], times: _Times, screen: Screen, depth: int, moves: bool) -> Iterator[str]:
    widest = max(min(screen.width // 3, 40), 8)
    name_width = max(min(widest, max(cells(printable(phase.title)) for phase in phases)), 4)
    for phase in phases:
        yield _phase(phase, times, screen, depth, name_width, moves)
        yield from _tree(phase.phases, times, screen, depth + 1, moves) if phase.phases else ()


def _phase(phase: PhaseSnapshot, times: _Times, screen: Screen, depth: int, name_width: int, moves: bool) -> str:
    signs = screen.signs
    sign = ">" if phase.status == "running" else signs.status[phase.status]
    said = [padded(cut(printable(phase.title), name_width, signs.ellipsis), name_width)]
    if screen.width >= 50:
        said.append(_bar(phase, screen))
    said.append((words.percent(phase.fraction) if phase.fraction is not None else "").rjust(5))
    took = _took(phase, times)
    said += filter(None, (words.count(phase), words.rate(phase) if moves else "", took))
    if moves and phase.status == "running" and phase.eta is not None:
        said.append(f"ETA {words.duration(phase.eta)}")
    if phase.attempt > 1:
        said.append(f"attempt {phase.attempt}")
    if phase.status in ("failed", "cancelled", "skipped"):
        said.append(phase.status)
    if phase.message:
        said.append(printable(phase.message))
    indent = "  " * min(depth, max(screen.width // 8, 1))
    line = "  ".join(said).rstrip()
    if screen.terminal:
        line = cut(line, max(screen.width - len(indent) - 2, 1), signs.ellipsis)
    return f"{indent}{painted(sign, STYLES[phase.status], colours=screen.colours)} {line}"


def _bar(phase: PhaseSnapshot, screen: Screen) -> str:
    width = max(min(screen.width // 8, 20), 6)
    if phase.fraction is None:
        return screen.signs.empty * width
    filled = int(min(max(phase.fraction, 0.0), 1.0) * width)
    return screen.signs.full * filled + screen.signs.empty * (width - filled)


def _took(phase: PhaseSnapshot, times: _Times) -> str:
    return "" if phase.started_at is None else words.duration(phase_ran(phase, times.elapsed, times.now))


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    names = {name: printable(name).replace("_", " ") for name in values}
    width = min(max(map(cells, names.values())), 30)
    for name, value in values.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        text = (
            words.number(value)
            if number
            else value
            if isinstance(value, str)
            else json.dumps(value, ensure_ascii=False)
        )
        yield f"  {padded(names[name], width)}  {printable(text)}"


def _result(result: Any) -> Iterator[str]:
    lines = json.dumps(result, ensure_ascii=False, indent=2).split("\n")
    for line in lines[:RESULT_LINES]:
        yield f"  {printable(line)}"
    if len(lines) > RESULT_LINES:
        yield f"  + {len(lines) - RESULT_LINES} more lines: --json has all of it"
