"""For each race the smallest schedule that shows it; nothing in them is random."""

from __future__ import annotations

from typing import Final

from .schedule import Call, Client, Kind, Schedule, Stay


def _call(at: float, caller: str, kind: Kind, phase: str, done: int, total: int) -> Call:
    return Call(at, caller, kind, phase, done, total)


_BEGIN: Final = _call(0.01, "classification", "enter", "classification", 0, 1)

TWO_PHASES_AT_ONCE: Final = Schedule(
    (
        _BEGIN,
        _call(1.0, "search worker", "mark", "search", 5, 5),
        _call(1.0, "analysis", "enter", "analysis", 0, 3),
    ),
    (Client("viewer", 0.001),),
    2.0,
)
"""A search worker marks `search` as complete while the analysis coroutine sets `analysis`."""

TWO_UPDATES_IN_A_TICK: Final = Schedule(
    (
        _call(0.01, "search", "enter", "search", 0, 12),
        _call(1.99, "worker 1", "count", "search", 1, 12),
        _call(1.99, "worker 2", "count", "search", 2, 12),
        *(_call(1.99 + 0.25 * n, "worker 3", "count", "search", 2 + n, 12) for n in range(1, 11)),
    ),
    (Client("viewer", 0.001),),
    4.8,
)
"""Two updates meet just before the snapshot is due; then they come one at a time."""

TWO_CALLERS: Final = (Stay(0.0, 0.02), Stay(0.01, 0.03))
"""The second one starts the id while the first one still has it."""

A_SLOW_SOCKET: Final = Schedule(
    (
        _call(0.01, "search", "enter", "search", 0, 40),
        *(_call(0.01 + 0.005 * n, f"worker {n % 4}", "count", "search", n, 40) for n in range(1, 41)),
    ),
    (Client("slow", 0.4, slow=True), Client("fast", 0.001)),
    0.5,
)
"""Forty updates in a fifth of a second, to one client that takes two or three a second and one that takes all."""
