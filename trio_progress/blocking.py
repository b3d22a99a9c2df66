"""Sessions from code without Trio: Django, Celery, a cron job; or asyncio by `asyncio.to_thread`.

`progress()` runs one, for a script that is no Trio program: its event loop has a thread of its own. A client sees and
asks for the same sessions as the trackers that are open on the store, in this process or in others. It runs none
itself: whatever it declares is queued until a tracker opens it.

    with Client("sqlite:progress.db") as client:
        client.declare("r-42", research, labels={"user": "u1"})
        ...
        print(client.wait_ended("r-42", timeout=3600).status)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self, final

from .background.progress import progress
from .errors import SessionActiveError, SessionNotFoundError, StoreError
from .live.remote import RemoteState
from .protocol.clock import Clock
from .protocol.page import SessionPage, check_page
from .settings import UNFINISHED_RETENTION
from .state import checks
from .state.history import PipelineHistory, given_history
from .state.limits import Limits
from .state.quantities import whole
from .state.session import queued_state
from .storage import cancelling, fencing
from .storage.delivery_steps import deliver_blocking
from .storage.ownerless import declaration
from .storage.spool import Spool
from .stores.base import Claimed, Delete, Done, Outcome, Query, Refused, SetHistory, Stored, Write
from .stores.opening import backend_of
from .telemetry.statistics import Tally

if TYPE_CHECKING:
    from .protocol.snapshot import Snapshot
    from .state.pipeline import Pipeline
    from .stores.threaded import ThreadedStore

__all__ = ["Client", "progress"]


@final
class Client:
    """The sessions of one store. Every call blocks; each may be made by any thread, at any time.

    A client that was made before a fork works in the child as well. It is closed by `close()`, or by leaving
    its `with` block.

    Args:
        url: The store: `"sqlite:PATH"`, `"redis://HOST:PORT/DB"`,
            `"redis-sentinel://HOST:PORT,HOST:PORT/DB?service=NAME"` or `"redis-cluster://HOST:PORT,HOST:PORT/"`; or a
            `RedisStore` or `SqliteStore`, which is used as it is and not closed.
        retention: Seconds that what is cancelled here is kept, above 0.
        unfinished_retention: Seconds that what is declared here is kept when nobody runs it, above 0; not shorter than
            `retention`.
        limits: The bounds of what is declared here.

    Raises:
        ValueError, TypeError: A value is out of range, or the URL names no store that there is.
        StoreError: The store cannot be opened; the message says why.
    """

    def __init__(
        self,
        url: str | ThreadedStore,
        *,
        retention: float = 3600.0,
        unfinished_retention: float = UNFINISHED_RETENTION,
        limits: Limits = Limits(),  # noqa: B008 - a frozen value
    ) -> None:
        self._retention = checks.number("retention", retention, above=0)
        self._unfinished = checks.number("unfinished_retention", unfinished_retention, above=0)
        if not isinstance(limits, Limits):
            raise TypeError(f"limits must be a trio_progress.Limits, not {limits!r:.200}")
        self._limits = limits
        self._clock = Clock()
        self._tally = Tally()
        self._backend, self._ours = backend_of(url)

    if not TYPE_CHECKING:  # Type checkers know without these that there is no such use.

        async def __aenter__(self) -> NoReturn:
            raise TypeError("use `with Client(...)`, not `async with`: it is for sync code, in asyncio by to_thread()")

        async def __aexit__(self, *_: object) -> None:
            raise AssertionError("never entered")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the store; calls after that raise `StoreError`. Closing twice is closing once."""
        if self._ours:
            self._backend.close()

    def declare(
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
            SessionActiveError: It is open.
            StoreError: The store did not answer.
        """
        state = queued_state(session_id, pipeline, title, labels, self._clock, self._limits, parent)
        outcome = self._write(declaration(state, max(self._retention, self._unfinished)))
        if not isinstance(outcome, Claimed):
            raise SessionActiveError(session_id, "in some process")
        state.move(outcome.epoch)
        return state.snapshot()

    def snapshot(self, session_id: str) -> Snapshot:
        """A session as it was stored last; "lost" where its owner is not heard of any more.

        Raises:
            SessionNotFoundError: There is no such session.
            StoreError: The store did not answer, or holds what cannot be read.
        """
        return self._shown(self._read(session_id))

    def sessions(
        self,
        labels: Mapping[str, str] | None = None,
        status: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
        *,
        parent: str | None = None,
    ) -> SessionPage:
        """The sessions that there are, newest first, a page at a time. What cannot be read is logged and left out.

        Args:
            labels: Only those that have all of these.
            status: Only those that stand so.
            limit: At most so many, 1 to 1000.
            cursor: The `cursor` of the page before.
            parent: Only those that were declared as parts of this session.

        Raises:
            ValueError, TypeError: A value is out of range.
            StoreError: The store did not answer.
        """
        wanted = checks.listed_by(labels, parent, self._limits)
        limit = check_page(status, limit, cursor)
        shown = None if status is None else frozenset({status})
        return self._page(Query(wanted, shown=shown, limit=limit, after=cursor))

    def _page(self, query: Query) -> SessionPage:
        """A page of a list, as full as there are sessions."""
        limit = query.limit
        found: list[Snapshot] = []
        while True:
            page = self._backend.list(replace(query, limit=limit - len(found)))
            for stored in page.sessions:
                try:
                    snapshot = self._shown(stored)
                except StoreError as error:
                    self._tally.pass_over(stored.id, error)
                    continue
                if query.shown is None or snapshot.status in query.shown:  # It may have changed since it was listed.
                    found.append(snapshot)
            query = replace(query, after=page.next)
            if page.next is None or len(found) >= limit:
                return SessionPage(tuple(found), page.next)

    def cancel(self, session_id: str, reason: str | None = None) -> None:
        """Asks the owner of a session to cancel it. Returns when that is said, not when it has ended.

        One that is queued ends as cancelled at once. One that has ended, or is lost, is left as it is.

        Raises:
            ValueError, TypeError: A value is out of range.
            SessionNotFoundError: There is no such session.
            StoreError: The store did not answer.
        """
        text = checks.message("reason", reason, self._limits)
        cancel = cancelling.Cancel(text, self._clock.wall(), self._retention)
        for _ in range(cancelling.TRIES):
            made = cancel.write(self._read(session_id), self._tally)
            if made is None or not cancelling.overtaken(self._write(made[0])):
                return
        raise cancelling.changes_too_fast(session_id)

    def fence(self, session_id: str, *, epoch: int | None = None, reason: str | None = None) -> Snapshot:
        """Writes off a running session whose owner is known to be dead, without waiting for its lease to lapse.

        It is `lost` then, and may be gone on with at once. A final state that its owner has left on this machine,
        because the store was away, is brought to the store first, and counts. See `ProgressTracker.fence()` for more.

        Args:
            session_id: The session.
            epoch: That of the owner who is dead, its `Snapshot.epoch`; None: of whoever owns it now.
            reason: Why, for people.

        Returns:
            How it stands: `lost`, or unchanged where it does not run, or where it has another owner than `epoch`.

        Raises:
            ValueError, TypeError: A value is out of range.
            SessionNotFoundError: There is no such session.
            StoreError: The store did not answer, or its owner writes all the time.
        """
        number = None if epoch is None else whole("epoch", epoch, least=0)
        text = checks.message("reason", reason, self._limits)
        checks.session_id(session_id)
        spool = Spool(self._backend.address, wall=self._clock.wall)
        deliver_blocking(spool, self._backend, session_id)  # What its owner has left here says better how it ended.
        for _ in range(fencing.TRIES):
            stored = self._read(session_id)
            if number is None:
                number = stored.key.epoch
            fence = fencing.Fence(number, text, self._clock.wall())
            claim = fence.claim(stored, max(self._retention, self._unfinished), self._tally)
            if claim is None:
                return self._shown(stored)
            outcome = self._write(claim)
            if isinstance(outcome, Claimed):
                return self._shown(fence.granted(claim, outcome.epoch))
        raise fencing.changes_too_fast(session_id)

    def delete(self, session_id: str) -> None:
        """Removes all that is stored of a session.

        Raises:
            ValueError: The id is invalid.
            SessionActiveError: It is open: cancel it first.
            SessionNotFoundError: There is no such session.
            StoreError: The store did not answer.
        """
        outcome = self._write(Delete(checks.session_id(session_id)))
        if isinstance(outcome, Refused):
            raise SessionActiveError(session_id, "in some process")
        if isinstance(outcome, Done) and not outcome.found:
            raise SessionNotFoundError(session_id)

    def history(self, pipeline: str) -> PipelineHistory | None:
        """What earlier runs of a pipeline have taught; None: nothing.

        Raises:
            ValueError, TypeError: It is no name of a pipeline.
            StoreError: The store did not answer.
        """
        checks.name("a pipeline's name", pipeline)
        return self._backend.history(pipeline)

    def histories(self) -> Sequence[str]:
        """The pipelines of which there is a history, the one that ran last first.

        Raises:
            StoreError: The store did not answer.
        """
        return self._backend.histories()

    def forget_history(self, pipeline: str) -> bool:
        """Removes what earlier runs of a pipeline have taught; False where there was nothing.

        Raises:
            ValueError, TypeError: It is no name of a pipeline.
            StoreError: The store did not answer.
        """
        checks.name("a pipeline's name", pipeline)
        outcome = self._write(SetHistory(pipeline, None))
        return isinstance(outcome, Done) and outcome.found

    def import_history(self, pipeline: str, history: PipelineHistory | str | bytes) -> PipelineHistory:
        """Takes over a history, or the JSON of one, instead of what there is.

        Raises:
            ValueError, TypeError: It is no history, or no name of a pipeline.
            StoreError: The store did not answer.
        """
        checks.name("a pipeline's name", pipeline)
        taken = given_history(history)
        self._write(SetHistory(pipeline, taken))
        return taken

    def wait_ended(self, session_id: str, timeout: float | None = None) -> Snapshot:
        """Waits until a session has ended, and returns its last state.

        One that is queued is waited for until it was run. One whose owner is not heard of any more is returned
        as "lost": nobody knows whether it will ever be resumed.

        Args:
            session_id: The session.
            timeout: Seconds, at least 0; None: for as long as it takes.

        Raises:
            ValueError, TypeError: A value is out of range.
            TimeoutError: It has not ended in time.
            SessionNotFoundError: There is no such session, or it was deleted meanwhile.
            StoreError: The store did not answer.
        """
        until = None if timeout is None else time.monotonic() + checks.number("timeout", timeout)
        mark = self._backend.changes(None, {}, _pause(0.0)).mark
        stored = self._read(session_id)
        while not (snapshot := self._shown(stored)).ended:
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"session {session_id!r} is still {snapshot.status} after {timeout} s")
            seen = stored.seen
            changes = self._backend.changes(mark, {session_id: seen}, _pause(until))
            mark = changes.mark
            if changes.gone:
                raise SessionNotFoundError(session_id)
            stored = next(iter(changes.sessions), stored)
        return snapshot

    def _read(self, session_id: str) -> Stored:
        stored = self._backend.read(checks.session_id(session_id))
        if stored is None:
            raise SessionNotFoundError(session_id)
        return stored

    def _shown(self, stored: Stored) -> Snapshot:
        # The events are not in a snapshot, so they are not decoded.
        return RemoteState(replace(stored, events=()), self._clock, 1, self._tally).snapshot()

    def _write(self, write: Write) -> Outcome:
        (outcome,) = self._backend.commit([write])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def _pause(until: float | None) -> Callable[[float], bool]:
    def pause(seconds: float) -> bool:
        left = seconds if until is None else min(seconds, until - time.monotonic())
        if left <= 0:
            return False
        time.sleep(left)
        return True

    return pause
