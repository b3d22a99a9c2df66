"""How the children of a session are woken: by a token in a memory channel, of which there is at most one."""

from __future__ import annotations

from types import TracebackType
from typing import Self, final

import trio


@final
class WakeUp:
    """Wakes one child, which iterates over it until it is closed. What comes while the child works wakes it again."""

    __slots__ = ("_receive", "_send", "pending", "since")

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[None](1)
        self.pending = False
        """Whether a token lies in the channel: to try another one costs more than most updates."""
        self.since = 0.0
        """When the newest token was sent, on Trio's clock."""

    def wake(self) -> None:
        """Wakes the child, unless it is to be woken already; does not wait. One that has gone is no matter."""
        if not self.pending:
            self.pending = True
            self.since = trio.current_time()
            try:
                self._send.send_nowait(None)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    def close(self) -> None:
        """Nothing more will come: the child's loop ends, after a token that is still there."""
        self._send.close()

    # The child's end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._receive.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> None:
        try:
            await self._receive.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None
        self.pending = False
