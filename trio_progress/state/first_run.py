"""What the declared weights say of a run of which no earlier ones are known: its bar, and how long it may take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .rate import CAP, FARTHEST, WARM_UP


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
    open_ended: bool = False
    """Whether more may come of it, nobody knows how much."""


def by_weights(parts: Sequence[Part]) -> tuple[float, float | None]:
    """The bar, and seconds to the end of the session: see `bar_by_weights()` and `remaining()`."""
    pace = pace_of(parts)
    return bar_by_weights(parts, pace), remaining(parts, pace)


def remaining(parts: Sequence[Part], pace: float | None) -> float | None:
    """Seconds to the end of a session; None where nothing supports a figure.

    A running phase counts by its own rate, else by its weight at the pace of this run, which is that of the phases of
    which it is known how far they are.
    What one takes beyond that is not known; where nothing else is left, there is no figure.
    Phases that run together count as the longest of them; what has not begun follows one after the other.
    """
    running = waiting = 0.0
    overdue = False
    for part in parts:
        if part.finished:
            continue
        if part.open_ended:
            return None
        if part.eta is not None:
            estimate = part.eta
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


def bar_by_weights(parts: Sequence[Part], pace: float | None) -> float:
    """Which part of the work is done, by weight. A phase of which nobody knows how far it is comes on by its time."""
    whole = done = 0.0
    for part in parts:
        whole += part.weight
        if part.finished:
            done += part.weight * (part.fraction or 0.0)
        elif part.fraction is not None:
            done += part.weight * part.fraction
        elif pace is not None and part.spent + pace * part.weight > 0:
            done += part.weight * part.spent / (part.spent + pace * part.weight)
    return min(done / whole, CAP) if whole > 0 else 0.0


def pace_of(parts: Sequence[Part]) -> float | None:
    """Seconds for one of weight, by the phases of which it is known how far they are."""
    paid = sum(part.weight * max(part.fraction - part.free, 0.0) for part in parts if part.fraction is not None)
    spent = sum(part.spent for part in parts if part.fraction is not None)
    return spent / paid if paid > 0 and spent >= WARM_UP else None
