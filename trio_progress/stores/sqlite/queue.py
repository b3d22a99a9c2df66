"""How the SQLite file hands out the sessions that wait: within the one transaction of a commit; see `stores.taking`.

What is queued stands in the index of lists; what is to be gone on with stands there beside it, by how often it was
begun. What runs without a lease is found by the leases themselves, so that nobody is rung for it: who looks next takes
it. A bell is a row of `asks`, of which a process has one at most; its `reason` is the session for which it was rung.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, final

import msgspec

from ...errors import CorruptEntryError
from ..base import Done, Key
from ..buckets import begun, bucket_of, buckets_of, pipelines_of
from ..buckets import labels_of as wanted_labels
from ..decoding import CorruptEntries, decode_id
from ..places import place_of
from ..taking import LOOKED_FOR, TAKE, Release, Take, Taken, Wanted, choose
from .listed import Listed, labels_of, readable
from .listing import clocks, without_lease
from .machine import Lease
from .rows import SELECT_TAKEABLE, head

if TYPE_CHECKING:
    from .machine import MachineClock

_WANTED: Final = msgspec.json.Decoder(list[Wanted])

_COUNTED: Final = 10_000
"""How far the sessions of a dimension are counted, to find the rarest."""

_OLDEST: Final = "SELECT queued_at, session FROM places WHERE dimension = ? AND place = ? ORDER BY queued_at, session"


@final
class Queue:
    """Used on one connection, within a transaction."""

    def __init__(self, connection: sqlite3.Connection, clock: MachineClock, corrupt: CorruptEntries) -> None:
        self._execute = connection.execute
        self._connection = connection
        self._clock = clock
        self._corrupt = corrupt

    # Ringing

    def ring(self, session: str, by: Listed) -> None:
        """Asks the process that has waited longest for a session listed by this to take it, if it can be taken."""
        bucket = bucket_of(by.status, by.attempts)
        if bucket is None:
            return
        rows = self._execute("SELECT process, wanted, boot, until, wall FROM waiting ORDER BY n").fetchall()
        labels = labels_of(by) if rows else {}
        for name, given, *lease in rows:
            process = name.decode("utf-8", "replace") if type(name) is bytes else ""
            here = self._left(lease) > 0
            if here and not any(bucket in buckets_of(one) and one.fits(by.pipeline, labels) for one in _wanted(given)):
                continue
            self._execute("DELETE FROM waiting WHERE process = ?", (process,))
            if here:
                self._unring(process)
                statement = "INSERT INTO asks (session, what, reason, at) VALUES (?, ?, ?, ?)"
                self._execute(statement, (process, TAKE, session, self._clock.wall()))
                return

    def _unring(self, process: str) -> str | None:
        """Takes back the bell of a process that has come, or has left; for which session it was rung."""
        values = (process, TAKE)
        row = self._execute("SELECT reason FROM asks WHERE session = ? AND what = ?", values).fetchone()
        if row is None:
            return None
        self._execute("DELETE FROM asks WHERE session = ? AND what = ?", values)
        try:
            return decode_id(row[0])
        except CorruptEntryError:
            return None  # An older version has not said it.

    def _ring_next(self, process: str, short: Sequence[Wanted] = ()) -> None:
        """Rings the next for what a process was rung for and leaves, unless it has looked at such a one in vain."""
        session = self._unring(process)
        if session is None or self._is_reserved(session):
            return
        by = self._row(session)[1]
        if by is None:
            return
        bucket, labels = bucket_of(by.status, by.attempts), labels_of(by)
        if not any(bucket in buckets_of(one) and one.fits(by.pipeline, labels) for one in short):
            self.ring(session, by)

    def _left(self, lease: Sequence[Any]) -> float:
        """How many seconds a reservation or a process' place stands; of what cannot be read, none."""
        boot, until, wall = lease
        if type(until) is not float or type(wall) is not float or not (boot is None or type(boot) is bytes):
            return 0.0
        return self._clock.left(Lease(None if boot is None else boot.decode("ascii", "replace"), until, wall))

    # Taking

    def take(self, take: Take) -> Taken:
        """Chooses and reserves, or enters the process as waiting."""

        def reserve(session: str) -> None:
            lease = self._clock.lease(take.reserve)
            self._execute("INSERT OR REPLACE INTO reserved VALUES (?, ?, ?, ?, ?)", (session, take.id, *lease))

        taken, short = choose(take, lambda wanted: self._takeable(wanted, take.without), self._spent, reserve)
        if short:
            self._enter(take, short)
        else:
            self._stop_waiting(take.id)
        self._ring_next(take.id, short)
        return taken

    def _enter(self, take: Take, short: Sequence[Wanted]) -> None:
        """Enters a process that waits; one that is there keeps its place, and costs nothing most of the time."""
        wanted = msgspec.json.encode(short)
        row = self._execute("SELECT wanted, boot, until, wall FROM waiting WHERE process = ?", (take.id,)).fetchone()
        lease = self._clock.lease(take.heard)
        left = 0.0 if row is None else self._left(row[1:])
        if left <= 0:
            statement = "INSERT OR REPLACE INTO waiting (wanted, boot, until, wall, process) VALUES (?, ?, ?, ?, ?)"
            self._execute(statement, (wanted, *lease, take.id))
        elif row[0] != wanted or left < take.heard / 2:
            statement = "UPDATE waiting SET wanted = ?, boot = ?, until = ?, wall = ? WHERE process = ?"
            self._execute(statement, (wanted, *lease, take.id))

    def _stop_waiting(self, process: str) -> None:
        self._execute("DELETE FROM waiting WHERE process = ?", (process,))

    def release(self, release: Release) -> Done:
        """Gives back what a process has reserved, and takes it off those that wait."""
        if release.leaves:
            self._stop_waiting(release.id)
            self._ring_next(release.id)
        for session in release.sessions:
            values = (session, release.id)
            if self._execute("DELETE FROM reserved WHERE session = ? AND process = ?", values).rowcount:
                by = self._row(session)[1]
                if by is not None:
                    self.ring(session, by)
        return Done()

    def _row(self, session: str) -> tuple[Key | None, Listed | None]:
        """The newest key of a session that nobody owns, and what it is listed by; None where there is none."""
        row = self._execute(SELECT_TAKEABLE, (session,)).fetchone()
        if row is None:
            return None, None
        try:
            found = head(row)
        except CorruptEntryError as error:
            self._corrupt.pass_over(session, error)
            return None, None
        if self._clock.left(found.lease) > 0 or found.gone(self._clock):
            return None, None
        return found.key, readable(row[7:])

    def _takeable(self, wanted: Wanted, without: frozenset[str]) -> Iterator[tuple[str, Key]]:
        """The sessions that can be taken, oldest first."""
        buckets = buckets_of(wanted)
        lapsed = ((queued_at, name) for queued_at, name, _ in without_lease(self._connection, clocks(self._clock)))
        oldest = merge(self._indexed(wanted, buckets), lapsed)
        for queued_at, name in islice(oldest, LOOKED_FOR):
            try:
                session = decode_id(name)
            except CorruptEntryError as error:
                self._corrupt.pass_over(name, error)
                continue
            if session in without or self._is_reserved(session):
                continue
            key, by = self._row(session)
            if key is None or by is None or by.queued_at != queued_at or not wanted.fits(by.pipeline, labels_of(by)):
                continue  # A row of the index that a stranger has left behind, among others.
            if bucket_of(place_of(by.status, alive=False), by.attempts) in buckets:
                yield session, key

    def _is_reserved(self, session: str) -> bool:
        row = self._execute("SELECT boot, until, wall FROM reserved WHERE session = ?", (session,)).fetchone()
        return row is not None and self._left(row) > 0

    def _spent(self, wanted: Wanted) -> Iterator[str]:
        """Some of the sessions that were begun as often as is allowed."""
        for _, name in islice(self._indexed(wanted, [begun(wanted.max_attempts)]), LOOKED_FOR):
            session = name.decode("utf-8", "replace")
            by = self._row(session)[1]
            if by is not None and wanted.fits(by.pipeline, labels_of(by)):
                yield session

    def _indexed(self, wanted: Wanted, buckets: Sequence[str]) -> Iterator[tuple[float, bytes]]:
        """The sessions of the dimension with the fewest that stand in these buckets, oldest first."""
        goes_by = pipelines_of(wanted)
        fewest = self._size(goes_by, buckets)
        for dimension in wanted_labels(wanted):
            size = self._size([dimension], buckets)
            if size < fewest:
                goes_by, fewest = [dimension], size
        return merge(*(self._execute(_OLDEST, (each, bucket)) for each in goes_by for bucket in buckets))

    def _size(self, dimensions: Sequence[str], buckets: Sequence[str]) -> int:
        statement = "SELECT count(*) FROM (SELECT 1 FROM places WHERE dimension = ? AND place = ? LIMIT ?)"
        return sum(
            self._execute(statement, (each, bucket, _COUNTED)).fetchone()[0]
            for each in dimensions
            for bucket in buckets
        )


def _wanted(given: object) -> Sequence[Wanted]:
    """What a process waits for; of what cannot be read, nothing."""
    try:
        return _WANTED.decode(given) if isinstance(given, bytes) else ()
    except msgspec.MsgspecError:
        return ()
