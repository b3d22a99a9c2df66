"""Writing to sockets without waiting, to one or to many at once."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable


def write_nowait(descriptor: int, data: bytes) -> int:
    """How many bytes could be written now; the error's number, negated, where none could."""
    try:
        return os.write(descriptor, data)
    except OSError as problem:
        return -(problem.errno or errno.EIO)


def write_many_nowait(descriptors: Iterable[int], data: bytes) -> list[tuple[int, int]]:
    """Writes a frame to many; none of their wires waits for anything, and nothing has run since that was seen.

    One loop without a look at anything but the descriptors: the kernel's part of each write empties the processor's
    caches, and what a thousand connections are made of would have to be fetched anew in between.

    Args:
        descriptors: That of each wire, which is `direct`.
        data: The frame.

    Returns:
        Those that did not take it whole, by their place in `descriptors`, with the outcome for `Wire.continue_write()`.
    """
    size = len(data)
    write = os.write
    troubled: list[tuple[int, int]] = []
    for place, descriptor in enumerate(descriptors):
        try:
            sent = write(descriptor, data)
        except OSError as problem:
            sent = -(problem.errno or errno.EIO)  # Not the error itself: with its traceback that keeps all this.
        if sent != size:
            troubled.append((place, sent))
    return troubled
