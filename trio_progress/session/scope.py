"""Entering a session: the id is reserved, what went before is read, the claim is made.

1. The id is reserved before the first checkpoint: of two callers in one process one is refused at once.
2. Where the session is to be resumed, what is stored is read, unless it is known. This may be cancelled, and raises
   where the store does not answer: nobody knows what there is to go on from.
3. The claim is made, and is good or refused. Where the store is slow or down it stays pending, and the
   session begins all the same; a claim that is refused later fences it.
4. From the claim on, the session is always left by the steps in `lifecycle.py`, also when a Ctrl-C came.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, NoReturn, TypeAlias, final

import trio

from ..errors import (
    SessionActiveError,
    SessionClosedError,
    SessionCompletedError,
    SessionEndedError,
    SessionNotFoundError,
    StoreError,
)
from ..state.record import Record, decode_record, readable_events, resume_from
from ..stores.base import Key, Moved, Refused, Stored
from .ki_protection import protect
from .lifecycle import SessionLifecycle
from .one_process import OneProcess, end_forked
from .runtime import Reservation, SessionOptions, TrackerRuntime

if TYPE_CHECKING:
    from .session import Session

Resume: TypeAlias = Literal["never", "interrupted", "always", "waiting"]

RESUMES: Final[Mapping[str, frozenset[str]]] = {
    "never": frozenset(),
    "interrupted": frozenset({"interrupted", "running", "lost"}),
    "always": frozenset({"interrupted", "running", "lost", "failed", "cancelled", "timed_out"}),
    "waiting": frozenset({"interrupted", "running", "lost"}),
}
"""The stored statuses that each `resume` goes on from; "running" without a lease is a lost session."""

Check: TypeAlias = Callable[[SessionOptions, Record, Key], SessionOptions]
"""Given what is stored and under which key, what is to be opened; may raise what keeps it from being opened."""

TRIES: Final = 5
"""How often a claim is made anew because somebody else wrote between reading and claiming."""

protect()  # Here, because nobody comes by a session but through this module.


@final
class SessionScope(OneProcess):
    """A session to be entered by `async with`; see `tracker.session()`."""

    __slots__ = ("_check", "_entered", "_known", "_lifecycle", "_options", "_reservation", "_resume", "_runtime")

    def __init__(
        self,
        runtime: TrackerRuntime,
        options: SessionOptions,
        resume: Resume,
        check: Check | None = None,
        known: Stored | None = None,
    ) -> None:
        self._runtime = runtime
        self._options = options
        self._resume: Resume = resume
        self._check = check
        self._known = known
        """What was read of it already; a claim that is refused has it read anew."""
        self._entered = False
        self._lifecycle: SessionLifecycle | None = None
        self._reservation = Reservation()

    if not TYPE_CHECKING:  # Type checkers know without these that there is no such use.

        def __enter__(self) -> NoReturn:
            raise TypeError("use `async with tracker.session(...)`, not `with`: leaving a session waits for the store")

        def __exit__(self, *_: object) -> None:
            raise AssertionError("never entered")

        def __await__(self) -> NoReturn:
            raise TypeError("use `async with tracker.session(...) as session`, not `await`")

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("_"):
                raise AttributeError(name)
            raise AttributeError(
                f"session {self._options.id!r} has not begun, so there is no {name!r}: enter it by "
                "`async with tracker.session(...) as session`"
            )

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Session:
        runtime, session_id = self._runtime, self._options.id
        if self._entered:
            raise SessionClosedError("this session was entered before: call `tracker.session()` again")
        if runtime.closed:
            raise SessionClosedError(f"session {session_id!r} cannot be opened: the tracker is being left")
        if session_id in runtime.open:
            raise SessionActiveError(session_id, "in this process")
        self._entered = True
        runtime.open[session_id] = self._reservation
        try:
            await runtime.turns.take()
            lifecycle, interrupt = await self._claimed()
            self._lifecycle = lifecycle
            await lifecycle.begin()
        except BaseException:
            self._forget()
            raise
        self._reservation.begun(lifecycle.core)
        if interrupt is not None:
            await self.__aexit__(type(interrupt), interrupt, None)
            raise interrupt
        return lifecycle.session

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        assert self._lifecycle is not None
        if self._lifecycle.core.foreign:
            end_forked(f"session {self._options.id!r}", error)
        await self._runtime.turns.take(shielded=True)  # noqa: ASYNC102 - a wait that is shielded, for the rounds of those before
        try:
            return await self._lifecycle.leave(kind, error, traceback)  # noqa: ASYNC102 - its waits are shielded and bounded
        finally:
            self._forget()

    async def _claimed(self) -> tuple[SessionLifecycle, KeyboardInterrupt | None]:
        """The session, owned by us or with its claim pending; and a Ctrl-C that came too late to prevent it."""
        refused: object = None
        for _ in range(TRIES):
            previous = await self._previous() if self._resume != "never" else None
            options = self._options
            if self._check is not None and previous is not None:
                options = self._check(options, previous[1], previous[0])
            lifecycle = SessionLifecycle(self._runtime, options)
            expect = None
            try:
                if previous is not None:
                    expect, record, stored = previous
                    lifecycle.adopt(record)
                    if record.state.status != "queued":
                        events = readable_events(
                            stored.events, partial(self._runtime.tally.pass_over, self._options.id)
                        )
                        resume_from(lifecycle.state, record, events, self._runtime.settings.event_limit)
                interrupt = await lifecycle.claim(expect)
                refused = lifecycle.core.persister.refused
            except BaseException:
                lifecycle.discard()
                raise
            if refused is None:
                return lifecycle, interrupt
            lifecycle.discard()
            if interrupt is not None:
                raise interrupt
            if not isinstance(refused, Moved):
                break
        if isinstance(refused, (Refused, Moved)):
            raise SessionActiveError(self._options.id, "in another process")
        raise StoreError(f"session {self._options.id!r} could not be claimed: the store answered {refused!r}")

    async def _previous(self) -> tuple[Key, Record, Stored] | None:
        """What an earlier attempt, or a declaration, has left to go on from."""
        session_id = self._options.id
        stored, self._known = self._known, None
        if stored is None:
            stored = await self._runtime.store.read(session_id)
        if stored is None:
            if self._resume == "waiting":
                raise SessionNotFoundError(session_id)
            return None
        if stored.alive:
            raise SessionActiveError(session_id, "in another process")
        record = decode_record(session_id, *stored.key, stored.record)
        status = record.state.status
        if status == "completed":
            raise SessionCompletedError(session_id)
        if status in RESUMES[self._resume] or status == "queued":
            return stored.key, record, stored
        if self._resume == "waiting":
            raise SessionEndedError(session_id, status)
        return None

    def _forget(self) -> None:
        if self._runtime.open.get(self._options.id) is self._reservation:
            del self._runtime.open[self._options.id]
        self._reservation.end()
