"""`SessionCore`: the inside of an open session, which its state, its children and its phases call.

The author of a pipeline holds a `Session` and its `Phase`s, which show of this what an author may use.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, Unpack, final

import trio

from ..errors import ForeignProcessError, ForeignThreadError, PhaseError
from ..telemetry.logs import BURST, Fields, log_event
from .one_process import ToldOfForks
from .thread_ticker import NullTicker, ThreadTicker
from .wake import ChildWatch, WakeUp

if TYPE_CHECKING:
    from ..live.feed import Topic
    from ..protocol.snapshot import Snapshot
    from ..state.phase import PhaseNode
    from ..state.session import SessionState
    from ..telemetry.statistics import Tally
    from .persister import Persister
    from .process_counts import ProcessCounts
    from .tracing import Tracing

MOST_COUNTS: Final = 16
"""Files of counts that a session keeps open, beside those of open blocks, to find what comes too late."""


class FollowedSessions(Protocol):
    """The sessions that a session follows, as far as its phases and its tracker need them; `Parts` is the whole."""

    def watch(self) -> None:
        """Somebody begins to watch the session: those that it follows are wanted at broadcast pace as well."""
        ...

    async def follow(
        self, parent: PhaseNode, session_id: str, *, weight: float | None, title: str | None, detach: bool
    ) -> Snapshot:
        """See `Phase.follow()`."""
        ...


@final
class SessionCore(ToldOfForks):
    """What the state of an open session calls, as its `Host`, and what its phases and its tracker hold of it.

    All of it belongs to the event loop's thread.
    """

    __slots__ = (
        "_counts",
        "_logged",
        "_tally",
        "_thread",
        "_tickers",
        "_trio_token",
        "body",
        "broadcast_wake",
        "cancel_reason",
        "children",
        "parts",
        "persist_wake",
        "persister",
        "state",
        "stopped",
        "topic",
        "tracing",
    )

    def __init__(
        self,
        make_state: Callable[[SessionCore], SessionState],
        make_persister: Callable[[SessionCore], Persister],
        tally: Tally,
    ) -> None:
        self.body = trio.CancelScope()
        self.persist_wake = WakeUp()
        self.broadcast_wake = WakeUp()
        self._tally = tally
        self._thread = threading.get_ident()
        self._trio_token = trio.lowlevel.current_trio_token()
        self._tickers: dict[PhaseNode, ThreadTicker] = {}
        self._counts: list[ProcessCounts] = []
        """What processes have counted in, of blocks that are open, and of the last that were left."""
        self._logged: tuple[str, ...] = ()
        self.parts: FollowedSessions
        """The sessions that it follows."""
        self.tracing: Tracing | None = None
        """Who is told what happens, to trace it."""
        self.topic: Topic | None = None
        """Who listens to the session, from when it has begun."""
        self.stopped = False
        """Whether the process is being stopped politely."""
        self.cancel_reason: str | None = None
        self.state: SessionState = make_state(self)
        self.children = ChildWatch(self.state, tally)
        self.persister = make_persister(self)
        super().__init__()

    # Who may call

    @property
    def foreign(self) -> bool:
        """Whether this is a copy of the session, in a process that was forked while it was open."""
        return self._foreign

    def _forked(self) -> None:
        """From here on each change is refused, also one by the hot path."""
        super()._forked()
        self.state.unmark()

    def check_process(self) -> None:
        """Refuses processes that were forked from the session's own, by a `ForeignProcessError`."""
        if self._foreign:
            raise ForeignProcessError(f"session {self.state.id!r}", self._process, os.getpid())

    def check_caller(self) -> None:
        """Refuses foreign threads and processes, by a `ForeignThreadError` or a `ForeignProcessError`."""
        self.check_process()
        self.check_thread()

    def check_thread(self) -> None:
        """Refuses foreign threads, by a `ForeignThreadError`."""
        if threading.get_ident() != self._thread:
            raise ForeignThreadError(
                f"session {self.state.id!r} was called from a foreign thread: use `phase.from_thread()`, whose "
                "advance() and update() work anywhere, or `trio.from_thread.run_sync()`"
            )

    # Ending

    def cancel(self, reason: str | None) -> None:
        """Cancels the body for a reason that the end will show."""
        self.cancel_reason = reason
        self.body.cancel(reason=reason)

    def stop(self, reason: str | None, interrupted: bool) -> None:
        """Cancels the body because the tracker is left, or (`interrupted`) the process is stopped politely."""
        self.stopped = self.stopped or interrupted
        if self.cancel_reason is None:
            self.cancel_reason = reason
        self.body.cancel(reason=reason)

    # What the state calls

    def mark_dirty(self) -> None:
        """The state is no longer clean: a token to each child that has something to do about it. Does not wait."""
        if self._foreign or threading.get_ident() != self._thread:
            self.check_caller()
        followed = self.topic is not None and self.topic.subscribers
        for wake in (self.persist_wake, self.broadcast_wake) if followed else (self.persist_wake,):
            if not wake.pending:
                wake.pending = True
                wake.since = trio.current_time()
                try:
                    (wake.send or wake.open()).send_nowait(None)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass  # One that has gone is no matter.

    def request_persist(self) -> None:
        """What was published should be stored soon."""
        self.persister.hurry()

    def late(self, what: str, where: str) -> None:
        """Counts a late update, and logs one."""
        self._tally.late += 1
        self._note(
            "late",
            "late_update",
            "session %r: %s() on %s, which has ended, changed nothing; further late updates are only counted",
            what,
            f"phase {where!r}" if where else "the session",
            phase=where or None,
            reason=f"{what}()",
        )

    def drop(self, error: Exception) -> None:
        """Counts bad input that was dropped, and logs one of its kind."""
        self._tally.refused += 1
        self._note(type(error).__name__, "call_dropped", "session %r: a call was dropped: %s", error, reason=error)

    def refuse_result(self, error: Exception) -> None:
        """Logs that a result cannot be kept: it is what the work was for."""
        log_event(
            logging.ERROR,
            "result_refused",
            "session %r: its result cannot be kept: %s",
            self.state.id,
            error,
            throttle=self._tally.throttle,
            most=BURST,
            session=self.state.id,
            pipeline=self.state.pipeline_name,
            epoch=self.state.epoch,
            reason=error,
        )

    def _note(self, kind: str, event: str, text: str, *args: object, **fields: Unpack[Fields]) -> None:
        """Logs one of a kind; a later one, where those of other sessions came too often at the time of the first."""
        if kind not in self._logged:
            fields["session"], fields["epoch"] = self.state.id, self.state.epoch
            throttle = self._tally.throttle
            if log_event(logging.WARNING, event, text, self.state.id, *args, throttle=throttle, kind=kind, **fields):
                self._logged += (kind,)

    def timed(self, node: PhaseNode) -> None:
        """Counts how long a phase took that has completed."""
        self._tally.ledger.phase(self.state.pipeline_name, node.name if node.declared else None, node.spent)

    def drain(self, node: PhaseNode) -> None:
        """Brings in what threads have counted on a phase that is about to end."""
        ticker = self._tickers.pop(node, None)
        if ticker is not None:
            ticker._drain()
        for counts in self._counts:
            if counts.node is node:
                counts.finish()

    # What processes count

    def add_counts(self, counts: ProcessCounts) -> None:
        """Another block in which processes count; of those that were left, the oldest is let go of."""
        self._counts.append(counts)
        if len(self._counts) > MOST_COUNTS and self._counts[0].left:
            self._close_counts(self._counts.pop(0))

    def draw_counts(self) -> None:
        """Brings in what processes have counted until now."""
        for counts in self._counts:
            counts.draw()

    def close_counts(self) -> None:
        """The session has ended: what processes have counted since they could is late."""
        while self._counts:
            self._close_counts(self._counts.pop(0))

    def _close_counts(self, counts: ProcessCounts) -> None:
        units = counts.close()
        if units is not None:
            self._tally.late += 1
            self._note(
                "late_counts",
                "late_update",
                "session %r: processes went on counting on phase %r after its end, or the block of from_processes() "
                "(%s units), which changed nothing: wait for the workers in the block; further ones are only counted",
                counts.node.label,
                units,
                phase=counts.node.label,
                reason="from_processes()",
            )

    # What the phases call

    def ticker(self, node: PhaseNode) -> ThreadTicker | NullTicker:
        """What threads count with on the phase; where bad input is dropped, one that counts nothing."""
        try:
            self.check_process()
            if node.status != "running":
                raise PhaseError(f"phase {node.label!r} is {node.status}: threads can count on an open phase only")
        except (PhaseError, ForeignProcessError) as error:
            self.refuse(error)
            return NullTicker()
        ticker = self._tickers.get(node)
        if ticker is None:
            ticker = self._tickers[node] = ThreadTicker(node, self._trio_token)
        return ticker

    def refuse(self, error: Exception) -> None:
        """Raises, or notes and drops where the session is not strict."""
        if self.state.strict:
            raise error
        self.drop(error)
