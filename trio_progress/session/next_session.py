"""`tracker.next_session()`: the oldest session that waits to be run, chosen and reserved by the store, then claimed.

1. The store chooses one and reserves it; see `session.taking`.
2. It is entered as by `tracker.session(id, resume="waiting")`, and only as long as what was chosen is what stands
   there. Should somebody else have come, or should it have ended or be gone, the next one is taken.
3. What cannot be opened here (it cannot be read, it was begun as often as is allowed, or this process still has it) is
   given back and passed over for a while. Whatever keeps a session from being entered gives it back. Where that comes
   while the claim is under way, the session has begun: it ends as interrupted, and waits for the next one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, final

import msgspec
import trio

from ..contexts import Opening
from ..errors import (
    CorruptEntryError,
    SessionActiveError,
    SessionClosedError,
    SessionEndedError,
    SessionNotFoundError,
    StoreError,
)
from ..state import checks
from ..state.pipeline import PhaseSpec, Pipeline
from ..state.quantities import whole
from ..state.session import checked_pipeline
from ..stores.base import Key, Stored
from ..stores.taking import MOST_ATTEMPTS, NEVER_BEGUN, Chosen, Wanted
from ..telemetry.logs import BURST, log_event
from .runtime import SessionOptions, TrackerPart
from .scope import SessionScope

if TYPE_CHECKING:
    from types import TracebackType

    from ..state.record import Record
    from .runtime import TrackerRuntime
    from .session import Session

LEFT_WITHIN: Final = 1.0
"""Seconds in which a session of this process that was ended, and so can be taken again, is waited for to be left."""

AGAIN: Final = 1.0
"""Seconds after which another one is taken, where the store has not answered the reading of the one that was chosen."""


class TrackerTaking(TrackerPart):
    """The part of a tracker that takes the sessions which wait to be run."""

    def next_session(
        self,
        pipeline: Pipeline | str | Sequence[Pipeline | str] | None = None,
        labels: Mapping[str, str] | None = None,
        wait: bool = True,
        max_attempts: int = 3,
    ) -> AbstractAsyncContextManager[Session, bool | None]:
        """The oldest session that waits to be run: queued, interrupted or lost. To be entered by `async with`.

        A session is run at least once: of those who want it the store lets one have it, and one whose owner is gone
        is taken again after `lost_after`. What is resumed has its completed phases and `session.saved`, as by
        `resume="interrupted"`. Workers wait in turn; who waits sends next to nothing, however many tasks of this
        tracker wait. While the store does not answer it is waited for as well.

        Cancelled while it waits or chooses, nothing stays reserved or claimed.

        Args:
            pipeline: Only sessions of this pipeline, or of one of several; where it is a `Pipeline`, with its phases.
                None: any session, with its phases as they were declared.
            labels: Only those that have all of these.
            wait: Whether to wait for one.
            max_attempts: A session that was begun so often, and did not end, is left as it is; 1 to 100. That is
                logged.

        Raises:
            ValueError, TypeError: A value is out of range; the store can hand out no sessions.
            SessionNotFoundError: When entering: there is none now, and `wait` is False.
            StoreError: When entering: the store did not answer, and `wait` is False.
            SessionClosedError: When entering: the tracker is being left.
            FencedError: When leaving: another owner has taken it over.
        """
        runtime = self._runtime
        if getattr(runtime.store, "hands_out", False) is not True:
            raise TypeError(
                f"next_session() needs a store that hands sessions out, and a {type(runtime.store).__name__} does not: "
                'take them by `tracker.sessions(status="queued")` and `tracker.session(id, resume="waiting")`'
            )
        given = [pipeline] if pipeline is None or isinstance(pipeline, (str, Pipeline)) else list(pipeline)
        pipelines = {_name(one): one for one in map(checked_pipeline, given) if one is not None}
        if not pipelines and pipeline is not None:
            raise ValueError(
                "pipeline must be a Pipeline, a name, one or more of them, or None for any; not an empty list"
            )
        if whole("max_attempts", max_attempts) > MOST_ATTEMPTS:
            raise ValueError(f"max_attempts must be at most {MOST_ATTEMPTS}, not {max_attempts!r:.200}")
        wanted = Wanted(tuple(sorted(pipelines)), checks.labels(labels, runtime.settings.limits), max_attempts)
        manager = _NextSession(runtime, _Taking(pipelines, wanted, bool(wait)))
        return Opening("tracker.next_session()", "session", manager)


def _name(pipeline: Pipeline | str) -> str:
    return pipeline if isinstance(pipeline, str) else pipeline.name


class _CannotOpenError(Exception):
    """What was chosen is not to be opened by this process."""


@final
@dataclass(frozen=True, slots=True)
class _Taking:
    """What is asked for."""

    pipelines: Mapping[str, Pipeline | str]
    """By name."""
    wanted: Wanted
    wait: bool

    def scope(self, runtime: TrackerRuntime, chosen: Chosen, told: bytes | None) -> SessionScope:
        """The session that was chosen, to be entered if it still stands as it did."""

        def check(options: SessionOptions, record: Record, key: Key) -> SessionOptions:
            if key != chosen.key:
                raise SessionActiveError(chosen.id, "in another process")
            state = record.state
            if state.status != NEVER_BEGUN and state.attempt >= self.wanted.max_attempts:
                raise _CannotOpenError(f"it was begun {state.attempt} times")  # An older version has not counted that.
            name = state.pipeline
            given = None if name is None else self.pipelines.get(name)
            return msgspec.structs.replace(
                options, pipeline=given if isinstance(given, Pipeline) else declared_pipeline(record)
            )

        options = SessionOptions(id=chosen.id, pipeline=None, title=None, labels=None, raise_on_cancel=False)
        known = None if told is None else Stored(chosen.id, Key(*chosen.key), told, alive=False, heartbeat=None)
        return SessionScope(runtime, options, "waiting", check, known)


def declared_pipeline(record: Record) -> Pipeline | str | None:
    """The pipeline that a session was declared with, as far as its record tells: phases, weights and totals.

    Of one that was begun the record brings the phases itself.
    """
    state = record.state
    if state.pipeline is None or state.status != NEVER_BEGUN or not state.phases:
        return state.pipeline
    return _pipeline(
        state.pipeline,
        tuple(PhaseSpec(phase.name, phase.weight, phase.title, phase.unit, phase.total) for phase in state.phases),
    )


@lru_cache(maxsize=32)  # Sessions of one pipeline share the nodes of its phases.
def _pipeline(name: str, phases: tuple[PhaseSpec, ...]) -> Pipeline:
    return Pipeline(name, phases)


@final
class _NextSession:
    """The next session, to be entered once. It is no generator on a stack, which would cost each job some more."""

    __slots__ = ("_entered", "_runtime", "_scope", "_taking")

    def __init__(self, runtime: TrackerRuntime, taking: _Taking) -> None:
        self._runtime, self._taking = runtime, taking
        self._entered = False
        self._scope: SessionScope | None = None

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Session:
        if self._entered:
            raise SessionClosedError("this session was entered before: call `tracker.next_session()` again")
        self._entered = True
        while (entered := await self._taken()) is None:
            pass
        session, self._scope = entered
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
        except trio.Cancelled as cancelled:
            self._runtime.open[session.id].stop("it was cancelled before it was run", interrupted=True)
            await self._scope.__aexit__(type(cancelled), cancelled, cancelled.__traceback__)  # noqa: ASYNC102 - its waits are shielded and bounded
            raise
        return session

    async def _taken(self) -> tuple[Session, SessionScope] | None:
        """A session that was chosen, entered; None where another one is to be chosen."""
        taker, wait = self._runtime.taker, self._taking.wait
        chosen, told = await taker.take(self._taking.wanted, wait=wait)
        try:
            await _left(self._runtime, chosen.id)
            scope = self._taking.scope(self._runtime, chosen, told)
            session = await scope.__aenter__()
        except (_CannotOpenError, CorruptEntryError) as error:
            taker.pass_over(chosen.id)
            _log_passed_over(self._runtime, chosen.id, error)
        except (SessionActiveError, SessionEndedError, SessionNotFoundError):
            taker.give_back(chosen.id)  # Somebody was faster, or it is gone.
        except StoreError:
            taker.give_back(chosen.id)
            if not wait:
                raise
            await trio.sleep(AGAIN)
        except BaseException:
            taker.give_back(chosen.id)
            raise
        else:
            return session, scope
        return None

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        assert self._scope is not None
        return await self._scope.__aexit__(kind, error, traceback)  # noqa: ASYNC102 - its waits are shielded and bounded


async def _left(runtime: TrackerRuntime, session_id: str) -> None:
    """Waits until this process has left the session, which the store has for one that can be taken.

    Raises:
        _CannotOpenError: It is still open here, though its lease has lapsed.
    """
    reserved = runtime.open.get(session_id)
    if reserved is not None:
        with trio.move_on_after(LEFT_WITHIN):
            await reserved.wait_left()
            return
        raise _CannotOpenError("it is still open in this process, though its lease has lapsed")


def _log_passed_over(runtime: TrackerRuntime, session_id: str, error: Exception) -> None:
    log_event(
        logging.WARNING,
        "session_passed_over",
        "session %r waits to be run, but cannot be opened here; it is tried again later: %s",
        session_id,
        error,
        throttle=runtime.tally.throttle,
        most=BURST,
        session=session_id,
        reason=error,
    )
