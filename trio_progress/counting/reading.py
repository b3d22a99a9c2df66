"""What the parent reads of a file of counts: the sums over all slots, and the newest message and total."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, final

from .layout import ADVANCED, COUNTED, EXTENDED, SKIPPED

if TYPE_CHECKING:
    from .layout import Layout, Record


@final
@dataclass(slots=True)
class Reading:
    """What has changed since the reading before. What was taken back is negative."""

    advanced: int | float = 0
    skipped: int | float = 0
    extended: int | float = 0
    counters: dict[str, int | float] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    """The newest `message` and `total`, where they were set."""

    def __bool__(self) -> bool:
        return bool(self.advanced or self.skipped or self.extended or self.counters or self.given)


@final
class Reader:
    """Reads one file of counts again and again. It costs some microseconds, and one for each slot that was used."""

    __slots__ = ("_layout", "_message_at", "_names", "_read", "_records", "_total_at", "used")

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._names: list[str] = []
        self._read: list[float] = []
        self._records: dict[int, int] = {}
        self._message_at = self._total_at = 0
        self.used = 0
        """How many slots had been used when it was read last."""

    def read(self) -> Reading:
        """What has changed since this was called last."""
        layout = self._layout
        used = list(layout.used())
        self.used = len(used)
        self._names += layout.names(len(self._names))
        size = COUNTED + len(self._names)
        self._read += [0.0] * (size - len(self._read))
        sums = [sum(column) for column in zip(*(layout.sums(slot)[:size] for slot in used), strict=True)] or self._read
        changes = [_plain(new - old) for new, old in zip(sums, self._read, strict=True)]
        self._read = sums
        counters = {name: n for name, n in zip(self._names, changes[COUNTED:], strict=True) if n}
        reading = Reading(changes[ADVANCED], changes[SKIPPED], changes[EXTENDED], counters)
        for slot in used:
            number = layout.record_number(slot)
            if number != self._records.get(slot, 0):
                record = layout.read_record(slot)
                if record is not None:
                    self._records[slot] = number
                    self._take_newer(record, reading.given)
        return reading

    def _take_newer(self, record: Record, given: dict[str, Any]) -> None:
        if record.message_at > self._message_at:
            self._message_at = record.message_at
            given["message"] = record.message
        if record.total_at > self._total_at:
            self._total_at = record.total_at
            given["total"] = None if record.total is None else _plain(record.total)


def _plain(n: float) -> int | float:
    """A whole number as an int, as most of what is counted is shown."""
    return int(n) if n.is_integer() else n
