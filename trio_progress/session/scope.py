"""Entering a session: the id is reserved, what went before is read, the claim is made.

1. The id is reserved before the first checkpoint: of two callers in one process one is refused at once.
2. Where the session is to be resumed, what is stored of it is read. This may be cancelled, and raises
   where the store does not answer: nobody knows what there is to go on from.
3. The claim is made, and is good or refused. Where the store is slow or down it stays pending, and the
   session begins all the same; a claim that is refused later fences it.
4. From the claim on, the session is always left by the steps in `tenure.py`, also when a Ctrl-C came.
"""

from __future__ import annotations

from collections.abc import Mapping
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
from ..live.remote import readable_events
from ..state.record import Record, decode_record, go_on
from ..stores.base import Key, Moved, Refused, Stored
from .core import SessionCore
from .ki_protection import protect
from .lifecycle import Tenure
from .processes import OneProcess, end_forked
from .runtime import House, Order
from .session import Session

Resume: TypeAlias = Literal["never", "interrupted", "always", "waiting"]

RESUMES: Final[Mapping[str, frozenset[str]]] = {
    "never": frozenset(),
    "interrupted": frozenset({"interrupted", "running", "lost"}),
    "always": frozenset({"interrupted", "running", "lost", "failed", "cancelled", "timed_out"}),
    "waiting": frozenset({"interrupted", "running", "lost"}),
}
"""The stored statuses that each `resume` goes on from; "running" without a lease is a lost session."""

TRIES: Final = 5
"""How often a claim is made anew because somebody else wrote between reading and claiming."""

protect()  # Here, because nobody comes by a session but through this module.


@final
class SessionScope(OneProcess):
    """A session to be entered by `async with`; see `tracker.session()`."""

    __slots__ = ("_entered", "_house", "_order", "_resume", "_stop", "_tenure", "left")

    def __init__(self, house: House, order: Order, resume: Resume) -> None:
        self._house = house
        self._order = order
        self._resume: Resume = resume
        self._entered = False
        self._stop: tuple[str | None, bool] | None = None
        self._tenure: Tenure | None = None
        self.left = trio.Event()
        """Set when nothing of the session is left."""

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
                f"session {self._order.id!r} has not begun, so there is no {name!r}: enter it by "
                "`async with tracker.session(...) as session`"
            )

    @trio.lowlevel.enable_ki_protection
    async def __aenter__(self) -> Session:
        house, session_id = self._house, self._order.id
        if self._entered:
            raise SessionClosedError("this session was entered before: call `tracker.session()` again")
        if house.closed:
            raise SessionClosedError(f"session {session_id!r} cannot be opened: the tracker is being left")
        if session_id in house.open:
            raise SessionActiveError(session_id, "in this process")
        self._entered = True
        house.open[session_id] = self
        try:
            tenure, interrupt = await self._claimed()
            self._tenure = tenure
            await tenure.begin()
        except BaseException:
            self._forget()
            raise
        if self._stop is not None:
            tenure.core.stop(*self._stop)
        if interrupt is not None:
            await self.__aexit__(type(interrupt), interrupt, None)
            raise interrupt
        return tenure.session

    @trio.lowlevel.enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        assert self._tenure is not None
        if self._tenure.core.foreign:
            end_forked(f"session {self._order.id!r}", error)
        try:
            return await self._tenure.leave(kind, error, traceback)  # noqa: ASYNC102 - its waits are shielded and bounded
        finally:
            self._forget()

    async def _claimed(self) -> tuple[Tenure, KeyboardInterrupt | None]:
        """The session, owned by us or with its claim pending; and a Ctrl-C that came too late to prevent it."""
        refused: object = None
        for _ in range(TRIES):
            previous = await self._previous() if self._resume != "never" else None
            tenure = Tenure(self._house, self._order)
            expect = None
            try:
                if previous is not None:
                    expect, record, stored = previous
                    tenure.adopt(record)
                    if record.state.status != "queued":
                        events = readable_events(self._order.id, stored.events, self._house.tally)
                        go_on(tenure.state, record, events, self._house.settings.event_limit)
                interrupt = await tenure.claim(expect)
                refused = tenure.refused
            except BaseException:
                tenure.discard()
                raise
            if refused is None:
                return tenure, interrupt
            tenure.discard()
            if interrupt is not None:
                raise interrupt
            if not isinstance(refused, Moved):
                break
        if isinstance(refused, (Refused, Moved)):
            raise SessionActiveError(self._order.id, "in another process")
        raise StoreError(f"session {self._order.id!r} could not be claimed: the store answered {refused!r}")

    async def _previous(self) -> tuple[Key, Record, Stored] | None:
        """What an earlier attempt, or a declaration, has left to go on from."""
        session_id = self._order.id
        stored = await self._house.store.read(session_id)
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
        if self._house.open.get(self._order.id) is self:
            del self._house.open[self._order.id]
        self.left.set()

    @property
    def core(self) -> SessionCore | None:
        """The inside of the session, once it has begun."""
        return None if self._tenure is None else self._tenure.core

    def stop(self, reason: str | None, interrupted: bool) -> None:
        """Cancels the session's body, now or as soon as it has begun, because the tracker or the process ends."""
        if self._tenure is None:
            self._stop = (reason, interrupted)
        elif not self._tenure.state.over:
            self._tenure.core.stop(reason, interrupted)
