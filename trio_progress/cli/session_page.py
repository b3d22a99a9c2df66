"""The page of `show`: pure. All text of others passes `printable`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..protocol.snapshot import PhaseSnapshot, Snapshot, phase_ran, ran
from ..terminal import words
from ..terminal.cells import cells, column, cut, indent, padded
from ..terminal.printable import printable
from ..terminal.symbols import STYLES
from .session_table import labels, last_heard

if TYPE_CHECKING:
    from .output import Stdout

RESULT_LINES: Final = 30
"""Lines of a result that are shown; `--json` has all of it."""


def session_page(snapshot: Snapshot, now: float, stdout: Stdout) -> list[str]:
    """The page of `show`."""
    lines = [headline(snapshot, now, stdout)]
    if snapshot.title != snapshot.id:
        lines.append(printable(snapshot.title))
    for name, text in _facts(snapshot, now):
        lines.append(f"  {name:<10}  {printable(text)}")
    if snapshot.phases:
        times = words.times_of(snapshot, last_heard(snapshot, now))
        lines += ["", "phases", *_tree(snapshot.phases, times, stdout, 1)]
    for name, values in (("counters", snapshot.counters), ("fields", snapshot.fields)):
        if values:
            lines += ["", name, *_pairs(values)]
    if snapshot.result is not None:
        lines += ["", "result", *_result(snapshot.result)]
    return lines if not stdout.terminal else [_fitting(line, stdout) for line in lines]


def headline(snapshot: Snapshot, now: float, stdout: Stdout) -> str:
    """How a session stands, in a line."""
    status = words.status(snapshot)
    head = [stdout.paint(status.replace("_", " "), STYLES[status]), words.percent(snapshot.progress)]
    if snapshot.status == "running":
        head += [words.duration(ran(snapshot, now)), words.labelled(words.session_left(snapshot, now))]
    return "  ".join([snapshot.id, *filter(None, head)])


def _fitting(line: str, stdout: Stdout) -> str:
    """The line, cut to the width; one with colours has been measured before."""
    return line if "\x1b" in line else cut(line, stdout.width, stdout.symbols.ellipsis)


def _facts(snapshot: Snapshot, now: float) -> Iterator[tuple[str, str]]:
    if snapshot.message:
        yield "message", snapshot.message
    if snapshot.error is not None:
        yield "error", words.error(snapshot)
        if snapshot.error.details:
            yield "details", json.dumps(snapshot.error.details, ensure_ascii=False)
    if snapshot.pipeline is not None:
        yield "pipeline", snapshot.pipeline
    if snapshot.labels:
        yield "labels", labels(snapshot.labels)
    if snapshot.attempt > 1:
        yield "attempt", str(snapshot.attempt)
    for name, moment in (
        ("queued", snapshot.queued_at),
        ("begun", snapshot.started_at),
        ("progressed", snapshot.progressed_at),
        ("ended", snapshot.ended_at),
    ):
        if moment is not None and not (name == "queued" and moment == snapshot.started_at):
            yield name, f"{words.local_time(moment)}  ({words.ago(moment, now)})"
    if snapshot.ended_at is not None:
        yield "took", words.duration(ran(snapshot, now))
    if snapshot.status in ("running", "lost"):
        heard = "" if snapshot.heartbeat_at is None else f", heard of {words.ago(snapshot.heartbeat_at, now)}"
        yield "liveness", snapshot.liveness + heard
    if snapshot.events:
        yield "events", str(snapshot.events)


def _tree(phases: Sequence[PhaseSnapshot], times: words.Times, stdout: Stdout, depth: int) -> Iterator[str]:
    widest = max(min(stdout.width // 3, 40), 8)
    name_width = max(min(widest, max(cells(printable(phase.title)) for phase in phases)), 4)
    for phase in phases:
        yield _phase(phase, times, stdout, depth, name_width)
        yield from _tree(phase.phases, times, stdout, depth + 1) if phase.phases else ()


def _phase(phase: PhaseSnapshot, times: words.Times, stdout: Stdout, depth: int, name_width: int) -> str:
    symbols = stdout.symbols
    symbol = ">" if phase.status == "running" else symbols.status[phase.status]
    parts = [column(printable(phase.title), name_width, symbols.ellipsis)]
    if stdout.width >= 50:
        parts.append(_bar(phase, stdout))
    parts.append((words.percent(phase.fraction) if phase.fraction is not None else "").rjust(5))
    took = "" if phase.started_at is None else words.duration(phase_ran(phase, times.ran, times.now))
    parts += words.figures(phase, times, took)
    if phase.status in ("failed", "cancelled", "skipped"):
        parts.append(phase.status)
    if phase.message:
        parts.append(printable(phase.message))
    before = indent(depth, stdout.width)
    line = "  ".join(parts).rstrip()
    if stdout.terminal:
        line = cut(line, max(stdout.width - len(before) - 2, 1), symbols.ellipsis)
    return f"{before}{stdout.paint(symbol, STYLES[phase.status])} {line}"


def _bar(phase: PhaseSnapshot, stdout: Stdout) -> str:
    width = max(min(stdout.width // 8, 20), 6)
    if phase.fraction is None:
        return stdout.symbols.empty * width
    return "".join(stdout.symbols.bar(phase.fraction, width))


def _pairs(values: Mapping[str, Any]) -> Iterator[str]:
    names = {name: printable(name).replace("_", " ") for name in values}
    width = min(max(map(cells, names.values())), 30)
    for name, value in values.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            value = words.number(value)  # noqa: PLW2901
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield f"  {padded(names[name], width)}  {printable(text)}"


def _result(result: Any) -> Iterator[str]:
    lines = json.dumps(result, ensure_ascii=False, indent=2).split("\n")
    for line in lines[:RESULT_LINES]:
        yield f"  {printable(line)}"
    if len(lines) > RESULT_LINES:
        yield f"  + {len(lines) - RESULT_LINES} more lines: --json has all of it"
