"""Everything that trio-progress raises on purpose, under one base."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

_E = TypeVar("_E", bound="Picklable")


class Picklable:
    """Has pickle, copy and a pool of processes bring an error back as itself, with its attributes.

    Python would call the class with the text; ours take other arguments, and a pool waits for ever for what it cannot
    make anew.
    """

    args: tuple[Any, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.args), self.__dict__ or None


def _rebuilt(kind: type[_E], args: tuple[Any, ...]) -> _E:
    return kind.__new__(kind, *args)


class ProgressError(Picklable, Exception):
    """The base of all errors of trio-progress, but for bad values (`ValueError`, `TypeError`)."""


class SessionActiveError(ProgressError):
    """The session is open already: here, or (by its lease) in another process."""

    def __init__(self, session_id: str, where: str) -> None:
        super().__init__(
            f"session {session_id!r} is already open {where}: wait for it with `tracker.wait_ended()`, "
            "watch it with `tracker.watch()`, or end it with `tracker.cancel()`"
        )
        self.session_id = session_id


class SessionEndedError(ProgressError):
    """The session has ended as `status`: it no longer waits to be run, and `resume` does not allow to resume it."""

    def __init__(self, session_id: str, status: str, text: str | None = None) -> None:
        super().__init__(
            text
            or f"session {session_id!r} does not wait to be run: it has {status.replace('_', ' ')}; "
            '`resume="always"` would go on from there, `resume="never"` would run it again'
        )
        self.session_id = session_id
        self.status = status


class SessionCompletedError(SessionEndedError):
    """The session cannot be resumed, because it completed."""

    def __init__(self, session_id: str) -> None:
        super().__init__(
            session_id,
            "completed",
            f"session {session_id!r} has completed, there is nothing to resume: "
            'open it with `resume="never"` to run it again',
        )


class SessionClosedError(ProgressError):
    """The session, or the tracker, has been left; it opens and ends nothing any more."""


class SessionCancelledError(ProgressError):
    """The session ended through `cancel()`, and was opened with `raise_on_cancel=True`."""

    def __init__(self, session_id: str, reason: str | None) -> None:
        super().__init__(f"session {session_id!r} was cancelled" + (f": {reason}" if reason else ""))
        self.session_id = session_id
        self.reason = reason


class SessionNotFoundError(ProgressError):
    """No session of that id is known to the tracker or to its store; or none waits to be run, of whatever id."""

    def __init__(self, session_id: str, text: str | None = None) -> None:
        super().__init__(
            text
            or f"there is no session {session_id!r}: it was never begun or declared, was deleted, "
            "or ended longer ago than the tracker's `retention`; `watch(..., wait=True)` waits for one to come"
        )
        self.session_id = session_id
        """Empty where none was named."""


class ForeignThreadError(ProgressError, RuntimeError):
    """A session or a tracker was called from a thread that is not its event loop's."""


class ForeignProcessError(ProgressError, RuntimeError):
    """An object of a session was used in another process than the session's, such as a forked worker."""

    def __init__(self, what: str, owner: int, process: int) -> None:
        super().__init__(
            f"{what} belongs to process {owner}, and this is process {process}, which has but a copy of it: counts do "
            "not travel between processes. Count by `async with phase.from_processes() as counter`, or return what was "
            "done to the parent, by the results of your pool or a queue, and count it there"
        )
        self.owner = owner
        self.process = process


class PhaseError(ProgressError):
    """A phase is unknown, or its status does not allow the change."""


class StoreError(ProgressError):
    """The store failed a request: it is down, full, slow, or refuses."""


class CorruptEntryError(StoreError):
    """The store has answered with an entry that cannot be read: trying again does not help.

    To begin the session anew, or to delete it, replaces the entry.
    """


class FencedError(StoreError):
    """Another owner has taken the session over; the writes of this one are refused."""

    def __init__(self, session_id: str, epoch: int) -> None:
        super().__init__(
            f"session {session_id!r} (epoch {epoch}) has been taken over by another owner: "
            "this process was taken for lost, or the id was used twice while the store was down"
        )
        self.session_id = session_id
        self.epoch = epoch


class ProtocolError(ProgressError):
    """A message does not fit the protocol, or the state that it was applied to."""


@contextmanager
def require_extra(what: str, extra: str) -> Iterator[None]:
    """Has a failed import in its block name the command that helps.

    Args:
        what: The feature that needs the imports.
        extra: The extra that installs them.

    Raises:
        ModuleNotFoundError: Something is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in ("", "trio_progress"):
            raise
        raise ModuleNotFoundError(f"{what} needs {name}: pip install 'trio-progress[{extra}]'", name=name) from None
