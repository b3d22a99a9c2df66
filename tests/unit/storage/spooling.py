"""A final state that is to be kept, and the files in a folder."""

from __future__ import annotations

from pathlib import Path

from trio_progress.state.history import Lesson, PhaseLesson
from trio_progress.stores.base import (
    Append,
    Index,
    Key,
)

APPEND = Append(
    id="a",
    key=Key(1000, 7),
    record=b'{"x": "\xc3\xa4"}',
    index=Index("completed", "p", {"user": "u1"}, 5.0),
    lease=None,
    keep=100.0,
    heartbeat=6.0,
    events=[(1, b"{}"), (2, b"\xff")],
    lesson=Lesson(at=6.0, phases={"x": PhaseLesson(seconds=1.5)}),
)


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.exists() else []
