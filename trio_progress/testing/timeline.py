"""A schedule as people read it: which task ran, how far it came, and what it changed."""

from __future__ import annotations

import re
import sys
import sysconfig
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple, final

import trio

SHOWN: Final = 60
"""Lines that are shown at most: the last ones, for there it went wrong."""

WIDTH: Final = 60
"""Characters of a value that are shown."""

WATCHED: Final = 16
"""Tasks whose variables are looked at after a step of any of them; where there are more, only the one that ran."""

_PLAIN = (int, float, complex, str, bytes, bool, type(None), list, tuple, dict, set, frozenset, deque)
_LIBRARIES = tuple(
    {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), str(Path(trio.__file__).parent)}
    | {str(Path(__file__).parents[1])}
)
_TELLING = ("trio_progress.session.session", "trio_progress.session.phase")
_SITE = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))


class Step(NamedTuple):
    """One line: consecutive steps of a task that changed nothing are one."""

    time: float
    task: trio.lowlevel.Task
    where: str
    changes: tuple[str, ...]


@final
class Timeline(trio.abc.Instrument):
    """Watches a run. Slow: for a schedule that is known to fail.

    Only tasks in code of the user's own are looked at; of the others it is counted how often they ran.
    Keeps the last steps only.
    """

    def __init__(self) -> None:
        self.steps: deque[Step] = deque(maxlen=4 * SHOWN)
        self.dropped = 0
        self.others = 0
        self._live: dict[trio.lowlevel.Task, None] = {}
        self._values: dict[object, str] = {}

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Remembers a new task."""
        self._live[task] = None

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Adds a step: where the task stands now, and which variables have changed."""
        frames = _own_frames(task)
        over = task not in self._live
        mine = frames or (over and any(step.task is task for step in self.steps))
        if not mine:
            self.others += 1
            return
        looked_at = list(self._live) if len(self._live) <= WATCHED else [task]
        changes = tuple(self._changes(looked_at if task in self._live or not over else list(self._live)))
        where = _where(frames[-1]) if frames else "is over"
        if len(self.steps) == self.steps.maxlen:
            self.dropped += 1
        self.steps.append(Step(trio.current_time(), task, where, changes))

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Forgets a task that has ended."""
        self._live.pop(task, None)

    def _changes(self, tasks: list[trio.lowlevel.Task]) -> Iterator[str]:
        for task in tasks:
            for frame in _own_frames(task):
                for key, label, value in _variables(task, frame):
                    shown = _shown(value)
                    before = self._values.get(key)
                    if before != shown:
                        self._values[key] = shown
                        yield f"{label} = {shown}" if before is None else f"{label}: {before} -> {shown}"

    def text(self, labels: dict[trio.lowlevel.Task, str], notes: list[tuple[float, str]]) -> str:
        """The last steps as lines; `notes` stand where they were noted."""
        rows: list[tuple[float, str, str]] = []
        for step in self.steps:
            changes = "; ".join(step.changes)
            text = f"{step.where}   {changes}" if changes else step.where
            rows.append((step.time, labels.get(step.task, step.task.name), text))
        rows += [(time, "*", text) for time, text in notes]
        rows.sort(key=lambda row: row[0])  # Stable: what happened at one time stays in its order.
        hidden = self.dropped + max(len(rows) - SHOWN, 0)
        rows = rows[-SHOWN:]
        width = min(max((len(label) for _, label, _ in rows), default=0), 32)
        lines = [f"{time:10.4f}  {label:<{width}}  {text}" for time, label, text in rows]
        if hidden:
            lines.insert(0, f"{'':>10}  ... {hidden} earlier lines")
        if self.others:
            lines.append(f"{'':>10}  (and {self.others} steps of tasks in libraries)")
        return "\n".join(lines)


def standing(tasks: list[trio.lowlevel.Task]) -> str:
    """Where the tasks wait that have not ended, a line each; for a schedule that does not end."""
    lines = []
    for task in tasks:
        frames = _own_frames(task)
        if frames:
            lines.append(f"  {task.name} waits: {_where(frames[-1])}")
        elif not task.name.startswith(("<", "the explorer", "trio_progress.testing")):
            lines.append(f"  {task.name} waits")
    return "\n".join(lines[:20])


def _own(code: CodeType) -> bool:
    name = code.co_filename
    if name.startswith(_SITE):
        return False
    return not name.startswith((*_LIBRARIES, "<frozen"))


def _own_frames(task: trio.lowlevel.Task) -> list[FrameType]:
    """The frames of the user's own code that the task stands in, outermost first."""
    frames: list[FrameType] = []
    awaitable: Any = task.coro
    while awaitable is not None:
        frame = _first(awaitable, "cr_frame", "ag_frame", "gi_frame")
        if isinstance(frame, FrameType) and _own(frame.f_code):
            frames.append(frame)
        awaitable = _first(awaitable, "cr_await", "ag_await", "gi_yieldfrom")
    return frames


def _first(of: object, *names: str) -> Any:
    return next((value for name in names if (value := getattr(of, name, None)) is not None), None)


def _where(frame: FrameType) -> str:
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {frame.f_code.co_name}"


def _variables(task: trio.lowlevel.Task, frame: FrameType) -> Iterator[tuple[object, str, Any]]:
    code = frame.f_code
    shared = {*code.co_freevars, *code.co_cellvars}
    for name, value in frame.f_locals.items():
        if name.startswith("_"):
            continue
        key: object = ("shared", name) if name in shared else (id(task), code, name)
        if isinstance(value, _PLAIN):
            yield key, name, value
        elif _tells(value):
            yield ("object", id(value)), name, value
        elif _own_class(type(value)):
            for attribute, held in getattr(value, "__dict__", {}).items():
                if isinstance(held, _PLAIN):
                    yield ("attribute", id(value), attribute), f"{name}.{attribute}", held
    for name in code.co_names:
        value = frame.f_globals.get(name, _NOWHERE)
        if isinstance(value, _PLAIN) and not name.startswith("__"):
            yield ("global", frame.f_globals.get("__name__"), name), name, value


_NOWHERE = object()
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")  # Another one in every process.


def _tells(value: object) -> bool:
    """Whether the value's text shows its state, as our sessions' does."""
    kind = type(value)
    return kind.__repr__ is not object.__repr__ and (_own_class(kind) or kind.__module__ in _TELLING)


def _own_class(kind: type) -> bool:
    module = sys.modules.get(kind.__module__)
    name = str(getattr(module, "__file__", None) or "")
    return kind.__module__ == "__main__" or (
        kind.__module__ != "builtins" and not name.startswith((*_SITE, *_LIBRARIES))
    )


def _shown(value: object) -> str:
    try:
        text = ADDRESS.sub("", repr(value))
    except Exception as error:
        text = f"<its repr() raised {type(error).__name__}>"
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."
