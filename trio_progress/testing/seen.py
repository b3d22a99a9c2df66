"""How much was seen: how likely one more schedule shows an order of events that was not there before.

By Good and Turing (Biometrika 1953): the chance that the next draw is of a kind not seen yet is about the part of the
draws whose kind was seen once. The interval is Robbins' (1968) variance, two-sided at 95 %; where nothing was seen
once, the rule of three. It holds for schedules of the same kind, drawn alike, and says nothing of others.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable


class Unseen(NamedTuple):
    """The chance that one more schedule of this kind shows a new order of events, and between what it lies."""

    chance: float
    low: float
    high: float

    def __str__(self) -> str:
        return (
            f"the chance that one more schedule of this kind shows a new order of events is {self.chance:.1%} "
            f"({self.low:.1%} to {self.high:.1%})"
        )


def chance_of_new(orders: Iterable[str]) -> Unseen:
    """What the orders that were seen say of the next one.

    Raises:
        ValueError: There are none.
    """
    counts = Counter(orders)
    drawn = counts.total()
    if not drawn:
        raise ValueError("no schedule was run: nothing can be said of the next one")
    times = Counter(counts.values())
    once, twice = times[1], times[2]
    chance = once / drawn
    if not once:
        return Unseen(0.0, 0.0, min(3 / drawn, 1.0))
    spread = 1.96 * math.sqrt(once * (1 - chance) + 2 * twice) / drawn
    return Unseen(chance, max(chance - spread, 0.0), min(max(chance + spread, 3 / drawn), 1.0))
