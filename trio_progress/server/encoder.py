"""Messages as they go over the wire: each encoded once for all who need it, and written to all who stand alike at once.

Most of those who watch a session keep up with it: they stand at the same position, and nothing else is owed to
them. What they are sent is made once, and written to all in one pass that looks at nothing but their descriptors.
Whoever stands elsewhere, or cannot be written to now, is sent it the long way round, by its own cursor.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
from array import array
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeAlias, final

from ..live.cursor import Consumer, Cursor, count, peek
from ..protocol.messages import CustomEvent, Gap, Message, Position, Update, WireMessage, encode_message
from ..protocol.snapshot import Snapshot

if TYPE_CHECKING:
    from ..live.feed import Feed
    from ..telemetry.statistics import Tally

logger = logging.getLogger("trio_progress")

Envelope: TypeAlias = Callable[[WireMessage, bytes], bytes]

TEXT: Final = 0x81
CLOSE: Final = 0x88

REMEMBERED: Final = 64
"""Encoded messages that are kept for those who need the same."""

REMEMBERED_BYTES: Final = 1 << 20
"""Bytes of them: what is kept stays until something else is sent. One message may be larger."""

BLOCK: Final = 64
"""Subscribers that are written to between two looks at the clock."""

AT_ONCE: Final = 16
"""Messages that are written to a subscriber in the publisher's task before the rest is left to its pump."""


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """The payload as one unmasked frame (RFC 6455, section 5.2)."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", opcode, size) + payload
    if size < 65536:
        return struct.pack("!BBH", opcode, 126, size) + payload
    return struct.pack("!BBQ", opcode, 127, size) + payload


def close_frame(code: int, reason: str) -> bytes:
    """A CLOSE with its code; the reason is cut to what a control frame holds."""
    text = reason.encode()[:123].decode(errors="ignore").encode()
    return frame(struct.pack("!H", code) + text, CLOSE)


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


class Member:
    """A subscriber that is written to together with others while it stands where they do.

    Args:
        fileno: Tells the descriptor that it is written to by, as long as its wire is `direct`.
        continue_write: Goes on with a frame that was not written whole; see `Wire`.
        consumer: What it has been sent, and what it is owed; brought up to date by `part()`.
    """

    __slots__ = ("_consumer", "continue_write", "fileno", "group")

    def __init__(
        self, fileno: Callable[[], int], continue_write: Callable[[bytes, int], bool], consumer: Consumer
    ) -> None:
        self.fileno = fileno
        self.continue_write = continue_write
        self._consumer = consumer
        self.group: Group | None = None
        """Those with whom it stands; None where it stands apart."""

    @property
    def consumer(self) -> Consumer:
        """What it has been sent, and what it is owed. Whoever looks at it makes it stand apart."""
        self.part()
        return self._consumer

    def part(self) -> None:
        """It stands apart from now on."""
        group, self.group = self.group, None
        if group is not None:
            self._consumer.cursor = self._consumer.cursor._replace(position=group.part(self))

    def stand(self) -> Position | None:
        """Where it stands, if it can be sent what is new together with others; else None."""
        raise NotImplementedError

    def notify(self) -> None:
        """Something new was published: it is sent what it is owed, as soon as its peer takes it."""
        raise NotImplementedError


@final
class Encoder:
    """Encodes messages, each once for all who are sent the same.

    Args:
        tally: Where it is counted what groups were sent.
        envelope: What makes of a message and its JSON what goes over the wire; None: it is a WebSocket frame.
    """

    def __init__(self, tally: Tally, envelope: Envelope | None = None) -> None:
        self.tally = tally
        self._envelope = envelope
        self._frames: dict[object, tuple[WireMessage, bytes]] = {}
        self._kept = 0

    def __call__(self, message: WireMessage) -> bytes:
        """The message as it goes over the wire, made once for all who need the same at about the same time."""
        key = id(message) if type(message) is Update else _key(message)
        known = self._frames.get(key)
        if known is not None:  # The message is kept with its frame, so no other one can have its id.
            return known[1]
        data = encode_message(message)
        data = frame(data) if self._envelope is None else self._envelope(message, data)
        self._kept += len(data)
        if len(self._frames) >= REMEMBERED or self._kept > REMEMBERED_BYTES:
            self._frames.clear()
            self._kept = len(data)
        self._frames[key] = (message, data)
        return data

    def once(self, message: WireMessage) -> bytes:
        """The message as it goes over the wire, which nobody else needs."""
        data = encode_message(message)
        return frame(data) if self._envelope is None else self._envelope(message, data)

    def new_group(self) -> Group:
        """For those subscribers of one topic who are written to by this encoder."""
        return Group(self)

    def new_sparse_group(self) -> Group:
        """For those of them who take updates without what they have."""
        return Group(self, sparse=True)


@final
class Group:
    """The subscribers of one topic that one encoder serves: those who stand alike at once, the others one by one.

    While a subscriber stands with the others its own cursor does not move: they share one position. `part()` brings it
    up to date; whoever wants to see its consumer, and whoever occupies the wire, comes through that.
    """

    __slots__ = ("_alike", "_apart", "_cursor", "_descriptors", "_encode", "_sparse")

    def __init__(self, encode: Encoder, *, sparse: bool = False) -> None:
        self._encode = encode
        self._sparse = sparse
        self._apart: dict[Member, None] = {}
        self._alike: dict[Member, int] = {}
        """Those who all stand at `_cursor`, with the descriptors of their wires, which are direct."""
        self._descriptors: array[int] | None = None
        """The same descriptors, closely packed; None once they are others."""
        self._cursor = Cursor()

    def add(self, subscriber: Member) -> None:
        """One more; it stands apart until it was sent something."""
        self._apart[subscriber] = None

    def discard(self, subscriber: Member) -> None:
        """One less."""
        subscriber.part()
        self._apart.pop(subscriber, None)

    def part(self, subscriber: Member) -> Position:
        """One of those who stand alike goes its own way, from the position that is returned."""
        del self._alike[subscriber]
        self._descriptors = None
        self._apart[subscriber] = None
        return self._cursor.position

    def notify(self, feed: Feed) -> None:
        """Something new was published: it is sent to all, as far as their peers take it. Does not wait."""
        if self._alike and not self._send_alike(feed):
            for subscriber in list(self._alike):
                subscriber.part()
        for subscriber in list(self._apart):
            subscriber.notify()
            if subscriber in self._apart:
                self._line_up(subscriber)

    def _line_up(self, subscriber: Member) -> None:
        """It is written to with the others from now on, if it stands where they do and owes nothing else."""
        position = subscriber.stand()
        if position is None or (self._alike and position != self._cursor.position):
            return
        del self._apart[subscriber]
        self._cursor = Cursor(position, sparse=self._sparse)
        self._alike[subscriber] = subscriber.fileno()
        self._descriptors = None
        subscriber.group = self

    def _send_alike(self, feed: Feed) -> bool:
        """Makes what those who stand alike are owed, once, and writes it to all; False: each is to be sent it alone."""
        after, data = self._cursor, b""
        messages: list[Message] = []
        try:
            while (step := peek(feed, after)) is not None:
                message, after = step
                if len(messages) == AT_ONCE or not isinstance(message, (Update, CustomEvent, Gap)):
                    return False
                messages.append(message)
                data += self._encode(message)
        except Exception:
            logger.exception("session %r: what is new cannot be sent to all at once", feed.source.id)
            return False
        if not data:
            return True
        if self._descriptors is None:
            self._descriptors = array("i", self._alike.values())
        descriptors = self._descriptors
        troubled: list[tuple[int, int]] = []
        for start in range(0, len(descriptors), BLOCK):
            block = descriptors[start : start + BLOCK]
            written = len(block)
            for place, outcome in write_many_nowait(block, data):
                troubled.append((start + place, outcome))
                written -= outcome < 0
            for message in messages:
                count(self._encode.tally, feed, self._cursor, message, written)
        subscribers = list(self._alike) if troubled else []
        for place, outcome in troubled:
            subscriber = subscribers[place]
            consumer = subscriber.consumer  # From here on it stands apart, where all stood before.
            if subscriber.continue_write(data, outcome):
                consumer.cursor = consumer.cursor._replace(position=after.position)
        self._cursor = after
        return True


def _key(message: WireMessage) -> object:
    """The encoded part that equal messages to several subscribers share."""
    if isinstance(message, CustomEvent):
        return (message.session, message.resume)
    if isinstance(message, Snapshot):
        return (message.id, message.resume, message.liveness, message.heartbeat_at)
    return id(message)


def as_event(message: WireMessage, data: bytes) -> bytes:
    """One server-sent event; its id is the resume token, for messages that have one (HTML standard, section 9.2)."""
    resume = getattr(message, "resume", None)
    if resume:
        return b"id: %s\ndata: %s\n\n" % (resume.encode(), data)
    return b"data: %s\n\n" % data
