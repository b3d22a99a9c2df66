"""One connection's way to the wire, shared by trio-websocket and by what is broadcast.

1. Bytes reach the wire in two ways only: by `write_nowait()`, or `write_many_nowait()` for many wires at once, which
   are synchronous and used when nothing is pending; and by `pump()`, the connection's one task that writes or waits.
2. What trio-websocket sends (`send_all`: pongs, pings, its closes) is queued, and waits for the pump. A sender that
   is cancelled leaves its frame to the pump; more than a few queued end the connection.
3. After a CLOSE there is nothing more: neither an update, nor a pong. Nothing is broadcast, nor closed, before the 101
   is out.
4. A frame once begun is finished, or the transport is closed: the rest of a partial write goes to the queue's head.
5. What could not be begun stays where it came from, and the pump builds the newest after its wait.
6. The file descriptor is asked for each time, and is kept no longer than a wire is direct, which it ceases to be before
   anything closes it: a closed one's number soon belongs to somebody else's connection.
7. Over TLS, and where there is no socket, only the pump writes.
8. A peer that stays unwritable for `patience` seconds is dropped.

(A lock around whole frames, the obvious other way, corrupts the stream as soon as a sender is cancelled.)
"""

from __future__ import annotations

import errno
import os
import select
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

import trio

from .encoder import CLOSE, close_frame, write_many_nowait
from .transport import PIECE, Inbound, Transport, close_now, socket_of

MOST_QUEUED: Final = 8
"""Frames of trio-websocket's that wait for the pump; a peer that pings and does not read makes them pile up."""


def _no_descriptor() -> int:
    return -1


@final
@dataclass(frozen=True, slots=True)
class Source:
    """Where a wire gets what it sends, and who is called when its state changes.

    Args:
        build: Makes the newest of what is to be sent, now that there is room; empty where there is nothing.
        due: When, on Trio's clock, there may be something to build without any `schedule()`.
        on_busy: Called when the wire ceases to be `direct`: nobody may write to it but the pump.
        on_evicted: Called once, when the peer is dropped because it did not read, or did not answer.
    """

    build: Callable[[], bytes] = bytes
    due: Callable[[], float] = lambda: float("inf")
    on_busy: Callable[[], None] = lambda: None
    on_evicted: Callable[[], None] = lambda: None


NOTHING: Final = Source()


@final
class Wire(trio.abc.Stream):
    """The stream that stands between a transport and trio-websocket, or a stream of events.

    Args:
        transport: TCP, or TLS over it, or what has no socket.
        source: Where it gets what it sends, beside what trio-websocket does.
        patience: Seconds that the peer may stay unwritable.
        replay: What was read of the request already, its head; the peer of `send_all` reads it first.
        inbound: What the peer sends behind that head; None where nothing is read by this stream.
    """

    __slots__ = (
        "_blocked", "_evicted", "_inbound", "_last", "_opened", "_partial", "_patience", "_plain", "_queue", "_replay",
        "_transport", "_wake", "closing", "dead", "direct", "fileno", "flushed", "source",
    )  # fmt: skip

    def __init__(
        self,
        transport: Transport,
        source: Source = NOTHING,
        *,
        patience: float,
        replay: bytes = b"",
        inbound: Inbound | None = None,
    ) -> None:
        tcp = socket_of(transport)
        self._transport = transport
        self._plain = transport is tcp
        self.fileno: Final[Callable[[], int]] = _no_descriptor if tcp is None else tcp.socket.fileno
        """The file descriptor; good as long as the wire is `direct`, and else asked for just before it is used."""
        self._patience = patience
        self.source: Final = source
        self._replay = replay
        self._inbound = Inbound(transport) if inbound is None else inbound
        self._queue: deque[tuple[memoryview, trio.Event | None]] = deque()
        self._opened = trio.Event()
        self._wake = trio.Event()
        self._blocked = False
        self._partial = False
        self._last: bytes | None = None
        self.direct: bool = False
        """Whether `write_nowait()` may try now: the pump rests, and nothing is pending."""
        self.closing = False
        """Whether a CLOSE is on its way or out: nothing follows it."""
        self.dead = False
        """Whether the transport has been closed."""
        self._evicted = False
        self.flushed = trio.Event()
        """Set when the CLOSE is out, or the wire is dead."""

    def open(self) -> None:
        """What is broadcast may go out from now on, and what came behind the head is read."""
        self._opened.set()
        self.schedule()

    def schedule(self) -> None:
        """Has the pump write: there may be something to build."""
        self._wake.set()

    def _set_busy(self) -> None:
        """Nobody but the pump may write now."""
        if self.direct:
            self.direct = False
            self.source.on_busy()

    def schedule_first(self) -> None:
        """The same, and nobody else may write before it."""
        self._set_busy()
        self._wake.set()

    def write_nowait(self, data: bytes) -> bool:
        """Writes a frame now if possible. True: it is on its way. False: nothing of it was begun. Never waits."""
        if not self.direct:
            return False
        troubled = write_many_nowait((self.fileno(),), data)
        return not troubled or self.continue_write(data, troubled[0][1])

    def continue_write(self, data: bytes, outcome: int) -> bool:
        """Goes on with a frame that was not written whole; returns what `write_nowait()` does.

        Args:
            data: The frame.
            outcome: How many bytes of it were written; below 0 none, for the error of this number.
        """
        if outcome < 0 and -outcome not in (errno.EAGAIN, errno.EWOULDBLOCK):
            self.kill()  # The peer has gone.
            return False
        self._blocked = True  # It is the peer's turn to read.
        if outcome >= 0:
            self._partial = True
            self._queue.append((memoryview(data)[outcome:], None))
        self.schedule_first()
        return outcome >= 0

    def finish(self, last: bytes = b"") -> None:
        """Sends `last`, a CLOSE or nothing, behind what is queued, and then nothing more. Does not wait."""
        if self.closing or self.dead:
            return
        if not self._opened.is_set():  # A server that stops meets connections on which the 101 is not out yet.
            self.finish_soon(last)
            return
        self.closing = True
        if last:
            self._queue.append((memoryview(last), None))
        self.schedule_first()

    def finish_soon(self, last: bytes = b"") -> None:
        """Sends `last`, a CLOSE or nothing, once nothing is left to be built. Does not wait."""
        self._last = last
        self._wake.set()

    @property
    def ending(self) -> bool:
        """Whether it was finished, or will be soon."""
        return self.closing or self._last is not None

    async def pump(self) -> None:
        """Writes what is queued and what can be built, until the wire is dead. The only task that waits to write."""
        try:
            while not self.dead:
                if self._queue:
                    await self._write_queued()
                elif self.closing:
                    self.flushed.set()
                    await self._rest(float("inf"))
                elif self._blocked or not self._writable():
                    await self._until_writable()
                    self._blocked = False
                elif self._opened.is_set() and (batch := self.source.build()):
                    self._queue.append((memoryview(batch), None))
                    await trio.lowlevel.checkpoint()
                elif self._last is not None and self._opened.is_set():
                    self.finish(self._last)
                else:
                    self.direct = self._plain and self._opened.is_set() and not self.dead
                    await self._rest(self.source.due())
                    self._set_busy()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self._set_busy()
            self.kill()

    async def _rest(self, until: float) -> None:
        if self._wake.is_set():
            await trio.lowlevel.checkpoint()
        else:
            with trio.move_on_at(until):
                await self._wake.wait()
        self._wake = trio.Event()

    async def _write_queued(self) -> None:
        data, done = self._queue[0]
        written = False
        try:
            if self._plain:
                while data:
                    try:
                        data = data[os.write(self.fileno(), data) :]
                        self._partial = True
                    except BlockingIOError:
                        await self._until_writable()
            else:
                for at in range(0, len(data), PIECE):
                    with trio.move_on_after(self._patience) as scope:
                        await self._transport.send_all(data[at : at + PIECE])
                    if scope.cancelled_caught:
                        self._evict()
            written = True
            if self.dead:
                raise trio.BrokenResourceError
            self._queue.popleft()
            self._partial = False
        finally:
            if not written:
                self.dead = True  # Begun and not finished: nothing may follow.
            if done is not None:
                done.set()

    def _writable(self) -> bool:
        """Whether the transport takes something now; asked before a frame is made, so that it is the newest."""
        if not self._plain:
            return True
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT)
        return bool(poll.poll(0))

    async def _until_writable(self) -> None:
        with trio.move_on_after(self._patience) as scope:
            await self._transport.wait_send_all_might_not_block()
        if scope.cancelled_caught:
            self._evict()

    def _evict(self) -> None:
        """Drops a peer that does not read; a CLOSE says why where there is room for one and no frame is begun."""
        self._note_eviction()
        if self._plain and not self._partial and self._opened.is_set() and not self.closing:
            try:
                os.write(self.fileno(), close_frame(4008, "you read too slowly"))
            except OSError:
                pass
        self.kill()
        raise trio.BrokenResourceError("the peer does not read")

    def drop(self, code: int, reason: str) -> None:
        """Ends a connection whose peer does not answer; a CLOSE says why where it can be written now."""
        self._note_eviction()
        if self.direct:
            self.write_nowait(close_frame(code, reason))
        self.kill()

    def _note_eviction(self) -> None:
        if not (self._evicted or self.dead):
            self._evicted = True
            self.source.on_evicted()

    def kill(self) -> None:
        """Closes the transport, now and without a word. Does not wait."""
        self.dead = True
        self._set_busy()
        for _, done in self._queue:
            if done is not None:
                done.set()
        self._queue.clear()
        self._wake.set()
        self.flushed.set()
        self._opened.set()
        close_now(self._transport)

    # What trio-websocket calls

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Queues the data, one frame, and waits until it is out; being cancelled leaves it to the pump.

        Raises:
            trio.BrokenResourceError: The transport is closed.
        """
        if self.dead:
            raise trio.BrokenResourceError("the connection is closed")
        opened = self._opened.is_set()
        if self.closing:
            await trio.lowlevel.checkpoint()
            return
        if opened and data[0] == CLOSE:
            self.closing = True
        if len(self._queue) >= MOST_QUEUED:
            self.kill()
            raise trio.BrokenResourceError("control frames pile up")
        done = trio.Event()
        self._queue.append((memoryview(bytes(data)), done))
        self.schedule_first()
        await done.wait()
        if self.dead:
            raise trio.BrokenResourceError("the connection is closed")

    async def wait_send_all_might_not_block(self) -> None:
        """A checkpoint: what is sent is queued."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What the peer has sent: first the head that was read already."""
        if self._replay:
            data, self._replay = self._replay, b""
            await trio.lowlevel.checkpoint()
            return data
        await self._opened.wait()
        if self.dead:
            raise trio.ClosedResourceError
        return await self._inbound.receive_some(max_bytes)

    async def aclose(self) -> None:
        """A checkpoint: trio-websocket wants no more; whoever owns the wire says the last word and closes it."""
        await trio.lowlevel.checkpoint()
