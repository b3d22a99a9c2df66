"""Leases between processes of one machine: who holds one, and until when.

A lease is dated by the monotonic clock of one boot. That clock is the same in all processes, is not set
by anybody, and stands still while the machine sleeps, so a laptop's sleep ends no session. A lease of an
earlier boot has lapsed: its owner is gone. Where the platform has no boot id (macOS, Windows, a sandbox
without /proc) leases are dated by the wall clock, and end early or late when that is set; an owner that was
taken for lost by mistake is fenced, nothing of the new one is overwritten.

A container that was given a time namespace of its own has another monotonic clock under the same boot id:
such a container must not share its store with processes outside.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str | None:
    """The id of this boot of the machine; None where the platform has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeError):
        return None


class Lease(NamedTuple):
    """Until when somebody owns a session; all None: nobody does."""

    boot: str | None
    until: float | None
    """By the monotonic clock of that boot."""
    wall: float | None
    """By the wall clock, for where one of the two sides has no boot id."""

    @property
    def due(self) -> float | None:
        """The same by the clock that dates it."""
        return self.wall if self.boot is None else self.until


NO_LEASE: Final = Lease(None, None, None)


@dataclass(frozen=True, slots=True)
class MachineClock:
    """The clocks that processes of one machine share; all in seconds."""

    boot: str | None = field(default_factory=boot_id)
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time

    def lease(self, seconds: float | None) -> Lease:
        """A lease from now on; None: none."""
        if seconds is None:
            return NO_LEASE
        return Lease(self.boot, self.monotonic() + seconds, self.wall() + seconds)

    def now(self) -> float:
        """What the clock says that dates the leases of this process; see `Lease.due`."""
        return self.wall() if self.boot is None else self.monotonic()

    def left(self, lease: Lease) -> float:
        """How long a lease still stands; 0 or less: it does not."""
        if lease.until is None or lease.wall is None:
            return 0.0
        if lease.boot is None or self.boot is None:
            return lease.wall - self.wall()
        return lease.until - self.monotonic() if lease.boot == self.boot else 0.0
