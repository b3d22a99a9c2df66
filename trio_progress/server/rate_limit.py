"""How much one client may send: messages of a size, frames at a rate, bytes at a rate.

trio-websocket counts characters, and neither pings nor empty fragments; so the headers of the frames are read here,
as the bytes come (RFC 6455, section 5.2), and nothing of their payload.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, final

LARGEST_MESSAGE: Final = 64 * 1024
"""Bytes of one inbound message, all its fragments together."""

SLOWEST: Final = 4 * 1024
"""Bytes of a message for which it is given a second more: over a slow line also the largest one may come."""

BYTES_RATE: Final = 128 * 1024
BYTES_BURST: Final = 512 * 1024
"""Bytes a second, and at once; who sends more is read more slowly."""


class ExcessError(Exception):
    """The client has sent too much: close with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


@final
class RateLimit:
    """A token bucket: `rate` a second, `burst` at once.

    Args:
        clock: Gives monotonic seconds.
    """

    __slots__ = ("_at", "_burst", "_clock", "_level", "_rate")

    def __init__(self, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._level = burst
        self._at = clock()

    def take(self, n: float) -> float:
        """Takes `n` out; returns the seconds until the level is no longer below zero."""
        now = self._clock()
        self._level = min(self._burst, self._level + (now - self._at) * self._rate) - n
        self._at = now
        return max(-self._level / self._rate, 0.0)

    def allows(self, n: float = 1.0) -> bool:
        """Takes `n` out, and says whether there was so much."""
        return self.take(n) == 0.0


@final
class FrameMeter:
    """Counts the frames of one client, as their bytes come.

    A message that was begun has to come: the time in which it is waited for is bounded, all of its fragments together.
    It grows with what has come of it, so that a drip gains nothing, nor do control frames in between.

    Args:
        frames: What limits their rate, control frames included.
        volume: What limits the bytes.
        patience: Seconds that a message may be waited for, and one more for each `SLOWEST` bytes of it.
    """

    __slots__ = (
        "_came", "_control", "_fragments", "_frames", "_header", "_message", "_patience", "_skip", "_volume", "_waited",
    )  # fmt: skip

    def __init__(self, frames: RateLimit, volume: RateLimit, patience: float = math.inf) -> None:
        self._frames = frames
        self._volume = volume
        self._patience = patience
        self._header = bytearray()
        self._skip = 0
        self._message = 0
        self._fragments = False
        """Whether a message was begun of which more fragments are to come."""
        self._control = False
        self._came = 0
        self._waited = 0.0

    def left(self) -> float:
        """For how many seconds more may be waited for now: without end where nothing was begun."""
        if not (self._header or self._skip or self._fragments):
            return math.inf
        return max(self._patience + self._came / SLOWEST - self._waited, 0.0)

    def feed(self, data: bytes, waited: float = 0.0) -> float:
        """Takes in what was received; returns how many seconds to pause before reading more.

        Args:
            data: What was received.
            waited: Seconds for which the client was waited for: a server that has no time for it does not count.

        Raises:
            ExcessError: It is too much.
        """
        at, size = 0, len(data)
        self._waited += waited
        while at < size:
            if self._skip:
                step = min(self._skip, size - at)
                self._skip -= step
                at += step
                if not self._control:
                    self._came += step
            else:
                self._header.append(data[at])
                at += 1
                if len(self._header) >= 2 and len(self._header) == self._header_size():
                    self._begin()
            if not (self._header or self._skip or self._fragments):
                self._came, self._waited = 0, 0.0
        return self._volume.take(size)

    def _header_size(self) -> int:
        second = self._header[1]
        extended = {126: 2, 127: 8}.get(second & 0x7F, 0)
        return 2 + extended + (4 if second & 0x80 else 0)

    def _begin(self) -> None:
        """A frame's header is whole."""
        first, length = self._header[0], self._header[1] & 0x7F
        if length == 126:
            length = int.from_bytes(self._header[2:4], "big")
        elif length == 127:
            length = int.from_bytes(self._header[2:10], "big")
        self._header.clear()
        self._skip = length
        self._control = bool(first & 0x08)
        if not self._control:
            self._fragments = not first & 0x80
            self._message += length
            if self._message > LARGEST_MESSAGE:
                raise ExcessError(1009, f"a message is at most {LARGEST_MESSAGE} bytes")
            if first & 0x80:
                self._message = 0
        if not self._frames.allows():
            raise ExcessError(4013, "too many messages: send fewer")
