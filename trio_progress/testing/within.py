"""What a scenario may call while a schedule of it is run: notes, and random numbers of its own."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import trio

if TYPE_CHECKING:
    from .scheduler import Scheduler

T = TypeVar("T")

current: trio.lowlevel.RunVar[Scheduler | None] = trio.lowlevel.RunVar("trio_progress scheduler", default=None)
"""The scheduler of the schedule that is run."""


def note(text: str) -> None:
    """Writes a line into the history of the schedule that is run; two that note other things are distinct.

    Does nothing where none is explored, so that it may stay in a test that also runs plainly.
    """
    scheduler = current.get() if trio.lowlevel.in_trio_run() else None
    if scheduler is not None:
        scheduler.note(text)


def shared(thing: T, name: str | None = None) -> T:
    """Says that tasks share an object: its changes are events of the history; returns the object itself.

    What changes is seen by its `repr()`, after each step. `exhaust(merge=True)` looks into it wherever it is held.

    Args:
        thing: Any object; does nothing where nothing is explored.
        name: As it is called in a history; its type's name where it is None.
    """
    scheduler = current.get() if trio.lowlevel.in_trio_run() else None
    if scheduler is not None:
        scheduler.share(name or type(thing).__name__, thing)
    return thing


async def jitter(most: float = 0.01) -> None:
    """Sleeps for a time that the seed decides, up to `most` seconds: for the edges of a scenario.

    Put it where the world outside would take its time: in a double of a service, before a message is
    delivered. Each task has a stream of such times of its own, so that another order of the tasks leaves them
    as they are. Where nothing is explored it is a checkpoint and takes no time.
    """
    scheduler = current.get()
    drawn = 0.0 if scheduler is None else scheduler.stream(trio.lowlevel.current_task()).random()
    await trio.sleep(drawn * most)


def seeded_random() -> random.Random:
    """Random numbers for a scenario's own choices, which the seed decides, for each task by itself.

    Where nothing is explored they come from the `random` module.
    """
    scheduler = current.get() if trio.lowlevel.in_trio_run() else None
    if scheduler is None:
        return random.Random(random.random())  # noqa: S311 - repeatable
    return random.Random(scheduler.stream(trio.lowlevel.current_task()).random())  # noqa: S311 - repeatable


@asynccontextmanager
async def cancelled_somewhere() -> AsyncIterator[trio.CancelScope]:
    """Cancels its block at a step that the schedule chooses: any, or none.

    What the block has to leave behind is asserted after it; a cancel ends in it. Where nothing is explored it
    is a scope that nobody cancels.
    """
    scheduler = current.get()
    with trio.CancelScope() as scope:  # noqa: ASYNC100 - what is cancelled is in the block of who uses it
        if scheduler is None:
            yield scope
            return
        scheduler.open_scope(trio.lowlevel.current_task(), scope)
        try:
            yield scope
        finally:
            scheduler.close_scope(scope)
