"""The writes of `stores.base` as SQL: each is called within a transaction, and gives its outcome."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, final

from ...errors import CorruptEntryError, StoreError
from ...state.history import KEPT_FOR, PIPELINES_KEPT, PipelineHistory, encode_history, learned
from ...state.limits import MAX_UNITS
from ..base import (
    ASKS_KEPT,
    ASKS_KEPT_FOR,
    Append,
    Ask,
    Claim,
    Claimed,
    Delete,
    Done,
    Fenced,
    Key,
    Outcome,
    Refused,
    Renew,
    SetHistory,
    Stored,
    Write,
    claimed_epoch,
    claimed_index,
    is_told_again,
)
from ..decoding import LARGEST_RECORD, CorruptEntries, decode_id, too_large
from ..taking import HEARD_FOR, Release, Take
from .listed import COLUMNS, Listed, labels_of, listed, readable, settle
from .queue import Queue
from .reads import history_of
from .rows import SELECT_HEAD, SELECT_LISTED, head, stored

if TYPE_CHECKING:
    from .machine import MachineClock

T = TypeVar("T")

EXPIRED_AT_ONCE: Final = 500
"""Expired sessions that one transaction removes; more wait for the next one."""

_CLAIM: Final = """INSERT OR REPLACE INTO sessions
(id, epoch, seq, heartbeat, lease_boot, lease_until, lease_wall, lease_due, expires, owner, status, pipeline, labels,
queued_at, attempts, record, declared_epoch, declared_seq, declared)
VALUES (?, ?, ?, NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_MADE_BEFORE: Final = "SELECT owner = ?, declared_epoch, declared_seq, declared FROM sessions WHERE id = ?"

_HOLD: Final = "UPDATE sessions SET lease_boot = ?, lease_until = ?, lease_wall = ?, lease_due = ? WHERE id = ?"

# The fence is in the statement: it changes nothing but a row of the same epoch, and no newer state. As long as a
# session is listed by the same, and its lease is not due to be looked at, no index is touched: that is one append or
# renewal in the time of a lease.
_APPEND: Final = """UPDATE sessions
SET seq = ?, record = ?, heartbeat = ?, lease_until = ?, lease_wall = ?, expires = ?, declared = NULL
WHERE id = ? AND epoch = ? AND seq < ? AND status = ? AND pipeline IS ? AND labels = ? AND queued_at = ?
AND lease_boot IS ? AND lease_due > ? AND lease_due <= ?"""

_RENEW: Final = """UPDATE sessions SET heartbeat = ?, lease_until = ?, lease_wall = ?, expires = max(expires, ?)
WHERE id = ? AND epoch = ? AND lease_boot IS ? AND lease_due > ? AND lease_due <= ?"""

_LISTED: Final = f"SELECT {COLUMNS} FROM sessions WHERE id = ? AND epoch = ? AND seq < ?"  # noqa: S608 - a constant

_MOVE: Final = """UPDATE sessions SET seq = ?, record = ?, heartbeat = ?, lease_boot = ?, lease_until = ?,
lease_wall = ?, lease_due = ?, expires = ?, status = ?, pipeline = ?, labels = ?, queued_at = ?, declared = NULL
WHERE id = ?"""

_AGAIN: Final = """UPDATE sessions SET heartbeat = ?, lease_boot = ?, lease_until = ?, lease_wall = ?, lease_due = ?,
expires = ? WHERE id = ? AND epoch = ? AND seq = ?"""

_TAKE_UP: Final = """UPDATE sessions SET heartbeat = ?, lease_boot = ?, lease_until = ?, lease_wall = ?, lease_due = ?,
expires = max(expires, ?) WHERE id = ? AND epoch = ?"""


@final
class Writer:
    """Makes writes on one connection, which is within a transaction whenever a method is called."""

    def __init__(
        self, connection: sqlite3.Connection, clock: MachineClock, event_limit: int, corrupt: CorruptEntries
    ) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._clock = clock
        self._event_limit = event_limit
        self._corrupt = corrupt
        self._queue = Queue(connection, clock, corrupt)
        self.removed = False
        """Whether anything was removed that has not been scrubbed from the disk yet."""

    def write(self, write: Write) -> Outcome:
        """Makes one write. One that SQLite cannot take is that write's alone, and has a `StoreError` for outcome."""
        try:
            match write:
                case Append() | Claim() if len(write.record) > LARGEST_RECORD or any(
                    len(data) > LARGEST_RECORD for _, data in write.events
                ):
                    return too_large(write.id)
                case Append():
                    return self._append(write)
                case Renew():
                    return self._renew(write)
                case Claim():
                    return self._claim(write)
                case Delete():
                    return self._delete(write)
                case Ask():
                    return self._ask(write)
                case Take():
                    return self._queue.take(write)
                case Release():
                    return self._queue.release(write)
                case SetHistory():
                    found = self._set_history(write.id, write.history)
                    return Done(found=found or write.history is not None)
        except (sqlite3.DataError, sqlite3.IntegrityError, OverflowError, UnicodeEncodeError) as error:
            return StoreError(f"the store cannot take what was written to session {write.id!r}: {error}")

    def _append(self, append: Append) -> Outcome:
        clock, key = self._clock, append.key
        lease = clock.lease(append.lease)
        expires = self._expires(append.keep, append.lease)
        by = listed(append.index, 0)
        state = (key.seq, append.record, append.heartbeat)
        changed = False
        if append.lease is not None:
            fence = (append.id, key.epoch, key.seq, *by[:4], lease.boot, clock.now(), lease.due)
            changed = self._execute(_APPEND, (*state, lease.until, lease.wall, expires, *fence)).rowcount > 0
        if not changed:
            columns = self._execute(_LISTED, (append.id, key.epoch, key.seq)).fetchone()
            if columns is not None:
                self._execute(_MOVE, (*state, *lease, lease.due, expires, *by[:4], append.id))
                self._settle(append.id, readable(columns), by)
                changed = True
        if not changed:
            epoch = self._epoch(append.id)
            if epoch != key.epoch:
                return Fenced(epoch)
            # The same write again, unless something newer was stored since, which then stands as it is.
            self._execute(_AGAIN, (append.heartbeat, *lease, lease.due, expires, append.id, key.epoch, key.seq))
        if append.events:
            self._add_events(append.id, append.events)
        if changed and append.lesson is not None and append.index.pipeline is not None:
            history = self._history(append.index.pipeline)
            self._set_history(append.index.pipeline, learned(history, append.lesson))
        return Done()

    def _settle(self, session: str, before: Listed | None, by: Listed) -> None:
        """The same for an append, which does not change how often it was begun."""
        if before is not None:
            by = by._replace(attempts=before.attempts)
        settle(self._connection, session, before, by)
        if before != by:
            self._queue.ring(session, by)

    def _add_events(self, session: str, events: Sequence[tuple[int, bytes]]) -> None:
        self._executemany(
            "INSERT OR IGNORE INTO events (session, n, data) VALUES (?, ?, ?)",
            [(session, n, data) for n, data in events],
        )
        self._execute(
            "DELETE FROM events WHERE session = ? AND n <= (SELECT max(n) FROM events WHERE session = ?) - ?",
            (session, session, self._event_limit),
        )

    def _history(self, pipeline: str) -> PipelineHistory | None:
        return history_of(self._connection, pipeline, self._corrupt)

    def _set_history(self, pipeline: str, history: PipelineHistory | None) -> bool:
        """Replaces a history, or removes it; False where there was none to remove."""
        found = 0
        for table in ("histories", "durations"):
            found += self._execute(f"DELETE FROM {table} WHERE pipeline = ?", (pipeline,)).rowcount  # noqa: S608
        if history is not None:
            self._execute(
                "INSERT INTO histories (pipeline, data, at) VALUES (?, ?, ?)",
                (pipeline, encode_history(history), history.at),
            )
        return found > 0

    def _renew(self, renew: Renew) -> Outcome:
        lease = self._clock.lease(renew.lease)
        expires = self._clock.wall() + renew.lease
        whose = (renew.id, renew.epoch)
        still = (lease.boot, self._clock.now(), lease.due)
        if self._execute(_RENEW, (renew.heartbeat, lease.until, lease.wall, expires, *whose, *still)).rowcount:
            return Done()
        if self._execute(_TAKE_UP, (renew.heartbeat, *lease, lease.due, expires, *whose)).rowcount:
            return Done()
        return Fenced(self._epoch(renew.id))

    def _epoch(self, session: str) -> int | None:
        row = self._execute("SELECT epoch FROM sessions WHERE id = ?", (session,)).fetchone()
        if row is None:
            return None
        return row[0] if type(row[0]) is int else 0

    def _claim(self, claim: Claim) -> Outcome:
        clock = self._clock
        history = None if claim.index.pipeline is None else self._history(claim.index.pipeline)
        row = self._execute(SELECT_LISTED, (claim.id,)).fetchone()
        found = None if row is None else self._readable(lambda: head(row), claim.id)
        newest = None if found is None or found.gone(clock) else found.key
        if found is not None and newest is not None and found.lease.until is not None:
            mine, *told = self._execute(_MADE_BEFORE, (claim.owner, claim.id)).fetchone()
            if mine:
                if claim.lease is not None:
                    lease = clock.lease(claim.lease)
                    self._execute(_HOLD, (*lease, lease.due, claim.id))
                return Claimed(newest.epoch, _declared(claim.id, *told), history)
        # Also above what has expired, or cannot be read.
        at = None if row is None else row[0]
        above = max(self._floor(), at if type(at) is int and 0 <= at < MAX_UNITS else 0)
        alive = found is not None and clock.left(found.lease) > 0
        epoch = claimed_epoch(claim, newest, alive=alive, above=above)
        if not isinstance(epoch, int):
            return epoch
        previous = None if newest is None else self._readable(lambda: stored(claim.id, row, clock), claim.id)
        before = None if row is None else readable(row[8:])
        index, declared = claim.index, None
        if newest is not None and before is not None:
            index = claimed_index(claim, before.status, before.queued_at, labels_of(before))
            declared = previous if is_told_again(claim, before.status) else None
        attempts = claim.attempts
        if attempts is None:
            attempts = 0 if before is None else before.attempts
        by, lease = listed(index, attempts), clock.lease(claim.lease)
        self._execute(
            _CLAIM,
            (
                claim.id,
                epoch,
                claim.seq,
                *lease,
                lease.due,
                self._expires(claim.keep, claim.lease),
                claim.owner,
                *by,
                claim.record,
                *_beside(declared, claim.record),
            ),
        )
        self._execute("DELETE FROM reserved WHERE session = ?", (claim.id,))
        settle(self._connection, claim.id, before, by)
        self._queue.ring(claim.id, by)
        self._execute("DELETE FROM events WHERE session = ?", (claim.id,))
        if claim.events:
            self._add_events(claim.id, claim.events)
        return Claimed(epoch, previous, history)

    def _readable(self, decode: Callable[[], T], session: str) -> T | None:
        try:
            return decode()
        except CorruptEntryError as error:
            self._corrupt.pass_over(session, error)
            return None

    def _delete(self, delete: Delete) -> Outcome:
        row = self._execute(SELECT_HEAD, (delete.id,)).fetchone()
        if row is None:
            return Done(found=False)
        found = self._readable(lambda: head(row), delete.id)
        if found is not None and self._clock.left(found.lease) > 0:
            return Refused()
        self._forget(delete.id, None if found is None else found.key)
        return Done(found=found is None or not found.gone(self._clock))

    def _ask(self, ask: Ask) -> Outcome:
        asked = self._execute(
            "INSERT INTO asks (session, what, reason, at) VALUES (?, ?, ?, ?)",
            (ask.id, ask.what, ask.reason, self._clock.wall()),
        )
        assert asked.lastrowid is not None
        self._execute("DELETE FROM asks WHERE n <= (SELECT n FROM asks ORDER BY n DESC LIMIT 1 OFFSET ?)", (ASKS_KEPT,))
        return Done()

    def _expires(self, keep: float, lease: float | None) -> float:
        # Never before the lease does, so that what has expired need not be looked at for that.
        return self._clock.wall() + max(keep, lease or 0.0)

    def _floor(self) -> int:
        row = self._execute("SELECT epoch FROM floor").fetchone()
        return row[0] if row is not None and type(row[0]) is int and 0 <= row[0] < MAX_UNITS - 1 else 0

    def _forget(self, session: str, key: Key | None) -> None:
        """Removes all rows of a session. Its epochs are not given out again, so what it was fenced from stays so."""
        columns = self._execute(f"SELECT {COLUMNS} FROM sessions WHERE id = ?", (session,)).fetchone()  # noqa: S608
        if columns is not None:
            settle(self._connection, session, readable(columns), None)
        for statement in (
            "DELETE FROM sessions WHERE id = ?",
            "DELETE FROM events WHERE session = ?",
            "DELETE FROM asks WHERE session = ?",
            "DELETE FROM reserved WHERE session = ?",
        ):
            self._execute(statement, (session,))
        if key is not None and key.epoch > self._floor():
            self._execute("UPDATE floor SET epoch = ?", (key.epoch,))
        self.removed = True

    def _remove_row(self, number: int) -> None:
        """Removes a row whose id cannot be read, and so is no session's."""
        self._execute("DELETE FROM events WHERE session = (SELECT id FROM sessions WHERE rowid = ?)", (number,))
        self._execute("DELETE FROM sessions WHERE rowid = ?", (number,))
        self.removed = True

    def sweep(self) -> bool:
        """Removes some of what has expired.

        Returns:
            Whether there may be more.
        """
        now = self._clock.wall()
        rows = self._execute(
            "SELECT rowid, id, epoch, seq, heartbeat, lease_boot, lease_until, lease_wall, expires FROM sessions"
            " WHERE expires <= ? LIMIT ?",
            (now, EXPIRED_AT_ONCE),
        ).fetchall()
        for number, identity, *row in rows:
            try:
                session = decode_id(identity)
            except CorruptEntryError as error:
                self._corrupt.pass_over(identity, error)
                self._remove_row(number)  # Or it would be found again each time, in the place of others.
                continue
            found = self._readable(partial(head, row), session)
            if found is None or found.gone(self._clock):
                self._forget(session, None if found is None else found.key)
        self._execute("DELETE FROM asks WHERE at <= ?", (now - ASKS_KEPT_FOR,))
        for table in ("reserved", "waiting"):
            self._execute(f"DELETE FROM {table} WHERE wall <= ?", (now - HEARD_FOR,))  # noqa: S608 - a constant
        for table in ("histories", "durations"):
            self._execute(f"DELETE FROM {table} WHERE at <= ?", (now - KEPT_FOR,))  # noqa: S608 - a constant
        self._execute(
            "DELETE FROM histories WHERE pipeline IN"
            " (SELECT pipeline FROM histories ORDER BY at DESC LIMIT -1 OFFSET ?)",
            (PIPELINES_KEPT,),
        )
        return len(rows) == EXPIRED_AT_ONCE


def _beside(declared: Stored | None, record: bytes) -> tuple[int, int, bytes] | tuple[None, None, None]:
    """The columns of what a claim has replaced; nothing where a row would hold no more than its own record."""
    if declared is None or len(declared.record) + len(record) > LARGEST_RECORD:
        return None, None, None
    return (*declared.key, declared.record)


def _declared(session: str, epoch: object, seq: object, record: object) -> Stored | None:
    """What a claim that is made again had replaced, as far as it can be read."""
    if type(epoch) is not int or type(seq) is not int or type(record) is not bytes:
        return None
    return Stored(session, Key(epoch, seq), record, False, None)
