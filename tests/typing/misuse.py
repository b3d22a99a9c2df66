"""Code that mypy and pyright refuse when they are strict: each line that says so, and no other."""

from __future__ import annotations

import trio_progress
from trio_progress import (
    Phase,
    Pipeline,
    ProgressPhase,
    ProgressTracker,
    Session,
    current_session,
    open_progress,
    open_server,
    open_tracker,
)


def assign(session: Session, phase: Phase, either: ProgressPhase) -> None:
    phase.total = 10  # error
    phase.total = "129773"  # error
    phase.done += 1  # error
    phase.message = "page 7"  # error
    phase.status = "completed"  # error
    phase.colour = "red"  # error
    either.total = 3  # error
    session.message = "hello"  # error
    session.saved = {}  # error
    current_session().attempt = 2  # error


def reach_in(session: Session, phase: Phase) -> None:
    phase.reset()  # error
    phase.begin(None, 0.0, 0.0)  # error
    phase.finish("completed", 0.0, 0.0)  # error
    phase.children.clear()  # error
    print(phase.state)  # error
    print(session.state)  # error
    print(session.persister)  # error
    session.stop("now", True)  # error
    session.mark_dirty()  # error


def call_wrongly(session: Session, phase: Phase) -> None:
    phase.advance("3")  # error
    phase.update(totl=3)  # error
    phase.update(message=7)  # error
    session.phase("search", totals=3)  # error
    session.phase("search").advance()  # error
    session.increment("n", "2")  # error
    session.snapshot().progress = 1.0  # error
    Pipeline("research", 3)  # error
    print(trio_progress.nonsense)  # error


def mix_up(tracker: ProgressTracker) -> None:
    with tracker.session("r-42"):  # error
        pass
    with open_tracker():  # error
        pass
    open_tracker().session("r-42")  # error


async def mix_up_async(tracker: ProgressTracker, session: Session) -> None:
    async with session.phase("search"):  # error
        pass
    with tracker.watch("r-42"):  # error
        pass
    await open_tracker()  # error


async def misspell(tracker: ProgressTracker) -> None:
    open_tracker(lost_aftr=60)  # error
    open_tracker(strict="no")  # error
    open_progress("import", persist_intervall=1)  # error
    open_server(tracker, prot=8765)  # error
    tracker.session("r-42", resume="sometimes")  # error
    await tracker.sessions(label={"user": "u1"})  # error
