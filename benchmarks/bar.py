"""How true the bar is: which part of the time it says has passed, and what it says is left.

Each pipeline runs six times on one store. Beside ours stand bars that others show, made of the same runs: the declared
weights; a count and its rate, as tqdm has it; the mean of the last three runs, as build servers do. "true shares" is
the bound: the weights are the durations that this run is going to have, which nobody knows.

A job of four shards that are followed is measured beside the same job in one session, and beside its shards' own bars.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import trio
import trio.testing

from trio_progress import Pipeline, open_tracker

from . import _jobs
from ._courses import PATIENT, Course, course_of
from ._pipelines import Work, programs, synthetic
from .harness import Values
from .report import Report
from .suites import Suite, count, register

RUNS: Final = (1, 2, 4, 6)
OURS: Final = "ours"
FOLLOWED: Final = "four shards, followed"
IN_ONE: Final = "the same in one session"
SHARD: Final = "each of the shards"
NAMES: Final = (OURS, "declared weights", "count and rate", "mean of three runs", "true shares")
SHOWN: Final = (("A", 1), ("A", 2), ("A", 6), ("B50", 1), ("B50", 2), ("B50", 6), ("freeze", 2))
"""What the page of results shows: of which run."""
JUDGED: Final = (("A", "% off"), ("B50", "% of the whole"), ("freeze", "% of the whole"), ("jumps", "a run"))
"""What a bar is judged by, and its unit."""

Told = tuple[float, float | None]
"""A bar, and seconds that are left."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `bar`."""
    parser.add_argument("--pipelines", type=count, default=20, metavar="N", help="that are synthetic (default: 20)")
    parser.add_argument("--jobs", type=count, default=12, metavar="N", help="of four shards (default: 12)")
    parser.add_argument("--full", action="store_true", help="also four real programs and the demo, in real time")


def run(options: argparse.Namespace) -> Report:
    """Runs each pipeline, and judges what was told."""
    report = Report("bar", {name: getattr(options, name) for name in ("pipelines", "jobs", "full", "rounds")})
    works = [synthetic(seed) for seed in range(options.pipelines)]
    if options.full:
        works += [*programs(), _demo()]
    judged: dict[tuple[str, bool, int, str], list[float]] = {}
    for work in works:
        print(f"\r{work.name:40}", end="", file=sys.stderr, flush=True)
        for number, course, told in told_by_all(work):
            for name, values in told.items():
                for what, value in judge(course, values).items():
                    judged.setdefault((what, work.virtual, number, name), []).append(value)
            if number > 1:
                judged.setdefault(("coverage", work.virtual, 0, OURS), []).append(coverage(course))
    jobs = _judged_jobs(options.jobs)
    print(file=sys.stderr)
    _tell(report, judged, options.full)
    _tell_jobs(report, jobs)
    return report


def _tell(report: Report, judged: dict[tuple[str, bool, int, str], list[float]], full: bool) -> None:
    for virtual in (True, False)[: 1 + full]:
        kind = "synthetic" if virtual else "real"
        for what, unit in JUDGED:
            for number in RUNS:
                values: Values = {}
                for name in NAMES:
                    found = judged.get((what, virtual, number, name), [])
                    values[name] = [statistics.fmean(found)] if found else [math.nan]
                values = {name: found for name, found in values.items() if not math.isnan(found[0])}
                headline = {OURS: [name for name in values if name != OURS]} if (what, number) in SHOWN else {}
                report.add(f"{kind}, run {number}: {what}", unit, values, headline=headline if OURS in values else {})
        ranged = [value for value in judged.get(("coverage", virtual, 0, OURS), []) if value == value]
        if ranged:
            report.add(
                f"{kind}, runs 2, 4 and 6: the range of 80 % holds the truth",
                "% of the time",
                {OURS: [statistics.fmean(ranged)]},
                headline={OURS: ()},
            )
    report.notes += [
        "A: the mean distance of the bar to the part of the time that has passed, in points",
        "B50: the mean distance of the ETA to what is left, of the whole, from half-way on, where there is one",
        "freeze: the longest time without a change; jumps: steps of more than ten points",
        "all bars are made of the same runs; synthetic pipelines run in virtual time",
    ]


def _judged_jobs(number: int) -> dict[tuple[str, int, str], list[float]]:
    """How far off the bars of so many jobs were: by what they are judged by, the run, and whose bar it is."""
    judged: dict[tuple[str, int, str], list[float]] = {}
    for seed in range(number):
        print(f"\r{f'job {seed}':40}", end="", file=sys.stderr, flush=True)
        for name, courses in job_courses(seed, max(RUNS)).items():
            for run in RUNS:
                for course in (one[run - 1] for one in courses if one[run - 1].took > 0):
                    for what, value in judge(course, _ours(course, [])).items():
                        judged.setdefault((what, run, name), []).append(value)
    return judged


def job_courses(seed: int, runs: int) -> dict[str, list[list[Course]]]:
    """The runs of one job in virtual time, by whose bar was looked at: of each session its runs."""

    def virtual() -> trio.testing.MockClock:
        return trio.testing.MockClock(autojump_threshold=0)

    job, shards = trio.run(_jobs.followed, seed, runs, clock=virtual())
    return {FOLLOWED: [job], IN_ONE: [trio.run(_jobs.in_one_session, seed, runs, clock=virtual())], SHARD: shards}


def _tell_jobs(report: Report, judged: dict[tuple[str, int, str], list[float]]) -> None:
    for what, unit in JUDGED:
        known: Values = {FOLLOWED: [], IN_ONE: []}
        for number in RUNS:
            found = {name: judged.get((what, number, name)) for name in (FOLLOWED, IN_ONE, SHARD)}
            values = {name: [statistics.fmean(each)] for name, each in found.items() if each}
            headline = {FOLLOWED: [name for name in values if name != FOLLOWED]} if (what, number) in SHOWN else {}
            report.add(f"a job, run {number}: {what}", unit, values, headline=headline if FOLLOWED in values else {})
            if number > 1:
                for name, means in known.items():
                    means.extend(values.get(name, []))
        if what != "jumps" and all(known.values()):
            ours, other = ([statistics.fmean(each)] for each in known.values())
            report.aim(f"a job of shards, runs 2, 4 and 6: {what}, to the same in one session", "x", 1.0, ours, other)
    report.notes.append("a job splits, has four shards worked on side by side, and merges")


def told_by_all(work: Work) -> list[tuple[int, Course, dict[str, list[Told]]]]:
    """Six runs of one pipeline, and what each bar told of those that are shown."""
    clock = trio.testing.MockClock(autojump_threshold=0) if work.virtual else None
    courses: list[Course] = trio.run(_courses, work, clock=clock)
    told = []
    for number, course in enumerate(courses, 1):
        if number in RUNS and course.took > 0 and course.looks:
            before = [one.took for one in courses[max(number - 4, 0) : number - 1]]
            told.append((number, course, {name: bars(course, before) for name, bars in _BARS.items()}))
    return told


async def _courses(work: Work) -> list[Course]:
    pipeline = Pipeline(work.name, work.weights)
    courses: list[Course] = []
    async with open_tracker(**PATIENT) as tracker:
        for number in range(1, max(RUNS) + 1):
            async with tracker.session(f"{number}", pipeline) as session:
                courses.append(await course_of(session, partial(work.run, session, number), courses))
    return courses


def _demo() -> Work:
    from trio_progress.demo.corpus import standard_library
    from trio_progress.demo.engine import PIPELINE, research

    questions = (
        "How does asyncio cancel a task?",
        "Where does pathlib expand the home directory?",
        "Which errors does a socket raise on a timeout?",
        "How are strings escaped in JSON?",
        "How does logging rotate its files?",
        "How does tempfile choose a name?",
    )

    async def ask(session: Any, number: int) -> None:
        await research(session, questions[number - 1], standard_library())

    return Work("demo", {spec.name: spec.weight for spec in PIPELINE}, ask, virtual=False)


# The bars


def _ours(course: Course, _: list[float]) -> list[Told]:
    return [(snapshot.progress, snapshot.eta) for _, snapshot in course.looks]


def _at_pace(now: float, part: float) -> Told:
    return part, now * (1 - part) / part if part > 0 else None


def _weights(course: Course, _: list[float]) -> list[Told]:
    return [_at_pace(now, snapshot.raw) for now, snapshot in course.looks]


def _counted(course: Course, _: list[float]) -> list[Told]:
    told = []
    for now, snapshot in course.looks:
        known = [phase for phase in snapshot.phases if phase.total]
        whole = sum(phase.total or 0 for phase in known)
        told.append(_at_pace(now, min(sum(phase.done for phase in known) / whole, 1.0) if whole else 0.0))
    return told


def _mean_of_three(course: Course, before: list[float]) -> list[Told]:
    if not before:
        return [(0.0, None) for _ in course.looks]
    mean = statistics.fmean(before)
    return [(min(now / mean, 0.99), max(mean - now, 0.0)) for now, _ in course.looks]


def _true_shares(course: Course, _: list[float]) -> list[Told]:
    last = course.looks[-1][1]
    ends = {phase.name: phase.elapsed or 0.0 for phase in last.phases}
    for phase in last.phases:
        if phase.status == "running" and phase.started_after is not None:
            ends[phase.name] = course.took - phase.started_after
    whole = sum(ends.values()) or 1.0
    told = []
    for now, snapshot in course.looks:
        done = sum(ends[phase.name] * (phase.fraction or 0.0) for phase in snapshot.phases)
        told.append(_at_pace(now, min(done / whole, 1.0)))
    return told


_BARS: Final[dict[str, Callable[[Course, list[float]], list[Told]]]] = dict(
    zip(NAMES, (_ours, _weights, _counted, _mean_of_three, _true_shares), strict=True)
)


# How true they are


def judge(course: Course, told: list[Told]) -> dict[str, float]:
    """How far off a bar was in one run; percent, but for the jumps."""
    whole = course.took
    off: list[float] = []
    left: list[float] = []
    still = since = jumps = 0.0
    shown = 0.0
    for (now, _), (bar, eta) in zip(course.looks, told, strict=True):
        off.append(abs(bar - now / whole))
        if now >= whole / 2 and eta is not None:
            left.append(abs(eta - (whole - now)) / whole)
        if abs(bar - shown) > 1e-4:
            jumps += bar - shown > 0.1
            still, since, shown = max(still, now - since), now, bar
    jumps += 1 - shown > 0.1
    judged = {"A": statistics.fmean(off) * 100, "freeze": max(still, whole - since) / whole * 100, "jumps": jumps}
    if left:
        judged["B50"] = statistics.fmean(left) * 100
    return judged


def coverage(course: Course) -> float:
    """In which part of the time, in percent, the range that was told held the truth."""
    ranges = [(now, snapshot.eta_range) for now, snapshot in course.looks]
    held = [low <= course.took - now <= high for now, told in ranges if told is not None for low, high in [told]]
    return statistics.fmean(held) * 100 if held else math.nan


register(
    Suite("bar", "how true the bar and the ETA are", 1, add_arguments, run, short=("--pipelines", "8", "--jobs", "4")),
)
