"""`phase.from_processes()`: the block in which worker processes count on a phase."""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Final, NoReturn, final

import trio

from ..counting.counter import NullCounter, ProcessCounter
from ..errors import PhaseError
from ..state.guard import REFUSED
from .one_process import OneProcess
from .process_counts import ProcessCounts

if TYPE_CHECKING:
    from ..state.phase import PhaseNode
    from .core import SessionCore

TICK: Final = 0.1
"""Seconds between two sums while somebody watches."""

UNWATCHED: Final = 0.25
"""Seconds between two sums while nobody does: to wake up costs the parent more than to sum."""

SLOTS_A_TICK: Final = 100
"""Where more slots were used, the pause is longer: the sums take no more of the parent's time."""


@final
class CountingScope(OneProcess, AbstractAsyncContextManager["ProcessCounter | NullCounter", None]):
    """The block of `phase.from_processes()`."""

    __slots__ = ("_core", "_counts", "_node", "_nursery", "_nursery_manager")

    def __init__(self, core: SessionCore, node: PhaseNode) -> None:
        self._core = core
        self._node = node
        self._counts: ProcessCounts | None = None

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> ProcessCounter | NullCounter:
        core = self._core
        try:
            if self._counts is not None:
                raise PhaseError("this block was entered before: call `phase.from_processes()` again")
            self._counts = counts = self._opened()
        except (*REFUSED, OSError, NotImplementedError) as error:
            core.refuse(error)
            return NullCounter()
        self._nursery_manager = trio.open_nursery(strict_exception_groups=True)
        self._nursery = await self._nursery_manager.__aenter__()
        self._nursery.start_soon(self._tick, counts, name=f"counts of phase {self._node.label!r}")
        return ProcessCounter(counts.path)

    def _opened(self) -> ProcessCounts:
        core, node = self._core, self._node
        core.check_caller()
        if node.status != "running":
            raise PhaseError(f"phase {node.label!r} is {node.status}: processes can count on an open phase only")
        if sys.platform == "win32":
            raise NotImplementedError("phase.from_processes() needs POSIX locks, which Windows has not")
        from ..counting.files import make_file

        counts = ProcessCounts(core.state, node, *make_file(strict=core.state.strict))
        core.add_counts(counts)
        return counts

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        counts = self._counts
        if counts is None or self._core.foreign:
            return  # A forked process ends in the middle of the parent's block; the session's scope says so.
        counts.leave()
        # The sums are all that runs in there: it ends at once, and nothing that is raised here is from outside.
        self._nursery.cancel_scope.shield = True
        self._nursery.cancel_scope.cancel()
        await self._nursery_manager.__aexit__(None, None, None)  # noqa: ASYNC102 - shielded, and cancelled

    @trio.lowlevel.enable_ki_protection
    async def _tick(self, counts: ProcessCounts) -> None:
        while True:
            topic = self._core.topic
            pause = TICK if topic is not None and topic.subscribers else UNWATCHED
            await trio.sleep(pause * max(1.0, counts.slots / SLOTS_A_TICK))
            counts.draw()

    if not TYPE_CHECKING:  # Type checkers know without these that there is no such use.

        def __enter__(self) -> NoReturn:
            raise TypeError("use `async with phase.from_processes() as counter`, not `with`")

        def __exit__(self, *_: object) -> None:
            raise AssertionError("never entered")

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):
                raise AttributeError(name)
            raise AttributeError(
                f"there is no {name!r} yet: use `async with phase.from_processes() as counter`, and "
                f"`counter.{name}` in its block and in its workers"
            )
