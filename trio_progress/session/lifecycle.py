"""A session that this process owns: the nursery with its three children, and how the end comes about.

Leaving, however the body ended:

1. How it ended is read from the scope; what threads have counted is brought in; the state is frozen.
2. The broadcaster offers the ended state at once.
3. The persister flushes it, for at most `flush_timeout`.
4. `End`, with the `seq` that the store holds, goes to every subscriber, and their streams end.
5. The heartbeat, which waits for the flush as well, has stopped. The lease went with the final state.
6. The nursery is empty; nothing of the session is left. Parts that are cancelled with it have ended; see `parts_left`.

Steps 2 to 5 are chained in the children, which are shielded: whoever waits for them cannot make them
stop, be it cancelled from outside or interrupted a second time.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from contextvars import Token
from types import TracebackType
from typing import final

import trio

from ..errors import FencedError, SessionCancelledError, StoreError
from ..live.feed import Ended, Feed
from ..protocol.clock import stamp
from ..protocol.snapshot import ErrorInfo, SessionStatus
from ..state.record import Record, decode_record
from ..state.session import SessionState
from ..stores.base import Claim, Claimed, Key
from ..telemetry.logs import log_event
from .broadcaster import Broadcaster
from .core import SessionCore
from .current import ProgressSession, current
from .heartbeat import Heartbeat
from .outcome import conclude, describe, hard_leaves, only_cancelled
from .parts import Parts
from .persister import Persister, entry_of, events_of, index_of
from .runtime import SessionOptions, TrackerRuntime
from .session import Session


@final
class SessionLifecycle:
    """One session in one epoch, from its claim to its end.

    `claim()`, then either `discard()` or `begin()`, and after that `leave()`, once each.
    """

    __slots__ = (
        "_adopts",
        "_context",
        "_expect",
        "_feed",
        "_fenced",
        "_left",
        "_nursery_manager",
        "_options",
        "_owner",
        "_parts",
        "_persister",
        "_runtime",
        "core",
        "session",
        "state",
    )

    def __init__(self, runtime: TrackerRuntime, options: SessionOptions) -> None:
        self._runtime, self._options = runtime, options
        self._fenced = self._adopts = False
        self._left, self._owner = trio.Event(), runtime.new_owner()
        self._expect: Key | None = None
        self.core = SessionCore(self._make_state, self._make_persister, runtime.tally)
        self.core.parts = self._parts = Parts(runtime, self.core)
        self.session = Session(self.core)
        self._feed = Feed(self.core.state, self.core.state.publish, self._parts.watch)
        self.state, self._persister = self.core.state, self.core.persister

    def _make_persister(self, core: SessionCore) -> Persister:
        return Persister(
            core.state,
            self._runtime.settings,
            self._runtime.committer,
            self._runtime.tally,
            core.persist_wake,
            core.children,
            self._claim,
            self._on_claimed,
            self._on_fenced,
            self._left,
        )

    def _make_state(self, core: SessionCore) -> SessionState:
        settings, options = self._runtime.settings, self._options
        return SessionState(
            options.id,
            host=core,
            clock=self._runtime.hub.clock,
            pipeline=options.pipeline,
            title=options.title,
            labels=options.labels,
            limits=settings.limits,
            strict=settings.strict,
            event_limit=settings.event_limit,
            stall_after=settings.stall_after,
        )

    # Claiming

    def adopt(self, record: Record) -> None:
        """Takes over what was declared, where the call says nothing else."""
        state, declared = self.state, record.state
        state.queued = stamp(declared.queued_at)
        if self._options.title is None:
            state.title = declared.title
        if self._options.labels is None:
            state.labels = dict(declared.labels)
        state.parent = declared.parent
        state.trace = state.trace or record.trace or None

    async def claim(self, expect: Key | None) -> KeyboardInterrupt | None:
        """Claims the session and waits until that is answered, or the store is known to be slow or down.

        A checkpoint first; from there on it cannot be cancelled, so that no claim is left behind. A
        Ctrl-C that comes meanwhile is handed back. `core.persister.refused` says whether the session is ours;
        without an answer the claim is pending and the session can begin.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        state = self.state
        state.begin(max(int(state.clock.wall() * 1000), 1))
        if self._runtime.tracing is not None:
            self.core.tracing = tracing = self._runtime.tracing(state)
            state.trace = tracing.begin(state.trace)
        self._expect, self._adopts = expect, expect is None
        self._runtime.committer.submit(self._persister)
        return await self._persister.wait_answered()

    def _claim(self) -> Claim:
        state, settings = self.state, self._runtime.settings
        record, unencoded = entry_of(state, self._runtime.committer)
        return Claim(
            id=state.id,
            proposal=state.epoch,
            owner=self._owner,
            record=record,
            index=index_of(state),
            # A session may be over by now: what was stored was gone, or the store was down until then.
            lease=None if state.over else settings.lost_after,
            keep=settings.keep(state.status),
            expect=self._expect,
            seq=state.seq,
            events=events_of(state),
            unencoded=unencoded,
            keep_queued_at=self._adopts,  # As `_on_claimed` takes it over.
            keep_labels=self._adopts and self._options.labels is None,
            attempts=state.attempt,
        )

    def discard(self) -> None:
        """Lets go of a session that was not begun."""
        for wake in (self.core.persist_wake, self.core.broadcast_wake):
            wake.discard()

    def _on_claimed(self, claimed: Claimed) -> None:
        state = self.state
        self._expect = None
        if not state.over:
            state.use_history(claimed.history)
            if state.estimator.usual:
                state.touch()  # It has an estimate now.
        if claimed.previous is not None and self._adopts and not state.over:
            try:
                record = decode_record(state.id, *claimed.previous.key, claimed.previous.record)
            except StoreError as error:
                self._runtime.tally.pass_over(state.id, error)
            else:
                if record.state.status == "queued":
                    self.adopt(record)
                    state.touch()
                    self._persister.hurry()  # What is stored is shown with the labels that it has.
        self._adopts = False  # Should it be claimed again, what was said since stands.
        if claimed.epoch != state.epoch:
            state.move(claimed.epoch)
            if self.core.topic is not None:
                self.core.topic.announce()

    def _on_fenced(self) -> None:
        self._fenced = True
        self.core.body.cancel(reason="the session has been taken over by another owner")

    # Beginning

    async def begin(self) -> None:
        """Starts the children and lets the session be seen. Has no checkpoint."""
        runtime, core, state, settings = self._runtime, self.core, self.state, self._runtime.settings
        core.topic = topic = runtime.hub.open(state.id, self._feed)
        heartbeat = Heartbeat(
            state, topic, settings.heartbeat_interval, self._persister.renew, self._persister.flushed, core.children
        )
        broadcaster = Broadcaster(
            state,
            topic,
            settings.broadcast_interval,
            core.broadcast_wake,
            self._persister.flushed,
            self._finish,
            self._left,
            core.children,
        )
        self._nursery_manager = trio.open_nursery(strict_exception_groups=True)
        nursery = await self._nursery_manager.__aenter__()
        for child in (self._persister, broadcaster, heartbeat):
            nursery.start_soon(child.run, name=f"{type(child).__name__} of session {state.id}")
        runtime.tally.sessions_begun += 1
        if state.pipeline_name is not None:
            runtime.tally.ledger.begin(state.pipeline_name, (spec.name for spec in state.pipeline or ()))
        if self._persister.stored != state.seq or state.dirty:
            core.mark_dirty()
        core.body.__enter__()
        self._context: Token[ProgressSession | None] = current.set(self.session)
        if core.tracing is not None:
            core.tracing.attach()

    # Leaving

    async def leave(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        """Makes the steps above.

        Returns:
            Whether the body was cancelled through the session, so that its block ends quietly.

        Raises:
            KeyboardInterrupt: A (further) Ctrl-C came while leaving.
            BaseExceptionGroup: One of the children has failed, which is a bug.
            FencedError, SessionCancelledError: The block returned, or was cancelled by the session.
        """
        current.reset(self._context)
        if self.core.tracing is not None:
            self.core.tracing.detach()
        left, quiet = self._close_body(kind, error, traceback)
        cancelled = None
        if only_cancelled(left):
            # The exception's own source may be that of an inner scope: only the enclosing one knows.
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as raised:  # noqa: ASYNC103 - leave() lets the body's own go on
                cancelled = raised
            except KeyboardInterrupt as raised:
                left = raised
        unended: list[BaseException] = []
        try:
            self._end(self._status(left, cancelled, quiet), left)
        except Exception as raised:
            unended.append(raised)
            self._end_badly(raised)
        came = [*unended, *await self._children_gone(), *await self._parts.left()]
        if self.core.children.bug is not None:
            mine = [] if left is None or only_cancelled(left) else [left]
            raise BaseExceptionGroup("a bug in trio_progress", [*mine, *came]) from None
        if came:
            raise KeyboardInterrupt from left
        if left is None:
            self._raise_for(quiet)
            return quiet
        if left is not error:
            raise left
        return False

    def _close_body(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> tuple[BaseException | None, bool]:
        """What is left of what came out of the body, and whether the session itself had cancelled it."""
        body = self.core.body
        try:
            body.__exit__(kind, error, traceback)
        except BaseException as rest:  # noqa: ASYNC103 - handed back, to be raised
            return rest, False  # A group, without the `Cancelled` that were ours.  # noqa: ASYNC104 - handed back, to be raised
        return (None, True) if body.cancelled_caught else (error, False)

    def _status(self, left: BaseException | None, cancelled: trio.Cancelled | None, quiet: bool) -> SessionStatus:
        if self.core.children.bug is not None or self._fenced:
            return "failed"
        status: SessionStatus = "cancelled" if quiet else conclude(left, cancelled)
        if status == "failed" and self.state.finished_but_for_the_result(left):
            status = "completed"
        stopped = self.core.stopped or self._runtime.interrupting
        # What is stopped often raises on its way out: that is no reason not to go on from where it was.
        return "interrupted" if status in ("cancelled", "failed", "timed_out") and stopped else status

    def _end(self, status: SessionStatus, error: BaseException | None) -> None:
        """Step 1, and what sets the others going."""
        reason = self.core.cancel_reason if status == "cancelled" else None
        shown = FencedError(self.state.id, self.state.epoch) if self._fenced else self.core.children.bug or error
        self.state.end(status, describe(status, shown, reason, self.state.pipeline))
        self.core.close_counts()
        if status in ("failed", "interrupted") and error is not None and hard_leaves(error):
            state = self.state
            log_event(
                logging.ERROR,
                "session_failed",
                "session %r failed" if status == "failed" else "session %r was interrupted, and failed to clean up",
                state.id,
                error=error,
                session=state.id,
                pipeline=state.pipeline_name,
                epoch=state.epoch,
                seq=state.seq,
                status=state.status,
                reason=type(error).__name__,
            )
        self._let_go()

    def _end_badly(self, bug: Exception) -> None:
        """Step 1 where that has failed itself: the children are told all the same, or all would wait for ever."""
        self.core.children.bug = self.core.children.bug or bug
        with suppress(Exception):
            self.state.end("failed", ErrorInfo(type=type(bug).__name__))
        self._let_go()

    def _let_go(self) -> None:
        """Tells the children that the session is left, who traces it that it has ended, and has its parts cancelled."""
        if self.core.tracing is not None:
            self.core.tracing.end()
        self._left.set()
        self._persister.leave()
        self.core.persist_wake.close()
        self.core.broadcast_wake.close()
        self._parts.end(cancel=not (self._fenced or self.core.stopped or self._runtime.closed))

    def _finish(self) -> None:
        """Step 4; called by the broadcaster when the flush is over, or when it has crashed itself."""
        topic = self.core.topic
        assert topic is not None
        if self._fenced:
            self._runtime.hub.give_up(topic)
        elif self.state.over:
            self._runtime.hub.close(topic, Ended(self.state.status, self._persister.stored))

    async def _children_gone(self) -> list[BaseException]:
        """Waits for steps 2 to 6. Returns what came out of the children, or a Ctrl-C; never `Cancelled`."""
        came: list[BaseException] = []
        try:
            await self._nursery_manager.__aexit__(None, None, None)
        except BaseExceptionGroup as group:
            came = [inner for inner in group.exceptions if not only_cancelled(inner)]
        finally:
            if self.core.children.bug is not None:
                await self._rescue()  # noqa: ASYNC102 - shields itself, with a deadline
            tally, state = self._runtime.tally, self.state
            tally.sessions_ended += 1
            tally.states += state.seq
            tally.ledger.end(state.pipeline_name, state.status if state.over else "failed")
            if self._persister.stored != state.seq and not self._fenced:
                tally.final_lost += 1
                log_event(
                    logging.ERROR,
                    "final_state_not_stored",
                    "session %r ended as %s, but the final state did not reach the store in %g s: it holds %s of %d",
                    state.id,
                    state.status,
                    self._runtime.settings.flush_timeout,
                    self._persister.stored,
                    state.seq,
                    session=state.id,
                    pipeline=state.pipeline_name,
                    epoch=state.epoch,
                    seq=state.seq,
                    status=state.status,
                )
                self._persister.spool(self._runtime.delivery, self._parts.unasked)
        return came

    async def _rescue(self) -> None:
        """Makes the steps that a crashed child has left undone."""
        if not self._fenced:
            with trio.move_on_after(self._runtime.settings.flush_timeout, shield=True):
                await self._persister.rescue()
        topic = self.core.topic
        assert topic is not None
        if topic.feed is self._feed:
            self._runtime.hub.close(topic, Ended(self.state.status, self._persister.stored))

    def _raise_for(self, quiet: bool) -> None:
        if self._fenced:
            raise FencedError(self.state.id, self.state.epoch)
        if quiet and self._options.raise_on_cancel and self.state.status == "cancelled":
            raise SessionCancelledError(self.state.id, self.core.cancel_reason)
