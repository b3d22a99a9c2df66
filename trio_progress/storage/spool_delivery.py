"""Bringing final states to a store that was not there when they came about."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, final

import trio

from ..errors import SessionClosedError, StoreError
from ..protocol.backoff import Backoff
from ..telemetry.logs import Throttle, log_event
from .delivery_steps import delivery, log_unreadable, waiting_of
from .part_cancelling import PartCanceller

if TYPE_CHECKING:
    from ..stores.base import Append, Store
    from ..telemetry.statistics import Tally
    from .committer import Committer
    from .spool import Spool, Spooled

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds, before jitter, between tries on a store that does not answer."""


@final
class SpoolDelivery:
    """Delivers what is spooled for a store: what an earlier process has left, and what this one leaves.

    Args:
        spool: None: the store ends with its process, nothing is spooled.
        wall: Seconds since 1970.
    """

    def __init__(
        self,
        spool: Spool | None,
        store: Store,
        committer: Committer,
        rng: random.Random,
        tally: Tally,
        wall: Callable[[], float],
    ) -> None:
        self._tally = tally
        self._wall = wall
        self._spool = spool
        self._store = store
        self._committer = committer
        self._rng = rng
        self._news = trio.Event()
        self._scope = trio.CancelScope()
        self._throttle = Throttle()
        self.tried = trio.Event()
        """Set when what an earlier process has left was delivered, or could not be for now."""

    def save(self, append: Append, *, claimed: bool, owner: str, cancels: Sequence[str] = ()) -> bool:
        """Keeps a final state that the store has not taken; does not wait, and never raises. See `Spool.save`.

        Returns:
            Whether it will be delivered.
        """
        saved = self._spool is not None and self._spool.save(append, claimed=claimed, owner=owner, cancels=cancels)
        if saved:
            self._news.set()
        return saved

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do for `run`."""
        return self._spool is not None

    async def run(self) -> None:
        """Delivers what waits, now and whenever there is more, until closed. Cancelled, it loses nothing."""
        if self._spool is None:
            return
        with self._scope:
            while True:
                self._news = trio.Event()
                backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, self._rng)
                while not await self._delivered(self._spool):
                    self.tried.set()
                    with trio.move_on_after(backoff.pause()):
                        await self._news.wait()
                self.tried.set()
                await self._news.wait()

    def close(self) -> None:
        """Ends `run`; what waits is left to the next tracker."""
        self._scope.cancel(reason="the tracker is left")

    async def _delivered(self, spool: Spool) -> bool:
        """Goes once over all that waits; False where the store did not take something."""
        complete = True
        try:
            waiting = spool.pending()
            while (spooled := await trio.to_thread.run_sync(next, waiting, None, abandon_on_cancel=True)) is not None:
                try:
                    await self._deliver(spooled)
                except (StoreError, SessionClosedError) as error:
                    self._log_waiting(spooled.append.id, error)
                    complete = False
                    if not self._committer.up:
                        break
                else:
                    spool.discard(spooled)
        except (OSError, RuntimeError) as error:
            complete = complete and not isinstance(error, OSError)  # It passes, other than a home that nobody knows.
            log_unreadable(error, self._throttle)
        return complete

    async def deliver(self, session_id: str) -> None:
        """Delivers what waits of one session, now; nothing where that cannot be read, which is logged.

        Raises:
            StoreError: The store did not answer.
            SessionClosedError: The tracker is being left.
        """
        if self._spool is not None:
            for spooled in await trio.to_thread.run_sync(waiting_of, self._spool, session_id, abandon_on_cancel=True):
                await self._deliver(spooled)
                self._spool.discard(spooled)

    async def _deliver(self, spooled: Spooled) -> None:
        """Stores it, if it is still the newest that there is of its session.

        Raises:
            StoreError: The store did not answer.
            SessionClosedError: The tracker is being left.
        """
        steps, answer, append = delivery(spooled), None, spooled.append
        epoch: int | None = None
        while True:
            try:
                write = steps.send(answer)
            except StopIteration as over:
                epoch = over.value
                break
            answer = await (self._store.read(append.id) if write is None else self._committer.write(write))
        if epoch is not None and spooled.cancels:
            status, keep = append.index.status, append.keep
            canceller = PartCanceller(self._store, self._committer, self._tally, append.id, epoch, status, keep)
            for part in spooled.cancels:
                await canceller.cancel(part, self._wall())

    def _log_waiting(self, session_id: str, error: Exception) -> None:
        # It will be tried over and over.
        log_event(
            logging.INFO,
            "spool_waits",
            "session %r: its spooled final state waits for the store: %s",
            session_id,
            error,
            throttle=self._throttle,
            session=session_id,
            reason=error,
        )
