"""Pages of the SQLite file: a range of the index for each place, merged; see `stores.places`."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Sequence
from contextlib import closing
from heapq import merge
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from ...errors import CorruptEntryError
from ..base import Page, Query, Stored
from ..decoding import CorruptEntries, decode_cursor, decode_id, encode_cursor, has_labels, label_text
from ..places import LAPSED, LOOKED_AT, PLACES, RUNNING, dimensions, place_of, places_of
from .listed import is_complete
from .rows import SELECT_LISTED, head, stored

if TYPE_CHECKING:
    from .machine import MachineClock

# As `MachineClock.left` has it.
_LAPSED: Final = """(lease_until IS NULL OR lease_wall IS NULL OR CASE WHEN lease_boot IS NULL OR :boot IS NULL
THEN lease_wall <= :wall WHEN lease_boot = :boot THEN lease_until <= :until ELSE 1 END)"""

# Ranges of `sessions_lease`, the index of what is stored as running, that have all of which `_LAPSED` is true; some
# others as well, for a lease may have been renewed that is due to be looked at.
_LEASE_RANGES: Final = (
    "lease_boot < :boot",
    "lease_boot > :boot",
    "lease_boot = :boot AND lease_due <= :until",
    "lease_boot IS NULL",
)

_RARE: Final = (LOOKED_AT, 20 * LOOKED_AT, 400 * LOOKED_AT)
"""How far the sessions of dimensions are counted, to find the rarest: as far as one of them goes."""

Row: TypeAlias = tuple[Any, ...]
"""When a session was queued, its id, and the status that it is listed with."""


@final
class Pages:
    """Lists by one connection, within a transaction: a page is of one moment."""

    def __init__(self, connection: sqlite3.Connection, clock: MachineClock, corrupt: CorruptEntries) -> None:
        self._connection = connection
        self._clock = clock
        self._corrupt = corrupt

    def page(self, query: Query) -> Page:
        """The newest entries of the sessions that `query` names; rows that cannot be read are left out."""
        places = places_of(query)
        values = clocks(self._clock)
        if query.after is not None:
            values |= zip(("at", "id"), decode_cursor(query.after), strict=True)
        by_index = query.filtered and is_complete(self._connection)
        rows = self._by_index(query, places, values) if by_index else self._scanned(query, places, values)
        sessions: list[Stored] = []
        known: list[str] = []
        last = None
        looked = 0
        with closing(rows):
            for queued_at, name, status in rows:
                if len(sessions) + len(known) == query.limit or looked == LOOKED_AT:
                    break
                try:
                    session, found = self._fitting(query, places, queued_at, name, status)
                except CorruptEntryError as error:
                    self._corrupt.pass_over(name, error)
                    looked += 1
                    continue
                if found is None:
                    looked += 1
                elif query.known.get(session) == found.key.epoch:
                    known.append(session)
                else:
                    sessions.append(found)
                last = encode_cursor(queued_at, session)
            else:
                last = None
        return Page(sessions, last, known)

    def _fitting(
        self, query: Query, places: Sequence[str], queued_at: object, name: object, status: object
    ) -> tuple[str, Stored | None]:
        """The id of a session, and what is stored of it, where that is what the list asks for."""
        session = decode_id(name)
        row = self._connection.execute(SELECT_LISTED, (session,)).fetchone()
        if row is None:
            return session, None
        has_status, has_pipeline, labels, at = row[8:12]
        if type(at) is not float:
            raise CorruptEntryError(f"queued_at is {at!r:.100}")
        if at != queued_at or has_status != status:
            return session, None  # The row of the index was left behind.
        found = head(row)
        alive = self._clock.left(found.lease) > 0
        if found.gone(self._clock) or (query.lapsed and alive):
            return session, None
        if type(status) is bytes and place_of(status.decode("utf-8", "replace"), alive=alive) not in places:
            return session, None
        if query.pipeline is not None and has_pipeline != query.pipeline.encode():
            return session, None
        if query.labels and not has_labels(labels, query.labels):
            return session, None
        return session, stored(session, row, self._clock)

    # By the index

    def _by_index(self, query: Query, places: list[str], values: dict[str, object]) -> Generator[Row, None, None]:
        asked = dimensions(query.pipeline, query.labels)
        statuses = sorted({RUNNING if place == LAPSED else place for place in places})
        if LAPSED not in places or RUNNING in places:
            yield from self._ranges(self._rarest(asked, statuses), statuses, values)
            return
        statuses.remove(RUNNING)
        ranges = self._ranges(self._rarest(asked, statuses), statuses, values)
        behind = "AND (queued_at, id) < (:at, :id)" if "at" in values else ""
        yield from merge(ranges, reversed(without_lease(self._connection, values, behind)), reverse=True)

    def _ranges(self, dimension: str, statuses: list[str], values: dict[str, object]) -> Generator[Row, None, None]:
        """The sessions of a dimension that are stored so, newest first: SQLite merges the ranges as they are read."""
        if not statuses:
            return
        behind = "AND (queued_at, session) < (:at, :id)" if "at" in values else ""
        one = f"SELECT queued_at, session, place FROM places WHERE dimension = :in AND place = :p{{}} {behind}"  # noqa: S608
        statement = " UNION ALL ".join(one.format(number) for number in range(len(statuses)))
        given = values | {"in": dimension} | {f"p{number}": status for number, status in enumerate(statuses)}
        yield from self._connection.execute(f"{statement} ORDER BY 1 DESC, 2 DESC", given)

    def _rarest(self, asked: list[str], statuses: list[str]) -> str:
        """The dimension with the fewest sessions that are stored so; without any, the one that has all."""
        if len(asked) < 2:
            return asked[0] if asked else ""
        places = ", ".join("?" * len(statuses))
        statement = f"SELECT count(*) FROM (SELECT 1 FROM places WHERE dimension = ? AND place IN ({places}) LIMIT ?)"  # noqa: S608
        sizes: dict[str, int] = {}
        for most in _RARE:
            sizes = {each: self._connection.execute(statement, (each, *statuses, most)).fetchone()[0] for each in asked}
            if min(sizes.values()) < most:
                break
        return min(asked, key=sizes.__getitem__)

    # Without it

    def _scanned(self, query: Query, places: list[str], values: dict[str, object]) -> Generator[Row, None, None]:
        """All sessions, or, as long as the index is not complete, what SQLite finds by looking at each."""
        where = ["1"]
        values = dict(values)
        if set(places) != set(PLACES):
            where.append("(0")
            for number, place in enumerate(places):
                values[f"p{number}"] = RUNNING if place == LAPSED else place
                lease = {LAPSED: f"AND {_LAPSED}", RUNNING: f"AND NOT {_LAPSED}"}.get(place, "")
                where[-1] += f" OR status = :p{number} {lease}"
            where[-1] += ")"
        if query.pipeline is not None:
            values["pipeline"] = query.pipeline
            where.append("pipeline = :pipeline")
        for number, (label, value) in enumerate(query.labels.items()):
            # What stands in the JSON of the labels, if they have this one: few are left to be looked at closely.
            values[f"label{number}"] = label_text(label, value)
            where.append(f"instr(labels, :label{number})")
        if query.lapsed:
            where.append(_LAPSED)
        if "at" in values:
            where.append("(queued_at, id) < (:at, :id)")
        yield from self._connection.execute(
            f"SELECT queued_at, id, status FROM sessions WHERE {' AND '.join(where)} "  # noqa: S608 - no values in it
            "ORDER BY queued_at DESC, id DESC",
            values,
        )


def clocks(clock: MachineClock) -> dict[str, object]:
    """What it is compared with whether a lease stands."""
    return {"boot": clock.boot, "wall": clock.wall(), "until": clock.monotonic()}


def without_lease(connection: sqlite3.Connection, values: dict[str, object], behind: str = "") -> list[Row]:
    """What is stored as running and has no owner, oldest first: few, for they are written off.

    Args:
        connection: To the file.
        values: The `clocks()`, and what `behind` names.
        behind: A condition for the entries.
    """
    found: set[Row] = set()
    for each in _LEASE_RANGES if values["boot"] is not None else ("1",):
        found.update(
            connection.execute(
                "SELECT queued_at, id, status FROM sessions INDEXED BY sessions_lease"  # noqa: S608 - constants
                f" WHERE status = 'running' AND {each} AND {_LAPSED} {behind}",
                values,
            )
        )
    return sorted(row for row in found if type(row[0]) is float and type(row[1]) is bytes)
