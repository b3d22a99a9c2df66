"""The one task that writes to the store: it gathers what all sessions have to write into batches.

A *writer* hands itself in, not what it has to say: what is written is asked for when the batch is made,
so that a slow or absent store never meets an older state than the newest. What comes in while one batch
is under way makes the next. Where a commit costs a hand-over to a thread, whatever is in it, a few rounds of the event
loop are waited for before a batch is made: those whom the batch before has let go on have something to write by then,
a session that was chosen its claim, and a worker whose session has ended its wish for another. When the store does not
answer, the batch is put back and tried again after a pause that grows, up to a cap, and is jittered: one task asks an
absent store, not one for each session.

The store in memory never waits: it is written to as soon as a writer hands itself in, as long as nothing waits for its
turn. There is nothing to gather for, and a round of the event loop costs more than the write.

The committer is shielded, so that nothing that happens around a tracker keeps a final state from being
written; `close()` ends it, once it has nothing left to write.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Protocol

import trio

from ..errors import SessionClosedError, StoreError
from ..protocol.backoff import Backoff, jittered
from ..stores.base import Append, Claim, Claimed, Done, Outcome, Store, Write
from ..stores.memory import MemoryStore
from ..telemetry.logs import log_event

if TYPE_CHECKING:
    from ..telemetry.statistics import Tally

BATCH: Final = 500
"""Writes in one batch at most: what a store does in one go, and encodes without a pause of the event loop."""

GATHERED_FOR: Final = 2
"""Rounds of the event loop: after these most of those whom a batch has let go on have handed themselves in. After one
more all have; but what a worker has chosen then waits for others, and jobs are begun farther from their turn."""

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
"""Seconds, before jitter, between tries on a store that does not answer; below any sensible `flush_timeout`."""


class Writer(Protocol):
    """What has something to write, now or again later."""

    def operation(self) -> Write | None:
        """What to write now; None where there is nothing any more. Must not raise."""

    def settled(self, outcome: Outcome) -> None:
        """The store has answered: what became of the write."""

    def failed(self, error: Exception) -> bool:
        """The store did not answer. True to be tried again."""


class Committer:
    """Group commit for the writers of one tracker."""

    def __init__(self, store: Store, tally: Tally, rng: random.Random) -> None:
        self._store = store
        self.takes_records = getattr(store, "takes_records", False) is True
        """Whether the store keeps records as they are, and encodes those that somebody reads."""
        self._in_memory = store if type(store) is MemoryStore else None
        """The store where it is the one that never waits; one that is derived from it may."""
        self._gathered_for = GATHERED_FOR if getattr(store, "gathers", False) is True else 0
        self._tally = tally
        self._rng = rng
        self._waiting: dict[Writer, None] = {}
        self._wake = trio.Event()
        self.closing = False
        """Whether it ends once it has nothing left to write."""
        self._resting: dict[Writer, float] = {}
        """Those whose own write was refused, and when they are asked again."""
        self._scope = trio.CancelScope(shield=True)
        self._logged_down = False
        self._asking: Sequence[Writer] = ()
        """Those whose writes the store is at."""
        self.up = True
        """Whether the store answered the last time."""
        self.ended = trio.Event()
        """Set when `run` is over."""

    @property
    def stuck(self) -> bool:
        """Whether something waits for a store that did not answer the last time; without that, nobody asks it again."""
        return not self.up and bool(self._asking or self._waiting or self._resting)

    @property
    def waiting(self) -> tuple[Writer, ...]:
        """Those that have handed themselves in, and have not been asked yet what they have to write."""
        return tuple(self._waiting)

    def submit(self, writer: Writer) -> None:
        """Has the writer asked for what it has to write, now or soon; once, however often it is handed in."""
        if self._in_memory is None or self._asking or self._waiting or self._resting or self.ended.is_set():
            self._enqueue(writer)
        else:
            self._write_now(writer, self._in_memory)

    def _enqueue(self, writer: Writer) -> None:
        self._waiting[writer] = None
        self._wake.set()

    @trio.lowlevel.enable_ki_protection
    def _write_now(self, writer: Writer, store: MemoryStore) -> None:
        """Makes the write of a writer for whom nobody has to wait."""
        write = writer.operation()
        if write is None:
            return
        began = trio.current_time()
        writers = self._asking = (writer,)
        try:
            outcomes = store.commit_nowait((write,))
        except Exception:
            self._asking = ()
            self._enqueue(writer)  # `run` makes it again, and says what is wrong.
        else:
            self._settle(began, writers, (write,), outcomes)

    async def write(self, write: Write) -> Outcome:
        """Makes one write, and waits for its outcome.

        Cancelled while it waits for its turn, nothing is written; while the store is at it, it may be.

        Raises:
            StoreError: The store did not answer.
            SessionClosedError: The tracker has been left.
        """
        if self.closing:
            raise SessionClosedError("the tracker has been left: nothing can be written through it any more")
        once = Once(write)
        self._enqueue(once)  # Those who wait for news of the store are woken before the caller goes on.
        try:
            await once.answered.wait()
        finally:
            self.withdraw(once)
        outcome = once.outcome
        if isinstance(outcome, StoreError):
            raise outcome
        if isinstance(outcome, Exception):
            raise StoreError(f"the store did not answer: {outcome}") from outcome
        assert outcome is not None
        return outcome

    def withdraw(self, writer: Writer) -> None:
        """Takes the writer out again, if it has not been asked yet."""
        self._waiting.pop(writer, None)
        self._resting.pop(writer, None)

    def close(self) -> None:
        """Lets `run` return once all that is waiting has been written."""
        self.closing = True
        self._wake.set()

    def abandon(self) -> None:
        """Ends `run` at once, or when the store call that is under way has returned; writers that wait fail."""
        self._scope.cancel(reason="the tracker is left")

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Writes until closed. Shielded: only `close()` and `abandon()` end it."""
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, self._rng)
        try:
            with self._scope:
                while self._waiting or not self.closing:
                    now = trio.current_time()
                    for writer in [writer for writer, until in self._resting.items() if until <= now]:
                        del self._resting[writer]
                        self._waiting[writer] = None
                    if not self._waiting:
                        self._wake = trio.Event()
                        if self._resting:
                            with trio.move_on_at(min(self._resting.values())):
                                await self._wake.wait()
                        else:
                            await self._wake.wait()
                        continue
                    for _ in range(self._gathered_for):
                        await trio.lowlevel.cancel_shielded_checkpoint()
                    writers: list[Writer] = []
                    batch: list[Write] = []
                    while self._waiting and len(batch) < BATCH:
                        writer = next(iter(self._waiting))
                        del self._waiting[writer]
                        write = writer.operation()
                        if write is not None:
                            writers.append(writer)
                            batch.append(write)
                    if batch:
                        was_up = self.up
                        await self._commit(writers, batch)
                        if not self.up:
                            await trio.sleep(backoff.pause())
                        elif not was_up:
                            backoff.reset()
        finally:
            self.closing = True
            for writer in (*self._asking, *self._waiting):
                writer.failed(StoreError("the tracker was left before the store had answered"))
            self.ended.set()

    async def _commit(self, writers: Sequence[Writer], batch: Sequence[Write]) -> None:
        began = trio.current_time()
        self._asking = writers
        try:
            outcomes = await self._store.commit(batch)
            if len(outcomes) != len(batch):
                raise StoreError(f"the store gave {len(outcomes)} outcomes for {len(batch)} writes")
        except Exception as error:
            self._asking = ()
            self.up = False
            self._logged_down |= log_event(
                logging.WARNING,
                "store_down",
                "the store does not answer, it is tried again: %s",
                error,
                throttle=self._tally.throttle,
                error=None if isinstance(error, (StoreError, OSError)) else error,
                reason=error,
            )
            self._tally.persists_failed += len(writers)
            for writer in writers:
                if writer.failed(error):
                    self.submit(writer)
        else:
            self._settle(began, writers, batch, outcomes)

    def _settle(
        self, began: float, writers: Sequence[Writer], batch: Sequence[Write], outcomes: Sequence[Outcome]
    ) -> None:
        """The store has answered."""
        self._asking = ()
        self.up = True
        if self._logged_down:
            self._logged_down = False
            log_event(logging.INFO, "store_up", "the store answers again")
        self._tally.persist_seconds.observe(trio.current_time() - began)
        for writer, write, outcome in zip(writers, batch, outcomes, strict=True):
            if isinstance(write, (Append, Claim)) and isinstance(outcome, (Done, Claimed)):
                self._tally.persists += 1
            if isinstance(outcome, Exception):
                log_event(
                    logging.DEBUG,
                    "write_failed",
                    "a write failed, it is tried again: %s",
                    outcome,
                    throttle=self._tally.throttle,
                    session=write.id,
                    reason=outcome,
                )
                self._tally.persists_failed += 1
                if writer.failed(outcome):
                    self._resting[writer] = trio.current_time() + jittered(LONGEST_PAUSE, self._rng)
            else:
                writer.settled(outcome)


class Once:
    """The writer of one write, whose outcome somebody may wait for."""

    __slots__ = ("_write", "answered", "outcome")

    def __init__(self, write: Write) -> None:
        self._write = write
        self.answered = trio.Event()
        self.outcome: Outcome | None = None

    def operation(self) -> Write | None:
        """The write."""
        return self._write

    def settled(self, outcome: Outcome) -> None:
        """Lets the caller go on."""
        self.outcome = outcome
        self.answered.set()

    def failed(self, error: Exception) -> bool:
        """Lets the caller go on with the error: it is waiting, and can decide."""
        self.settled(error)
        return False
