"""`ProgressTracker`: the sessions of one process, the tasks that they share, and the way to all others."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from typing import Unpack, final

import trio

from .contexts import BodyError, Opening
from .errors import ForeignProcessError, ForeignThreadError, SessionClosedError, SessionNotFoundError
from .live.subscription import Subscription, Watch, WatchAll
from .protocol import clock
from .protocol.snapshot import Snapshot
from .session import commands
from .session.histories import TrackerHistories
from .session.next_session import TrackerTaking
from .session.one_process import ToldOfForks, end_forked
from .session.runtime import SessionOptions, TrackerRuntime
from .session.scope import RESUMES, Resume, SessionScope
from .session.shared_tasks import SharedTasks
from .session.tracker_fencing import TrackerFencing
from .session.tracker_lists import TrackerLists
from .settings import Settings, TrackerOptions, checked_settings
from .state import checks
from .state.pipeline import Pipeline
from .state.session import checked_pipeline, queued_state
from .stores.base import Store
from .stores.opening import open_store
from .telemetry.statistics import TrackerStatistics


@final
class ProgressTracker(ToldOfForks, TrackerHistories, TrackerFencing, TrackerLists, TrackerTaking):
    """The sessions of one process. Made by `open_tracker()`, and used in the same run of Trio.

    Sessions may be opened in any task. When the tracker is left, those that are still open are cancelled
    and flushed before it closes.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        nursery: trio.Nursery,
        wall_clock: Callable[[], float],
        spool: bool,
        signals: ExitStack,
    ) -> None:
        super().__init__()  # A copy is without the tasks and threads that the tracker stands on.
        # From the module, so that whoever seeds that (as `testing.explore` does) has the same pauses again.
        rng = random.Random(random.random())  # noqa: S311 - jitter
        self._tasks = SharedTasks(store, settings, wall_clock, spool, rng, nursery, signals, self._interrupted)
        self._shared = self._tasks.runtime
        self._afterwards = ExitStack()
        self._left = False
        self._thread = threading.get_ident()
        self._scope = trio.CancelScope()
        self.interrupted_by: int | None = None
        """The number of the signal that `interrupt_on` has received; None while there was none."""

    @property
    def _runtime(self) -> TrackerRuntime:
        runtime = self._read
        if threading.get_ident() != self._thread:
            raise ForeignThreadError(
                "the tracker was called from a foreign thread: go to its own by `trio.from_thread.run()`, or open "
                "another one on the same store in an event loop of that thread"
            )
        return runtime

    @property
    def _read(self) -> TrackerRuntime:
        """The same for what any thread may read."""
        if self._foreign:
            raise ForeignProcessError("the tracker", self._process, os.getpid())
        return self._shared

    @property
    def settings(self) -> Settings:
        """What the tracker was opened with."""
        return self._read.settings

    # Sessions

    def session(
        self,
        session_id: str | None = None,
        pipeline: Pipeline | str | None = None,
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
            pipeline: The phases; without one they are added as they come. A str is the name of a pipeline whose phases
                come as they are entered: what each takes is learnt under it, for the bar and the ETA of later runs.
            title: What people are shown; the declared title, or the id, unless given.
            labels: What it can be found by, and who may see it.
            resume: "never" begins a new run. "interrupted" goes on from a run that was interrupted or
                lost, "always" also from one that failed, was cancelled or timed out; completed phases
                stay and `session.saved` is handed back. What was never begun begins anew. "waiting" is for
                workers: like "interrupted", but only for what waits to be run, declared or interrupted or lost.
            raise_on_cancel: Whether `session.cancel()` raises at the end of the block, instead of
                ending it quietly.

        Raises:
            ValueError, TypeError: A value is out of range.
            SessionActiveError: When entering: it is open here or elsewhere.
            SessionCompletedError: When entering, to resume: it has completed.
            SessionEndedError: When entering what was "waiting": it has ended meanwhile; `status` says how.
            SessionNotFoundError: When entering what was "waiting": it was deleted meanwhile.
            StoreError: When entering, to resume: the store does not answer.
            SessionClosedError: When entering: the tracker is being left.
            SessionCancelledError: When leaving, with `raise_on_cancel`.
            FencedError: When leaving: another owner has taken it over.
        """
        settings = self._runtime.settings
        if resume not in RESUMES:
            raise ValueError(f"resume must be one of {', '.join(map(repr, RESUMES))}, not {resume!r:.200}")
        if isinstance(session_id, Pipeline):
            raise TypeError(f"the id comes first, or none: tracker.session(pipeline=...), with {session_id!r:.200}")
        given = None if session_id is None else checks.session_id(session_id)
        order = SessionOptions(
            id=checks.new_id() if given is None else given,
            pipeline=checked_pipeline(pipeline),
            title=None if title is None else checks.title("title", title, settings.limits),
            labels=None if labels is None else checks.labels(labels, settings.limits),
            raise_on_cancel=raise_on_cancel,
        )
        return SessionScope(self._runtime, order, resume)

    async def declare(
        self,
        session_id: str,
        pipeline: Pipeline | str | None = None,
        *,
        title: str | None = None,
        labels: Mapping[str, str] | None = None,
        parent: str | None = None,
    ) -> Snapshot:
        """Makes a session visible as queued, before anybody runs it. Declaring it again replaces that.

        A run of that id which has ended is no longer what the id stands for. With `parent`, it is a part of that
        session: shown with it, and cancelled with it where that follows it.

        Raises:
            ValueError, TypeError: A value is out of range.
            SessionActiveError: It is open, here or elsewhere.
            StoreError: The store did not answer.
        """
        runtime = self._runtime
        checks.session_id(session_id)
        state = queued_state(session_id, pipeline, title, labels, runtime.hub.clock, runtime.settings.limits, parent)
        return await commands.declare(runtime, state)

    async def cancel(self, session_id: str, reason: str | None = None) -> None:
        """Cancels a session, here or (by asking its owner) elsewhere. Returns when that is said, not when it ended.

        One that is queued ends as cancelled at once. One that has ended, or is lost, is left as it is.

        Raises:
            SessionNotFoundError: There is no such session.
            StoreError: It is not open here, and the store did not answer.
        """
        runtime = self._runtime
        checks.session_id(session_id)
        await commands.cancel(runtime, session_id, checks.message("reason", reason, runtime.settings.limits))

    async def delete(self, session_id: str) -> None:
        """Removes all that is stored of a session.

        Raises:
            SessionActiveError: It is open, here or elsewhere: cancel it first.
            SessionNotFoundError: There is no such session.
            StoreError: The store did not answer.
        """
        checks.session_id(session_id)
        await commands.delete(self._runtime, session_id)

    # Reading

    async def snapshot(self, session_id: str) -> Snapshot:
        """A session as it is now: live where it is open here, else as the store has it. A checkpoint.

        Raises:
            SessionNotFoundError: There is no such session.
            StoreError: It is not open here, and the store did not answer or holds what cannot be read.
        """
        checks.session_id(session_id)
        feed = self._runtime.hub.feed(session_id)
        if feed is not None:
            await trio.lowlevel.checkpoint()
            return feed.snapshot()
        stored = await self._runtime.store.read(session_id)
        if stored is None:
            raise SessionNotFoundError(session_id)
        return self._runtime.hub.found(stored).snapshot()

    def watch(self, session_id: str, *, wait: bool = False) -> Watch:
        """A session as merged snapshots, latest wins, ending with the session's ended state.

        `async with tracker.watch(...) as snapshots`, then `async for snapshot in snapshots`.

        Args:
            session_id: The session.
            wait: Whether to wait for one that is not there yet.

        Raises:
            SessionNotFoundError: When entering: there is none, and `wait` is False.
        """
        return Watch(self._runtime.hub, checks.session_id(session_id), wait=wait)

    def watch_all(self, labels: Mapping[str, str] | None = None, *, here: bool = False) -> WatchAll:
        """All sessions as merged snapshots, of each the newest; first those that are open or queued.

        `async with tracker.watch_all(...) as snapshots`. It ends when the tracker is left. Those of other
        processes are met within a second or so, and then seen as often as their owners store them.

        Args:
            labels: Only those that have all of these.
            here: Only those that this tracker runs or declares.

        Raises:
            ValueError, TypeError: A value is out of range.
            StoreError: When entering: the store did not answer.
        """
        return WatchAll(self._runtime.hub, checks.labels(labels, self._runtime.settings.limits), here=bool(here))

    def subscribe(
        self, session_id: str, *, since: str | None = None, max_hz: float | None = None, wait: bool = False
    ) -> Subscription:
        """A session as the protocol's messages, ending with `End`.

        `async with tracker.subscribe(...) as messages`, then `async for message in messages`. A slow reader
        gets fewer updates, never wrong ones; custom events that it misses are counted in a `Gap`.

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
        return Subscription(self._runtime.hub, session_id, since=since, interval=interval, wait=wait)

    async def wait_ended(self, session_id: str) -> Snapshot:
        """Waits until a session has ended, and nothing of it is left here; returns its last state.

        One that is queued is waited for until it was run. Cancelling it changes nothing.

        Raises:
            SessionNotFoundError: There is no such session, or it was deleted before it had ended.
            SessionClosedError: The tracker was left before it had ended.
        """
        return await commands.wait_ended(self._runtime, checks.session_id(session_id))

    def statistics(self) -> TrackerStatistics:
        """What was counted since the tracker was opened, and how it stands."""
        return self._tasks.statistics(self._read)

    def on_left(self, callback: Callable[[], object]) -> None:
        """Has `callback` called once when the tracker has been left: all sessions have ended, all is counted.

        It is called in the event loop and must not raise; the callback that was given last comes first.

        Raises:
            SessionClosedError: The tracker has been left already.
        """
        if self._left:
            raise SessionClosedError("the tracker has been left: nothing of it will come any more")
        self._afterwards.callback(callback)

    # Stopping

    def interrupt_on(self, *signals: signal.Signals) -> None:
        """Makes these signals a polite stop: all sessions end as interrupted, are flushed, and can be resumed.

        On the first of them the block of `open_tracker` is cancelled and ends quietly, as a cancel scope
        does; `interrupted_by` then says which signal it was. The signals are handled until the tracker is left.

        Raises:
            RuntimeError: Not called in the main thread.
            ValueError, TypeError: No signals, or something else.
        """
        self._tasks.interrupt_on(*signals)

    def _interrupted(self, number: int) -> None:
        self.interrupted_by = number
        self._scope.cancel(reason=f"received {signal.Signals(number).name}")


def runtime_of(tracker: ProgressTracker) -> TrackerRuntime:
    """The inside of a tracker, for what serves, records and tests it: the one door there is.

    Raises:
        ForeignProcessError: This process is a forked copy of the tracker's.
    """
    return tracker._read


def open_tracker(
    store: str | Store = "memory:",
    *,
    spool: bool = True,
    require_store: bool = True,
    wall_clock: Callable[[], float] = clock.wall,
    **settings: Unpack[TrackerOptions],
) -> AbstractAsyncContextManager[ProgressTracker, bool | None]:
    """Opens a tracker on a store: `"memory:"`, `"sqlite:PATH"`, `"redis://HOST:PORT/DB"`, or a `Store`.

    Leaving cancels the sessions that are still open, waits until they have ended and are stored (at most
    `flush_timeout` and a second), and cannot be cancelled. The body's own exception leaves as itself.

    Args:
        store: Where sessions are kept; with Sentinel `"redis-sentinel://HOST:PORT,HOST:PORT/DB?service=NAME"`, in a
            Cluster `"redis-cluster://HOST:PORT,HOST:PORT/"`.
        spool: Whether a final state that the store does not take in time is kept in a file of this user's
            (in the platform's place for state), and delivered by the next tracker on the same store, or by this
            one when the store is back. A store in memory has no next tracker, and nothing is kept for it.
        require_store: Whether a URL's store that cannot be used now is refused. With False the tracker opens all the
            same: sessions begin, and are stored once it can be. A `Store` that is given is used as it is.
        wall_clock: Stamps what is stored or shown; seconds since 1970. Durations are measured by Trio's clock.
        settings: The fields of `Settings`: `strict=True`, `persist_interval=2.0`, `broadcast_interval=0.1`,
            `heartbeat_interval=10.0`, `stall_after=60.0`, `lost_after=30.0`, `flush_timeout=5.0`,
            `retention=3600.0`, `unfinished_retention=604800.0`, `event_limit=1000`, `limits=Limits()`.

    Raises:
        ValueError, TypeError: A setting is unknown or out of range; when entering: the store is none.
        StoreError: When entering: the store cannot be opened, and `require_store` is True.
        RuntimeError: When entering: Trio does not run here.
    """
    checked = checked_settings("open_tracker()", settings, "spool", "require_store", "wall_clock")
    return Opening("open_tracker()", "tracker", _opened(store, spool, require_store, wall_clock, checked))


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def _opened(
    store: str | Store, spool: bool, require_store: bool, wall_clock: Callable[[], float], checked: Settings
) -> AsyncIterator[ProgressTracker]:
    opened, ours = await open_store(
        store, event_limit=checked.event_limit, flush_timeout=checked.flush_timeout, required=require_store
    )
    body = BodyError()
    signals = ExitStack()
    try:
        async with trio.open_nursery(strict_exception_groups=True) as nursery:
            tracker = ProgressTracker(opened, checked, nursery, wall_clock, spool, signals)
            tracker._tasks.start()
            with body, tracker._scope:
                await tracker._tasks.catch_up()
                yield tracker
            if tracker._foreign:
                end_forked("the block of open_tracker()", body.error)
            await tracker._tasks.leave()
            tracker._left = True
            tracker._afterwards.close()
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) and not group.subgroup(Exception):
            raise KeyboardInterrupt from body.error
        raise
    finally:
        try:
            if ours:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + checked.flush_timeout):
                    await opened.aclose()
        finally:
            signals.close()  # Not before the task that reads them has ended: of a closed receiver it would fail.
    body.reraise()
