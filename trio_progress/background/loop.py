"""The thread that the event loop of a session runs in, and how the code that has no loop calls into it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar, final

import trio

from ..errors import ForeignProcessError, SessionCancelledError, SessionClosedError
from ..protocol.snapshot import ENDED
from ..session.one_process import ToldOfForks

if TYPE_CHECKING:
    from ..session.session import Session

T = TypeVar("T")


@final
class LoopThread(ToldOfForks):
    """Runs one session in an event loop in a thread of its own, from `start()` until `leave()`."""

    __slots__ = (
        "_body_error",
        "_entered",
        "_gone",
        "_left",
        "_nursery",
        "_opening",
        "_outcome",
        "_thread",
        "_token",
        "session",
    )

    session: Session
    _token: trio.lowlevel.TrioToken
    _nursery: trio.Nursery

    def __init__(self, opening: AbstractAsyncContextManager[Session, bool | None]) -> None:
        super().__init__()
        self._opening = opening
        self._entered = threading.Event()
        self._gone = threading.Event()
        self._left = trio.Event()
        self._body_error: BaseException | None = None
        self._outcome: BaseException | None = None
        # A daemon: where the block is never left, the interpreter ends all the same.
        self._thread = threading.Thread(target=self._run, name="trio-progress", daemon=True)

    def start(self) -> None:
        """Enters the session; raises what that raises."""
        self._thread.start()
        try:
            self._entered.wait()
        except KeyboardInterrupt as interrupt:
            self._entered.wait()  # The stores give up by themselves.
            if self._outcome is None:
                self.leave(interrupt)
            raise
        if self._outcome is not None:
            self._thread.join()
            raise self._outcome

    def _run(self) -> None:
        try:
            trio.run(self._hold_session)
        except BaseException as error:  # noqa: ASYNC103 - it is for the thread that started this one
            self._outcome = error
        finally:
            self._entered.set()
            self._gone.set()

    async def _hold_session(self) -> None:
        async with self._opening as session:
            self.session = session
            self._token = trio.lowlevel.current_trio_token()
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                self._entered.set()
                await self._left.wait()
            if self._body_error is not None:
                raise self._body_error

    def leave(self, error: BaseException | None) -> bool:
        """Leaves the session as its block was left, and waits until nothing of it is left.

        Returns:
            Whether the block ends quietly, because the session was cancelled.

        Raises:
            BaseException: What leaving the session raises, beside what came out of the block.
        """
        if self._foreign:
            return False
        traceback = None if error is None else error.__traceback__
        self._body_error = error
        interrupt = self._end()
        if error is not None:
            error.__traceback__ = traceback  # What the other thread has added says nothing.
        if interrupt is not None:
            raise interrupt from error
        if self._outcome is not None and self._outcome is not error:
            raise self._outcome
        return isinstance(error, SessionCancelledError) and error.session_id == self.session.id

    def _end(self) -> KeyboardInterrupt | None:
        """Has the session left, and waits for the thread, which ends within bounds.

        A Ctrl-C is handed back, at whichever step of this it comes: they are made again from the first.
        """
        interrupt = None
        while True:
            try:
                with suppress(trio.RunFinishedError):  # It was cancelled, and has ended by itself.
                    self._token.run_sync_soon(self._left.set)
                self._gone.wait()  # Not by `Thread.join()`: one that was interrupted takes the thread for ended.
                self._thread.join()
                break
            except KeyboardInterrupt as error:
                interrupt = error
        return interrupt

    def call(self, function: Callable[..., T], *args: Any) -> T:
        """Calls the function in the event loop, and waits for what comes of it; once the session has ended, does not.

        Raises:
            SessionCancelledError: The session was cancelled, and has ended.
            SessionClosedError: It has ended otherwise.
            ForeignProcessError: This is a forked copy of the process that it runs in.
        """

        def unless_ended() -> T:
            self._check_open()
            return function(*args)

        with self._ends_as_the_session():
            return trio.from_thread.run_sync(unless_ended, trio_token=self._token)

    def wait(self, function: Callable[..., Any], *args: Any) -> Any:
        """Has the event loop await the function, and waits for what comes of it; raises what `call()` does."""

        async def unless_ended() -> Any:
            self._check_open()
            return await function(*args)

        with self._ends_as_the_session():
            return trio.from_thread.run(unless_ended, trio_token=self._token)

    def read(self, function: Callable[..., T], *args: Any) -> T:
        """Calls a function that changes nothing in the event loop, or here where that has gone.

        Raises:
            ForeignProcessError: This is a forked copy of the process that it runs in.
        """
        self._check_process()
        with suppress(trio.RunFinishedError, trio.Cancelled):  # The loop's: in this thread is no scope.
            return trio.from_thread.run_sync(function, *args, trio_token=self._token)
        return function(*args)

    @contextmanager
    def _ends_as_the_session(self) -> Iterator[None]:
        """Around what is asked of the event loop: that the session has ended is told by how it has."""
        self._check_process()
        try:
            yield
        except (trio.RunFinishedError, trio.Cancelled):  # noqa: ASYNC103 - the loop's: in this thread is no scope
            self.check_cancelled()
            raise self._closed() from None  # noqa: ASYNC104 - as above
        except SessionClosedError:
            self.check_cancelled()
            raise

    def _check_open(self) -> None:
        """Nobody is to tell whether the final state is on its way to the store or there, when the loop has gone."""
        if self.session.status in ENDED:
            raise self._closed()

    def _closed(self) -> SessionClosedError:
        return SessionClosedError(f"session {self.session.id!r} has ended: it is {self.session.status}")

    def check_cancelled(self) -> None:
        """Raises `SessionCancelledError` where the session was cancelled."""
        session = self.session
        if session.status == "cancelled":
            error = self.read(session.snapshot).error
            raise SessionCancelledError(session.id, None if error is None else error.message)

    def enter(self, manager: AbstractAsyncContextManager[T, Any]) -> tuple[T, Callable[[], None]]:
        """Enters a block in the event loop; what it gives, and what leaves it."""
        left, gone = trio.Event(), trio.Event()

        async def hold(*, task_status: trio.TaskStatus[T]) -> None:
            try:
                async with manager as value:
                    task_status.started(value)
                    await left.wait()
            finally:
                gone.set()

        async def leave() -> None:
            left.set()
            await gone.wait()

        return self.wait(self._nursery.start, hold), lambda: self.wait(leave)

    def _check_process(self) -> None:
        if self._foreign:
            raise ForeignProcessError(f"session {self.session.id!r}", self._process, os.getpid())
