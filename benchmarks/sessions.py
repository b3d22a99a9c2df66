"""What a session costs: entering, leaving, memory, idling; beside a bare nursery and a bare asyncio TaskGroup.

Each contender is measured in a fresh process, one after the other, in turn: the memory of one would
otherwise be the next one's to reuse. What is measured there is told in `sessions_worker`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from .harness import Values
from .report import Report
from .sessions_worker import CONTENDERS, FIGURES, NURSERY, OURS, Plan, measure
from .suites import Suite, count, register, seconds

TRACED = 2000
"""Sessions at most where each allocation is traced, which is slow; the memory of one does not depend on the others."""

LIMITS = {
    "enter, alone": 2.5,
    "enter, all at once": 2.2,
    "leave, alone": 1.8,
    "leave, all at once": 1.6,
    "memory": 2.0,
    "idle CPU, all together": 1.2,
}
"""How many times a bare nursery with three tasks a session may be; other machines have other microseconds."""

SHOWN = ("enter, alone", "leave, alone", "memory", "idle CPU, all together")
"""What the page of results shows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `sessions`."""
    parser.add_argument("--count", type=count, default=10_000, metavar="N", help="open at once (default: 10000)")
    parser.add_argument(
        "--idle",
        type=seconds,
        default=10.0,
        metavar="S",
        help="how long they idle while their CPU time is measured; the default is one heartbeat_interval (10)",
    )
    parser.add_argument(
        "--settle",
        type=seconds,
        default=5.0,
        metavar="S",
        help="how long they may publish and store what they have, before that (default: 5)",
    )


def run(options: argparse.Namespace) -> Report:
    """Measures each contender once a round, and its allocations once."""
    settings = {"rounds": options.rounds, "count": options.count, "idle": options.idle, "settle": options.settle}
    report = Report("sessions", settings)
    plan = Plan(options.count, min(300, options.count), options.settle, options.idle, traced=False)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(options.rounds):
        for name in random.sample(list(CONTENDERS), len(CONTENDERS)):
            found[name].append(_in_fresh_process(name, plan))
            done = sum(map(len, found.values()))
            print(f"\r{done} of {options.rounds * len(CONTENDERS)} runs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for figure in FIGURES:
        values = {name: [figures[figure.name] for figures in found[name]] for name in CONTENDERS}
        _add(report, figure.name, figure.unit, values)
        _aim(report, figure.name, figure.name, values)
    few = replace(plan, number=min(TRACED, options.count), traced=True)
    traced = {name: [_in_fresh_process(name, few)["memory"]] for name in CONTENDERS}
    what = f"memory, allocations traced once, {few.number} open"
    _add(report, what, "KB", traced)
    _aim(report, what, "memory", traced)
    report.notes += [
        "CPU time: alone and beside, the median of many, one after the other; all at once, divided by their number",
        "each session, nursery and group is held open by a task of its own; that task is in the figures of all three",
        "a session has a pipeline of eight phases, entered the first and counted one; its store is in its memory",
    ]
    return report


def _in_fresh_process(name: str, plan: Plan) -> dict[str, float]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, name, plan).result()


def _add(report: Report, what: str, unit: str, values: Values) -> None:
    others = [name for name in CONTENDERS if name != OURS]
    report.add(what, unit, values, against=others, headline={OURS: others} if what in SHOWN else {})


def _aim(report: Report, what: str, limited: str, values: Values) -> None:
    if limited in LIMITS:
        report.aim(f"{what}, to a {NURSERY}", "x", LIMITS[limited], values[OURS], values[NURSERY])


register(
    Suite(
        name="sessions",
        summary="many sessions at once: entering, leaving, memory and idle CPU, beside bare nurseries and task groups",
        rounds=5,
        add_arguments=add_arguments,
        run=run,
        short=("--rounds", "1", "--count", "2000", "--idle", "2", "--settle", "1"),
    )
)
