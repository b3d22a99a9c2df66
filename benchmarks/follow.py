"""What it costs to follow many sessions as the parts of a job, beside watching each of them.

The sessions run in this process, in a tracker of their own on the same SQLite file; so what they cost by themselves is
measured as well, and taken off both.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import trio

from trio_progress import ProgressTracker, Session, open_tracker

from .harness import interleave
from .report import Report
from .suites import Suite, count, register, seconds

PACE: Final = 0.2
"""Seconds between two updates of each session, all of which are stored."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `follow`."""
    parser.add_argument("--sessions", type=count, default=500, metavar="N", help="that are followed (default: 500)")
    parser.add_argument("--span", type=seconds, default=4.0, metavar="S", help="seconds of each way (default: 4)")


def run(options: argparse.Namespace) -> Report:
    """Measures in an event loop of its own."""
    return trio.run(measure, options)


async def measure(options: argparse.Namespace) -> Report:
    """Measures an update of one session as it is watched, and as it is followed."""
    report = Report("follow", {name: getattr(options, name) for name in ("rounds", "sessions", "span")})
    ids = [f"part-{number}" for number in range(options.sessions)]
    ways: dict[str, Callable[[ProgressTracker], Awaitable[None]]] = {
        "nobody looks": _nobody,
        "tracker.watch() of each": lambda tracker: _watch(tracker, ids),
        "phase.follow() of each": lambda tracker: _follow(tracker, ids),
    }
    values = await interleave({name: _cost(way, ids, options.span) for name, way in ways.items()}, options.rounds)
    alone = values["nobody looks"]
    watched = [value - bare for value, bare in zip(values["tracker.watch() of each"], alone, strict=True)]
    followed = [value - bare for value, bare in zip(values["phase.follow() of each"], alone, strict=True)]
    rows = {"watched": watched, "followed": followed}
    report.add("an update of one session", "us", rows, against=("watched",), headline={"followed": ("watched",)})
    report.aim("a followed update to a watched one", "x", 1.5, followed, watched)
    report.notes += ["CPU time of the process, less that of the same sessions while nobody looks"]
    return report


def _cost(
    way: Callable[[ProgressTracker], Awaitable[None]], ids: list[str], span: float
) -> Callable[[], Awaitable[float]]:
    async def cost() -> float:
        """Microseconds of CPU for one update of one session."""
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:{Path(folder) / 'follow.db'}"
            async with (
                open_tracker(url, persist_interval=PACE, spool=False) as owner,
                open_tracker(url, spool=False) as tracker,
                trio.open_nursery() as nursery,
            ):
                sessions: list[Session] = []
                for session_id in ids:
                    await nursery.start(_run, owner, session_id, sessions)
                nursery.start_soon(way, tracker)
                await _updates(sessions, 1.0)
                began = time.process_time()
                updates = await _updates(sessions, span)
                spent = time.process_time() - began
                nursery.cancel_scope.cancel()
        return spent / updates * 1e6

    return cost


async def _run(
    tracker: ProgressTracker, session_id: str, sessions: list[Session], task_status: trio.TaskStatus[None]
) -> None:
    async with tracker.session(session_id) as session:
        with session.phase("work", total=1_000_000):
            sessions.append(session)
            task_status.started()
            await trio.sleep_forever()


async def _updates(sessions: list[Session], span: float) -> int:
    """Counts on each session at the pace that is stored; returns how many updates that makes."""
    rounds = max(round(span / PACE), 1)
    for _ in range(rounds):
        for session in sessions:
            session.phases["work"].advance()
        await trio.sleep(PACE)
    return rounds * len(sessions)


async def _nobody(_: ProgressTracker) -> None:
    """Looks at none."""
    await trio.sleep_forever()


async def _watch(tracker: ProgressTracker, ids: list[str]) -> None:
    async def watch(session_id: str) -> None:
        async with tracker.watch(session_id, wait=True) as snapshots:
            async for _ in snapshots:
                pass

    async with trio.open_nursery() as nursery:
        for session_id in ids:
            nursery.start_soon(watch, session_id)


async def _follow(tracker: ProgressTracker, ids: list[str]) -> None:
    async with tracker.session("job") as session:
        with session.phase("parts", total=len(ids)) as phase:
            async with trio.open_nursery() as nursery:
                for session_id in ids:
                    nursery.start_soon(phase.follow, session_id)


register(
    Suite(
        "follow",
        "following many sessions as the parts of a job, beside watching each",
        3,
        add_arguments,
        run,
        short=("--rounds", "2", "--sessions", "200", "--span", "2"),
    )
)
