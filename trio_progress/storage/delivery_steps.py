"""What brings a spooled final state to its store, step by step: for those who await the store, and those who block."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from ..stores.base import Append, Claimed, Done, Key, Stored, Write, claim_for
from ..telemetry.logs import log_event

if TYPE_CHECKING:
    from ..stores.threaded import Backend
    from ..telemetry.logs import Throttle
    from .spool import Spool, Spooled

NOTHING: Final = Key(0, 0)
"""No entry has this key: a claim that expects it is good only if it was made before."""


def deliver_blocking(spool: Spool, backend: Backend, session_id: str) -> None:
    """Delivers what waits of one session, for code that may block; nothing where that cannot be read, which is logged.

    Raises:
        StoreError: The store did not answer.
    """
    for spooled in waiting_of(spool, session_id):
        steps = delivery(spooled)
        answer: object = None
        with suppress(StopIteration):
            while True:
                write = steps.send(answer)
                if write is None:
                    answer = backend.read(session_id)
                else:
                    (answer,) = backend.commit([write])
                    if isinstance(answer, Exception):
                        raise answer
        if not spooled.cancels:  # That is asked for by a tracker, which the file waits for.
            spool.discard(spooled)


def waiting_of(spool: Spool, session_id: str) -> list[Spooled]:
    """What waits of one session; nothing where that cannot be read, which is logged."""
    try:
        return list(spool.pending(session_id))
    except (OSError, RuntimeError) as error:
        log_unreadable(error)
        return []


def log_unreadable(error: Exception, throttle: Throttle | None = None) -> None:
    """Logs that the files of the spool cannot be read."""
    what = "spooled states cannot be read: %s"
    log_event(logging.WARNING, "spool_unreadable", what, error, throttle=throttle, reason=error)


def delivery(spooled: Spooled) -> Generator[Write | None, Any, int | None]:
    """What delivers a final state: yields each write, or None to have the session read, and is sent what came of it.

    Returns:
        The epoch under which the store holds it; None: it is out of date.
    """
    append = spooled.append
    epoch = append.key.epoch if spooled.claimed else (yield from _claimed(append, spooled.owner))
    outcome = None
    if epoch is not None:
        outcome = yield msgspec.structs.replace(append, key=Key(epoch, append.key.seq))
    if isinstance(outcome, Done):
        level, event, what = logging.INFO, "spool_delivered", "was delivered"
    else:
        level, event, what = logging.WARNING, "spool_outdated", "is out of date, and dropped"
    log_event(level, event, f"session %r: its spooled final state {what}", append.id, session=append.id)
    return epoch if isinstance(outcome, Done) else None


def _claimed(append: Append, owner: str) -> Generator[Write | None, Any, int | None]:
    """Claims what the store has not answered the claim of; not from a newer owner.

    As `owner`: a claim of it that has reached the store is recognised by that, and is ours.

    Returns:
        The epoch that the store has given, which may be above the one that was made up without it.
    """
    stored: Stored | None = yield None
    expect = None if stored is None else stored.key
    if stored is not None and (stored.alive or stored.key.epoch >= append.key.epoch):
        if not stored.alive and stored.record == append.record:
            return stored.key.epoch  # It was claimed here, and then something came in between.
        expect = NOTHING
    outcome = yield claim_for(append, owner or f"spool {append.key.epoch}", expect)
    return outcome.epoch if isinstance(outcome, Claimed) else None
