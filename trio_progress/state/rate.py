"""How fast it goes: a smoothed rate.

The rate is an exponentially weighted mean over irregular samples: both the units and the seconds of the past are
scaled by `exp(-dt / TAU)` at each sample and the rate is their quotient, so that it is right from the first sample on
(no start-up bias) and does not depend on how often it is sampled (Eckner, "Algorithms for unevenly spaced time
series", 2012, on EMAs of that kind).
"""

from __future__ import annotations

from math import exp
from typing import Final, final

TAU = 20.0
"""Seconds in which what was measured loses all but 1/e of its weight."""

WARM_UP = 0.5
"""Seconds of measuring before a rate is told at all: the first items of a burst say little."""

PAUSE: Final = 2.0
"""How many times the longest time between two samples a time without one must be to be a pause."""

FARTHEST: Final = 10 * 365 * 24 * 3600.0
"""Seconds: what would take longer is not known. A rate that fades away passes all bounds in the end."""


@final
class Rate:
    """A smoothed rate of something that grows, in units a second."""

    __slots__ = ("at", "gap", "seconds", "units", "value")

    def __init__(self, at: float) -> None:
        self.at = at
        self.gap = 0.0
        """The longest time between two samples, as far as it is remembered."""
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
            self.gap = max(passed, self.gap * kept)
            self.at = at
            units *= weight / passed
        self.units += units
        known = self.seconds >= WARM_UP and self.units > 0
        self.value = (self.units / self.seconds or None) if known else None

    def value_at(self, now: float) -> float | None:
        """The rate as it looks now, where nothing was done since the last sample.

        Where the next sample could have come for long, it is a pause. What is over that counts as time in which nothing
        was done, without the past fading meanwhile: the rate falls, but not to nothing, and what comes next finds it
        again.
        """
        pause = now - self.at - PAUSE * self.gap
        if self.value is None or pause <= 0:
            return self.value
        return self.value * self.seconds / (self.seconds + pause)
