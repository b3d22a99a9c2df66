"""The file that worker processes count in: what stands where, and how it is read and written. No locks here.

1. The file has a header and `SLOTS` slots, all of one size; it is written whole when it is made, never sparse, so that
   no worker dies of a full disk. Numbers are doubles, which hold whole numbers below 2**53 exactly.
2. A slot is written by one thread at a time (see `slots.py`) and read by the parent at any moment. What is written is
   committed by one aligned store of 8 bytes: another process sees all of it, or nothing.
3. A slot has two banks of sums. Its state says which of them counts:

       0               never used: nothing counts
       1 + bank        `bank` counts
       3 + bank        a job runs: the other bank counts as long as the slot's owner lives, and `bank` if it has died

   So one store of the state begins a job, commits it, or takes back all that it has counted.
4. A slot has two places for a record: the newest message and total that its owners have set, with the time and a
   checksum. The number of the newest record says which place holds it; the next one goes to the other place.
5. Counters are named in the header, in the order in which they came; a name is never removed.

The sum over the slots is the count, at any moment: who takes over a slot goes on from what stands there.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from mmap import mmap

MAGIC: Final = b"tpcount1"
"""What the file begins with; the digit is the version of this layout."""

SLOTS: Final = 1024
SHARED: Final = SLOTS - 1
"""The slot that is shared, by those who find no other."""

COUNTERS: Final = 13
"""How many counters workers can name on one phase."""

ADVANCED, SKIPPED, EXTENDED, COUNTED = 0, 1, 2, 3
"""Places in a bank; the counters begin at `COUNTED`."""
BANK: Final = 3 + COUNTERS

# The header: in doubles; and in bytes the names, and one for each slot that was used. These stand together, because the
# parent reads them at each tick, and the slots lie on hundreds of pages.
_OVER, _STRICT, _NAMES = 1, 2, 3
_FIRST_NAME, _NAME_SIZE, _USED = 64, 816, 10752
NAME_BYTES: Final = _NAME_SIZE - 2
_HEADER: Final = 12288

# A slot, in doubles.
_STATE, _RECORD, _BANKS, _SLOT = 0, 1, 8, 192
_RECORDS: Final = (_BANKS + 2 * BANK) * 8
_RECORD_SIZE: Final = 608
_EMPTY: Final = memoryview(bytes(BANK * 8)).cast("d")
_RECORD_HEAD: Final = struct.Struct("<IHBxqqd")
MESSAGE_BYTES: Final = _RECORD_SIZE - _RECORD_HEAD.size
"""Bytes of UTF-8 that a message may have; a longer one is cut."""

FILE_SIZE: Final = _HEADER + SLOTS * _SLOT * 8
assert _FIRST_NAME + COUNTERS * _NAME_SIZE <= _USED
assert _USED + SLOTS <= _HEADER
assert _RECORDS + 2 * _RECORD_SIZE == _SLOT * 8


class Record(NamedTuple):
    """What was set absolutely in a slot. A stamp of 0: never."""

    message_at: int = 0
    message: str | None = None
    total_at: int = 0
    total: float | None = None


class Layout:
    """The fields of a file of counts, over its memory."""

    __slots__ = ("cells", "memory")

    def __init__(self, memory: mmap | bytearray) -> None:
        self.memory = memoryview(memory)
        self.cells = self.memory.cast("d")

    # The header

    def begin(self, strict: bool) -> None:
        """Makes it a file of counts; it is all zeros before."""
        self.memory[: len(MAGIC)] = MAGIC
        self.cells[_STRICT] = float(strict)

    @property
    def valid(self) -> bool:
        """Whether it is a file of this layout."""
        return len(self.memory) == FILE_SIZE and bytes(self.memory[: len(MAGIC)]) == MAGIC

    @property
    def strict(self) -> bool:
        """Whether bad input raises."""
        return self.cells[_STRICT] != 0

    @property
    def over(self) -> bool:
        """Whether nobody looks at it any more."""
        return self.cells[_OVER] != 0

    def end(self) -> None:
        """Nobody looks at it any more."""
        self.cells[_OVER] = 1.0

    def names(self, known: int = 0) -> list[str]:
        """The names of the counters after the first `known`."""
        return [self._name(number) for number in range(known, int(self.cells[_NAMES]))]

    def _name(self, number: int) -> str:
        at = _FIRST_NAME + number * _NAME_SIZE
        size = int.from_bytes(self.memory[at : at + 2], "little")
        return bytes(self.memory[at + 2 : at + 2 + size]).decode()

    def add_name(self, name: str) -> None:
        """Adds a counter's name, which fits; there is room, and nobody else is adding one."""
        number = int(self.cells[_NAMES])
        text = name.encode()
        at = _FIRST_NAME + number * _NAME_SIZE
        self.memory[at : at + 2 + len(text)] = len(text).to_bytes(2, "little") + text
        self.cells[_NAMES] = number + 1.0

    # Sums

    def take(self, slot: int) -> int:
        """Somebody owns the slot from here on; returns the bank that counts.

        What the last owner left in a job that it did not finish is taken back.
        """
        at = _slot(slot) + _STATE
        if not self.cells[at]:
            self.cells[at] = 1.0
            self.memory[_USED + slot] = 1
        elif self.in_job(slot):
            self.end_job(slot, keep=False)
        return self.bank(slot)

    def bank(self, slot: int) -> int:
        """The bank that counts as long as the owner of the slot lives."""
        state = int(self.cells[_slot(slot) + _STATE])
        return max(state - 1, 0) if state < 3 else 4 - state

    def cell(self, slot: int, bank: int) -> memoryview[float]:
        """The sums of a bank."""
        at = _slot(slot) + _BANKS + bank * BANK
        return self.cells[at : at + BANK]

    def used(self) -> Iterator[int]:
        """The slots that somebody has counted in."""
        used = bytes(self.memory[_USED : _USED + SLOTS])
        slot = used.find(1)
        while slot >= 0:
            yield slot
            slot = used.find(1, slot + 1)

    def sums(self, slot: int) -> memoryview[float]:
        """What stands in a slot that is used."""
        return self.cell(slot, self.bank(slot))

    # Jobs

    def in_job(self, slot: int) -> bool:
        """Whether a job was begun there, and neither finished nor taken back."""
        return self.cells[_slot(slot) + _STATE] > 2

    def prepare_job(self, slot: int) -> int:
        """The bank that the counts of a job go to. It is empty; its owner writes there before the job begins."""
        bank = 1 - self.bank(slot)
        self.cell(slot, bank)[:] = _EMPTY
        return bank

    def begin_job(self, slot: int) -> None:
        """What is counted in the bank that was prepared can be taken back from here on."""
        bank = self.bank(slot)
        sums = self.cell(slot, 1 - bank)
        for place, n in enumerate(self.cell(slot, bank)):
            sums[place] += n  # Added, not copied: a signal handler may have counted there by now.
        self.cells[_slot(slot) + _STATE] = 3.0 + bank

    def end_job(self, slot: int, *, keep: bool) -> int:
        """Keeps what the job has counted, or takes it back; returns the bank that counts from here on."""
        at = _slot(slot) + _STATE
        before = int(self.cells[at]) - 3
        bank = 1 - before if keep else before
        self.cells[at] = 1.0 + bank
        return bank

    # Records

    def record_number(self, slot: int) -> int:
        """The number of the newest record of a slot; 0: there is none."""
        return int(self.cells[_slot(slot) + _RECORD])

    def read_record(self, slot: int) -> Record | None:
        """The newest record of a slot; None: it was being replaced, and is to be read again."""
        number = self.record_number(slot)
        if not number:
            return Record()
        at = _place(slot, number)
        data = bytes(self.memory[at : at + _RECORD_SIZE])
        checksum, size, has, message_at, total_at, total = _RECORD_HEAD.unpack_from(data)
        text = data[_RECORD_HEAD.size : _RECORD_HEAD.size + size]
        if zlib.crc32(data[4 : _RECORD_HEAD.size + size]) != checksum:
            return None
        return Record(message_at, text.decode() if has & 1 else None, total_at, total if has & 2 else None)

    def write_record(self, slot: int, record: Record) -> None:
        """Sets the newest record of a slot; its message fits."""
        text = b"" if record.message is None else record.message.encode()
        has = (record.message is not None) | (record.total is not None) << 1
        number = self.record_number(slot) + 1
        head = _RECORD_HEAD.pack(0, len(text), has, record.message_at, record.total_at, record.total or 0.0)
        data = zlib.crc32(head[4:] + text).to_bytes(4, "little") + head[4:] + text
        at = _place(slot, number)
        self.memory[at : at + len(data)] = data
        self.cells[_slot(slot) + _RECORD] = float(number)


def _slot(slot: int) -> int:
    return _HEADER // 8 + slot * _SLOT


def _place(slot: int, number: int) -> int:
    return _slot(slot) * 8 + _RECORDS + (number & 1) * _RECORD_SIZE
