"""Reading from the SQLite file: one transaction, and so one moment, for each call.

Rows are decoded strictly, for SQLite keeps any type in any column; see `stores.decoding`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, final

from ...errors import CorruptEntryError
from ...state.history import PIPELINES_KEPT, PipelineHistory, history_of_seconds
from ..base import Ask, Changes, Page, Query, Seen, Stored
from ..decoding import (
    LARGEST_RECORD,
    CorruptEntries,
    decode_ask,
    decode_seconds,
    decoded_history,
)
from .listing import Pages
from .machine import MachineClock
from .rows import SELECT_ALL, SELECT_HEAD, head, stored

SELECT_EVENTS: Final = f"""SELECT n, CASE WHEN length(data) <= {LARGEST_RECORD} THEN data END
FROM events WHERE session = ? ORDER BY n"""  # noqa: S608 - constants


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
        with _moment(self._connection):
            return Pages(self._connection, self._clock, self._corrupt).page(query)

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
