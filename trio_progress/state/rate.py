"""How fast it goes: a smoothed rate.

The rate is an exponentially weighted mean over irregular samples: both the units and the seconds of
the past are scaled by `exp(-dt / TAU)` at each sample and the rate is their quotient, so that it is
right from the first sample on (no start-up bias) and does not depend on how often it is sampled
(Eckner, "Algorithms for unevenly spaced time series", 2012, on EMAs of that kind).
"""

from __future__ import annotations

from math import exp
from typing import Final

TAU = 20.0
"""Seconds in which what was measured loses all but 1/e of its weight."""

WARM_UP = 0.5
"""Seconds of measuring before a rate is told at all: the first items of a burst say little."""

CAP: Final = 0.9999
"""The largest fraction of what has not ended: people read 100 % as done."""

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

    def value_at(self, now: float) -> float | None:
        """The rate as it looks now, where nothing was done since the last sample.

        A pause counts as time in which nothing was done, without the past fading meanwhile: it falls, but not to
        nothing, and what comes next finds it again.
        """
        if self.value is None or now <= self.at:
            return self.value
        return self.value * self.seconds / (self.seconds + now - self.at)
