"""The parts of a session that has ended as failed, cancelled or timed out: they are cancelled with it.

1. Nothing is asked before the store holds the end of the session: an owner that was fenced cancels nothing. Where the
   store does not take that end, the requests are spooled with it, and made once it has been delivered.
2. The session is left when all of its parts have ended, at the latest `flush_timeout` after it has. What has not ended
   by then is logged and counted.
3. The requests go on behind that, in a task of the tracker, until they are made; what is not when the tracker is left
   is spooled. They stop where another attempt of the session has begun.
4. A part that is interrupted or lost after it was asked is ended here: nobody is to go on with it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, final

import trio

from ..errors import SessionClosedError, StoreError
from ..live.following import Following
from ..live.store_watcher import FIRST_PAUSE, LONGEST_PAUSE
from ..protocol.backoff import Backoff
from ..state.mirror import AWAITED
from ..storage.part_cancelling import YOUNG, PartCanceller
from ..telemetry.logs import log_event

if TYPE_CHECKING:
    from .core import SessionCore
    from .runtime import TrackerRuntime


@final
class PartsLeft:
    """Those of one session.

    Args:
        runtime: The tracker's.
        core: The session, which has ended.
        parts: The sessions that it followed, and that may be its parts.
    """

    __slots__ = ("_canceller", "_core", "_deadline", "_done", "_running", "_runtime", "_scope", "unasked")

    def __init__(self, runtime: TrackerRuntime, core: SessionCore, parts: Iterable[str]) -> None:
        state, settings = core.state, runtime.settings
        self._runtime = runtime
        self._core = core
        self._canceller = PartCanceller(
            runtime.store,
            runtime.committer,
            runtime.tally,
            state.id,
            state.epoch,
            state.status,
            settings.keep("cancelled"),
        )
        self.unasked = dict.fromkeys(parts)
        """Those whose request has not been made."""
        self._running = dict.fromkeys(self.unasked)
        """Those that are not known to have ended."""
        self._deadline = trio.current_time() + settings.flush_timeout
        self._done = trio.Event()
        self._scope = trio.CancelScope(shield=True)

    async def run(self) -> None:
        """Cancels them, and returns once all have ended, or the tracker is left. Raises nothing."""
        core = self._core
        try:
            with self._scope:
                await core.persister.flushed.wait()
                if self._end_stored:
                    async with trio.open_nursery() as nursery:
                        for part in list(self.unasked):
                            nursery.start_soon(self._end_part, part)
        except Exception as error:
            what = "session %r: its parts cannot be cancelled"
            log_event(logging.ERROR, "parts_not_cancelled", what, core.state.id, error=error, session=core.state.id)
        finally:
            if self.unasked and self._end_stored:
                core.persister.spool(self._runtime.delivery, cancels=tuple(self.unasked))
            self._done.set()

    @property
    def _end_stored(self) -> bool:
        persister = self._core.persister
        return not persister.fenced and persister.stored == self._core.state.seq

    async def _end_part(self, part: str) -> None:
        """Cancels one of them, and waits until it has ended."""
        try:
            if not await self._cancel(part):
                self._running.pop(part, None)
                return
            async with Following(self._runtime.hub, part) as states:
                async for state in states:
                    if state.liveness == "lost" or state.status in AWAITED:
                        if not await self._cancel(part):
                            break
                    elif state.ended:
                        break
                else:
                    if not states.gone:
                        return  # The tracker is left.
            self._running.pop(part, None)
        except (StoreError, SessionClosedError):
            return  # It cannot be read, or the tracker is left.

    async def _cancel(self, part: str) -> bool:
        """Has one of them cancelled; False where there is nothing to be cancelled. A store that is down is waited for.

        Raises:
            SessionClosedError: The tracker has been left.
        """
        reserved = self._runtime.open.get(part)
        core = None if reserved is None else reserved.core
        if core is not None and core.state.parent == self._canceller.parent and not core.state.over:
            core.cancel(self._canceller.reason)
            self.unasked.pop(part, None)
            return True
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        first = part in self.unasked  # The store has just taken the end of the session.
        patience = trio.current_time() + YOUNG
        while True:
            try:
                made = (first or await self._canceller.stands()) and await self._canceller.cancel(
                    part, self._runtime.hub.clock.wall(), patient=trio.current_time() < patience
                )
            except StoreError:
                first = False
                await trio.sleep(backoff.pause())
            else:
                self.unasked.pop(part, None)
                return made

    async def left(self) -> list[BaseException]:
        """Waits for their ends until the deadline, and logs which have not come. Returns Ctrl-Cs that came."""
        came: list[BaseException] = []
        with trio.CancelScope(shield=True, deadline=self._deadline):
            while not self._done.is_set():
                try:
                    await self._done.wait()
                except KeyboardInterrupt as error:
                    came.append(error)
        self._scope.shield = False
        if self._running and not self._core.persister.fenced:
            state, names = self._core.state, list(self._running)
            self._runtime.tally.parts_left += len(names)
            log_event(
                logging.WARNING,
                "parts_not_ended",
                "session %r has %s, and %d of its parts had not ended %g s later: %s",
                state.id,
                state.status,
                len(names),
                self._runtime.settings.flush_timeout,
                ", ".join(map(repr, names[:10])),
                session=state.id,
                pipeline=state.pipeline_name,
                epoch=state.epoch,
                status=state.status,
            )
        return came
