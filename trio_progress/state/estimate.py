"""How fast it goes and how long it may take: a smoothed rate, and what follows from it.

The rate is an exponentially weighted mean over irregular samples: both the units and the seconds of
the past are scaled by `exp(-dt / TAU)` at each sample and the rate is their quotient, so that it is
right from the first sample on (no start-up bias) and does not depend on how often it is sampled
(Eckner, "Algorithms for unevenly spaced time series", 2012, on EMAs of that kind).
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp
from typing import Final, NamedTuple

TAU = 20.0
"""Seconds in which what was measured loses all but 1/e of its weight."""

WARM_UP = 0.5
"""Seconds of measuring before a rate is told at all: the first items of a burst say little."""

FARTHEST: Final = 10 * 365 * 24 * 3600.0
"""Seconds: what would take longer is not known. A rate that fades away passes all bounds in the end."""


class Rate:
    """A smoothed rate of something that grows, in units a second."""

    __slots__ = ("at", "seconds", "units", "value")

    def __init__(self, at: float) -> None:
        self.at = at
        self.units = 0.0
        self.seconds = 0.0
        self.value: float | None = None
        """Units a second; None while too little time was measured or nothing was done."""

    def sample(self, units: float, at: float) -> None:
        """Adds what was done since the last sample, measured at `at` on a monotonic clock."""
        passed = at - self.at
        if passed > 0:
            kept = exp(-passed / TAU)
            self.units *= kept
            # What passed weighs the integral of the same exponential; so do its units, taken as spread evenly.
            weight = TAU * (1.0 - kept)
            self.seconds = self.seconds * kept + weight
            self.at = at
            units *= weight / passed
        self.units += units
        known = self.seconds >= WARM_UP and self.units > 0
        self.value = (self.units / self.seconds or None) if known else None


class Part(NamedTuple):
    """What one top-level phase brings to the estimate of the whole."""

    weight: float
    fraction: float | None
    """0 to 1; None: it is not known how far it is."""
    free: float
    """The part of `fraction` that needed no work."""
    spent: float
    """Seconds worked on it so far."""
    running: bool
    finished: bool
    eta: float | None
    """Its own estimate, from its own rate."""
    typical_seconds: float | None
    """Seconds that this phase took in earlier runs of the pipeline."""


def remaining(parts: Iterable[Part]) -> float | None:
    """Seconds to the end of a session; None where nothing supports a figure.

    A running phase counts by its own rate, else by how long it took in earlier runs, else by its
    weight at the pace of this run, which is that of the phases of which it is known how far they are.
    What one takes beyond that is not known; where nothing else is left, there is no figure.
    Phases that run together count as the longest of them; what has not begun follows one after the other.
    """
    parts = list(parts)
    paid = sum(part.weight * max(part.fraction - part.free, 0.0) for part in parts if part.fraction is not None)
    spent = sum(part.spent for part in parts if part.fraction is not None)
    pace = spent / paid if paid > 0 and spent >= WARM_UP else None
    running = waiting = 0.0
    overdue = False
    for part in parts:
        if part.finished:
            continue
        typical = part.typical_seconds
        if part.eta is not None:
            estimate = part.eta
        elif typical is not None and (part.spent < typical or pace is None):
            estimate = max(typical - part.spent, 0.0)
        elif pace is None:
            return None
        elif part.fraction is None:
            estimate = max(pace * part.weight - part.spent, 0.0)
        else:
            estimate = pace * part.weight * (1.0 - part.fraction)
        if part.running:
            overdue = overdue or (part.eta is None and not estimate)
            running = max(running, estimate)
        else:
            waiting += estimate
    total = running + waiting
    return None if (overdue and not total) or total >= FARTHEST else total
