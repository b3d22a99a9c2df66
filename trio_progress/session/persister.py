"""The child that brings the session's newest state to the store, and knows what the store holds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, final

import msgspec
import trio

from ..errors import FencedError, SessionClosedError
from ..protocol.labels import listed_labels
from ..state.record import encode_event, encode_record, encoded, unencoded_of
from ..stores.base import Append, Claim, Claimed, Done, Fenced, Index, Key, Outcome, Renew, Write
from ..telemetry.logs import log_event

if TYPE_CHECKING:
    from ..settings import Settings
    from ..state.record import Unencoded
    from ..state.session import SessionState
    from ..storage.committer import Committer
    from ..storage.spool_delivery import SpoolDelivery
    from ..telemetry.statistics import Tally
    from .wake import ChildWatch, WakeUp

WATCHED_FOR: Final = 12.0
"""Seconds for which word that somebody watches from elsewhere holds; it is renewed more often than that."""

CLAIM_PATIENCE: Final = 1.0
"""Seconds that entering a session waits for a store that is slow; then it begins with the claim pending."""


def index_of(state: SessionState) -> Index:
    """What the session is listed by."""
    return Index(state.status, state.pipeline_name, listed_labels(state.labels, state.parent), state.queued or 0.0)


def entry_of(state: SessionState, committer: Committer) -> tuple[bytes, Unencoded | None]:
    """What is stored of the state, `record` and `unencoded` of a write: one of the two, as the store takes it."""
    return (b"", unencoded_of(state)) if committer.takes_records else (encode_record(state), None)


def events_of(state: SessionState, after: int = 0) -> list[tuple[int, bytes]]:
    """The retained events above an ordinal, as they are stored."""
    return [(event.n, encode_event(event)) for event in state.event_log.after(after)]


@final
@dataclass(slots=True, eq=False, repr=False)
class Persister:
    """Writes through the committer, which asks for the newest state whenever the store can take one.

    Woken by a token, it has the state stored, and then pauses for the interval, unless something urgent
    has happened. When the session is left it goes on until the store holds the final state, or until its
    deadline. It never gives up on a store that is down, and never holds anything but the newest state.
    """

    _state: SessionState
    _settings: Settings
    _committer: Committer
    _tally: Tally
    _wake: WakeUp
    """Closed when the session is left."""
    _watch: ChildWatch
    _claim: Callable[[], Claim]
    """Makes the claim, from the state as it is."""
    _on_claimed: Callable[[Claimed], None]
    """Called with the outcome of each claim that was granted."""
    _on_fenced: Callable[[], None]
    """Called when another owner has taken the session."""
    _left: trio.Event
    """Set when the session is left."""
    _index: Index | None = None
    """What the session is listed by, as it was written last."""
    _claimed: bool = False
    _claiming: Claim | None = None
    _scope: trio.CancelScope | None = None
    """Around all that it does once it was woken."""
    _deadline: float = float("inf")
    """When what is left of that is given up, on Trio's clock."""
    _settled: trio.Event | None = None
    """Set at the next outcome; there while somebody waits for that."""
    _hurried: bool = False
    """Whether something urgent has happened since the state was stored last."""
    _pausing: trio.CancelScope | None = None
    """Around the pause, which is over at its deadline."""
    _soon: float = 0.0
    """When a pause is over in which something urgent happens."""
    _renew: bool = False
    _renewing: bool = False
    _sent: tuple[int, int] = (0, 0)
    _stored_event: int = 0
    _bug: Exception | None = None
    _watched_until: float = float("-inf")
    stored: int | None = None
    """The newest `seq` that the store holds; None: none yet."""
    refused: Outcome | None = None
    """Why the store has not given the session to this owner."""
    fenced: bool = False
    waiting_since: float | None = None
    """Since when it has waited for the store to take the newest state, on Trio's clock; None: it does not."""
    answered: bool = False
    """Whether the store has answered the claim, or is known not to answer."""
    _answer: trio.Event | None = None
    """Set then; there where somebody waits for that."""
    flushed: trio.Event = field(default_factory=trio.Event)
    """Set when all is stored, or when that was given up."""

    # As a writer

    def operation(self) -> Write | None:
        """The claim, as long as it has not been decided; then the newest state, or else the lease."""
        if self.fenced or self._bug is not None:
            return None
        try:
            if self._claimed:
                return self._append_or_renew()
            # The same claim again, should its answer have been lost.
            self._claiming = self._claiming or self._claim()
            return self._claiming
        except Exception as error:
            # A bug of ours is this session's alone: it is raised in its own child, not in the committer.
            self._bug = error
            self._wake_waiting()
            return None

    def _append_or_renew(self) -> Write | None:
        state, settings = self._state, self._settings
        newest = self._publish()
        if not self._behind(*newest):
            if self._renew and not state.over:
                self._renewing = True
                return Renew(state.id, state.epoch, settings.lost_after, state.heartbeat or 0.0)
            return None
        self._renewing = False
        self._sent = newest
        return self._append()

    def _append(self) -> Append:
        """The write of the newest state."""
        state, settings = self._state, self._settings
        events = events_of(state, self._stored_event) if self._stored_event < state.event_log.newest else []
        record, unencoded = entry_of(state, self._committer)
        if self._index is None or self._index.status != state.status:
            self._index = index_of(state)
        return Append(
            id=state.id,
            key=Key(state.epoch, state.seq),
            record=record,
            index=self._index,
            lease=None if state.over else settings.lost_after,
            keep=settings.keep(state.status) if state.over else settings.unfinished_retention,
            heartbeat=state.heartbeat or 0.0,
            events=events,
            lesson=state.lesson() if state.over else None,
            unencoded=unencoded,
        )

    def settled(self, outcome: Outcome) -> None:
        """Takes note of what the store holds now."""
        match outcome:
            case Claimed():
                assert self._claiming is not None
                self.stored = self._claiming.seq
                self._stored_event = max((n for n, _ in self._claiming.events), default=0)
                self._claimed, self._claiming = True, None
                self._on_claimed(outcome)
                self._index = None  # It may have taken over the labels that it was declared with.
            case Done():
                self._renew = False
                if self._renewing:
                    self._tally.renewals += 1
                else:
                    if self.stored is not None:
                        self._tally.persists_coalesced += max(self._sent[0] - self.stored - 1, 0)
                    self.stored, self._stored_event = self._sent
            case Fenced(by=by) if by is None or by < self._state.epoch:
                # What was stored is gone (expired, or flushed), or the store went back to before the claim (a backup,
                # a replica that lagged): it is claimed again, and stored anew.
                self._claimed = False
                self.stored, self._stored_event = None, 0
                self._committer.submit(self)
            case _:
                self._lose(outcome)
        self._note_answer()
        if self._state.over and not self._behind(self._state.seq, self._state.event_log.newest):
            self.flushed.set()  # Not by the child, which is woken only now: all that wait for this are woken with it.
        self._wake_waiting()

    def failed(self, error: Exception) -> bool:
        """Asks to be tried again, for as long as the session needs it."""
        self._note_answer()
        return not self.flushed.is_set()

    def _note_answer(self) -> None:
        self.answered = True
        if self._answer is not None:
            self._answer.set()

    def _lose(self, outcome: Outcome) -> None:
        self.refused = outcome
        if not self.fenced:
            self.fenced = True
            self._on_fenced()

    def _publish(self) -> tuple[int, int]:
        """Publishes what has changed, for the store's pace or a flush; the state and the event that it is to hold."""
        return self._state.publish(), self._state.event_log.newest

    def _behind(self, seq: int, event: int) -> bool:
        """Whether the store lacks the state `seq`, or events up to the ordinal `event`."""
        return self.stored is None or self.stored < seq or self._stored_event < event

    def _wake_waiting(self) -> None:
        settled, self._settled = self._settled, None
        if settled is not None:
            settled.set()

    async def _submitted(self) -> None:
        """Hands itself in, and waits for the next outcome; a checkpoint, unless that is there at once."""
        if self._settled is None:
            self._settled = trio.Event()
        settled = self._settled
        self._committer.submit(self)
        if not settled.is_set():
            await settled.wait()

    # As a child

    @trio.lowlevel.enable_ki_protection
    async def run(self) -> None:
        """Stores until the session is left and its final state is stored. Shielded; ends by its deadline."""
        try:
            try:
                tokens = await self._wake.first()
                with trio.CancelScope(deadline=self._deadline, shield=True) as self._scope:
                    if tokens is not None:
                        with tokens:
                            async for _ in tokens:
                                self._wake.pending = False
                                await self._store()
                                await self._pause()
                    await self._store()
            finally:
                self.flushed.set()
                self._committer.withdraw(self)
                self._wake_waiting()
        except Exception as error:
            self._watch.bug = error
            raise

    async def _store(self) -> None:
        """Returns when the store holds what was published when this was called."""
        self._hurried = False
        goal = self._publish()
        if not self._behind(*goal):
            self._tally.persists_unchanged += 1
        self.waiting_since = trio.current_time()
        while not self.fenced and self._behind(*goal):
            if self._bug is not None:
                raise self._bug
            await self._submitted()
        self.waiting_since = None

    async def _pause(self) -> None:
        """The interval between two states; urgent ones wait no longer than a broadcast does, the end not at all."""
        if self._left.is_set():
            return
        begun, settings = trio.current_time(), self._settings
        self._soon = begun + settings.broadcast_interval
        urgent = self._hurried or begun < self._watched_until
        with trio.CancelScope(deadline=begun + settings.persist_interval) as self._pausing:
            if urgent:
                self.hurry()
            await self._left.wait()
        self._pausing = None

    # What others call

    async def flush(self) -> None:
        """Waits until the store holds what was published when this was called; see `Session.flush`."""
        goal = self._publish()
        while self._behind(*goal):
            if self.fenced:
                raise FencedError(self._state.id, self._state.epoch)
            if self.flushed.is_set():
                raise SessionClosedError(f"session {self._state.id!r} was left before it could be flushed")
            self.hurry()
            await self._submitted()

    async def rescue(self) -> None:
        """Stores the final state after a child has crashed. A last try, which may be cancelled."""
        try:
            while (write := self._append_or_renew()) is not None and not self.fenced:
                self.settled(await self._committer.write(write))
        except Exception as error:
            self._log_unsaved("the final state of session %r could not be rescued", error)

    def spool(self, delivery: SpoolDelivery, cancels: Sequence[str] = ()) -> bool:
        """Keeps the final state, which the store has not taken, for a later try; False where it cannot be kept.

        Args:
            delivery: Makes the tries.
            cancels: Parts of the session that are to be cancelled once the store holds that; it may hold it by now.
        """
        try:
            write = self._append_or_renew() or self._append()
            # The claim may have reached the store: who claims as the same owner is given the session that it has.
            owner = "" if self._claimed else (self._claiming or self._claim()).owner
        except Exception as error:
            self._log_unsaved("the final state of session %r cannot be spooled", error)
            return False
        if isinstance(write, Append) and write.unencoded is not None:
            write = msgspec.structs.replace(write, record=encoded(write.unencoded.record()), unencoded=None)
        return isinstance(write, Append) and delivery.save(write, claimed=self._claimed, owner=owner, cancels=cancels)

    def _log_unsaved(self, what: str, error: Exception) -> None:
        state = self._state
        log_event(
            logging.ERROR, "final_state_not_saved", what, state.id, error=error, session=state.id, status=state.status
        )

    def hurry(self) -> None:
        """Something should be stored soon, not only at the next interval."""
        self._hurried = True
        if self._pausing is not None:
            self._pausing.deadline = min(self._pausing.deadline, self._soon)

    async def wait_answered(self) -> KeyboardInterrupt | None:
        """Waits until the store has answered the claim, or is known to be slow or down.

        A checkpoint that cannot be cancelled. Returns a Ctrl-C that came meanwhile.
        """
        if self.answered:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return None
        interrupt = None
        with trio.move_on_after(CLAIM_PATIENCE, shield=True):
            while not self.answered:
                if self._answer is None:
                    self._answer = trio.Event()
                try:
                    await self._answer.wait()
                except KeyboardInterrupt as error:
                    interrupt = error
        return interrupt

    def watched(self) -> None:
        """Somebody watches the session through the store: for a while states go there at broadcast pace."""
        self._watched_until = trio.current_time() + WATCHED_FOR
        self.hurry()

    @property
    def is_watched(self) -> bool:
        """Whether somebody watches the session through the store."""
        return trio.current_time() < self._watched_until

    def renew(self) -> None:
        """The lease should be renewed; does not wait."""
        self._renew = True
        self._committer.submit(self)

    def leave(self) -> None:
        """The state is final: flush it, at most until the flush timeout."""
        self._deadline = trio.current_time() + self._settings.flush_timeout
        if self._scope is not None:
            self._scope.deadline = self._deadline
        if not self.flushed.is_set():  # Not where the child has crashed: then it is rescued.
            self._committer.submit(self)  # Without waiting for the child to wake up.
