"""Jobs in parts whose bar is measured: four sessions side by side, followed by one; and the same job in one session.

A job splits its input, has four shards worked on side by side, and merges what comes out. Each shard is a session of
another tracker on the same store, with a pipeline and a history of its own: in every second job the four have one
pipeline, in the others each has another one. In one session the same work is done in nested phases.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import trio

from trio_progress import MemoryStore, Pipeline, open_tracker

from ._courses import PATIENT, Course, course_of
from ._pipelines import Work, synthetic

if TYPE_CHECKING:
    from trio_progress import Phase, ProgressTracker, Session

SHARDS: Final = 4
JOB: Final = Pipeline("job", {"split": 1, "shards": 8, "merge": 1})
MERGED: Final = 20
"""Units of the merging."""


def shards(seed: int) -> list[Work]:
    """What the shards of one job do."""
    return [synthetic(seed, part) if seed % 2 else synthetic(SHARDS * seed + part) for part in range(SHARDS)]


async def followed(seed: int, runs: int) -> tuple[list[Course], list[list[Course]]]:
    """The runs of a job that follows the sessions of its shards, and those of each shard."""
    works = shards(seed)
    pipelines = [Pipeline(work.name, work.weights) for work in works]
    job: list[Course] = []
    parts: list[list[Course]] = [[] for _ in works]

    async def work_on(workers: ProgressTracker, number: int, part: int) -> None:
        async with workers.session(f"{number}.{part}", pipelines[part], resume="waiting") as session:
            parts[part].append(await course_of(session, lambda: works[part].run(session, number), parts[part]))

    async def follow(tracker: ProgressTracker, workers: ProgressTracker, phase: Phase, number: int) -> None:
        for part in range(SHARDS):
            await tracker.declare(f"{number}.{part}", pipelines[part], parent=f"{number}")
        async with trio.open_nursery() as nursery:
            for part in range(SHARDS):
                nursery.start_soon(phase.follow, f"{number}.{part}")
                nursery.start_soon(work_on, workers, number, part)

    store = MemoryStore()
    async with open_tracker(store, **PATIENT) as tracker, open_tracker(store, **PATIENT) as workers:
        for number in range(1, runs + 1):
            await _run(tracker, seed, number, lambda *given: follow(tracker, workers, *given), job)
    return job, parts


async def in_one_session(seed: int, runs: int) -> list[Course]:
    """The runs of the same job in one session."""
    works = shards(seed)
    job: list[Course] = []

    async def work_on(phase: Phase, number: int, part: int) -> None:
        with phase.phase(f"{part}") as shard:
            await works[part].run(shard, number)

    async def nest(phase: Phase, number: int) -> None:
        async with trio.open_nursery() as nursery:
            for part in range(SHARDS):
                nursery.start_soon(work_on, phase, number, part)

    async with open_tracker(**PATIENT) as tracker:
        for number in range(1, runs + 1):
            await _run(tracker, seed, number, nest, job)
    return job


async def _run(
    tracker: ProgressTracker,
    seed: int,
    number: int,
    work_on_shards: Callable[[Phase, int], Awaitable[None]],
    courses: list[Course],
) -> None:
    """One more run of a job."""
    usual, drawn = random.Random(f"job {seed}"), random.Random(f"job {seed} {number}")
    split, merge = (usual.lognormvariate(mean, 0.5) * drawn.lognormvariate(0, 0.2) for mean in (1.5, 3.0))

    async def run(session: Session) -> None:
        with session.phase("split"):
            await trio.sleep(split)
        with session.phase("shards", total=SHARDS) as phase:
            await work_on_shards(phase, number)
        with session.phase("merge", total=MERGED) as phase:
            for _ in range(MERGED):
                await trio.sleep(merge / MERGED)
                phase.advance()

    async with tracker.session(f"{number}", JOB) as session:
        courses.append(await course_of(session, lambda: run(session), courses))
