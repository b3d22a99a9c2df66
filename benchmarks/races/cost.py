"""What one update costs the processor with all that it leads to, also while a client is slow."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Mapping, Sequence

from ..harness import Values
from ..report import Report
from .drive_asyncio import AsyncioModel
from .drive_trio import TrioProgress
from .schedule import Call, Client, Schedule

UPDATES = 1000

PAUSE = 0.005
"""Seconds between two updates, of virtual time."""

FAST = tuple(Client(f"fast {n}", 0.001) for n in range(3))
SLOW = (*FAST[:2], Client("slow", 0.1, slow=True))


def measure(
    report: Report,
    options: argparse.Namespace,
    contenders: Mapping[str, AsyncioModel | TrioProgress],
    rivals: Sequence[str],
    ours: str,
) -> None:
    """Adds both groups; each round asks the contenders in an order of its own."""
    there = [rival for rival in rivals if rival in contenders]
    shown = {ours: there} if ours in contenders and there else {}
    for what, clients in (("three fast clients", FAST), ("one of three clients is slow", SLOW)):
        schedule = _steady(clients)
        values: Values = {name: [] for name in contenders}
        for _ in range(options.rounds):
            for name in random.sample(list(contenders), len(contenders)):
                began = time.process_time()
                contenders[name].replay(schedule, 0)
                values[name].append((time.process_time() - began) / len(schedule.calls) * 1e6)
        report.add(f"CPU for one update and all it leads to, {what}", "us", values, against=there, headline=shown)


def _steady(clients: tuple[Client, ...]) -> Schedule:
    calls = [Call(0.01, "search", "enter", "search", 0, UPDATES)]
    calls += [Call(0.01 + PAUSE * n, "worker", "count", "search", n, UPDATES) for n in range(1, UPDATES + 1)]
    return Schedule(tuple(calls), clients, calls[-1].at + 0.1)
