"""Bringing final states to a store that was not there when they came about."""

from __future__ import annotations

import logging
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Final, final

import trio

from ..errors import SessionClosedError, StoreError
from ..protocol.backoff import Backoff
from ..stores.base import Append, Claim, Claimed, Done, Key, Store
from ..telemetry.logs import Throttle, log_event

if TYPE_CHECKING:
    from .committer import Committer
    from .spool import Spool, Spooled

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds, before jitter, between tries on a store that does not answer."""

NOTHING: Final = Key(0, 0)
"""No entry has this key: a claim that expects it is good only if it was made before."""


@final
class SpoolDelivery:
    """Delivers what is spooled for a store: what an earlier process has left, and what this one leaves.

    Args:
        spool: None: the store ends with its process, nothing is spooled.
    """

    def __init__(self, spool: Spool | None, store: Store, committer: Committer, rng: random.Random) -> None:
        self._spool = spool
        self._store = store
        self._committer = committer
        self._rng = rng
        self._news = trio.Event()
        self._scope = trio.CancelScope()
        self._throttle = Throttle()
        self.tried = trio.Event()
        """Set when what an earlier process has left was delivered, or could not be for now."""

    def save(self, append: Append, *, claimed: bool, owner: str) -> bool:
        """Keeps a final state that the store has not taken; does not wait, and never raises. See `Spool.save`.

        Returns:
            Whether it will be delivered.
        """
        saved = self._spool is not None and self._spool.save(append, claimed=claimed, owner=owner)
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
                    self._log(logging.INFO, "spool_waits", spooled.append.id, "waits for the store", error)
                    complete = False
                    if not self._committer.up:
                        break
                else:
                    spool.discard(spooled)
        except (OSError, RuntimeError) as error:
            complete = complete and not isinstance(error, OSError)  # It passes, other than a home that nobody knows.
            what = "spooled states cannot be read: %s"
            log_event(logging.WARNING, "spool_unreadable", what, error, throttle=self._throttle, reason=error)
        return complete

    async def _deliver(self, spooled: Spooled) -> None:
        """Stores it, if it is still the newest that there is of its session.

        Raises:
            StoreError: The store did not answer.
            SessionClosedError: The tracker is being left.
        """
        append = spooled.append
        epoch = append.key.epoch if spooled.claimed else await self._claim(append, spooled.owner)
        outcome: object = None
        if epoch is not None:
            outcome = await self._committer.write(replace(append, key=Key(epoch, append.key.seq)))
        if isinstance(outcome, Done):
            self._log(logging.INFO, "spool_delivered", append.id, "was delivered")
        else:
            self._log(logging.WARNING, "spool_outdated", append.id, "is out of date, and dropped")

    def _log(self, level: int, event: str, session_id: str, what: str, error: Exception | None = None) -> None:
        text = f"session %r: its spooled final state {what}"
        if error is None:
            log_event(level, event, text, session_id, session=session_id)
        else:  # It waits, and will be tried over and over.
            throttle = self._throttle
            log_event(
                level, event, f"{text}: %s", session_id, error, throttle=throttle, session=session_id, reason=error
            )

    async def _claim(self, append: Append, owner: str) -> int | None:
        """Claims what the store has not answered the claim of; not from a newer owner.

        As `owner`: a claim of it that has reached the store is recognised by that, and is ours.

        Returns:
            The epoch that the store has given, which may be above the one that was made up without it.
        """
        stored = await self._store.read(append.id)
        expect = None if stored is None else stored.key
        if stored is not None and (stored.alive or stored.key.epoch >= append.key.epoch):
            if not stored.alive and stored.record == append.record:
                return stored.key.epoch  # It was claimed here, and then something came in between.
            expect = NOTHING
        claim = Claim(
            id=append.id,
            proposal=append.key.epoch,
            owner=owner or f"spool {append.key.epoch}",
            record=append.record,
            index=append.index,
            lease=None,
            keep=append.keep,
            expect=expect,
            seq=max(append.key.seq - 1, 0),
        )
        outcome = await self._committer.write(claim)
        return outcome.epoch if isinstance(outcome, Claimed) else None
