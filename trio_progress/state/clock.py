"""The two clocks that a session reads, injected: one to measure by, one to stamp with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import overload


@dataclass(frozen=True, slots=True)
class Clock:
    """`monotonic` measures durations and never steps; `wall` (seconds since 1970, UTC) only stamps."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


@overload
def utc(stamp: float) -> datetime: ...
@overload
def utc(stamp: None) -> None: ...
def utc(stamp: float | None) -> datetime | None:
    """The stamp of a wall clock as an aware datetime."""
    return None if stamp is None else _utc(stamp)


@lru_cache(maxsize=4096)
def _utc(stamp: float) -> datetime:
    """One object for one stamp: each state says again when it all began."""
    return datetime.fromtimestamp(stamp, UTC)


def stamp(moment: datetime | None) -> float | None:
    """The wall clock's stamp of a datetime."""
    return None if moment is None else moment.timestamp()


def moment(stamp: float | None) -> datetime | None:
    """The stamp as a datetime; None for one that is none, whatever a store may hold."""
    try:
        return utc(stamp)
    except (ValueError, OverflowError, OSError):
        return None
