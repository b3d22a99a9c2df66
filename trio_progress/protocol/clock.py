"""The two clocks that a session reads, injected: one to measure by, one to stamp with.

Stamps become datetimes here and nowhere else. Tools that freeze the time in tests put a subclass in the place of the
class `datetime`, in every module that has it by name; msgspec, rightly, encodes the class itself only. So this module
makes datetimes by a method of the class itself, which no such tool replaces.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from operator import methodcaller
from typing import Final, cast, overload


def datetime_class() -> type[datetime]:
    """The class itself; while the time is frozen, even the import of the name gives a subclass."""
    return cast(type[datetime], next(kind for kind in datetime.__mro__ if kind.__module__ == "datetime"))


made_at: Final = partial(datetime_class().fromtimestamp, tz=UTC)
"""The stamp of a wall clock as an aware datetime, made anew: for one that is said once."""


wall: Final[Callable[[], float]] = partial(methodcaller("time"), time)
"""Seconds since 1970: `time.time()`, looked up at each call, so that it is the frozen time where that is frozen."""


@dataclass(frozen=True, slots=True)
class Clock:
    """`monotonic` measures durations and never steps; `wall` (seconds since 1970, UTC) only stamps."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = wall


@overload
def utc(stamp: float) -> datetime: ...
@overload
def utc(stamp: None) -> None: ...
@lru_cache(maxsize=4096)
def utc(stamp: float | None) -> datetime | None:
    """The stamp of a wall clock as an aware datetime; one object for one stamp: each state says again when it began."""
    return None if stamp is None else made_at(stamp)


def stamp(moment: datetime | None) -> float | None:
    """The wall clock's stamp of a datetime."""
    return None if moment is None else moment.timestamp()


def moment(stamp: float | None) -> datetime | None:
    """The stamp as a datetime; None for one that is none, whatever a store may hold."""
    try:
        return utc(stamp)
    except (ValueError, OverflowError, OSError):
        return None


shown_seconds: Final[Callable[[float], float]] = partial(round, ndigits=3)
"""A duration as it is published: in whole milliseconds, which are shorter to send than what a clock gives."""
