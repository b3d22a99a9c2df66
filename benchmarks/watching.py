"""The watching process of the suites `sqlite` and `redis`."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from trio_progress import open_tracker


@dataclass(frozen=True, slots=True)
class Watched:
    """When a watcher first had a state with so many updates in it."""

    counts: list[int]
    at: list[float]
    seconds: list[float] = field(default_factory=list)

    def latencies(self, sent: Sequence[float]) -> Watched:
        """The same, with the seconds that each update has taken; `sent` is when each was made."""
        seconds = [self.at[bisect_left(self.counts, number)] - moment for number, moment in enumerate(sent, 1)]
        return Watched(self.counts, self.at, seconds)


def watch(store: str) -> Watched:
    """Watches the session "watched" from before it begins until it has ended."""
    return trio.run(_watch, store)


async def _watch(store: str) -> Watched:
    found = Watched([], [])
    async with open_tracker(store) as tracker, tracker.watch("watched", wait=True) as snapshots:
        async for snapshot in snapshots:
            if not found.counts:
                await tracker.declare("here")
            number = snapshot.counters.get("n", 0)
            if not found.counts or number > found.counts[-1]:
                found.counts.append(int(number))
                found.at.append(time.monotonic())
    return found


def watch_idle(store: str, seconds: float) -> float:
    """Watches the session "resting"; the share of a core that this took, in per cent."""
    return trio.run(_watch_idle, store, seconds)


async def _watch_idle(store: str, seconds: float) -> float:
    async with open_tracker(store) as tracker, tracker.watch("resting") as snapshots:
        async for _ in snapshots:
            break
        # As long as the file counts as changed lately, it is looked at more often.
        await trio.sleep(min(3.0, seconds))
        began, until = time.process_time(), trio.current_time() + seconds
        with trio.move_on_at(until):
            async for _ in snapshots:
                pass
        return (time.process_time() - began) / seconds * 100
