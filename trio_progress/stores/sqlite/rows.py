"""The row of a session in the SQLite file, decoded strictly: SQLite keeps any type in any column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ...errors import CorruptEntryError
from ...state.limits import MAX_UNITS
from ..base import Key, Seen, Stored
from ..decoding import LARGEST_RECORD, LATEST
from .listed import COLUMNS
from .machine import Lease

if TYPE_CHECKING:
    from .machine import MachineClock

_HEAD: Final = "epoch, seq, heartbeat, lease_boot, lease_until, lease_wall, expires"

SELECT_HEAD: Final = f"SELECT {_HEAD} FROM sessions WHERE id = ?"  # noqa: S608 - a constant

# What is too long is not read at all.
SELECT_ALL: Final = f"""SELECT {_HEAD}, CASE WHEN length(record) <= {LARGEST_RECORD} THEN record END
FROM sessions WHERE id = ?"""  # noqa: S608 - constants

SELECT_TAKEABLE: Final = f"SELECT {_HEAD}, {COLUMNS} FROM sessions WHERE id = ?"  # noqa: S608 - constants

SELECT_LISTED: Final = SELECT_ALL.replace("\nFROM", f", {COLUMNS}\nFROM")
"""The same with what the session is listed by, behind it."""


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
