"""Reading from the SQLite file: one transaction, and so one moment, for each call.

Rows are decoded strictly, for SQLite keeps any type in any column; see `stores.decoding`.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from typing import Any, Final, NamedTuple, final

from ...errors import CorruptEntryError
from ...state.history import PIPELINES_KEPT, PipelineHistory, history_of_seconds
from ...state.limits import MAX_UNITS
from ..base import Ask, Changes, Key, Page, Query, Seen, Stored
from ..decoding import (
    LARGEST_RECORD,
    LATEST,
    CorruptEntries,
    decode_ask,
    decode_cursor,
    decode_id,
    decode_seconds,
    decoded_history,
    encode_cursor,
    has_labels,
    label_text,
)
from .machine import Lease, MachineClock

_HEAD: Final = "epoch, seq, heartbeat, lease_boot, lease_until, lease_wall, expires"

SELECT_HEAD: Final = f"SELECT {_HEAD} FROM sessions WHERE id = ?"  # noqa: S608 - a constant

# What is too long is not read at all.
SELECT_ALL: Final = f"""SELECT {_HEAD}, CASE WHEN length(record) <= {LARGEST_RECORD} THEN record END
FROM sessions WHERE id = ?"""  # noqa: S608 - constants

SELECT_EVENTS: Final = f"""SELECT n, CASE WHEN length(data) <= {LARGEST_RECORD} THEN data END
FROM events WHERE session = ? ORDER BY n"""  # noqa: S608 - constants


class Head(NamedTuple):
    """All of a session's row but its record."""

    key: Key
    heartbeat: float | None
    lease: Lease
    expires: float

    def seen(self, clock: MachineClock) -> Seen:
        """What a reader compares."""
        return Seen(self.key, self.heartbeat, clock.left(self.lease) > 0)

    def gone(self, clock: MachineClock) -> bool:
        """Whether it has expired, though nobody has removed it yet."""
        return self.expires <= clock.wall() and clock.left(self.lease) <= 0


@contextmanager
def _moment(connection: sqlite3.Connection) -> Iterator[None]:
    """What is read in the block is of one moment. Where the block raises, the owner of the connection closes it."""
    connection.execute("BEGIN")
    yield
    connection.execute("COMMIT")


def data_version(connection: sqlite3.Connection) -> int:
    """A number that is another one after any other connection has committed."""
    return int(connection.execute("PRAGMA data_version").fetchone()[0])


def newest_ask(connection: sqlite3.Connection) -> int:
    """The number of the newest request that there ever was."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'asks'").fetchone()
    return row[0] if row is not None and type(row[0]) is int and row[0] >= 0 else 0


def history_of(connection: sqlite3.Connection, pipeline: str, corrupt: CorruptEntries) -> PipelineHistory | None:
    """What earlier runs of a pipeline have taught; of what cannot be read, nothing."""
    row = connection.execute("SELECT data FROM histories WHERE pipeline = ?", (pipeline,)).fetchone()
    if row is None:
        old = connection.execute("SELECT phase, seconds, at FROM durations WHERE pipeline = ?", (pipeline,)).fetchall()
        at = max((at for _, _, at in old if type(at) is float), default=0.0)
        return history_of_seconds(decode_seconds((phase, seconds) for phase, seconds, _ in old), at)
    return decoded_history(pipeline, row[0], corrupt)


@final
class Reads:
    """Reads on one connection, which is in no transaction."""

    def __init__(self, connection: sqlite3.Connection, clock: MachineClock, corrupt: CorruptEntries) -> None:
        self._connection = connection
        self._clock = clock
        self._corrupt = corrupt

    def one(self, session: str) -> Stored | None:
        """The newest entry of a session, with its events; raises `CorruptEntryError` where it cannot be read."""
        with _moment(self._connection):
            return self._one(session, events=True)

    def _one(self, session: str, *, events: bool) -> Stored | None:
        row = self._connection.execute(SELECT_ALL, (session,)).fetchone()
        if row is None or head(row).gone(self._clock):
            return None
        if not events:
            return stored(session, row, self._clock)
        data, wrong = events_of(self._connection, session)
        if wrong is not None:
            self._corrupt.pass_over(session, wrong)
        return stored(session, row, self._clock, data)

    def page(self, query: Query) -> Page:
        """The newest entries of the sessions that `query` names; rows that cannot be read are left out."""
        statement, values = _listing(query, self._clock)
        sessions: list[Stored] = []
        last = None
        with _moment(self._connection), closing(self._connection.execute(statement, values)) as rows:
            for queued_at, name, labels in rows:
                try:
                    found = self._listed(query, queued_at, name, labels)
                except CorruptEntryError as error:
                    self._corrupt.pass_over(name, error)
                    continue
                if found is not None:
                    if len(sessions) == query.limit:
                        break
                    sessions.append(found)
                    last = encode_cursor(queued_at, found.id)
            else:
                last = None
        return Page(sessions, last)

    def _listed(self, query: Query, queued_at: object, name: object, labels: bytes) -> Stored | None:
        session = decode_id(name)
        if type(queued_at) is not float:
            raise CorruptEntryError(f"queued_at is {queued_at!r:.100}")
        if query.labels and not has_labels(labels, query.labels):
            return None
        return self._one(session, events=False)

    def news(self, since: int, seen: Mapping[str, Seen | None]) -> tuple[Changes, float]:
        """What differs from `seen`, and what was asked since; and in how many seconds time alone may change that."""
        sessions: list[Stored] = []
        gone: list[str] = []
        due = float("inf")
        with _moment(self._connection):
            newest = newest_ask(self._connection)
            # Fewer than there were: the file was replaced by another one.
            asked = [] if newest == since else self._asked(since if newest > since else 0)
            for session, known in seen.items():
                try:
                    row = self._connection.execute(SELECT_HEAD, (session,)).fetchone()
                    found = None if row is None else head(row)
                    if found is None or found.gone(self._clock):
                        if known is not None:
                            gone.append(session)
                        continue
                    if found.seen(self._clock) != known:
                        entry = self._one(session, events=True)
                        if entry is not None:
                            sessions.append(entry)
                    lease = self._clock.left(found.lease)
                    due = min(due, lease if lease > 0 else max(found.expires - self._clock.wall(), 0.0))
                except CorruptEntryError as error:
                    self._corrupt.pass_over(session, error)
        return Changes(str(newest), sessions, gone, asked), due

    def histories(self) -> Sequence[str]:
        """The pipelines of which there is a history, the one that ran last first."""
        rows = self._connection.execute(
            "SELECT pipeline FROM (SELECT pipeline, at FROM histories UNION ALL SELECT pipeline, at FROM durations)"
            " GROUP BY pipeline ORDER BY max(at) DESC LIMIT ?",
            (PIPELINES_KEPT,),
        )
        return [name.decode("utf-8", "replace") for (name,) in rows if type(name) is bytes and name]

    def _asked(self, since: int) -> Sequence[Ask]:
        asked: list[Ask] = []
        for name, what, reason in self._connection.execute(
            "SELECT session, what, reason FROM asks WHERE n > ? ORDER BY n", (since,)
        ):
            try:
                asked.append(decode_ask(name, what, reason))
            except CorruptEntryError as error:
                self._corrupt.pass_over(name, error)
        return asked


def _listing(query: Query, clock: MachineClock) -> tuple[str, list[object]]:
    where = ["1"]
    values: list[object] = []
    if query.status is not None:
        where.append(f"status IN ({', '.join('?' * len(query.status))})")
        values += sorted(query.status)
    for label, value in query.labels.items():
        # What stands in the JSON of the labels, if they have this one: few are left to be looked at closely.
        where.append("instr(labels, ?)")
        values.append(label_text(label, value))
    if query.lapsed:
        # As `MachineClock.left` has it.
        where.append(
            "(lease_until IS NULL OR lease_wall IS NULL OR CASE WHEN lease_boot IS NULL OR ? IS NULL "
            "THEN lease_wall <= ? WHEN lease_boot = ? THEN lease_until <= ? ELSE 1 END)"
        )
        values += [clock.boot, clock.wall(), clock.boot, clock.monotonic()]
    if query.after is not None:
        where.append("(queued_at, id) < (?, ?)")
        values += decode_cursor(query.after)
    return (
        f"SELECT queued_at, id, labels FROM sessions WHERE {' AND '.join(where)} "  # noqa: S608 - no values in it
        "ORDER BY queued_at DESC, id DESC"
    ), values


# Decoding: each raises `CorruptEntryError` where something is not what it should be.


def head(row: Sequence[Any]) -> Head:
    """The first columns of a row of SELECT_HEAD or SELECT_ALL."""
    epoch, seq, heartbeat, boot, until, wall, expires = row[:7]
    for what, value in (("epoch", epoch), ("seq", seq)):
        if type(value) is not int or not 0 <= value < MAX_UNITS:
            raise CorruptEntryError(f"{what} is {value!r:.100}")
    stamped = heartbeat is None or (type(heartbeat) is float and 0 <= heartbeat <= LATEST)
    if not stamped or type(expires) is not float:
        raise CorruptEntryError(f"heartbeat is {heartbeat!r:.100}, expires is {expires!r:.100}")
    for what, value in (("lease_until", until), ("lease_wall", wall)):
        if value is not None and (type(value) is not float or not math.isfinite(value)):
            raise CorruptEntryError(f"{what} is {value!r:.100}")
    if boot is not None and type(boot) is not bytes:
        raise CorruptEntryError(f"lease_boot is {boot!r:.100}")
    lease = Lease(None if boot is None else boot.decode("ascii", "replace"), until, wall)
    return Head(Key(epoch, seq), heartbeat, lease, expires)


def stored(session: str, row: Sequence[Any], clock: MachineClock, events: Sequence[bytes] = ()) -> Stored:
    """What a row of SELECT_ALL says of `session`."""
    found = head(row)
    record = row[7]
    if type(record) is not bytes:
        raise CorruptEntryError(
            "its record is longer than any that is written" if record is None else "it has no record"
        )
    return Stored(session, found.key, record, clock.left(found.lease) > 0, found.heartbeat, events)


def events_of(connection: sqlite3.Connection, session: str) -> tuple[tuple[bytes, ...], str | None]:
    """The retained events of a session, oldest first; and what was wrong with those that are left out.

    A log of events has no holes, for its readers count from its end: what stands before a hole is left out.
    """
    data: list[bytes] = []
    wrong = None
    expected = None
    for n, event in connection.execute(SELECT_EVENTS, (session,)):
        if type(n) is not int or type(event) is not bytes:
            wrong = f"event {n!r:.100} has no data"
            continue
        if n != expected and expected is not None:
            wrong = wrong or f"events before {n} are missing"
            data.clear()
        data.append(event)
        expected = n + 1
    return tuple(data), wrong
