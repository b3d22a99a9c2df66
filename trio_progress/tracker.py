"""`ProgressTracker`: the sessions of one process, the tasks that they share, and the way to all others."""

from __future__ import annotations

import logging
import random
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any, Final, Never, final

import msgspec
import trio

from .committer import Committer, Once
from .errors import SessionActiveError, SessionNotFoundError
from .house import House, Order
from .hub import Hub
from .listing import SessionPage, list_sessions
from .persister import index_of
from .reader import Reader
from .remote import RemoteState
from .scope import RESUMES, Resume, SessionScope
from .settings import Settings
from .state import checks
from .state.clock import Clock, utc
from .state.pipeline import Pipeline
from .state.record import decode_record, encode_record
from .state.session import SessionState
from .state.snapshot import ErrorInfo, Snapshot
from .statistics import Tally, TrackerStatistics
from .stores.base import Ask, Claim, Claimed, Delete, Done, Index, Refused, Store, Stored
from .stores.opening import open_store
from .subscription import Subscription, Watch, WatchAll

logger = logging.getLogger("trio_progress")

LEAVING_GRACE: Final = 1.0
"""Seconds, beside `flush_timeout`, in which sessions are given up when the tracker is left."""


class _Nobody:
    """The host of a state that is declared: nobody runs it."""

    def stir(self) -> None:
        """Nobody is to be woken."""

    def urge(self) -> None:
        """Nobody is to be woken."""

    def drain(self, node: object) -> None:
        """Nobody counts."""

    def late(self, what: str, where: str) -> Never:
        raise AssertionError("nothing ends here")

    def drop(self, error: Exception) -> Never:
        raise error


@final
class ProgressTracker:
    """The sessions of one process. Made by `open_tracker()`, and used in the same run of Trio.

    Sessions may be opened in any task. When the tracker is left, those that are still open are cancelled
    and flushed before it closes.
    """

    def __init__(
        self, store: Store, settings: Settings, nursery: trio.Nursery, wall_clock: Callable[[], float]
    ) -> None:
        tally = Tally()
        # From the module, so that whoever seeds that (as `testing.explore` does) has the same pauses again.
        rng = random.Random(random.random())  # noqa: S311 - jitter
        hub = Hub(store, Clock(trio.current_time, wall_clock), tally, settings.event_limit)
        committer = Committer(store, tally, rng)
        self._house = House(settings, store, committer, hub, tally, {})
        self._reader = Reader(store, hub, rng, settings.event_limit, self._asked)
        self._nursery = nursery
        self._signals = ExitStack()
        self._scope = trio.CancelScope()
        self.interrupted_by: int | None = None
        """The number of the signal that `interrupt_on` has received; None while there was none."""

    @property
    def settings(self) -> Settings:
        """What the tracker was opened with."""
        return self._house.settings

    # Sessions

    def session(
        self,
        session_id: str | None = None,
        pipeline: Pipeline | None = None,
        *,
        title: str | None = None,
        labels: Mapping[str, str] | None = None,
        resume: Resume = "never",
        raise_on_cancel: bool = False,
    ) -> SessionScope:
        """A session, to be entered by `async with`.

        How it ended is read from how its block is left. Entering waits for the store to grant the
        session, at most a second where the store is slow or down; leaving waits until the store holds
        the final state, at most `flush_timeout`. Being cancelled while entering leaves nothing behind;
        leaving cannot be cancelled. The body's own exception leaves as itself.

        Args:
            session_id: 1 to 128 of `A-Z a-z 0-9 . _ : -`; made up where it is None.
            pipeline: The phases; without one they are added as they come.
            title: What people are shown; the declared title, or the id, unless given.
            labels: What it can be found by, and who may see it.
            resume: "never" begins a new run. "interrupted" goes on from a run that was interrupted or
                lost, "always" also from one that failed, was cancelled or timed out; completed phases
                stay and `session.saved` is handed back. What was never begun begins anew.
            raise_on_cancel: Whether `session.cancel()` raises at the end of the block, instead of
                ending it quietly.

        Raises:
            ValueError, TypeError: A value is out of range.
            SessionActiveError: When entering: it is open here or elsewhere.
            SessionCompletedError: When entering, to resume: it has completed.
            StoreError: When entering, to resume: the store does not answer.
            SessionClosedError: When entering: the tracker is being left.
            SessionCancelledError: When leaving, with `raise_on_cancel`.
            FencedError: When leaving: another owner has taken it over.
        """
        settings = self._house.settings
        if resume not in RESUMES:
            raise ValueError(f"resume must be one of {', '.join(map(repr, RESUMES))}, not {resume!r:.200}")
        given = None if session_id is None else checks.session_id(session_id)
        order = Order(
            id=checks.new_id() if given is None else given,
            pipeline=_pipeline(pipeline),
            title=None if title is None else checks.title("title", title, settings.limits),
            labels=None if labels is None else checks.labels(labels, settings.limits),
            raise_on_cancel=raise_on_cancel,
        )
        return SessionScope(self._house, order, resume)

    async def declare(
        self,
        session_id: str,
        pipeline: Pipeline | None = None,
        *,
        title: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Snapshot:
        """Makes a session visible as queued, before anybody runs it. Declaring it again replaces that.

        A run of that id which has ended is no longer what the id stands for.

        Raises:
            ValueError, TypeError: A value is out of range.
            SessionActiveError: It is open, here or elsewhere.
            StoreError: The store did not answer.
        """
        house, settings = self._house, self._house.settings
        checks.session_id(session_id)
        state = SessionState(
            session_id,
            host=_Nobody(),
            clock=house.hub.clock,
            pipeline=_pipeline(pipeline),
            title=None if title is None else checks.title("title", title, settings.limits),
            labels=checks.labels(labels, settings.limits),
            limits=settings.limits,
        )
        state.queued = house.hub.clock.wall()
        state.touch()
        state.publish()
        if session_id in house.open:
            raise SessionActiveError(session_id, "in this process")
        claim = Claim(
            id=session_id,
            proposal=int(state.queued * 1000),
            owner=checks.new_id(),
            record=encode_record(state),
            index=index_of(state),
            lease=None,
            keep=settings.retention,
            seq=state.seq,
        )
        outcome = await Once(claim).made(house.committer)
        if not isinstance(outcome, Claimed):
            raise SessionActiveError(session_id, "in another process")
        state.move(outcome.epoch)
        snapshot = state.snapshot()
        house.hub.show(snapshot)
        return snapshot

    async def cancel(self, session_id: str, reason: str | None = None) -> None:
        """Cancels a session, here or (by asking its owner) elsewhere. Returns when that is said, not when it ended.

        One that is queued ends as cancelled at once. One that has ended, or is lost, is left as it is.

        Raises:
            SessionNotFoundError: There is no such session.
            StoreError: It is not open here, and the store did not answer.
        """
        checks.session_id(session_id)
        text = checks.message("reason", reason, self._house.settings.limits)
        await trio.lowlevel.checkpoint()
        if not self._cancel_here(session_id, text):
            stored = await self._house.store.read(session_id)
            if stored is None:
                raise SessionNotFoundError(session_id)
            if stored.alive:
                await Once(Ask(session_id, "cancel", text)).made(self._house.committer)
            elif decode_record(session_id, *stored.key, stored.record).state.status == "queued":
                await self._cancel_queued(stored, text)

    async def _cancel_queued(self, stored: Stored, reason: str | None) -> None:
        """Ends a declared session that nobody runs; where somebody has begun meanwhile, that one is asked."""
        house = self._house
        record = decode_record(stored.id, *stored.key, stored.record)
        ended = msgspec.structs.replace(
            record.state,
            status="cancelled",
            seq=record.state.seq + 1,
            ended_at=utc(house.hub.clock.wall()),
            error=None if reason is None else ErrorInfo(type="Cancelled", message=reason),
        )
        queued_at = 0.0 if ended.queued_at is None else ended.queued_at.timestamp()
        claim = Claim(
            id=stored.id,
            proposal=stored.key.epoch + 1,
            owner=checks.new_id(),
            record=msgspec.json.encode(msgspec.structs.replace(record, state=ended)),
            index=Index(ended.status, ended.pipeline, ended.labels, queued_at),
            lease=None,
            keep=house.settings.retention,
            expect=stored.key,
            seq=ended.seq,
        )
        outcome = await Once(claim).made(house.committer)
        if isinstance(outcome, Claimed):
            house.hub.show(msgspec.structs.replace(ended, epoch=outcome.epoch))
        else:
            await Once(Ask(stored.id, "cancel", reason)).made(house.committer)

    def _cancel_here(self, session_id: str, reason: str | None) -> bool:
        scope = self._house.open.get(session_id)
        if scope is None:
            return False
        if scope.session is None:
            scope.stop(reason, interrupted=False)  # It is being entered, and is cancelled as soon as it has begun.
        elif not scope.session.state.over:
            scope.session.cancel(reason)
        return True

    def _asked(self, session_id: str, what: str, reason: str | None) -> None:
        """Somebody asks the owner of a session for something, by the store."""
        if what == "cancel":
            self._cancel_here(session_id, checks.message("reason", reason, self._house.settings.limits))

    async def delete(self, session_id: str) -> None:
        """Removes all that is stored of a session.

        Raises:
            SessionActiveError: It is open, here or elsewhere: cancel it first.
            SessionNotFoundError: There is no such session.
            StoreError: The store did not answer.
        """
        checks.session_id(session_id)
        if session_id in self._house.open:
            raise SessionActiveError(session_id, "in this process")
        outcome = await Once(Delete(session_id)).made(self._house.committer)
        if isinstance(outcome, Refused):
            raise SessionActiveError(session_id, "in another process")
        if isinstance(outcome, Done) and not outcome.found:
            raise SessionNotFoundError(session_id)

    # Reading

    async def snapshot(self, session_id: str) -> Snapshot:
        """A session as it is now: live where it is open here, else as the store has it. A checkpoint.

        Raises:
            SessionNotFoundError: There is no such session.
            StoreError: It is not open here, and the store did not answer or holds what cannot be read.
        """
        checks.session_id(session_id)
        feed = self._house.hub.feed(session_id)
        if feed is not None:
            await trio.lowlevel.checkpoint()
            return feed.source.snapshot()
        stored = await self._house.store.read(session_id)
        if stored is None:
            raise SessionNotFoundError(session_id)
        return RemoteState(stored, self._house.hub.clock, self._house.settings.event_limit).snapshot()

    async def sessions(
        self,
        labels: Mapping[str, str] | None = None,
        status: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> SessionPage:
        """The sessions that there are, newest first, a page at a time. A checkpoint.

        Args:
            labels: Only those that have all of these.
            status: Only those that stand so.
            limit: At most so many, 1 to 1000.
            cursor: The `cursor` of the page before.

        Raises:
            ValueError, TypeError: A value is out of range.
            StoreError: The store did not answer.
        """
        wanted = checks.labels(labels, self._house.settings.limits)
        return await list_sessions(self._house, wanted, status, limit, cursor)

    def watch(self, session_id: str, *, wait: bool = False) -> Watch:
        """A session as merged snapshots, latest wins, ending with the session's ended state.

        `async with tracker.watch(...) as snapshots`, then `async for snapshot in snapshots`.

        Args:
            session_id: The session.
            wait: Whether to wait for one that is not there yet.

        Raises:
            SessionNotFoundError: When entering: there is none, and `wait` is False.
        """
        return Watch(self._house.hub, checks.session_id(session_id), wait=wait)

    def watch_all(self, labels: Mapping[str, str] | None = None) -> WatchAll:
        """All sessions of this tracker as merged snapshots, of each the newest; first those that are open or queued.

        `async with tracker.watch_all(...) as snapshots`. It ends when the tracker is left.
        """
        return WatchAll(self._house.hub, checks.labels(labels, self._house.settings.limits))

    def subscribe(
        self, session_id: str, *, since: str | None = None, max_hz: float | None = None, wait: bool = False
    ) -> Subscription:
        """A session as the protocol's messages, ending with `End`.

        `async with tracker.subscribe(...) as messages`, then `async for message in messages`. A slow reader
        gets fewer updates, never wrong ones; custom events that it misses are told as `Gap`.

        Args:
            session_id: The session.
            since: The resume token of the last message received; what was missed follows, or a
                snapshot, and `Subscribed` says which.
            max_hz: At most so many updates a second, above 0; None: as they come.
            wait: Whether to wait for a session that is not there yet.

        Raises:
            ValueError, TypeError: A value is out of range.
            SessionNotFoundError: When entering: there is none, and `wait` is False.
        """
        checks.session_id(session_id)
        if since is not None and not isinstance(since, str):
            raise TypeError(f"since must be a resume token or None, not {since!r:.200}")
        interval = 0.0 if max_hz is None else 1.0 / checks.number("max_hz", max_hz, above=0)
        return Subscription(self._house.hub, session_id, since=since, interval=interval, wait=wait)

    async def wait_ended(self, session_id: str) -> Snapshot:
        """Waits until a session has ended, and nothing of it is left here; returns its last state.

        One that is queued is waited for until it was run. Cancelling it changes nothing.

        Raises:
            SessionNotFoundError: There is no such session.
        """
        checks.session_id(session_id)
        last = None
        async with self.watch(session_id) as snapshots:
            async for snapshot in snapshots:
                last = snapshot
        scope = self._house.open.get(session_id)
        if scope is not None and (scope.session is None or scope.session.state.over):
            await scope.left.wait()
        assert last is not None
        return last

    def statistics(self) -> TrackerStatistics:
        """What was counted since the tracker was opened, and how it stands."""
        house = self._house
        running = [scope.session.state.seq for scope in house.open.values() if scope.session is not None]
        return TrackerStatistics.of(
            house.tally,
            sessions_open=len(house.open),
            subscribers=house.hub.listeners,
            states=sum(running),
            store_up=house.committer.up and self._reader.up,
        )

    # Stopping

    def interrupt_on(self, *signals: signal.Signals) -> None:
        """Makes these signals a polite stop: all sessions end as interrupted, are flushed, and can be resumed.

        On the first of them the block of `open_tracker` is cancelled and ends quietly, as a cancel scope
        does; `interrupted_by` then says which signal it was. The signals are handled until the tracker is left.

        Raises:
            RuntimeError: Not called in the main thread.
            ValueError, TypeError: No signals, or something else.
        """
        if not signals:
            raise ValueError("interrupt_on needs at least one signal, such as signal.SIGTERM")
        wanted = [signal.Signals(given) for given in signals]
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("signals can be handled in the main thread only")
        received = self._signals.enter_context(trio.open_signal_receiver(*wanted))
        self._nursery.start_soon(self._interrupt, received)

    async def _interrupt(self, received: AsyncIterator[int]) -> None:
        async for number in received:
            self.interrupted_by = number
            logger.info("received %s: sessions are interrupted", signal.Signals(number).name)
            self._stop_all(f"received {signal.Signals(number).name}", interrupted=True)
            self._scope.cancel(reason=f"received {signal.Signals(number).name}")

    def _stop_all(self, reason: str, *, interrupted: bool) -> None:
        self._house.interrupting = self._house.interrupting or interrupted
        for scope in list(self._house.open.values()):
            scope.stop(reason, interrupted)

    async def _leave(self) -> None:
        """Lets sessions end and be flushed, and then the tasks that they share. Shielded, and bounded."""
        house = self._house
        house.closed = True
        grace = house.settings.flush_timeout + LEAVING_GRACE
        with trio.CancelScope(shield=True, deadline=trio.current_time() + grace):
            self._stop_all("the tracker is left", interrupted=False)
            for scope in list(house.open.values()):
                await scope.left.wait()
        if house.open:
            logger.error("the tracker is left, but these sessions do not end: %s", ", ".join(map(repr, house.open)))
        house.hub.shut()
        self._signals.close()
        self._reader.close()
        house.committer.close()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + house.settings.flush_timeout):
            await house.committer.ended.wait()
        house.committer.abandon()
        self._nursery.cancel_scope.cancel(reason="the tracker is left")


def _pipeline(given: object) -> Pipeline | None:
    if given is not None and not isinstance(given, Pipeline):
        raise TypeError(f"pipeline must be a trio_progress.Pipeline or None, not {given!r:.200}")
    return given


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_tracker(
    store: str | Store = "memory:", *, wall_clock: Callable[[], float] = time.time, **settings: Any
) -> AsyncIterator[ProgressTracker]:
    """Opens a tracker on a store: `"memory:"`, or a `Store`.

    Leaving cancels the sessions that are still open, waits until they have ended and are stored (at most
    `flush_timeout` and a second), and cannot be cancelled. The body's own exception leaves as itself.

    Args:
        store: Where sessions are kept.
        wall_clock: Stamps what is stored or shown; seconds since 1970. Durations are measured by Trio's clock.
        settings: The fields of `Settings`: `strict=True`, `persist_interval=2.0`, `broadcast_interval=0.1`,
            `heartbeat_interval=10.0`, `stall_after=60.0`, `lost_after=30.0`, `flush_timeout=5.0`,
            `retention=3600.0`, `event_limit=1000`, `limits=Limits()`.

    Raises:
        ValueError, TypeError: A setting is out of range, or the store is none.
        StoreError: The store cannot be opened.
    """
    checked = Settings(**settings)
    opened, ours = open_store(store, event_limit=checked.event_limit)
    body_error: BaseException | None = None
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            tracker = ProgressTracker(opened, checked, nursery, wall_clock)
            nursery.start_soon(tracker._house.committer.run, name="committer")
            nursery.start_soon(tracker._reader.run, name="reader")
            try:
                with tracker._scope:
                    yield tracker
            except BaseException as error:  # noqa: ASYNC103 - raised below, as itself
                body_error = error
            finally:
                await tracker._leave()  # noqa: ASYNC102 - shields itself, with a deadline
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) and not group.subgroup(Exception):
            raise KeyboardInterrupt from body_error
        raise
    finally:
        if ours:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + checked.flush_timeout):
                await opened.aclose()
    if body_error is not None:
        raise body_error
