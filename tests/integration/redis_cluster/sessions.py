"""Sessions by the partition that they are in, and waiting."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import trio

from trio_progress import StoreError
from trio_progress.stores.redis.partitions import partition_of, slot_of, tags

PATIENCE: Final = 90.0


def sessions_of(partition: int, count: int = 1) -> list[str]:
    """Ids of sessions that are in one of 16 partitions."""
    return list(itertools.islice(_all_of(partition), count))


def _all_of(partition: int) -> Iterator[str]:
    names = (f"job-{number}" for number in itertools.count())
    return (name for name in names if partition_of(name, 16) == partition)


def partitions_of(master: int) -> list[int]:
    """Those of 16 partitions that one of three masters begins with."""
    return [number for number, tag in enumerate(tags(16)) if slot_of(f"{{{tag}}}") * 3 // 16384 == master]


async def reached(holds: Callable[[], bool]) -> None:
    """Waits until something holds."""
    while not holds():  # noqa: ASYNC110 - nobody tells
        await trio.sleep(0.02)


def succeeds(call: Callable[[], Any]) -> Any:
    """Tries it until the store answers."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except StoreError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
