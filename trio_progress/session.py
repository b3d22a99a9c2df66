"""`Session`: what the author of a pipeline holds while it runs. Its life is told in `scope.py`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Unpack, final

import trio

from .errors import ForeignThreadError, PhaseError, SessionClosedError
from .logs import BURST, Fields, tell
from .null import NULL_PHASE, NullTicker
from .phase import Phase, PhaseScope
from .slow_loop import LoopWatch
from .state import checks
from .state.guard import REFUSED, UNSET, Unset, guarded
from .state.phase import PhaseNode
from .state.quantities import Number
from .state.session import SessionState
from .state.snapshot import SessionStatus, Snapshot
from .statistics import Tally
from .threads import ThreadTicker

if TYPE_CHECKING:
    from .persister import Persister
    from .state.pipeline import Pipeline


@final
class _Phases(Mapping[str, Phase]):
    """The top-level phases of a session by name or alias, in their order."""

    __slots__ = ("_state",)

    def __init__(self, state: SessionState) -> None:
        self._state = state

    def __getitem__(self, name: str) -> Phase:
        node = self._state.get(name)
        if node is None and not self._state.strict:
            self._state.drop(KeyError(name))
            return NULL_PHASE  # type: ignore[return-value]
        if node is None:
            raise KeyError(name)
        assert isinstance(node, Phase)
        return node

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._state.get(name) is not None

    def get(self, name: str, default: Any = None) -> Any:
        """The phase of that name, or else the default, also where the session is not strict."""
        node = self._state.get(name)
        return default if node is None else node

    def __iter__(self) -> Iterator[str]:
        return iter(self._state.root.children)

    def __len__(self) -> int:
        return len(self._state.root.children)


@final
class Session:
    """One tracked run, from `async with tracker.session(...) as session`.

    All methods but `flush()` are synchronous, have no checkpoint, and take effect at once. They belong to
    the event loop's thread; from others use `phase.from_thread()`.
    """

    __slots__ = (
        "_broadcast_wake",
        "_logged",
        "_persist_wake",
        "_tally",
        "_thread",
        "_tickers",
        "_trio_token",
        "body",
        "cancel_reason",
        "loop",
        "persister",
        "phases",
        "state",
        "stopped",
        "watched",
    )

    def __init__(
        self,
        make_state: Callable[[Session], SessionState],
        tally: Tally,
        persist_wake: trio.MemorySendChannel[None],
        broadcast_wake: trio.MemorySendChannel[None],
    ) -> None:
        self.body = trio.CancelScope()
        self._persist_wake = persist_wake
        self._broadcast_wake = broadcast_wake
        self._tally = tally
        self._thread = threading.get_ident()
        self._trio_token = trio.lowlevel.current_trio_token()
        self._tickers: dict[PhaseNode, ThreadTicker] = {}
        self._logged: set[str] = set()
        self.persister: Persister | None = None
        self.watched: Callable[[], bool] = bool
        self.stopped = False
        """Whether the process is being stopped politely."""
        self.cancel_reason: str | None = None
        self.state: SessionState = make_state(self)
        self.loop = LoopWatch(self.state, tally)
        self.phases: Mapping[str, Phase] = _Phases(self.state)
        """Every top-level phase by name; also how workers far away get at an open one."""

    # How it stands

    @property
    def id(self) -> str:
        """The session's id."""
        return self.state.id

    @property
    def pipeline(self) -> Pipeline | None:
        """The pipeline that it runs."""
        return self.state.pipeline

    @property
    def epoch(self) -> int:
        """The number of this ownership; every claim of the id raises it."""
        return self.state.epoch

    @property
    def attempt(self) -> int:
        """1, and one more for each time that the session was resumed."""
        return self.state.attempt

    @property
    def status(self) -> SessionStatus:
        """How it stands, or how it ended."""
        return self.state.status

    @property
    def saved(self) -> Any:
        """What was saved last, by this attempt or the one that it goes on from; None: nothing."""
        return self.state.saved

    def snapshot(self) -> Snapshot:
        """The session as it is now, frozen."""
        return self.state.snapshot()

    # Phases

    def phase(
        self,
        name: str,
        *,
        total: float | Unset | None = UNSET,
        weight: float | None = None,
        title: str | None = None,
        unit: str | None = None,
    ) -> PhaseScope:
        """A phase, to be entered by `with`; phases may overlap.

        Args:
            name: One that the pipeline declares, or an alias of it; any, where there is no pipeline.
            total: How much there is to do; None: not known. Not given: as the pipeline declares it.
            weight: Its share among its siblings, at least 0; only where no pipeline declares it.
            title: What people are shown.
            unit: What is counted.

        Raises:
            PhaseError: The phase is unknown; when it is entered: it is open, completed or skipped.
            ValueError, TypeError: A value is out of range.
            SessionClosedError: When it is entered: the session has ended.
        """
        return PhaseScope.within(self.state, self.state.root, name, total=total, weight=weight, title=title, unit=unit)

    def advance_to(
        self,
        name: str,
        *,
        total: float | Unset | None = UNSET,
        title: str | None = None,
        unit: str | None = None,
    ) -> Phase:
        """Hands over to the phase `name`, in one step: completes what runs before it and skips what lies between.

        `with` is optional: the next hand-over, or the session's end, ends the phase as well. When the phase
        runs already, it is returned; when the hand-over has passed it, nothing changes and the call is
        counted as late.

        Raises:
            PhaseError: The phase is unknown.
            ValueError, TypeError: A value is out of range.
            SessionClosedError: The session has ended.
        """
        try:
            node = self.state.hand_over(name, total=total, title=title, unit=unit)
        except REFUSED as error:
            if self.state.strict:
                raise
            self.drop(error)
            return NULL_PHASE  # type: ignore[return-value]
        assert isinstance(node, Phase)
        return node

    def skip_phase(self, name: str, reason: str | None = None) -> None:
        """Marks a phase as not to be worked on; it counts as done. `reason` becomes its message.

        Raises:
            PhaseError: It is unknown, open or completed.
            SessionClosedError: The session has ended.
        """
        self.state.skip_phase(name, reason)

    # Values

    def increment(self, name: str, n: Number = 1) -> None:
        """Adds `n`, any finite number, to a counter; a counter begins at 0.

        Raises:
            ValueError, TypeError: `n` is no finite number, or there are too many counters.
        """
        self.state.increment(name, n)

    def set(self, **fields: Any) -> None:
        """Sets fields: JSON values by name, shown beside the session; the newest value of each wins.

        Raises:
            ValueError, TypeError: A value is no JSON data or too large, or there are too many fields.
        """
        self.state.set(fields)

    def update(self, *, message: str | Unset | None = UNSET, title: str | Unset = UNSET) -> None:
        """Sets the message or the title that people are shown; what is not given stays.

        Raises:
            ValueError, TypeError: Not a str, or too long a title.
        """
        self.state.update(message=message, title=title)

    def emit(self, name: str, data: Any = None) -> None:
        """Logs a custom event with JSON data: ordered, numbered, the newest `event_limit` retained.

        Raises:
            ValueError, TypeError: `data` is no JSON data, or too large.
        """
        self.state.emit(name, data)

    def save(self, data: Any) -> None:
        """Keeps JSON data for a later attempt (see `saved`); the newest wins. `flush()` makes sure that it is stored.

        Raises:
            ValueError, TypeError: `data` is no JSON data, or too large.
            SessionClosedError: The session has ended.
        """
        self.state.save(data)

    def set_result(self, result: Any) -> None:
        """Sets what the work came to, as JSON data; published and stored at once.

        One that cannot be kept is logged as an error and raises. Where that ends the block, it does not change
        how work ended that was done: the session completes, and its message says that there is no result.

        Raises:
            ValueError, TypeError: `result` is no JSON data, or too large.
            SessionClosedError: The session has ended.
        """
        self.state.set_result(result)

    # Ending

    @guarded
    def cancel(self, reason: str | None = None) -> None:
        """Cancels the body of the session. Its block ends quietly, as a cancel scope does; see `status`.

        When the body reaches no checkpoint after this, it completes.

        Raises:
            SessionClosedError: The session has ended.
        """
        self._check_thread()
        text = checks.message("reason", reason, self.state.limits)
        if self.state.over:
            raise SessionClosedError(f"session {self.id!r} cannot be cancelled: it is {self.status}")
        self.cancel_reason = text
        self.body.cancel(reason=text)

    def stop(self, reason: str | None, interrupted: bool) -> None:
        """Cancels the body because the tracker is left, or (`interrupted`) the process is stopped politely."""
        self.stopped = self.stopped or interrupted
        if self.cancel_reason is None:
            self.cancel_reason = reason
        self.body.cancel(reason=reason)

    @guarded
    def fail(self, reason: str, details: Mapping[str, Any] | None = None) -> None:
        """Says that the session has failed, for an error that was caught; does not cancel. Viewers see both.

        Raises:
            ValueError, TypeError: `details` is no mapping of JSON data, or too large.
            SessionClosedError: The session has ended.
        """
        self._check_thread()
        self.state.fail(reason, details)

    async def flush(self) -> None:
        """Waits until the store holds all that was said so far. A checkpoint; cancelling it loses nothing.

        Raises:
            FencedError: Another owner has taken the session over.
            SessionClosedError: The session has ended.
        """
        await trio.lowlevel.checkpoint()
        if self.persister is None or self.state.over:
            raise SessionClosedError(f"session {self.id!r} cannot be flushed: it is {self.status}")
        await self.persister.flush()

    # What the state and the phases call

    def _check_thread(self) -> None:
        if threading.get_ident() != self._thread:
            raise ForeignThreadError(
                f"session {self.id!r} was called from a foreign thread: use `phase.from_thread()`, whose "
                "advance() and update() work anywhere, or `trio.from_thread.run_sync()`"
            )

    def stir(self) -> None:
        """The state is no longer clean: a token to each child that has something to do about it."""
        self._check_thread()
        persister = self.persister
        if persister is None or not persister.told:
            try:
                self._persist_wake.send_nowait(None)
            except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            if persister is not None:
                persister.told = True
        if self.watched():
            self.loop.wake()
            try:
                self._broadcast_wake.send_nowait(None)
            except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    def urge(self) -> None:
        """What was published should be stored soon."""
        if self.persister is not None:
            self.persister.hurry()

    def late(self, what: str, where: str) -> None:
        """Counts a late update, and logs one."""
        self._tally.late += 1
        if "late" not in self._logged:
            self._note(
                "late",
                logging.WARNING,
                "late_update",
                "session %r: %s() on %s, which has ended, changed nothing; further late updates are only counted",
                self.id,
                what,
                f"phase {where!r}" if where else "the session",
                session=self.id,
                phase=where or None,
                epoch=self.epoch,
                reason=f"{what}()",
            )

    def drop(self, error: Exception) -> None:
        """Counts bad input that was dropped, and logs one of its kind."""
        self._tally.refused += 1
        if type(error).__name__ not in self._logged:
            self._note(
                type(error).__name__,
                logging.WARNING,
                "call_dropped",
                "session %r: a call was dropped: %s",
                self.id,
                error,
                session=self.id,
                epoch=self.epoch,
                reason=error,
            )

    def refuse_result(self, error: Exception) -> None:
        """Logs that a result cannot be kept: it is what the work was for."""
        tell(
            logging.ERROR,
            "result_refused",
            "session %r: its result cannot be kept: %s",
            self.id,
            error,
            throttle=self._tally.throttle,
            most=BURST,
            session=self.id,
            pipeline=self.state.pipeline_name,
            epoch=self.epoch,
            reason=error,
        )

    def _note(self, kind: str, level: int, event: str, text: str, *args: object, **fields: Unpack[Fields]) -> None:
        """Logs one of a kind; a later one, where those of other sessions came too often at the time of the first."""
        if tell(level, event, text, *args, throttle=self._tally.throttle, kind=kind, **fields):
            self._logged.add(kind)

    def ticker(self, phase: PhaseNode) -> ThreadTicker | NullTicker:
        """What threads count with on `phase`."""
        if phase.status != "running":
            error = PhaseError(f"phase {phase.label!r} is {phase.status}: threads can count on an open phase only")
            if self.state.strict:
                raise error
            self.drop(error)
            return NullTicker()
        ticker = self._tickers.get(phase)
        if ticker is None:
            ticker = self._tickers[phase] = ThreadTicker(phase, self._trio_token)
        return ticker

    def timed(self, phase: PhaseNode) -> None:
        """Counts how long a phase took that has completed."""
        self._tally.ledger.phase(self.state.pipeline_name, phase.name if phase.declared else None, phase.spent)

    def drain(self, node: PhaseNode) -> None:
        """Brings in what threads have counted on a phase that is about to end."""
        ticker = self._tickers.pop(node, None)
        if ticker is not None:
            ticker.drain()

    def __repr__(self) -> str:
        return f"<Session {self.id!r} {self.status} {self.state.progress:.0%}>"
