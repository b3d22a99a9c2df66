"""How long to pause before something that failed is tried again: each pause twice the last one, capped, jittered.

The jitter keeps processes that lost the same server from coming back in the same instant. It stands beside the clock,
in the room that every other one knows: the store's writer, its reader and `connect()` all pause like this.
"""

from __future__ import annotations

import random
from typing import final


def jittered(seconds: float, rng: random.Random) -> float:
    """Between half of `seconds` and all of them."""
    return seconds * rng.uniform(0.5, 1.0)


@final
class Backoff:
    """The pauses of one thing that is tried again and again.

    Args:
        first: Seconds of the first pause, before jitter.
        longest: Seconds of the longest one, before jitter.
        rng: Where the jitter comes from; a seed makes it repeatable. Unless given, the module `random` seeds one, so
            that whoever seeds that (as `testing.explore` does) has the same pauses again.
    """

    __slots__ = ("_first", "_longest", "_next", "_rng")

    def __init__(self, first: float, longest: float, rng: random.Random | None = None) -> None:
        self._first = self._next = first
        self._longest = longest
        self._rng = random.Random(random.random()) if rng is None else rng  # noqa: S311 - jitter

    def pause(self) -> float:
        """Seconds to pause now; the next pause is twice as long."""
        seconds = self._next
        self._next = min(seconds * 2, self._longest)
        return jittered(seconds, self._rng)

    def reset(self) -> None:
        """It worked: the next pause is the first one again."""
        self._next = self._first
