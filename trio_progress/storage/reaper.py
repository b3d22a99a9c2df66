"""The task that writes off sessions whose owner is gone.

1. Everybody who reads a running session without a lease shows it as lost; nothing is written for that. What
   is written, once and for all, is written by the next owner of the session, or here.
2. A lease that has lapsed is a suspicion. It becomes a verdict when this task, by its own monotonic clock, has
   seen the same entry and the same heartbeat for a whole `lost_after` more, and could read the store all that
   time. An outage of the store, a laptop's sleep or a process that was stopped begin that time anew.
3. The verdict is a claim without a lease that expects the entry which was seen: of several reapers, and of the
   owner who comes back after all, one wins; the others change nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Container
from typing import TYPE_CHECKING, Final, final

import trio

from ..errors import ProgressError
from ..stores.base import Claimed, Query, Seen, Store, Stored
from ..stores.paging import every
from ..telemetry.logs import BURST, log_event
from .ownerless import written_off

if TYPE_CHECKING:
    from ..settings import Settings
    from ..telemetry.statistics import Tally
    from .committer import Committer

LAPSED: Final = Query(status=frozenset({"running"}), limit=500, lapsed=True)

ROUNDS: Final = 3
"""Looks at the store in one `lost_after`."""

SUSPECTS: Final = 1000
"""Sessions that are kept in mind at once, or a few more; others are met when these are done with."""


@final
class Reaper:
    """Looks for lost sessions until closed.

    Args:
        here: The ids of the sessions of this process, which are nobody else's business.
    """

    def __init__(
        self, store: Store, committer: Committer, settings: Settings, tally: Tally, here: Container[str]
    ) -> None:
        self._store = store
        self._committer = committer
        self._settings = settings
        self._tally = tally
        self._here = here
        self._suspects: dict[str, tuple[Seen, float]] = {}
        """What was seen of each session without a lease, and since when."""
        self._scope = trio.CancelScope()

    @property
    def missing(self) -> int:
        """Sessions that ran without a lease when it looked last."""
        return len(self._suspects)

    def close(self) -> None:
        """Ends `run`."""
        self._scope.cancel(reason="the tracker is left")

    async def run(self) -> None:
        """Looks at every third part of `lost_after`. Cancelled, it leaves everything as it is."""
        interval = self._settings.lost_after / ROUNDS
        with self._scope:
            while True:
                slept = trio.current_time()
                await trio.sleep(interval)
                if trio.current_time() - slept > 2 * interval:
                    self._suspects.clear()  # We were not there to see whether the owner was.
                try:
                    found = [each async for each in every(self._store, LAPSED, SUSPECTS) if each.id not in self._here]
                except Exception as error:
                    # The reader and the committer say it aloud.
                    log_event(
                        logging.DEBUG, "store_not_read", "lost sessions cannot be looked for: %s", error, reason=error
                    )
                    self._suspects.clear()
                    continue
                await self._judge(found)

    async def _judge(self, found: list[Stored]) -> None:
        now = trio.current_time()
        suspects: dict[str, tuple[Seen, float]] = {}
        for stored in found:
            seen, since = self._suspects.get(stored.id, (None, now))
            if seen != stored.seen:
                suspects[stored.id] = (stored.seen, now)
            elif now - since < self._settings.lost_after:
                suspects[stored.id] = (stored.seen, since)
            else:
                await self._write_off(stored.id, stored.seen)
        self._suspects = suspects

    async def _write_off(self, session_id: str, seen: Seen) -> None:
        try:
            stored = await self._store.read(session_id)
            if stored is None or stored.seen != seen:
                return
            claim = written_off(stored, self._settings.keep("lost"), self._tally)
            outcome = await self._committer.write(claim)
        except ProgressError as error:
            log_event(
                logging.WARNING,
                "session_not_written_off",
                "session %r is lost, but cannot be written off: %s",
                session_id,
                error,
                throttle=self._tally.throttle,
                most=BURST,
                session=session_id,
                reason=error,
            )
            return
        if isinstance(outcome, Claimed):
            self._tally.sessions_lost += 1
            self._tally.ledger.end(claim.index.pipeline, "lost")
            log_event(
                logging.WARNING,
                "session_lost",
                "session %r is lost: its owner was not heard of any more",
                session_id,
                session=session_id,
                pipeline=claim.index.pipeline,
                epoch=seen.key.epoch,
                seq=seen.key.seq,
                status="lost",
            )
