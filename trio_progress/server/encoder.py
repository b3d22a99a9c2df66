"""Messages as they go over the wire: each encoded once for all who need it, and handed to all who stand alike at once.

Most of those who watch a session keep up with it: they stand at the same position, and nothing else is owed to
them. The first of them is told the long way round, by its mailbox; what it was told is what all others get, in
one pass that does no more for each than to compare a position and to write. Whoever stands elsewhere, or cannot
be written to now, is told the long way too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol, TypeAlias, final

from ..feed import Feed
from ..mailbox import Mailbox
from ..state.clock import Clock
from ..state.messages import CustomEvent, Position, Update, WireMessage, encode_message
from ..state.snapshot import Snapshot
from ..statistics import Tally
from .stream import Wire, offer_all

Envelope: TypeAlias = Callable[[WireMessage, bytes], bytes]
"""How an encoded message is framed: as a WebSocket frame, or as a server-sent event."""

REMEMBERED: Final = 64
"""Encoded messages that are kept for those who need the same."""

BLOCK: Final = 64
"""Subscribers that are told between two looks at the clock."""


class Subscriber(Protocol):
    """Who is told: where it stands, by what it is written to, and the long way round."""

    @property
    def mailbox(self) -> Mailbox:
        """What it has been told, and what it is owed."""

    @property
    def wire(self) -> Wire:
        """What it is written to."""

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

    def __call__(self, message: WireMessage) -> bytes:
        """The message as it goes over the wire, made once for all who need the same at about the same time."""
        key = id(message) if type(message) is Update else _key(message)
        known = self._frames.get(key)
        if known is not None:  # The message is kept with its frame, so no other one can have its id.
            return known[1]
        data = self.once(message)
        if len(self._frames) >= REMEMBERED:
            self._frames.clear()
        self._frames[key] = (message, data)
        return data

    def once(self, message: WireMessage) -> bytes:
        """The message as it goes over the wire, which nobody else needs."""
        return self._envelope(message, encode_message(message))

    def tell(self, feed: Feed, listeners: Sequence[Subscriber]) -> None:
        """Something new was published: tells it to all of these, as far as their peers take it. Does not wait."""
        for start in range(0, len(listeners), BLOCK):
            self._tell(feed, listeners[start : start + BLOCK])

    def _tell(self, feed: Feed, subscribers: Sequence[Subscriber]) -> None:
        while subscribers:
            first = subscribers[0]
            before = first.mailbox.position
            step = feed.step(self, before)
            if step is None:
                first.notify()
                subscribers = subscribers[1:]
                step = feed.step(self, before)
                if step is None:
                    continue
            subscribers = self._step(feed, before, step, subscribers)

    def _step(
        self, feed: Feed, before: Position, step: tuple[bytes, Position], subscribers: Sequence[Subscriber]
    ) -> Sequence[Subscriber]:
        """Takes the step with all who stand at `before`; returns those who do not."""
        data, after = step
        alike: dict[int, Subscriber] = {}
        apart: list[Subscriber] = []
        others: list[Subscriber] = []
        for subscriber in subscribers:
            mailbox = subscriber.mailbox
            # Those who were told the same share one position, so to ask whether it is the same object will do.
            if mailbox.position is not before:
                others.append(subscriber)
            elif mailbox.steady and subscriber.wire.direct:
                alike[subscriber.wire.fileno()] = subscriber
            else:
                apart.append(subscriber)
        apart += [alike.pop(descriptor) for descriptor in offer_all(alike, data)]
        for subscriber in alike.values():
            subscriber.mailbox.position = after
        if alike:
            lag = self._clock.monotonic() - feed.source.published
            self._tally.handed_over(after.seq - before.seq - 1, lag, len(alike))
        for subscriber in apart:
            subscriber.notify()
        return others


def _key(message: WireMessage) -> object:
    """What two messages that are told to different subscribers have in common, if they are the same."""
    if isinstance(message, CustomEvent):
        return (message.session, message.resume)
    if isinstance(message, Snapshot):
        return (message.id, message.resume, message.liveness, message.heartbeat_at)
    return id(message)
