"""The tasks that all sessions of a tracker share, from its opening until it has been left.

Leaving a tracker:

1. No session is opened or taken any more; those that are open are cancelled, end and are flushed.
2. Readers are told that nothing more comes.
3. The shared tasks end; the committer last, for it may still have something to bring to the store.
"""

from __future__ import annotations

import logging
import random
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, final

import trio

from ..live.discovery import SessionDiscovery
from ..live.hub import Hub
from ..live.store_watcher import StoreWatcher
from ..protocol.clock import Clock
from ..state import checks
from ..storage.committer import Committer, Once
from ..storage.reaper import Reaper
from ..storage.spool import Spool
from ..storage.spool_delivery import SpoolDelivery
from ..stores.taking import TAKE
from ..telemetry.logs import log_event
from ..telemetry.statistics import Tally, TrackerStatistics
from .commands import cancel_here
from .runtime import TrackerRuntime
from .taking import SessionTaker

if TYPE_CHECKING:
    from ..settings import Settings
    from ..stores.base import Ask, Store

LEAVING_GRACE: Final = 1.0
"""Seconds, beside `flush_timeout`, in which sessions are given up when the tracker is left."""

CATCH_UP: Final = 1.0
"""Seconds that opening a tracker waits for what an earlier process has spooled to be stored."""


@final
class SharedTasks:
    """Committer, store watcher, reaper, discovery, and what reads signals: one of each for all sessions.

    Args:
        nursery: In which they run.
        signals: Is left when the last task that reads signals has ended.
        on_signal: Called with the number of a signal that stops the process politely.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        wall_clock: Callable[[], float],
        spool: bool,
        rng: random.Random,
        nursery: trio.Nursery,
        signals: ExitStack,
        on_signal: Callable[[int], None],
    ) -> None:
        clock, tally = Clock(trio.current_time, wall_clock), Tally()
        self._watcher = StoreWatcher(store, clock, tally, rng, self._asked, self._listens, self._ask)
        self._discovery = SessionDiscovery(store)
        hub = Hub(
            store,
            clock,
            tally,
            settings.event_limit,
            on_remote=self._watcher.watch,
            on_idle=self._watcher.forget,
            on_everywhere=self._discovery.wake,
        )
        committer = Committer(store, tally, rng)
        address = getattr(store, "address", None)  # Of a store that outlives its process, and may miss what is written.
        kept = Spool(address, wall=clock.wall) if spool and address is not None else None
        delivery = SpoolDelivery(kept, store, committer, rng, tally, clock.wall)
        taker = SessionTaker(committer, nursery, tally, rng)
        self.runtime: Final = TrackerRuntime(settings, store, committer, delivery, hub, tally, {}, nursery, taker)
        self._nursery = nursery
        self._signals = signals
        self._on_signal = on_signal
        self._reaper = Reaper(store, self.runtime.committer, settings, tally, self.runtime.open)

    def start(self) -> None:
        """Starts them."""
        hub = self.runtime.hub
        self._nursery.start_soon(self.runtime.committer.run, name="committer")
        self._nursery.start_soon(self._watcher.run, hub, name="store watcher")
        self._nursery.start_soon(self._reaper.run, name="reaper")
        self._nursery.start_soon(self._discovery.run, hub, name="session discovery")

    async def catch_up(self) -> None:
        """Has what an earlier process could not store delivered, before a session is resumed from what it lacks."""
        delivery = self.runtime.delivery
        if delivery.wanted:
            self._nursery.start_soon(delivery.run, name="delivery")
            with trio.move_on_after(CATCH_UP):
                await delivery.tried.wait()

    def statistics(self, runtime: TrackerRuntime) -> TrackerStatistics:
        """What was counted since the tracker was opened, and how it stands."""
        cores = [reserved.core for reserved in runtime.open.values() if reserved.core is not None]
        waiting = [core.persister.waiting_since for core in cores]
        return TrackerStatistics.of(
            runtime.tally,
            store=runtime.store,
            sessions_open=len(runtime.open),
            sessions_stalled=sum(core.state.liveness() == "stalled" for core in cores),
            sessions_missing=self._reaper.missing,
            subscribers=runtime.hub.subscribers,
            states=sum(core.state.seq for core in cores),
            sessions_followed=self._watcher.followed,
            read_lag=self._watcher.lag,
            store_up=self._watcher.up and not runtime.committer.stuck,
            persist_lag=max((trio.current_time() - since for since in waiting if since is not None), default=0.0),
        )

    # What comes by the store

    def _asked(self, session_id: str, what: str, reason: str | None) -> None:
        """Somebody asks the owner of a session for something, by the store."""
        runtime = self.runtime
        if what == "cancel":
            cancel_here(runtime, session_id, checks.message("reason", reason, runtime.settings.limits))
        elif what == "watch":
            reserved = runtime.open.get(session_id)
            if reserved is not None and reserved.core is not None:
                reserved.core.persister.watched()
                reserved.core.parts.watch()
        elif what == TAKE:
            runtime.taker.rung(session_id)

    def _listens(self) -> None:
        self.runtime.taker.listens()

    def _ask(self, ask: Ask) -> None:
        self.runtime.committer.submit(Once(ask))

    # Stopping

    def interrupt_on(self, *signals: signal.Signals) -> None:
        """Has these signals stop all sessions politely, until the tracker is left."""
        if not signals:
            raise ValueError("interrupt_on needs at least one signal, such as signal.SIGTERM")
        wanted = [signal.Signals(given) for given in signals]
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("signals can be handled in the main thread only")
        received = self._signals.enter_context(trio.open_signal_receiver(*wanted))
        self._nursery.start_soon(self._interrupt, received)

    async def _interrupt(self, received: AsyncIterator[int]) -> None:
        async for number in received:
            name = signal.Signals(number).name
            text = "received %s: %d open sessions are interrupted"
            log_event(logging.INFO, "sessions_interrupted", text, name, len(self.runtime.open), reason=name)
            self._stop_all(f"received {name}", interrupted=True)
            self._on_signal(number)

    def _stop_all(self, reason: str, *, interrupted: bool) -> None:
        self.runtime.interrupting = self.runtime.interrupting or interrupted
        for reserved in list(self.runtime.open.values()):
            reserved.stop(reason, interrupted)

    async def leave(self) -> None:
        """Makes the steps above. Shielded, and bounded."""
        runtime = self.runtime
        runtime.closed = True
        runtime.taker.close()
        grace = runtime.settings.flush_timeout + LEAVING_GRACE
        with trio.CancelScope(shield=True, deadline=trio.current_time() + grace):
            self._stop_all("the tracker is left", interrupted=False)
            for reserved in list(runtime.open.values()):
                await reserved.wait_left()
        if runtime.open:
            names = ", ".join(map(repr, runtime.open))
            log_event(logging.ERROR, "sessions_stuck", "the tracker is left, but these sessions do not end: %s", names)
        runtime.hub.shut()
        self._watcher.close()
        self._reaper.close()
        self._discovery.close()
        runtime.delivery.close()
        runtime.committer.close()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + runtime.settings.flush_timeout):
            await runtime.committer.ended.wait()
        runtime.committer.abandon()
        self._nursery.cancel_scope.cancel(reason="the tracker is left")
