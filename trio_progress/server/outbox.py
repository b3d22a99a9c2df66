"""What one connection still has to be sent: cursors and a few letters, never a queue of states.

Each subscription has a `Cursor`: its position in its session. When something new is published, `notify()` runs in
the publisher's task; if the wire is idle, the newest is made and written there and then, and otherwise the
subscription is marked as ready, and the connection's pump makes the newest once the peer can take it.

What a publisher calls raises nothing and waits for nothing: whatever goes wrong ends the connection.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, final

import msgspec
import trio

from ..live.cursor import Consumer
from ..protocol.messages import End, Message, Position, Subscribed, Verb, WireMessage
from .answers import not_found
from .encoder import AT_ONCE, Encoder, Member
from .wire import Source, Wire

if TYPE_CHECKING:
    from ..live.feed import Feed, Topic
    from ..live.hub import Hub
    from ..protocol.requests import Subscribe
    from .auth.grants import Grant

logger = logging.getLogger("trio_progress")

BATCH: Final = 64 * 1024
"""Bytes that the pump makes of what is ready before it writes them."""

MOST_LETTERS: Final = 256
"""Answers and list entries that may wait; who lets more pile up reads too slowly."""


@final
class Subscriber(Member):
    """One session, as one connection is sent it: a subscriber of its topic that asks who may see it.

    Args:
        outbox: The connection's.
        request: What the client asked for.
    """

    __slots__ = ("_outbox", "id", "keyed", "new_group", "refused", "request", "topic", "verbs", "wait", "wire")

    def __init__(self, outbox: Outbox, request: Subscribe) -> None:
        self._outbox = outbox
        self.wire = wire = outbox.wire
        interval = 0.0 if request.max_hz is None else 1.0 / request.max_hz
        sparse, encode = outbox.sparse, outbox.encode
        consumer = Consumer(since=request.since, interval=interval, tally=outbox.hub.tally, sparse=sparse)
        super().__init__(wire.fileno, wire.continue_write, consumer)
        self.new_group = encode.new_sparse_group if sparse else encode.new_group
        self.request = request
        self.id = request.session
        self.wait = request.wait
        self.topic: Topic | None = None
        self.verbs: tuple[Verb, ...] = ()
        self.refused = False
        """Whether the session may not be seen: then it is as if there were none."""
        self.keyed = False
        """Whether it was attached to a session, allowed or not."""

    def stand(self) -> Position | None:
        """Where it stands, if it can be sent what is new together with others; else None."""
        consumer = self._consumer
        if self.refused or not consumer.steady or not self.wire.direct or self in self._outbox.ready:
            return None
        return consumer.cursor.position

    def attach(self, feed: Feed) -> None:
        """There is a session, or a new owner of it; a new one may have other labels, so it is asked again."""
        try:
            self._attach(feed)
        except Exception:
            logger.exception("a subscriber of session %r is dropped", self.id)
            self.wire.kill()

    def _attach(self, feed: Feed) -> None:
        self.keyed = True
        labels = feed.source.labels
        if not self._outbox.grant.allows("read", self.id, labels):
            self.refused = True
            self._outbox.refuse(self)
            return
        self.refused = False
        self.verbs = self._outbox.grant.verbs_on(self.id, labels)
        consumer = self.consumer
        first = not consumer.cursor.position.epoch
        consumer.attach(feed)
        position = consumer.cursor.position
        if first and self.request.events is not None and not position.seq:
            kept = max(position.event, feed.source.event_log.newest - self.request.events)
            consumer.cursor = consumer.cursor._replace(position=position._replace(event=kept))
        self.notify()

    def notify(self) -> None:
        """Something new was published, or the session has ended."""
        outbox = self._outbox
        if self.refused:
            outbox.wait_on(self)
            return
        try:
            outbox.send(self)
        except Exception:
            logger.exception("a subscriber of session %r is dropped", self.id)
            self.wire.kill()

    def bookmark(self) -> None:
        """The session lives."""
        self.consumer.bookmark()
        self.notify()

    def shut(self) -> None:
        """The tracker is left."""
        self.consumer.shut()
        self.notify()


@final
class Outbox:
    """The subscriptions of one connection, and what is to be said besides.

    Args:
        open_wire: Opens the wire that it goes out by.
        hub: Where the sessions are.
        encode: Makes frames of messages.
        grant: What the client may see.
        on_end: Called when a subscription is over, with whether its session has ended.
        sparse: Whether the client takes updates without what it has.
    """

    def __init__(
        self,
        open_wire: Callable[[Source], Wire],
        hub: Hub,
        encode: Encoder,
        grant: Grant,
        on_end: Callable[[Subscriber, bool], None],
        *,
        sparse: bool = False,
    ) -> None:
        self.hub = hub
        self.sparse = sparse
        self.grant = grant
        self.ready: dict[Subscriber, None] = {}
        """Those that there is something to tell of, in the order in which they came."""
        self.subscribers: dict[str, Subscriber] = {}
        self.encode = encode
        self._on_end = on_end
        self._letters: deque[bytes] = deque()
        self._piled = 0
        """The bytes of these."""
        self._later: dict[Subscriber, None] = {}
        """Those that are not to be told more yet, by their `max_hz`."""
        self._room = trio.Event()
        self.wire = open_wire(Source(self._build, self._due, self._part_all, self._count_eviction))

    # Subscribing

    async def subscribe(self, subscriber: Subscriber) -> None:
        """Joins the session; what there is to tell goes out. Replaces what is subscribed under the same id.

        Raises:
            SessionNotFoundError: There is none, or none that the client may see.
            StoreError: It is not open here, and the store did not answer, or holds what cannot be read.
            SessionClosedError: The tracker is left.
        """
        self.unsubscribe(subscriber.id)
        self.subscribers[subscriber.id] = subscriber
        try:
            topic = await self.hub.join(
                subscriber.id,
                subscriber,
                wait=subscriber.wait,
                allows=lambda labels: self.grant.allows("read", subscriber.id, labels),
            )
        except BaseException:
            if self.subscribers.get(subscriber.id) is subscriber:
                del self.subscribers[subscriber.id]
            raise
        if self.subscribers.get(subscriber.id) is not subscriber:
            self.hub.leave(topic, subscriber)
        elif topic is None and subscriber.refused:
            subscriber.topic = self.hub.await_next(subscriber.id, subscriber)
        else:
            subscriber.topic = topic

    def unsubscribe(self, session_id: str) -> None:
        """Leaves the session; one that is not subscribed is no matter."""
        subscriber = self.subscribers.pop(session_id, None)
        if subscriber is not None:
            self.ready.pop(subscriber, None)
            self._later.pop(subscriber, None)
            self.hub.leave(subscriber.topic, subscriber)
            subscriber.refused = True
            subscriber.part()

    def refuse(self, subscriber: Subscriber) -> None:
        """The session may not be seen. Who waits goes on waiting, as for one that there is not."""
        subscriber.part()
        self.ready.pop(subscriber, None)
        self._later.pop(subscriber, None)
        if not subscriber.wait and self.subscribers.get(subscriber.id) is subscriber:
            self.unsubscribe(subscriber.id)
            self.say(not_found(subscriber.id))
            self._on_end(subscriber, False)

    def wait_on(self, subscriber: Subscriber) -> None:
        """A session that may not be seen has ended: who waits for another one under that id still does.

        By way of the hub: whoever was told of the end before may have been the last who needed the topic, and a run of
        another process is only found by a reader that looks for it.
        """
        topic = subscriber.topic
        if self.subscribers.get(subscriber.id) is not subscriber:
            return
        if subscriber.consumer.done:  # The tracker is left.
            self._over(subscriber, ended=False)
        elif topic is not None and topic.feed is None:
            subscriber.topic = self.hub.await_next(subscriber.id, subscriber)

    def regrant(self, grant: Grant) -> list[Subscriber]:
        """The client may see something else from now on; returns those who wait, to be subscribed anew for it.

        All of them, so that it does not show for which there is a session that could not be seen; none where the same
        is granted for longer.
        """
        known, self.grant = self.grant, grant
        for subscriber in list(self.subscribers.values()):
            feed = None if subscriber.topic is None else subscriber.topic.feed
            if feed is None or subscriber.refused:  # Who waits goes on waiting, whether there is one or not.
                continue
            labels = feed.source.labels
            if not grant.allows("read", subscriber.id, labels):
                subscriber.wait = False
                self.refuse(subscriber)
            else:
                subscriber.verbs = grant.verbs_on(subscriber.id, labels)
        if grant.grants_as(known):
            return []
        return [one for one in self.subscribers.values() if one.refused or not one.keyed]

    def close(self) -> None:
        """Leaves all sessions."""
        for session_id in list(self.subscribers):
            self.unsubscribe(session_id)
        self._room.set()

    # Telling

    def say(self, message: WireMessage) -> None:
        """Says something besides what is broadcast; a client that lets too much of it pile up is dropped."""
        if len(self._letters) >= MOST_LETTERS:
            self.wire.drop(4008, "you read too slowly")
            return
        self._put(self.encode.once(message))

    def head(self, data: bytes) -> None:
        """Puts bytes in front of all else."""
        self._letters.appendleft(data)
        self._piled += len(data)
        self.wire.schedule_first()

    async def give(self, message: WireMessage) -> None:
        """Says something, once there is room for it.

        Raises:
            trio.BrokenResourceError: The connection is over.
        """
        await self.hand(self.encode.once(message))

    async def hand(self, data: bytes) -> None:
        """Says what is encoded already, once there is room for it.

        Raises:
            trio.BrokenResourceError: The connection is over.
        """
        while (self._piled >= BATCH or len(self._letters) >= MOST_LETTERS // 2) and not self.wire.dead:
            if self._room.is_set():
                self._room = trio.Event()
            await self._room.wait()
        if self.wire.dead or self.wire.closing:
            raise trio.BrokenResourceError("the connection is over")
        self._put(data)
        await trio.lowlevel.checkpoint()

    def _put(self, letter: bytes) -> None:
        self._letters.append(letter)
        self._piled += len(letter)
        self.wire.schedule_first()

    def send(self, subscriber: Subscriber) -> None:
        """Writes what one subscriber is owed, as far as the peer takes it; the rest is left to the pump."""
        wire, consumer, encode = self.wire, subscriber.consumer, self.encode
        for _ in range(AT_ONCE):
            if not wire.direct:
                break
            step = consumer.peek()
            if step is None:
                self._nothing_more(subscriber)
                return
            message, after = step
            if not wire.write_nowait(encode(self._dressed(subscriber, message))):
                break
            consumer.commit(message, after)
            if type(message) is End:
                self._over(subscriber, ended=True)
                return
        self.ready[subscriber] = None
        wire.schedule()

    def _dressed(self, subscriber: Subscriber, message: Message) -> Message:
        if type(message) is Subscribed:
            return msgspec.structs.replace(message, verbs=subscriber.verbs)
        return message

    def _nothing_more(self, subscriber: Subscriber) -> None:
        """All is told, or the rest is not due yet."""
        consumer = subscriber.consumer
        if consumer.done:
            self._over(subscriber, ended=False)
        elif consumer.not_before > trio.current_time():
            if subscriber not in self._later:
                self._later[subscriber] = None
                self.wire.schedule()  # So that the pump's pause ends when it is due.
        else:
            self._later.pop(subscriber, None)

    def _over(self, subscriber: Subscriber, *, ended: bool) -> None:
        if self.subscribers.get(subscriber.id) is subscriber:
            self.unsubscribe(subscriber.id)
            self._on_end(subscriber, ended)

    def _build(self) -> bytes:
        """The newest of all that is ready, up to a batch of it; what the pump writes next."""
        parts: list[bytes] = []
        size = 0
        while self._letters and size < BATCH:
            parts.append(self._letters.popleft())
            size += len(parts[-1])
        self._piled -= size
        self._room.set()
        if self._letters:
            return b"".join(parts)
        now = trio.current_time()
        for subscriber in [one for one in self._later if one.consumer.not_before <= now]:
            del self._later[subscriber]
            self.ready[subscriber] = None
        while self.ready and size < BATCH:
            subscriber = next(iter(self.ready))
            message = subscriber.consumer.next()
            if message is None:
                del self.ready[subscriber]
                self._nothing_more(subscriber)
                continue
            parts.append(self.encode(self._dressed(subscriber, message)))
            size += len(parts[-1])
            if type(message) is End:
                self._over(subscriber, ended=True)
            else:
                # To the back: a session with a thousand events keeps no other one waiting.
                del self.ready[subscriber]
                self.ready[subscriber] = None
        return b"".join(parts)

    def _part_all(self) -> None:
        for subscriber in self.subscribers.values():
            subscriber.part()

    def _count_eviction(self) -> None:
        self.hub.tally.subscribers_dropped += 1

    def _due(self) -> float:
        return min((subscriber.consumer.not_before for subscriber in self._later), default=float("inf"))
