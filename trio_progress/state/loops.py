"""What the loops over one phase, `phase.track(...)`, know together of how much there is to do.

1. Loops add up: the total is what was done before the first of them, and of each loop what it has said or given.
2. A loop that runs counts for the length that it has said; without one nobody knows the total while it runs.
3. One that has ended counts for what it gave, which is the truth, whatever it had said. One that was left in the
   middle leaves the total as it is, until another one begins or ends: leaving early is fine.
4. A loop that gives more than it has said is without a length from there on.
5. Where no loop has said a length that was right, there is no total.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final
from weakref import ReferenceType, ref

from .limits import MAX_UNITS


def length_of(items: object) -> int | None:
    """How many items there are; None where that is not known, or is more than can be counted.

    A `__len__` may raise whatever its author liked; `len()` itself cannot say more than `sys.maxsize`.
    """
    try:
        length = len(items)  # type: ignore[arg-type] # what has none raises
    except Exception:
        return None
    return length if length < MAX_UNITS else None


@final
class Loop:
    """One loop over a phase.

    Args:
        owner: What iterates; where that is gone, the loop was left.
        length: How many items there are, if that is known.
        changed: Called when something else is known of the length.
    """

    __slots__ = ("_changed", "_owner", "given", "length", "over")

    def __init__(self, owner: object, length: int | None, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._owner: Final[ReferenceType[object]] = ref(owner)
        self.length = length
        self.given = 0
        """Items whose body is done; up to date where the loop is over."""
        self.over = False

    @property
    def runs(self) -> bool:
        """Whether there may be more to come; what iterated is gone where it was left in the middle."""
        return not self.over and self._owner() is not None

    def exceed(self) -> None:
        """It gives more than it has said."""
        self.length = None
        self._changed()

    def end(self) -> None:
        """It has given all that there was."""
        self.over = True
        self._changed()


@final
class Loops:
    """All loops over one phase, since the first of them gave it a total.

    Args:
        done: What was done before.
    """

    __slots__ = ("_running", "_said", "_sure")

    def __init__(self, done: float) -> None:
        self._sure = done
        self._running: list[Loop] = []
        self._said = False

    def add(self, loop: Loop) -> None:
        """A loop begins."""
        self._running.append(loop)

    def more(self, n: float) -> None:
        """There is so much more to do, beside the loops."""
        self._sure += n

    def total(self) -> float | None:
        """What there is to do by all that is known now."""
        running = []
        for loop in self._running:
            if loop.runs:
                running.append(loop)
            else:
                self._sure += loop.given
                self._said = self._said or loop.length is not None
        self._running = running
        if not self._said and all(loop.length is None for loop in running):
            return None
        total = self._sure
        for loop in self._running:
            if loop.length is None:
                return None
            total += loop.length
        return total if total < MAX_UNITS else None
