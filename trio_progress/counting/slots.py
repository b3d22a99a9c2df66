"""One process' way into a file of counts: which slots are its own, and which of its threads writes where.

1. A process has the file open once, and keeps it open: POSIX drops the locks of a process when it closes any descriptor
   of the file, and `mmap` has one as well. It is closed when nobody looks at the file any more.
2. A slot is owned by a lock (`lockf`) on the byte of the file that has the slot's number. The kernel gives it back
   however the process ends; a forked process does not inherit it.
3. Each thread that counts has a slot of its own in its process, so that counting needs no lock, and loses nothing.
4. After a fork nothing is this process' own: all of it is reset, the locks of threads as well.
5. Who finds no slot counts in the last one, which all such threads share, each time under its lock.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, final

from .layout import COUNTED, COUNTERS, FILE_SIZE, SHARED, Layout, Record

if TYPE_CHECKING:
    from pathlib import Path

    from ..state.guard import Unset

_NAMES: Final = SHARED + 1
"""The byte whose lock is held while a counter's name is added."""

_OWNER: Final = SHARED + 2
"""The byte that is locked by the process whose session is counted for, for as long as it lives."""

_MANY_THREADS: Final = 16
"""From so many threads on, the slots of those that have ended are looked for."""


@final
class Slot:
    """A slot as a thread of this process writes to it."""

    __slots__ = ("cells", "in_job", "number")

    def __init__(self, number: int, cells: memoryview[float]) -> None:
        self.number = number
        self.cells = cells
        """The sums that the thread adds to."""
        self.in_job = False


@final
class Slots:
    """The slots of one file that belong to this process."""

    __slots__ = (
        "_by_thread",
        "_closed",
        "_depth",
        "_file",
        "_lock",
        "_map",
        "_mine",
        "_names",
        "layout",
        "local",
    )

    def __init__(self, file: int) -> None:
        self._file = file
        self._map = mmap.mmap(file, FILE_SIZE)
        self.layout = Layout(self._map)
        self._names: dict[str, int] = {}
        self._closed = False
        self.reset()

    def reset(self) -> None:
        """In a new process nothing is its own."""
        self._lock = threading.RLock()  # Not a `Lock`: a signal handler may count in the middle of this.
        self._depth = 0
        self._by_thread: dict[int, Slot] = {}
        self._mine: set[int] = set()  # To lock once more what is its own would succeed.
        self.local: Any = threading.local()
        """Has as `cell` the sums that its thread adds to; nothing where the thread has not counted yet, or may not."""

    def close(self) -> None:
        """Nobody looks at the file any more; what is still counted in this process goes nowhere."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self.local = None
                os.close(self._file)

    # Counting

    def add(self, place: int, n: float) -> None:
        """Adds to a sum of this thread's slot."""
        with self._lock:
            if self._closed:
                return
            slot = self._slot()
            if slot.number == SHARED and not slot.in_job:
                with self._shared() as bank:
                    self.layout.cell(SHARED, bank)[place] += n
            else:
                slot.cells[place] += n

    def set(self, message: str | Unset | None, total: float | Unset | None) -> None:
        """Sets the newest message and total of this thread's slot, whichever is given."""
        now = time.monotonic_ns()  # One clock for all processes of the machine.
        with self._lock:
            if self._closed:
                return
            slot = self._slot()
            with self._shared() if slot.number == SHARED else nullcontext():
                record = self.layout.read_record(slot.number) or Record()
                if message is None or isinstance(message, str):
                    record = record._replace(message_at=now, message=message)
                if total is None or isinstance(total, (int, float)):
                    record = record._replace(total_at=now, total=total)
                self.layout.write_record(slot.number, record)

    def counter(self, name: str) -> int:
        """The place of a counter's sum.

        Raises:
            ValueError: There is no room for another name.
        """
        found = self._names.get(name)
        if found is None:
            with self._lock:
                if self._closed:
                    return COUNTED  # Of no matter: what is added there goes nowhere.
                with self._locked(_NAMES):
                    self._learn_names()
                    if name not in self._names:
                        if len(self._names) >= COUNTERS:
                            raise ValueError(
                                f"worker processes can name at most {COUNTERS} counters on a phase: no room for "
                                f"{name!r}; return it with the result, and count it in the parent"
                            )
                        self.layout.add_name(name)
                        self._learn_names()
                found = self._names[name]
        return found

    def _learn_names(self) -> None:
        for name in self.layout.names(len(self._names)):
            self._names[name] = COUNTED + len(self._names)

    # Jobs

    def begin_job(self) -> Slot | None:
        """What this thread counts from here on can be taken back; None where nothing is counted any more.

        Raises:
            RuntimeError: The thread is in a job already.
        """
        with self._lock:
            if self._closed:
                return None
            slot = self._slot()
            if slot.in_job:
                raise RuntimeError(
                    "this thread has a job open already: end that `with counter.job():` first. What tasks of one "
                    "thread do side by side cannot be told apart; give each a thread, or a process"
                )
            if slot.number == SHARED:  # It is counted beside the file until it is over.
                slot.cells = memoryview(bytearray(len(slot.cells) * 8)).cast("d")
            else:
                self._use(slot, self.layout.prepare_job(slot.number))
                self.layout.begin_job(slot.number)
            slot.in_job = True
            return slot

    def end_job(self, slot: Slot | None, *, keep: bool) -> None:
        """Keeps what the job has counted, or takes it back. Not in a process that was forked within the job."""
        with self._lock:
            if slot is None or self._closed or self._by_thread.get(threading.get_ident()) is not slot:
                return
            slot.in_job = False
            if slot.number != SHARED:
                self._use(slot, self.layout.end_job(slot.number, keep=keep))
            elif keep:
                with self._shared():
                    self.layout.cell(SHARED, self.layout.prepare_job(SHARED))[:] = slot.cells
                    self.layout.begin_job(SHARED)
                    self.layout.end_job(SHARED, keep=True)

    # Owning

    def _slot(self) -> Slot:
        """The slot of this thread."""
        me = threading.get_ident()
        slot = self._by_thread.get(me)  # An ident that comes again is that of a thread which has ended.
        if slot is None:
            number = self._free_slot()
            bank = 0 if number == SHARED else self.layout.take(number)
            slot = self._by_thread[me] = Slot(number, self.layout.cell(number, bank))
            if number != SHARED:
                self.local.cell = slot.cells
        return slot

    def _free_slot(self) -> int:
        """A slot that is nobody's, or the one that is shared."""
        if len(self._by_thread) >= _MANY_THREADS:
            alive = set(sys._current_frames())
            for ident, slot in [*self._by_thread.items()]:
                if ident not in alive:
                    del self._by_thread[ident]
                    if slot.number != SHARED:
                        return slot.number
        # From a place of its own on: many processes that begin at once would try the same slots one after another.
        first = (os.getpid() * 389 + len(self._mine) * 97) % SHARED
        for number in chain(range(first, SHARED), range(first)):
            if number not in self._mine and self._try_lock(number):
                self._mine.add(number)
                return number
        return SHARED

    def _use(self, slot: Slot, bank: int) -> None:
        slot.cells = self.local.cell = self.layout.cell(slot.number, bank)

    def take_back_of_the_dead(self) -> None:
        """Takes back what is in unfinished jobs of processes that have died."""
        with self._lock:
            if self._closed:
                return
            for number in self.layout.used():
                if self.layout.in_job(number) and number not in self._mine and self._try_lock(number):
                    self.layout.take(number)
                    fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)

    def own(self) -> None:
        """Marks the file as that of a session of this process.

        Raises:
            OSError: There are no locks where the file is.
        """
        fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _OWNER)

    def _try_lock(self, number: int) -> bool:
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except (BlockingIOError, PermissionError):
            return False
        return True

    @contextmanager
    def _locked(self, number: int) -> Iterator[None]:
        """Waits for the lock on a byte."""
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, number)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)

    @contextmanager
    def _shared(self) -> Iterator[int]:
        """Owns the shared slot; gives the bank that counts. A signal handler that counts in it does not let it go."""
        if self._depth:
            yield self.layout.bank(SHARED)
            return
        with self._locked(SHARED):
            self._depth += 1
            try:
                yield self.layout.take(SHARED)
            finally:
                self._depth -= 1


def is_owned(path: Path) -> bool:
    """Whether the process whose session a file is for lives. Not of a file that is open in this process."""
    with suppress(FileNotFoundError):
        file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _OWNER)
        except (BlockingIOError, PermissionError):
            return True
        finally:
            os.close(file)
    return False
