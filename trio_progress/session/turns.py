"""How many sessions are entered or left in one round of the event loop: the rest wait for the next rounds.

Ten thousand tasks that enter a session each, or that one event lets go on, are all run in one round. Each of them
would do its share there, and the event loop would stand still for all of them together.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, final

import trio

IN_A_ROUND: Final = 32
"""Sessions that are entered or left in one round: some milliseconds."""


@final
class Turns:
    """Lets `IN_A_ROUND` through; who comes then waits for a round of the event loop, and so do all who come meanwhile.

    In each round as many of those go on, the first ones first, and one more, who lets the next ones go on. Nobody
    counts the rounds: one who comes alone waits for one as well where so many were let through before.
    """

    __slots__ = ("_leader", "_room", "_waiting")

    def __init__(self) -> None:
        self._room = IN_A_ROUND
        self._waiting: OrderedDict[trio.lowlevel.Task, None] | None = None
        """Those who wait; None: nobody has to."""
        self._leader: trio.lowlevel.Task | None = None
        """The one of them who lets the next ones go on."""

    async def take(self, *, shielded: bool = False) -> None:
        """Returns when it is the caller's turn: at once, and without a checkpoint, where there is room.

        Args:
            shielded: Whether neither a cancellation nor a Ctrl-C ends the wait, which is bounded by those before.
        """
        task = trio.lowlevel.current_task()
        if self._waiting is None:
            if self._room:
                self._room -= 1
                return
            self._waiting = OrderedDict()
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            waiting = self._waiting

            def abort(_: object) -> trio.lowlevel.Abort:
                if shielded:
                    return trio.lowlevel.Abort.FAILED
                del waiting[task]
                return trio.lowlevel.Abort.SUCCEEDED

            waiting[task] = None
            await trio.lowlevel.wait_task_rescheduled(abort)
            if self._leader is not task:
                return
        self._lead()

    def _lead(self) -> None:
        waiting = self._waiting
        assert waiting is not None
        self._leader = None
        self._room = IN_A_ROUND
        while waiting and self._room:
            trio.lowlevel.reschedule(waiting.popitem(last=False)[0])
            self._room -= 1
        if waiting:
            self._leader, _ = waiting.popitem(last=False)
            trio.lowlevel.reschedule(self._leader)
        else:
            self._waiting = None
