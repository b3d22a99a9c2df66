"""What worker processes have counted in their file is brought to the phase.

1. The parent sums the slots while the block is open, at the pace that `from_processes.py` says, and once more when the
   block is left or the phase ends, whichever is first; also where it is asked for the state of now
   (`flush()`, `snapshot()`).
2. At that last time, what processes that have died had counted in unfinished jobs is taken back.
3. The file goes away with the block. Who has it open goes on counting there; what came after the block is found when
   the session ends, and is late. Who comes later finds no file, and counts into nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, final

from ..counting.reading import Reader
from ..state.guard import REFUSED

if TYPE_CHECKING:
    from ..counting.slots import Slots
    from ..state.phase import PhaseNode
    from ..state.session import SessionState


@final
class ProcessCounts:
    """What the workers of one block count, as the session sees it."""

    __slots__ = ("_finished", "_reader", "_slots", "_state", "left", "node", "path")

    def __init__(self, state: SessionState, node: PhaseNode, path: str, slots: Slots) -> None:
        self._state = state
        self._slots = slots
        self._reader = Reader(slots.layout)
        self._finished = False
        self.node = node
        self.path = path
        self.left = False
        """Whether the block was left."""

    @property
    def slots(self) -> int:
        """How many threads of processes have counted, at least one after another; reading takes as long."""
        return self._reader.used

    def draw(self) -> None:
        """Brings what was counted since to the phase. What the session has no room for is dropped and logged."""
        if self._finished:
            return
        came = self._reader.read()
        if not came:
            return
        if came.given:
            self._do(partial(self.node.update, **came.given))
        self._do(partial(self.node.add, came.advanced, came.skipped, came.extended))
        for name, n in came.counters.items():
            self._do(partial(self._state.increment, name, n))

    def _do(self, change: Callable[[], object]) -> None:
        """Makes one change; one that is refused takes no other with it, for none of them will come again."""
        try:
            change()
        except REFUSED as error:
            self._state.host.drop(error)

    def finish(self) -> None:
        """Brings what was counted for the last time."""
        if not self._finished:
            self._slots.take_back_of_the_dead()
            self.draw()
            self._finished = True

    def leave(self) -> None:
        """The block is left: the file is taken away, and who comes now comes too late."""
        from ..counting.files import remove_file

        self.finish()
        self.left = True
        remove_file(self.path)

    def close(self) -> float | None:
        """Lets go of the file. Returns how many units came too late; None: nothing at all did."""
        from ..counting.files import close_file

        late = self._reader.read()
        close_file(self.path)
        return late.advanced + late.skipped if late else None
