"""A schedule as people read it: which task ran, how far it came, and what it changed."""

from __future__ import annotations

import gc
import os
import re
import sys
import sysconfig
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import AsyncGeneratorType, CodeType, FrameType
from typing import Any, Final, NamedTuple, final

import outcome
import trio

KEPT: Final = 240
"""Steps that are kept: the last ones, for there it went wrong."""

WIDTH: Final = 60
"""Characters of a value that are shown."""

LINE: Final = 120
"""Characters of all changes of a step together."""

CALLS: Final = 4
"""Calls of which it is said that they led to what was raised."""

OVER: Final = "is over"
"""Where a task stands that has ended."""

WATCHED: Final = 16
"""Tasks whose variables are looked at after a step of any of them; where there are more, only the one that ran."""

_PLAIN = (int, float, complex, str, bytes, bool, type(None), list, tuple, dict, set, frozenset, deque)
_TRIO = f"{Path(trio.__file__).parent}{os.sep}"  # trio_websocket is something else.
_OURS = f"{Path(__file__).parents[1]}{os.sep}"
_LIBRARIES = (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), _TRIO, _OURS)
_TELLING = ("trio_progress.session.session", "trio_progress.session.phase")
_SITE = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))

_GENERATOR_CALLS = ("async_generator_asend", "async_generator_athrow")
"""What is awaited of an asynchronous generator, as a context manager may be. Only the collector knows whose it is."""


class Woken(NamedTuple):
    """Who has let whom go on."""

    by: trio.lowlevel.Task | None
    """None: the clock, or the world outside."""
    task: trio.lowlevel.Task
    cancelled: str
    """By what it was cancelled, "deadline", "nursery" or "explicit"; empty where it was not."""
    first: bool
    """Whether it has just begun."""
    source: str
    """How Trio calls the task that has cancelled it; empty where that was none."""


class Row(NamedTuple):
    """A step as plain values."""

    time: float
    task: str
    where: str
    changes: tuple[str, ...]
    woken: tuple[tuple[str, bool], ...]
    """Who was let go on by it, and whether by being cancelled."""


class Step(NamedTuple):
    """One line: consecutive steps of a task that changed nothing are one."""

    time: float
    task: trio.lowlevel.Task
    where: str
    changes: tuple[str, ...]
    woken: tuple[Woken, ...] = ()


@final
class Timeline(trio.abc.Instrument):
    """Watches a run. Slow: for a schedule that is known to fail.

    Only tasks in code of the user's own are looked at; of the others it is counted how often they ran.
    Keeps the last steps only.
    """

    def __init__(self) -> None:
        self.steps: deque[Step] = deque(maxlen=KEPT)
        self.dropped = 0
        self.others = 0
        self._live: dict[trio.lowlevel.Task, None] = {}
        self._new: set[trio.lowlevel.Task] = set()
        self._woken: list[Woken] = []
        self._values: dict[object, str] = {}
        self._raised: BaseException | None = None
        """What a task has ended with last."""
        self._ended = ""
        """How the task ended that has made this step, where it did not return."""

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        """Remembers a new task."""
        self._live[task] = None
        self._new.add(task)

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """A task can go on."""
        try:
            by: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        except RuntimeError:
            by = None
        sent = task._next_send
        cancelled = source = ""
        if isinstance(sent, outcome.Error) and isinstance(sent.error, trio.Cancelled):
            cancelled, source = sent.error.source, sent.error.source_task or ""
        if by is not task or cancelled:
            self._woken.append(Woken(by, task, cancelled, task in self._new, source))
        self._new.discard(task)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Adds a step: where the task stands now, and which variables have changed."""
        frames = _own_frames(task)
        over = task not in self._live
        mine = frames or (over and any(step.task is task for step in self.steps))
        if not mine:
            self.others += 1
            self._ended = ""
            return  # Whom it has woken is told with the next step.
        looked_at = list(self._live) if len(self._live) <= WATCHED else [task]
        changes = tuple(self._changes(looked_at if task in self._live or not over else list(self._live)))
        came_to = _stands_at(task, frames) if frames else f"{OVER}{self._ended}"
        self._ended = ""
        if len(self.steps) == self.steps.maxlen:
            self.dropped += 1
        self.steps.append(Step(trio.current_time(), task, came_to, changes, tuple(self._woken)))
        self._woken.clear()

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        """Forgets a task that has ended."""
        self._live.pop(task, None)
        raised = [] if task.parent_nursery is None else task.parent_nursery._pending_excs
        if raised and raised[-1] is not self._raised:
            self._raised = raised[-1]
            self._ended = _in_short(raised[-1])

    @contextmanager
    def main_task(self) -> Iterator[None]:
        """Around all that the main task does: what it ends with is in no nursery."""
        try:
            yield
        except BaseException as raised:
            self._ended = _in_short(raised)
            raise

    def _changes(self, tasks: list[trio.lowlevel.Task]) -> Iterator[str]:
        for task in tasks:
            for frame in _own_frames(task):
                for key, label, value in _variables(task, frame):
                    shown = _shown(value)
                    before = self._values.get(key)
                    if before != shown:
                        self._values[key] = shown
                        yield f"{label} = {shown}" if before is None else f"{label}: {before} -> {shown}"

    def rows(self, labels: dict[trio.lowlevel.Task, str]) -> list[Row]:
        """The last steps as plain values."""
        return [
            Row(
                step.time,
                _label(step.task, labels),
                step.where,
                step.changes,
                tuple(
                    (labels[woken.task], bool(woken.cancelled))
                    for woken in step.woken
                    if woken.by is step.task and woken.task in labels
                ),
            )
            for step in self.steps
        ]

    def text(self, labels: dict[trio.lowlevel.Task, str], notes: list[tuple[float, str]]) -> str:
        """The steps that are kept as lines; `notes` stand where they were noted."""
        rows: list[tuple[float, str, str]] = []
        for step in self.steps:
            who = _label(step.task, labels)
            # Sorted: of deadlines at one time Trio takes the first by an address.
            rows += sorted(
                (step.time, labels[woken.task], _woken_by(woken, labels))
                for woken in step.woken
                if woken.task in labels and (woken.by is None or woken.by is woken.task)
            )
            changes = in_a_line(step.changes)
            said = f"{step.where}   {changes}" if changes else step.where
            told = [
                f"{'cancels' if woken.cancelled else 'starts' if woken.first else 'wakes'} {_label(woken.task, labels)}"
                for woken in step.woken
                if woken.by is step.task and woken.by is not woken.task and woken.task in labels
                if not _waits_for_the_end_of(step, woken.task)
            ]
            rows.append((step.time, who, "   ".join([said, *told[:3], *(["..."] if len(told) > 3 else [])])))
        rows += [(time, "*", text) for time, text in notes]
        rows.sort(key=lambda row: row[0])  # Stable: what happened at one time stays in its order.
        rows = _together(rows)
        width = min(max((len(label) for _, label, _ in rows), default=0), 32)
        lines = [f"{time:10.4f}  {label:<{width}}  {said}" for time, label, said in rows]
        if self.dropped:
            lines.insert(0, left_out(self.dropped, "earlier"))
        if self.others:
            lines.append(f"{'':>10}  (and {self.others} steps of tasks in libraries)")
        return "\n".join(lines)


def left_out(many: int, which: str) -> str:
    """A line instead of some."""
    return f"{'':>10}  ... {many} {which} line{'s' * (many != 1)}"


def _label(task: trio.lowlevel.Task, labels: dict[trio.lowlevel.Task, str]) -> str:
    return labels.get(task, task.name)


def in_a_line(changes: tuple[str, ...]) -> str:
    """The changes as a line: what had another value before comes first, and what is too much is counted."""
    ordered = sorted(changes, key=lambda change: " -> " not in change)
    shown: list[str] = []
    for change in ordered:
        if shown and sum(map(len, shown)) + len(change) > LINE:
            break
        shown.append(change)
    more = len(ordered) - len(shown)
    return "; ".join([*shown, *([f"{more} more"] if more else [])])


def _waits_for_the_end_of(step: Step, task: trio.lowlevel.Task) -> bool:
    """Whether it goes on because the other is over: that needs no saying."""
    nursery = step.task.parent_nursery
    return step.where.startswith(OVER) and nursery is not None and nursery.parent_task is task


def _woken_by(woken: Woken, labels: dict[trio.lowlevel.Task, str]) -> str:
    if not woken.cancelled:
        return "is woken by the clock"
    if woken.cancelled == "deadline":
        return "its deadline passes"
    who = next((label for task, label in labels.items() if repr(task) == woken.source), None)
    if woken.cancelled == "nursery":
        return f"is cancelled, for {who or 'a task of its nursery'} has failed"
    return f"is cancelled by {who or 'the schedule'}"


def _together(rows: list[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """Consecutive steps of a task that changed nothing, as one."""
    result: list[tuple[float, str, str]] = []
    count = 1
    for row in rows:
        if result and result[-1][1:] == row[1:] and not row[2].startswith(OVER):
            count += 1
            result[-1] = (result[-1][0], row[1], row[2])
            continue
        if count > 1:
            time, who, said = result[-1]
            result[-1] = (time, who, f"{said}   ({count} times)")
        count = 1
        result.append(row)
    if count > 1:
        time, who, said = result[-1]
        result[-1] = (time, who, f"{said}   ({count} times)")
    return result


def is_own_code(code: CodeType) -> bool:
    """Whether it is the user's, and no library's."""
    return is_own_file(code.co_filename)


def is_own_file(name: str | None) -> bool:
    """Whether what stands in this file is the user's."""
    return name is not None and not name.startswith((*_SITE, *_LIBRARIES, "<frozen"))


def _own_frames(task: trio.lowlevel.Task) -> list[FrameType]:
    """The frames of the user's own code that the task stands in, outermost first."""
    return [frame for frame in frames_of(task) if is_own_code(frame.f_code)]


def place_of(task: trio.lowlevel.Task) -> str:
    """The function of the user's own that the task stands in, and how many lines from its first: "fetch+4".

    Schedules that are kept hold it, and those of before know of no generators: it does not look into them.
    """
    frames = [frame for frame in frames_of(task, generators=False) if is_own_code(frame.f_code)]
    if not frames:
        return ""
    return f"{frames[-1].f_code.co_name}+{frames[-1].f_lineno - frames[-1].f_code.co_firstlineno}"


def frames_of(task: trio.lowlevel.Task, *, generators: bool = True) -> list[FrameType]:
    """All frames that the task stands in, outermost first; those of asynchronous generators can be left out."""
    frames: list[FrameType] = []
    awaitable: Any = task.coro
    while awaitable is not None:
        if generators and type(awaitable).__name__ in _GENERATOR_CALLS:
            awaitable = next((of for of in gc.get_referents(awaitable) if isinstance(of, AsyncGeneratorType)), None)
        frame = _first(awaitable, "cr_frame", "ag_frame", "gi_frame")
        if isinstance(frame, FrameType):
            frames.append(frame)
        awaitable = _first(awaitable, "cr_await", "ag_await", "gi_yieldfrom")
    return frames


def _first(of: object, *names: str) -> Any:
    return next((value for name in names if (value := getattr(of, name, None)) is not None), None)


def where(frame: FrameType, line: int | None = None) -> str:
    """The line that a frame has come to, or another of it."""
    line = frame.f_lineno if line is None else line
    return f"{Path(frame.f_code.co_filename).name}:{line} {frame.f_code.co_name}"


def _is_installed(name: str) -> bool:
    """Whether what stands in this file is a library's, but for Trio, ourselves and Python's own."""
    return name.startswith(_SITE) and not name.startswith((_TRIO, _OURS))


def _stands_at(task: trio.lowlevel.Task, own: list[FrameType]) -> str:
    """The user's line that a task has come to, and the library's that it stands in, but for Trio and ourselves.

    Of both it is also told who has called that: where tasks wait is mostly a lock, an event or a helper of a test.
    """
    inner = [frame for frame in frames_of(task) if _is_installed(frame.f_code.co_filename)]
    came_to = ", from ".join(map(where, reversed(own[-2:])))
    return ", in ".join([came_to, *map(where, inner[-2:])])


def _in_short(error: BaseException) -> str:
    return ", cancelled" if isinstance(error, trio.Cancelled) else f" with {type(error).__name__}"


def raised_at(error: BaseException) -> str:
    """Where it was raised, and the calls that led there, innermost first; empty where that is not known."""
    frames = list(traceback.walk_tb(error.__traceback__))
    shown = [at for at in frames[:-1] if is_own_code(at[0].f_code) or _is_installed(at[0].f_code.co_filename)]
    shown += frames[-1:]
    return ", from ".join(where(*at) for at in reversed(shown[-CALLS:]))


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
