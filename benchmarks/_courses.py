"""Runs that are looked at while they go on: what the bar of a session told, and when."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypedDict

import trio

if TYPE_CHECKING:
    from trio_progress import Session, Snapshot

SAMPLES: Final = 300
"""Looks at a run that takes as long as the one before it."""

FIRST: Final = 60.0
"""Seconds that a first run is taken to take."""


class Patience(TypedDict):
    """Settings of a tracker."""

    stall_after: float
    lost_after: float
    heartbeat_interval: float


PATIENT: Final = Patience(stall_after=math.inf, lost_after=1e6, heartbeat_interval=1e5)
"""Settings of a tracker that runs in virtual time: nothing is lost, however long a run takes."""


@dataclass
class Course:
    """One run: when it was looked at, and what was seen."""

    took: float = 0.0
    looks: list[tuple[float, Snapshot]] = field(default_factory=list)


async def course_of(session: Session, run: Callable[[], Awaitable[None]], before: list[Course]) -> Course:
    """Runs something in a session, and looks at that meanwhile.

    Args:
        session: The session.
        run: What is run.
        before: Its earlier runs.
    """
    course = Course()
    pause = max((before[-1].took if before else FIRST) / SAMPLES, 0.01)
    began = trio.current_time()

    async def look() -> None:
        while True:
            course.looks.append((trio.current_time() - began, session.snapshot()))
            await trio.sleep(pause)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        await run()
        course.took = trio.current_time() - began
        nursery.cancel_scope.cancel()
    return course
