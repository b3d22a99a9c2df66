"""The pages of `history`: pure, and never wider than the terminal. All text of others passes `printable`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ..terminal import words
from ..terminal.cells import cut
from ..terminal.printable import printable
from .session_table import Column, table

if TYPE_CHECKING:
    from ..state.history import PhaseHistory, PipelineHistory
    from .output import Stdout

PIPELINES: Final = (
    Column("PIPELINE", least=12),
    Column("RUNS", 2),
    Column("LAST RUN", 3),
    Column("USUALLY"),
    Column("BAR OFF BY", 1),
)

PHASES: Final = (
    Column("PHASE", least=12),
    Column("USUALLY"),
    Column("A UNIT", 2),
    Column("UNITS", 3),
    Column("RUNS", 1),
    Column("WORKED ON", 4),
)


def pipelines_table(histories: Mapping[str, PipelineHistory], now: float, stdout: Stdout) -> list[str]:
    """A line for each pipeline."""
    rows = [
        (name, str(one.runs), _when(one.at, now), words.short(usual_seconds(one)), _error(one))
        for name, one in histories.items()
    ]
    return table(PIPELINES, rows, _width(stdout), stdout.symbols.ellipsis)


def history_page(name: str, history: PipelineHistory, now: float, stdout: Stdout) -> list[str]:
    """What is known of one pipeline: a line for each phase."""
    runs = f"{history.runs} run{'' if history.runs == 1 else 's'}"
    facts = [runs, f"the last {_when(history.at, now)}", f"usually {words.short(usual_seconds(history))}"]
    facts = [fact for fact in facts if not fact.endswith(" -")]
    lines = [cut(f"{printable(name)}  {', '.join(facts)}", _width(stdout), stdout.symbols.ellipsis)]
    if history.error is not None:
        said = f"  its bar was off by {_error(history)} of the time, in the mean of {history.judged} runs"
        lines.append(cut(said, _width(stdout), stdout.symbols.ellipsis))
    rows = [_phase(phase, one) for phase, one in history.phases.items()]
    return [*lines, "", *table(PHASES, rows, _width(stdout), stdout.symbols.ellipsis)] if rows else lines


def usual_seconds(history: PipelineHistory) -> float:
    """How long a run usually takes: phases that run together count once, those that are often skipped in part."""
    return sum(phase.seconds * phase.alone * phase.worked for phase in history.phases.values())


def _phase(name: str, phase: PhaseHistory) -> tuple[str, ...]:
    unit = "" if phase.unit_seconds is None else f"{phase.unit_seconds:.2g} s"
    count = "" if phase.count is None else words.number(round(phase.count))
    worked = "" if phase.worked >= 0.995 else words.percent(phase.worked)
    return name, words.short(phase.seconds), unit, count, str(phase.runs), worked


def _width(stdout: Stdout) -> int:
    """Nothing is cut off for a pipe."""
    return stdout.width if stdout.terminal else 10_000


def _when(at: float, now: float) -> str:
    try:
        return words.ago(datetime.fromtimestamp(at, UTC), now) if at else "-"
    except (ValueError, OverflowError, OSError):
        return "-"


def _error(history: PipelineHistory) -> str:
    return "" if history.error is None else words.percent(history.error)
