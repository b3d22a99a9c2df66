"""What is left out where there is no room: never what runs, for the sake of what has ended."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.unit.terminal.test_words import NOW, phase, snapshot
from trio_progress import Snapshot
from trio_progress.terminal.display_model import DisplayModel
from trio_progress.terminal.layout import Frame, View, draw


def lines_of(states: list[Snapshot], height: int, events: tuple[str, ...] = ()) -> list[str]:
    frame = Frame(100, height, NOW.timestamp())
    return [text.plain for text in draw([View(state, events) for state in states], frame)]


def named(name: str, status: str, **values: Any) -> Any:
    return phase(name=name, title=name, status=status, unit=None, **values)


def session(session_id: str, *phases: Any, status: str = "running") -> Snapshot:
    ended = None if status == "running" else NOW
    return msgspec.structs.replace(
        snapshot(*phases), id=session_id, title=session_id, status=status, ended_at=ended
    )  # fmt: skip


@pytest.mark.parametrize("height", [8, 12, 24])
@pytest.mark.parametrize("events", [(), ("one", "two", "three")])
def test_children_that_failed_do_not_push_running_phases_away(height: int, events: tuple[str, ...]) -> None:
    files = [named(f"file-{n}", "failed" if n % 2 else "completed") for n in range(40)]
    state = session(
        "job",
        named("download", "running", phases=(*files, named("file-40", "running"))),
        named("verify", "running"),
        named("index", "running"),
    )
    shown = lines_of([state], height, events)
    assert len(shown) <= height
    for name in ("download", "file-40", "verify", "index"):
        assert any(f" {name} " in line for line in shown), shown
    assert sum("file-" in line and "✘" in line for line in shown) == len({line for line in shown if "✘" in line})
    if height == 24:
        assert any("file-39" in line for line in shown), "the last that failed stay where there is room"
    assert any(line.strip().startswith("+") and "failed" in line for line in shown), "what is folded is counted"


def test_sessions_that_ended_get_what_those_that_run_leave() -> None:
    runs = session("runs", *(named(f"part-{n}", "running") for n in range(8)))
    failed = [named(f"step-{n}", "failed") for n in range(30)]
    ended = [session(f"ended-{n}", *failed, status="failed") for n in range(6)]
    shown = lines_of([runs, *ended], 20)
    assert len(shown) <= 20
    assert all(any(f"part-{n} " in line for line in shown) for n in range(8))
    low = lines_of([runs, *ended], 10)
    assert sum("part-" in line for line in low) >= 7
    assert low[-1] == "+ 6 more sessions"
    assert all(any(f"ended-{n} " in line for line in lines_of([runs, *ended], 40)) for n in range(6))


def test_what_is_lost_stands_behind_what_runs() -> None:
    model = DisplayModel()
    for number in range(5):
        model.put(session(f"lost-{number}", status="lost"))
    model.put(session("runs"))
    assert model.ordered()[0].id == "runs"
