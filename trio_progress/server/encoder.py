"""Messages as they go over the wire: each encoded once for all who need it, and handed to all who stand alike at once.

Most of those who watch a session keep up with it: they stand at the same position, and nothing else is owed to
them. What they are told is made once, and written to all in one pass that looks at nothing but their descriptors.
Whoever stands elsewhere, or cannot be written to now, is told the long way round, by its mailbox.
"""

from __future__ import annotations

import logging
from array import array
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, TypeAlias, final

from ..live.cursor import Cursor, next_event, next_update
from ..live.feed import Feed
from ..protocol.clock import Clock
from ..protocol.messages import CustomEvent, Gap, Position, Update, WireMessage, encode_message
from ..protocol.snapshot import Snapshot
from ..telemetry.statistics import Tally
from .nonblocking import write_many_nowait
from .wire import Wire

logger = logging.getLogger("trio_progress")

Envelope: TypeAlias = Callable[[WireMessage, bytes], bytes]
"""How an encoded message is framed: as a WebSocket frame, or as a server-sent event."""

REMEMBERED: Final = 64
"""Encoded messages that are kept for those who need the same."""

REMEMBERED_BYTES: Final = 1 << 20
"""Bytes of them: what is kept stays until something else is told. One message may be larger."""

BLOCK: Final = 64
"""Subscribers that are told between two looks at the clock."""

AT_ONCE: Final = 16
"""Messages that are written to a subscriber in the publisher's task before the rest is left to its pump."""


class Owed(NamedTuple):
    """What is to be told to those who stand alike."""

    data: bytes
    after: Position
    """Where they stand once they are told."""
    missed: int | None
    """Published states that they do not see one by one; None where no state is told."""
    dropped: int
    """Events that are told to be lost."""


class Subscriber(Protocol):
    """Who is told: where it stands, by what it is written to, and the long way round."""

    cohort: Cohort | None
    """Those with whom it stands; None where it stands apart."""

    @property
    def mailbox(self) -> Cursor:
        """What it has been told, and what it is owed. Whoever looks at it makes it stand apart."""

    @property
    def wire(self) -> Wire:
        """What it is written to."""

    def stand(self) -> Position | None:
        """Where it stands, if it can be told what is new together with others; else None."""

    def part(self) -> None:
        """It stands apart from now on."""

    def notify(self) -> None:
        """Something new was published: it is told what it is owed, as soon as its peer takes it."""


@final
class Encoder:
    """Encodes messages, each once for all who are told the same, and tells those in one go: their `Crier`.

    Args:
        envelope: How a message is framed.
        clock: By which it is told how long a state took to be handed over.
        tally: Where that is counted.
    """

    def __init__(self, envelope: Envelope, clock: Clock, tally: Tally) -> None:
        self._envelope = envelope
        self._clock = clock
        self._tally = tally
        self._frames: dict[object, tuple[WireMessage, bytes]] = {}
        self._kept = 0

    def __call__(self, message: WireMessage) -> bytes:
        """The message as it goes over the wire, made once for all who need the same at about the same time."""
        key = id(message) if type(message) is Update else _key(message)
        known = self._frames.get(key)
        if known is not None:  # The message is kept with its frame, so no other one can have its id.
            return known[1]
        data = self.once(message)
        self._kept += len(data)
        if len(self._frames) >= REMEMBERED or self._kept > REMEMBERED_BYTES:
            self._frames.clear()
            self._kept = len(data)
        self._frames[key] = (message, data)
        return data

    def once(self, message: WireMessage) -> bytes:
        """The message as it goes over the wire, which nobody else needs."""
        return self._envelope(message, encode_message(message))

    def audience(self) -> Cohort:
        """Those who are told of one session by this encoder."""
        return Cohort(self)

    def told(self, owed: Owed, feed: Feed, subscribers: int) -> None:
        """So many were told what they were owed."""
        if owed.missed is not None:
            lag = self._clock.monotonic() - feed.source.published
            self._tally.handed_over(owed.missed, lag, subscribers)
        self._tally.events_dropped += owed.dropped * subscribers


@final
class Cohort:
    """The subscribers of one session that one encoder tells: those who stand alike at once, the others one by one.

    While a subscriber stands with the others its mailbox does not move: they share one position. `part()` brings it
    up to date; whoever wants to see the mailbox, and whoever occupies the wire, comes through that.
    """

    __slots__ = ("_alike", "_apart", "_descriptors", "_encode", "_position")

    def __init__(self, encode: Encoder) -> None:
        self._encode = encode
        self._apart: dict[Subscriber, None] = {}
        self._alike: dict[Subscriber, int] = {}
        """Those who all stand at `_position`, with the descriptors of their wires, which are direct."""
        self._descriptors: array[int] | None = None
        """The same descriptors, closely packed; None once they are others."""
        self._position = Position(0, 0, 0)

    def add(self, subscriber: Subscriber) -> None:
        """One more; it stands apart until it was told something."""
        self._apart[subscriber] = None

    def discard(self, subscriber: Subscriber) -> None:
        """One less."""
        subscriber.part()
        self._apart.pop(subscriber, None)

    def part(self, subscriber: Subscriber) -> Position:
        """One of those who stand alike goes its own way, from the position that is returned."""
        del self._alike[subscriber]
        self._descriptors = None
        self._apart[subscriber] = None
        return self._position

    def tell(self, feed: Feed) -> None:
        """Something new was published: tells it to all, as far as their peers take it. Does not wait."""
        if self._alike:
            owed = self._owed(feed)
            if owed is None:
                for subscriber in list(self._alike):
                    subscriber.part()
            elif owed.data:
                self._write(owed, feed)
        for subscriber in list(self._apart):
            subscriber.notify()
            if subscriber in self._apart:
                self._line_up(subscriber)

    def _line_up(self, subscriber: Subscriber) -> None:
        """It is told with the others from now on, if it stands where they do and owes nothing else."""
        position = subscriber.stand()
        if position is None or (self._alike and position != self._position):
            return
        del self._apart[subscriber]
        self._position = position
        self._alike[subscriber] = subscriber.wire.fileno()
        self._descriptors = None
        subscriber.cohort = self

    def _owed(self, feed: Feed) -> Owed | None:
        """What those who stand alike are owed, made once; None where that is left to their mailboxes."""
        source = feed.source
        before = position = self._position
        data = b""
        dropped = 0
        try:
            source.publish()
            if feed.ended is not None or before.epoch != source.epoch or before.seq < source.oldest_delta:
                return None
            for _ in range(AT_ONCE):
                message: WireMessage
                if position.seq < source.seq:
                    message, position = next_update(feed, position)
                elif position.event < source.event_log.newest:
                    message, position = next_event(feed, position)
                    dropped += message.dropped if isinstance(message, Gap) else 0
                else:
                    missed = position.seq - before.seq - 1
                    return Owed(data, position, None if missed < 0 else missed, dropped)
                data += self._encode(message)
        except Exception:
            logger.exception("session %r: what is new cannot be told to all at once", source.id)
        return None

    def _write(self, owed: Owed, feed: Feed) -> None:
        if self._descriptors is None:
            self._descriptors = array("i", self._alike.values())
        descriptors = self._descriptors
        troubled: list[tuple[int, int]] = []
        for start in range(0, len(descriptors), BLOCK):
            block = descriptors[start : start + BLOCK]
            told = len(block)
            for place, outcome in write_many_nowait(block, owed.data):
                troubled.append((start + place, outcome))
                told -= outcome < 0
            self._encode.told(owed, feed, told)
        subscribers = list(self._alike) if troubled else []
        for place, outcome in troubled:
            subscriber = subscribers[place]
            mailbox = subscriber.mailbox  # From here on it stands apart, where all stood before.
            if subscriber.wire.continue_write(owed.data, outcome):
                mailbox.position = owed.after
        self._position = owed.after


def _key(message: WireMessage) -> object:
    """What two messages that are told to different subscribers have in common, if they are the same."""
    if isinstance(message, CustomEvent):
        return (message.session, message.resume)
    if isinstance(message, Snapshot):
        return (message.id, message.resume, message.liveness, message.heartbeat_at)
    return id(message)
