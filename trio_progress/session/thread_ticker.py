"""Counting from foreign threads: what comes in is gathered and brought to the event loop in one go."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, NoReturn, final

import trio

from ..errors import ForeignProcessError
from ..state import checks
from ..state.guard import UNSET, Unset
from ..state.limits import MAX_UNITS
from .one_process import ToldOfForks

if TYPE_CHECKING:
    from ..state.phase import PhaseNode
    from ..state.quantities import Number


@final
class ThreadTicker(ToldOfForks):
    """Counts on one phase from any thread. Never waits for the event loop, and never loses a count.

    What several threads add between two rounds of the event loop arrives as one sum. Counts that come
    when the phase or the session has ended are late, as from anywhere.
    """

    __slots__ = (
        "_absolute",
        "_added",
        "_lock",
        "_phase",
        "_scheduled",
        "_token",
    )

    def __init__(self, phase: PhaseNode, token: trio.lowlevel.TrioToken) -> None:
        super().__init__()  # In a copy not even the lock is to be touched, which a thread may have held.
        self._phase = phase
        self._token = token
        self._lock = threading.Lock()
        self._added: int | float = 0
        self._absolute: dict[str, object] = {}
        self._scheduled = False

    def advance(self, n: Number = 1) -> None:
        """Counts `n` more units as done; finite, at least 0.

        Raises:
            ValueError, TypeError: `n` is not a number of at least 0, and the session is strict.
            ForeignProcessError: This is another process than the session's, and the session is strict.
        """
        try:
            if self._foreign:
                self._refuse_process()
            n = checks.number("n", n)
        except (ValueError, TypeError, ForeignProcessError) as error:
            self._refuse(error)
            return
        with self._lock:
            self._added += n
            self._schedule()

    def update(
        self,
        *,
        done: Number | Unset = UNSET,
        total: Number | Unset | None = UNSET,
        message: str | Unset | None = UNSET,
    ) -> None:
        """Sets absolute values; what is not given stays. A `done` replaces what was added before it.

        Raises:
            ValueError, TypeError: A value is out of range, and the session is strict.
            ForeignProcessError: This is another process than the session's, and the session is strict.
        """
        given: dict[str, object] = {}
        try:
            if self._foreign:
                self._refuse_process()
            if not isinstance(done, Unset):
                given["done"] = checks.number("done", done)
            if not isinstance(total, Unset):
                given["total"] = None if total is None else checks.number("total", total)
            if not isinstance(message, Unset):
                given["message"] = checks.message("message", message, self._phase.state.limits)
        except (ValueError, TypeError, ForeignProcessError) as error:
            self._refuse(error)
            return
        with self._lock:
            if "done" in given:
                self._added = 0
            self._absolute.update(given)
            self._schedule()

    def _refuse(self, error: Exception) -> None:
        if self._phase.state.strict:
            raise error
        if self._foreign:  # There is no event loop in this process that it could be handed to.
            self._phase.state.host.drop(error)
            return
        try:
            self._token.run_sync_soon(self._phase.state.host.drop, error)
        except trio.RunFinishedError:
            pass

    def _refuse_process(self) -> NoReturn:
        raise ForeignProcessError(f"the counter of phase {self._phase.label!r}", self._process, os.getpid())

    def _schedule(self) -> None:
        if not self._scheduled:
            try:
                self._token.run_sync_soon(self._drain)
            except trio.RunFinishedError:
                return  # The run is over, and with it everything that could be told.
            self._scheduled = True

    def _drain(self) -> None:
        """Brings what was gathered to the phase; called in the event loop only."""
        with self._lock:
            added, self._added = self._added, 0
            absolute, self._absolute = self._absolute, {}
            self._scheduled = False
        if absolute:
            self._phase.update(**absolute)  # type: ignore[arg-type]
        if added:
            self._phase.advance(min(added, MAX_UNITS - 1))


@final
class NullTicker:
    """Counts nothing, from any thread."""

    __slots__ = ()

    def advance(self, n: Number = 1) -> None:
        """Does nothing."""

    def update(self, *, done: object = None, total: object = None, message: object = None) -> None:
        """Does nothing."""
