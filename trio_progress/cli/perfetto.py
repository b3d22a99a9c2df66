"""A session as a trace in Chrome's JSON, which Perfetto (ui.perfetto.dev) and chrome://tracing open.

The format is the "Trace Event Format" of the Chromium project: an object with `traceEvents`, each with `ph`, `ts` and
`dur` in microseconds, `pid` and `tid`. What ran is a complete event ("X"), what was skipped an instant ("i"); names
and the order of lanes are metadata ("M"). Events in one lane may lie within one another and must not overlap otherwise,
so phases that ran together get lanes of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from .timeline import Row, extent, timeline

if TYPE_CHECKING:
    from ..protocol.snapshot import PhaseSnapshot, Snapshot

Event: TypeAlias = dict[str, Any]

PROCESS = 1


def trace(snapshot: Snapshot, now: float) -> dict[str, Any]:
    """The trace of a session as JSON data.

    Args:
        snapshot: The newest state.
        now: The owner's wall clock, in seconds since 1970: what still runs lasts until then.
    """
    rows = timeline(snapshot, now)
    ran = [row for row in rows if row.begin is not None]
    first, last = extent([Row(row.phase, row.depth, row.begin, row.end, None) for row in ran])
    whole = {"status": snapshot.status, "progress": snapshot.progress, "attempt": snapshot.attempt}
    events = [_metadata("process_name", 0, name=snapshot.title), _metadata("thread_name", 0, name="session")]
    events.append(_complete(snapshot.title, snapshot.status, 0, 0.0, last - first, whole))
    lanes = _lanes(rows)
    for number, lane in enumerate(lanes, 1):
        events.append(_metadata("thread_name", number, name=lane[0].phase.title))
        events.append(_metadata("thread_sort_index", number, sort_index=number))
        for row in lane:
            phase = row.phase
            if row.begin is None or row.end is None:
                instant = {"name": f"{phase.title} (skipped)", "cat": "skipped", "ph": "i", "s": "t"}
                events.append({**instant, "ts": 0.0, "pid": PROCESS, "tid": number, "args": _facts(phase)})
            else:
                begin, lasted = row.begin - first, row.end - row.begin
                events.append(_complete(phase.title, phase.status, number, begin, lasted, _facts(phase)))
    began = None if snapshot.started_at is None else snapshot.started_at.isoformat()
    about = {"session": snapshot.id, "pipeline": snapshot.pipeline, "started_at": began}
    return {"displayTimeUnit": "ms", "otherData": about, "traceEvents": events}


def _lanes(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows that ran or were skipped, in lanes: each lies within others of its lane, or beside them."""
    lanes: list[list[Row]] = []
    group = 0
    for row in rows:
        if row.begin is None and row.phase.status != "skipped":
            continue
        if row.depth == 0:
            group = len(lanes)
        home = next((lane for lane in lanes[group:] if row.depth and all(_apart(row, one) for one in lane)), None)
        if home is None:
            lanes.append([row])
        else:
            home.append(row)
    return lanes


def _apart(row: Row, other: Row) -> bool:
    """Whether the row lies within the other one, which is above it, or does not overlap with it."""
    if row.begin is None or row.end is None or other.begin is None or other.end is None:
        return True
    within = other.depth < row.depth and other.begin <= row.begin and row.end <= other.end
    return within or row.end <= other.begin or other.end <= row.begin


def _facts(phase: PhaseSnapshot) -> dict[str, Any]:
    facts = {name: getattr(phase, name) for name in ("status", "attempt", "done", "total", "unit", "message")}
    facts["expected_seconds"] = None if phase.expected is None else phase.expected.seconds
    return {name: value for name, value in facts.items() if value is not None}


def _complete(name: str, status: str, lane: int, begin: float, lasted: float, facts: dict[str, Any]) -> Event:
    times = {"ts": round(begin * 1e6, 3), "dur": round(max(lasted, 0.0) * 1e6, 3)}
    return {"name": name, "cat": status, "ph": "X", **times, "pid": PROCESS, "tid": lane, "args": facts}


def _metadata(kind: str, lane: int, **facts: Any) -> Event:
    return {"name": kind, "ph": "M", "pid": PROCESS, "tid": lane, "args": facts}
