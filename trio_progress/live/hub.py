"""The topics of one tracker: where sessions, what is found in the store and subscribers find each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeAlias, final

import trio

from ..errors import CorruptEntryError, SessionClosedError, SessionNotFoundError, StoreError
from ..stores.base import Query, Store, Stored
from ..stores.paging import InTurns, every
from .feed import Ended, Feed, SessionObserver, Subscriber, Topic
from .remote import RemoteState, found_head

if TYPE_CHECKING:
    from ..protocol.clock import Clock
    from ..protocol.snapshot import Snapshot
    from ..telemetry.statistics import Tally

Allows: TypeAlias = Callable[[Mapping[str, str]], bool]
"""Says whether a session that has these labels may be seen."""


def _allowed(feed: Feed, allows: Allows | None) -> bool:
    return allows is None or allows(feed.source.labels)


OPEN: Final = frozenset({"queued", "running"})
"""The stored statuses of sessions that those see who begin to watch all."""

MOST: Final = 10_000
"""So many of them, or a few more, at most; newest first."""

FILTERS: Final = 4
"""Lists that sessions of other processes are looked for in; where more differ, it is done in the one of all."""

REMEMBERED: Final = 4
"""Sessions that have ended whose feeds are kept: whoever still has such a page open asks again and again."""


@final
class Hub:
    """All topics by session id; a topic is there as long as a session or a subscriber needs it.

    Args:
        on_remote: Called with a topic that has subscribers, but no session in this process, and with the epoch above
            which all that is stored is news to one of them; None: to none.
        on_idle: Called with the id of a topic that nobody needs any more, or that a session here has taken.
        on_everywhere: Called when somebody begins to watch all sessions of all processes.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        tally: Tally,
        event_limit: int,
        *,
        on_remote: Callable[[Topic, int | None], None] = lambda topic, after: None,
        on_idle: Callable[[str], None] = lambda session_id: None,
        on_everywhere: Callable[[], None] = lambda: None,
    ) -> None:
        self.clock = clock
        self.tally = tally
        self.store = store
        self._event_limit = event_limit
        self.topics: dict[str, Topic] = {}
        """By id; there as long as anybody needs it."""
        self.observers: dict[SessionObserver, Mapping[str, str] | None] = {}
        """Those who watch all, and the labels that sessions must have for them; None: only those of this process."""
        self._ended: dict[str, tuple[Stored, Feed]] = {}
        """By id: what was stored of sessions that have ended, and its feed; asked for last, last."""
        self._shut = False
        self._on_remote = on_remote
        self._on_idle = on_idle
        self._on_everywhere = on_everywhere

    # Sessions of this process

    def open(self, session_id: str, feed: Feed) -> Topic:
        """A session has begun here."""
        topic = self._topic(session_id)
        self._on_idle(session_id)
        topic.open(feed)
        for observer in list(self.observers):
            observer.follow(topic)
        return topic

    def close(self, topic: Topic, ended: Ended) -> None:
        """A session of this process has ended, and so have its subscribers' streams."""
        topic.close(ended)
        self._release(topic)

    def give_up(self, topic: Topic) -> None:
        """A session of this process has lost its ownership; its subscribers follow the new owner."""
        topic.feed = None
        if topic.subscribers:
            self._on_remote(topic, None)
        self._release(topic)

    def show(self, snapshot: Snapshot) -> None:
        """A session was declared here."""
        for observer in list(self.observers):
            observer.show(snapshot)

    # Subscribers

    async def join(
        self,
        session_id: str,
        subscriber: Subscriber,
        *,
        wait: bool,
        allows: Allows | None = None,
        keen: bool = True,
    ) -> Topic | None:
        """Registers a subscriber, wherever the session is.

        Args:
            session_id: The session.
            subscriber: Who follows it. One that may not see what there is now must refuse it when it is attached.
            wait: Whether it waits for a session that there is not, or that it may not see.
            allows: Who may see a session with such labels; None: everybody. For one that may not be seen the store is
                asked as for one that there is not, and what it holds is looked at no further than its labels.
            keen: Whether it wants states at broadcast pace, not only as they are stored anyway.

        Returns:
            The topic that it follows; None where all that there is to read has been handed over.

        Raises:
            SessionNotFoundError: There is no such session, or none that may be seen, and `wait` is False.
            StoreError: It is not open here, and the store did not answer, or holds what cannot be read.
            SessionClosedError: The tracker has been left.
        """
        self._check_open()
        topic = self.topics.get(session_id)
        if topic is None or topic.feed is None or not _allowed(topic.feed, allows):
            stored = await self._stored(session_id, allows)
            self._check_open()
            topic = self.topics.get(session_id)
            if topic is None or topic.feed is None:
                if stored is None or not self._visible(stored, allows):
                    if not wait:
                        raise SessionNotFoundError(session_id)
                else:
                    feed = self.found(stored)
                    if feed.ended is not None:
                        subscriber.attach(feed)
                        return None
                    topic = self._topic(session_id)
                    topic.open(feed)
                topic = self._topic(session_id)
                topic.join(subscriber, keen=keen)
                self._on_remote(topic, None)
                return topic
        known = topic.keen
        topic.join(subscriber, keen=keen)
        if keen and not known and not topic.feed.owned_here:
            self._on_remote(topic, None)  # Known from a list so far: its owner has yet to hear that somebody watches.
        return topic

    def set_keen(self, topic: Topic, subscriber: Subscriber, *, keen: bool) -> None:
        """Says whether a subscriber wants states at broadcast pace from now on; one that has gone is no matter."""
        if subscriber in topic.subscribers:
            topic.expect(subscriber, keen=keen)
            if keen and topic.feed is not None and not topic.feed.owned_here:
                self._on_remote(topic, None)

    def await_next(
        self, session_id: str, subscriber: Subscriber, *, keen: bool = True, after: int | None = None
    ) -> Topic:
        """Registers a subscriber for whatever comes next of a session, without what there is of it now.

        Args:
            session_id: The session.
            subscriber: Who waits.
            keen: Whether it wants states at broadcast pace.
            after: The epoch that it has seen the end of: what the store has of a newer one is news, also where others
                have seen it.

        Returns:
            The topic that it follows from now on, which need not be the one that it followed before.
        """
        if self._shut:
            subscriber.shut()
            return Topic(session_id)
        topic = self._topic(session_id)
        topic.expect(subscriber, keen=keen)
        if topic.feed is None:
            self._on_remote(topic, after)
        elif after is not None:
            subscriber.attach(topic.feed)
        return topic

    def leave(self, topic: Topic | None, subscriber: Subscriber) -> None:
        """Takes a subscriber out; does nothing for one that has been let go already."""
        if topic is not None:
            topic.leave(subscriber)
            self._release(topic)

    async def join_all(
        self, observer: SessionObserver, *, here: bool, labels: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Registers for all sessions that are open now or later, and shows those that are queued.

        Args:
            observer: Who is to be told.
            here: Whether only of what this tracker runs or declares.
            labels: Those of other processes are looked for that have all of these.

        Raises:
            StoreError: The store did not answer.
            SessionClosedError: The tracker has been left.
        """
        self._check_open()
        found: list[Stored] = []
        if not here:
            query = Query(labels, status=OPEN, limit=500)
            found = [stored async for stored in every(self.store, query, MOST)]
        else:
            await trio.lowlevel.checkpoint()
        self.follow_all(observer, here=here, labels=labels)
        async for stored in InTurns(reversed(found)):
            self._check_open()
            self._meet(stored, [observer])

    def follow_all(
        self, observer: SessionObserver, *, here: bool, labels: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Registers for all sessions that are open, now or later; has no checkpoint.

        Args:
            observer: Who is to be told.
            here: Whether only of what this tracker runs or declares.
            labels: Those of other processes are looked for that have all of these.

        Raises:
            SessionClosedError: The tracker has been left.
        """
        self._check_open()
        self.observers[observer] = None if here else labels
        for topic in self.topics.values():
            if topic.feed is not None and topic.feed.owned_here:
                observer.follow(topic)
        if not here:
            self._on_everywhere()

    @property
    def watched_everywhere(self) -> Sequence[Mapping[str, str]]:
        """By which labels sessions of other processes are looked for; nothing, where nobody watches those."""
        asked: list[Mapping[str, str]] = []
        for labels in self.observers.values():
            if labels is not None and labels not in asked:
                asked.append(labels)
        # One list of all is less work than many, or than itself and others.
        return asked if {} not in asked and len(asked) <= FILTERS else [{}]

    def meet(self, stored: Stored) -> None:
        """There is a session in the store that those may not know who watch all; one that runs they follow."""
        self._meet(stored, [observer for observer, labels in self.observers.items() if labels is not None])

    def _meet(self, stored: Stored, whom: Sequence[SessionObserver]) -> None:
        if not whom:
            return  # The last one has left meanwhile, and nobody would ever leave what is opened here.
        topic = self.topics.get(stored.id)
        if topic is None or topic.feed is None:
            try:
                remote = self.remote(stored)
            except StoreError as error:
                self.tally.pass_over(stored.id, error)
                return
            if remote.stored_status != "running":
                for observer in whom:
                    observer.show(remote.snapshot())
                return
            topic = self._topic(stored.id)
            topic.open(Feed.found(remote))
        for observer in whom:
            observer.follow(topic)
        if topic.feed is not None and not topic.feed.owned_here:
            self._on_remote(topic, None)

    def leave_all(self, observer: SessionObserver) -> None:
        """Takes it out again."""
        self.observers.pop(observer, None)

    def shut(self) -> None:
        """The tracker is left: all streams end once what there is has been read, and no new ones begin."""
        self._shut = True
        for topic in list(self.topics.values()):  # A subscriber may leave at once.
            for subscriber in list(topic.subscribers):
                subscriber.shut()
        for observer in list(self.observers):
            observer.close()

    def _check_open(self) -> None:
        if self._shut:
            raise SessionClosedError("the tracker has been left: nothing can be followed through it any more")

    # Reading

    async def seen(self, session_id: str, allows: Allows) -> Feed:
        """The feed of a session, as it is here or in the store, if it may be seen.

        Raises:
            SessionNotFoundError: There is no such session, or none that may be seen: the same is asked for both.
            StoreError: It is not open here, and the store did not answer, or holds what cannot be read.
        """
        feed = self.feed(session_id)
        if feed is not None and _allowed(feed, allows):
            await trio.lowlevel.checkpoint()
            return feed
        stored = await self._stored(session_id, allows)
        if feed is not None or stored is None or not self._visible(stored, allows):
            raise SessionNotFoundError(session_id)
        return self.found(stored)

    async def _stored(self, session_id: str, allows: Allows | None) -> Stored | None:
        """What is stored, as far as it can be read. An entry that cannot be read is only told of who may see all.

        Raises:
            StoreError: The store did not answer, or holds what cannot be read.
        """
        try:
            return await self.store.read(session_id)
        except CorruptEntryError:
            if allows is None or allows({}):
                raise
            return None

    def _visible(self, stored: Stored, allows: Allows | None) -> bool:
        """Whether what is stored may be seen. What cannot be read has no labels.

        Raises:
            StoreError: It cannot be read, and may be seen whatever its labels are.
        """
        if allows is None:
            return True
        try:
            return allows(found_head(stored, self.clock).labels)
        except CorruptEntryError:
            if allows({}):
                raise
            return False

    def remote(self, stored: Stored) -> RemoteState:
        """What the store has of a session, to be followed.

        Raises:
            StoreError: The stored entry cannot be read.
        """
        return RemoteState(stored, self.clock, self._event_limit, self.tally)

    def found(self, stored: Stored) -> Feed:
        """The feed of what the store has of a session; of one that has ended, the same for all who find the same.

        A thousand pages that are loaded anew once a run has ended cost one look at its phases, and hold one.

        Raises:
            StoreError: The stored entry cannot be read.
        """
        known = self._ended.pop(stored.id, None)
        if known is None or known[0] != stored:
            remote = self.remote(stored)
            feed = Feed.found(remote)
            if stored.alive or not remote.ended:
                return feed
            feed.ended = Ended(remote.stored_status, remote.seq)
            known = (stored, feed)
        self._ended[stored.id] = known
        if len(self._ended) > REMEMBERED:
            del self._ended[next(iter(self._ended))]
        return known[1]

    def feed(self, session_id: str) -> Feed | None:
        """The feed of a session that is open here, or watched from here."""
        topic = self.topics.get(session_id)
        return None if topic is None else topic.feed

    @property
    def subscribers(self) -> int:
        """How many subscribers there are."""
        return sum(len(topic.subscribers) for topic in self.topics.values())

    def _topic(self, session_id: str) -> Topic:
        topic = self.topics.get(session_id)
        if topic is None:
            topic = self.topics[session_id] = Topic(session_id)
        return topic

    def _release(self, topic: Topic) -> None:
        owned_here = topic.feed is not None and topic.feed.owned_here
        if not owned_here and not topic.subscribers and self.topics.get(topic.id) is topic:
            del self.topics[topic.id]
            self._on_idle(topic.id)
