"""What a task waits for, who can give it, and whether the waiting goes round in a circle; within libraries as well."""

from __future__ import annotations

import inspect
from types import FrameType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import trio

from .timeline import frames_of, is_own_code, where

if TYPE_CHECKING:
    from collections.abc import Callable

MOST: Final = 20
"""Lines that are told at most."""

_LOCKS: Final = (trio.Lock, trio.StrictFIFOLock)
_OTHERS: Final = (
    trio.Event,
    trio.Condition,
    trio.Semaphore,
    trio.CapacityLimiter,
    trio.MemorySendChannel,
    trio.MemoryReceiveChannel,
)

_IN_THREAD: Final = inspect.unwrap(trio.to_thread.run_sync).__code__


class Wait(NamedTuple):
    """What a task waits for."""

    what: str
    holders: tuple[trio.lowlevel.Task, ...]
    """The tasks that have to go on before it can."""


def waits_for(task: trio.lowlevel.Task) -> Wait | None:
    """What the task stands at; None where that is nothing of Trio's that has a name."""
    frames = frames_of(task)
    for frame in frames:
        thing = frame.f_locals.get("self")
        if isinstance(thing, _LOCKS):
            owner = thing.statistics().owner
            return Wait(_named(thing, frames), () if owner is None else (owner,))
        if isinstance(thing, trio.CapacityLimiter):
            borrowers = thing.statistics().borrowers
            return Wait(_named(thing, frames), tuple(b for b in borrowers if isinstance(b, trio.lowlevel.Task)))
        if isinstance(thing, _OTHERS):
            return Wait(_named(thing, frames), ())
    if any(frame.f_code is _IN_THREAD for frame in frames):
        return Wait("a thread, for which virtual time does not wait", ())
    children = tuple(child for nursery in task.child_nurseries[-1:] for child in nursery.child_tasks)
    return Wait("its tasks", children) if children else None


def standing(tasks: list[trio.lowlevel.Task], label: Callable[[trio.lowlevel.Task], str]) -> str:
    """Where the tasks that have not ended wait, a line each, and a circle if there is one; for one that is stuck."""
    lines = []
    waits = {task: wait for task in tasks if (wait := waits_for(task)) is not None}
    for task in tasks:
        own = [frame for frame in frames_of(task) if is_own_code(frame.f_code)]
        line = f"  {task.name} waits: {where(own[-1])}" if own else f"  {task.name} waits"
        wait = waits.get(task)
        if wait is not None:
            line += f", for {wait.what}"
            if wait.what != "its tasks" and wait.holders:
                line += f", which {' and '.join(f'`{label(holder)}`' for holder in wait.holders)} has"
        if label(task) != task.name.rpartition(".")[2]:
            line += f" (it is `{label(task)}`)"
        lines.append(line)
    circle = _circle(waits)
    if circle:
        lines.insert(0, "  a circle: " + " waits for ".join(f"`{label(task)}`" for task in (*circle, circle[0])))
    return "\n".join(lines[:MOST])


def _circle(waits: dict[trio.lowlevel.Task, Wait]) -> list[trio.lowlevel.Task]:
    for first in waits:
        path = [first]
        while (wait := waits.get(path[-1])) is not None and len(wait.holders) == 1:
            following = wait.holders[0]
            if following in path:
                return path[path.index(following) :]
            path.append(following)
    return []


def _named(thing: object, frames: list[FrameType]) -> str:
    """The thing by its kind, and as the innermost frame calls it that does."""
    kind = type(thing).__name__
    for frame in reversed(frames):
        for name, value in frame.f_locals.items():
            if value is thing and name != "self":
                return f"the {kind} `{name}`"
            for attribute, held in _attributes(value):
                if held is thing:
                    return f"the {kind} `{name}.{attribute}`"
    return f"a {kind}"


def _attributes(value: Any) -> list[tuple[str, object]]:
    attributes = getattr(value, "__dict__", None)
    return list(attributes.items()) if isinstance(attributes, dict) else []
