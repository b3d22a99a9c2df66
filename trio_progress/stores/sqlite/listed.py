"""The index of the SQLite file: for each session a row for each dimension that it stands in; see `stores.places`.

`places` has the status that is stored, and beside it of what is interrupted or lost how often it was begun (see
`stores.taking`); which of the running sessions have no lease is a question to their leases, which
have an index of their own. The rows follow from what the session's own row says, and are changed with it, in the same
transaction. What a stranger has changed there leaves rows behind; readers compare both, and pass those over.

A file of an older version is taken in by slices: the one row of `unlisted` says up to which session. Until it is gone,
lists look through the sessions themselves.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from ..base import Index
from ..buckets import bucket_of
from ..decoding import encode_labels
from ..places import dimensions
from ..taking import NEVER_BEGUN

SLICE: Final = 200
"""Sessions that one transaction takes in."""

COLUMNS: Final = "status, pipeline, labels, queued_at, attempts"

_INSERT: Final = "INSERT OR IGNORE INTO places (dimension, place, queued_at, session) VALUES (?, ?, ?, ?)"
_DELETE: Final = "DELETE FROM places WHERE dimension = ? AND place = ? AND queued_at = ? AND session = ?"

_MOVE: Final = """UPDATE OR REPLACE places SET place = ?
WHERE dimension = ? AND place = ? AND queued_at = ? AND session = ?"""

_LABELS: Final = msgspec.json.Decoder(dict[str, str])

Entry = tuple[str, str, float, str]
"""A row of the index."""


class Listed(NamedTuple):
    """What a session is listed by, as its row has it."""

    status: str
    pipeline: str | None
    labels: str
    queued_at: float
    attempts: int = 0
    """How often it was begun."""

    @property
    def again(self) -> str | None:
        """Where it stands as one that waits to be gone on with; None: it does not, as long as it has a lease."""
        return None if self.status == NEVER_BEGUN else bucket_of(self.status, self.attempts)


def listed(index: Index, attempts: int) -> Listed:
    """What a row is given."""
    return Listed(index.status, index.pipeline, encode_labels(index.labels).decode(), index.queued_at, attempts)


def readable(columns: Sequence[Any]) -> Listed | None:
    """What a row has in `COLUMNS`; None where it is nothing that was ever written."""
    status, pipeline, labels, queued_at, attempts = columns
    if type(status) is not bytes or type(labels) is not bytes or type(queued_at) is not float:
        return None
    if type(attempts) is not int:
        return None
    if pipeline is not None and type(pipeline) is not bytes:
        return None
    try:
        pipeline = None if pipeline is None else pipeline.decode()
        return Listed(status.decode(), pipeline, labels.decode(), queued_at, attempts)
    except UnicodeDecodeError:
        return None


def labels_of(by: Listed) -> dict[str, str]:
    """The labels of a row; of what cannot be read, none."""
    try:
        return _LABELS.decode(by.labels)
    except msgspec.MsgspecError:
        return {}


def _entries(session: str, by: Listed | None) -> Iterable[Entry]:
    if by is None:
        return ()
    found = ["", *dimensions(by.pipeline, labels_of(by))]
    places = [by.status] if by.again is None else [by.status, by.again]
    return [(dimension, place, by.queued_at, session) for place in places for dimension in found]


def _moves(before: Listed, now: Listed) -> bool:
    """Whether the same rows have another place."""
    return before[1:4] == now[1:4] and before.again is None and now.again is None


def settle(connection: sqlite3.Connection, session: str, before: Listed | None, now: Listed | None) -> None:
    """Makes the rows of a session equal to what it is listed by now; called by each write that changes that.

    Args:
        connection: Within the transaction of the write.
        session: Its id.
        before: What it was listed by until now; None: it was not there.
        now: What it is listed by from now on; None: it is gone.
    """
    if before == now:
        return
    if before is not None and now is not None and _moves(before, now):  # The most frequent change, in half the time.
        rows = [(now.status, *entry) for entry in _entries(session, before)]
        if connection.executemany(_MOVE, rows).rowcount == len(rows):
            return
    old, new = _entries(session, before), _entries(session, now)
    connection.executemany(_DELETE, [entry for entry in old if entry not in new])
    connection.executemany(_INSERT, [entry for entry in new if entry not in old])


def is_complete(connection: sqlite3.Connection) -> bool:
    """Whether all sessions have their rows."""
    return connection.execute("SELECT 1 FROM unlisted").fetchone() is None


def take_in(connection: sqlite3.Connection) -> bool:
    """Gives some more sessions of an older version their rows, in a transaction of its own.

    Returns:
        Whether there may be more.
    """
    if is_complete(connection):
        return False
    connection.execute("BEGIN IMMEDIATE")
    state = connection.execute("SELECT upto FROM unlisted").fetchone()
    if state is None:  # Another process was faster.
        connection.execute("COMMIT")
        return False
    rows = connection.execute(
        f"SELECT rowid, CAST(id AS TEXT), {COLUMNS} FROM sessions WHERE rowid > ? ORDER BY rowid LIMIT ?",  # noqa: S608 - a constant
        (state[0], SLICE),
    ).fetchall()
    for _, session, *columns in rows:
        by = readable(columns)
        if type(session) is bytes and by is not None:
            connection.executemany(_INSERT, _entries(session.decode("utf-8", "replace"), by))
    if len(rows) == SLICE:
        connection.execute("UPDATE unlisted SET upto = ?", (rows[-1][0],))
    else:
        connection.execute("DELETE FROM unlisted")
    connection.execute("COMMIT")
    return len(rows) == SLICE
