"""The page of `show --explain`: pure. All text of others passes `printable`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..protocol.outlook import outlook_at
from ..protocol.snapshot import phase_ran
from ..terminal import words
from .session_page import headline
from .session_table import Column, last_heard, table

if TYPE_CHECKING:
    from ..protocol.snapshot import PhaseSnapshot, Snapshot
    from .output import Stdout

COLUMNS = (Column("PHASE", least=8), Column("EXPECTED", least=16), Column("SO FAR"), Column("LEFT", 1))


def explain_page(snapshot: Snapshot, now: float, stdout: Stdout) -> list[str]:
    """What the estimate of a session is made of: a line a phase."""
    lines = [headline(snapshot, now, stdout)]
    between = outlook_at(snapshot, now).eta_range
    if between is not None and words.session_left(snapshot, now):
        low, high = map(words.duration, between)
        lines.append(f"  it ends in {low} to {high}, as far as earlier runs tell: so it was four times of five")
    if not any(phase.expected for phase in snapshot.phases):
        lines.append("  nothing is known of earlier runs: the estimate is by weights, and by how fast this run is")
    if snapshot.phases:
        times = words.times_of(snapshot, last_heard(snapshot, now))
        rows = [_row(phase, times) for phase in snapshot.phases]
        lines += ["", *table(COLUMNS, rows, stdout.width, stdout.symbols.ellipsis)]
    return lines


def _row(phase: PhaseSnapshot, times: words.Times) -> tuple[str, str, str, str]:
    spent: str = phase.status if phase.status == "skipped" else ""
    if phase.started_at is not None and not spent:
        spent = (words.short if phase.ended_at else words.duration)(phase_ran(phase, times.ran, times.now))
    return phase.title, words.expected(phase) or "not known", spent, words.phase_left(phase, times)
