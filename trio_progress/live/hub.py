"""The topics of one tracker: where sessions, readers of the store and listeners find each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeAlias, final

import trio

from ..errors import CorruptEntryError, SessionClosedError, SessionNotFoundError, StoreError
from ..protocol.clock import Clock
from ..protocol.snapshot import Snapshot
from ..stores.base import Query, Store, Stored
from ..stores.paging import InTurns, every
from ..telemetry.statistics import Tally
from .feed import Ended, Feed, Listener, Topic
from .remote import RemoteState, found_head

Allows: TypeAlias = Callable[[Mapping[str, str]], bool]
"""Says whether a session that has these labels may be seen."""


def _allowed(feed: Feed, allows: Allows | None) -> bool:
    return allows is None or allows(feed.source.labels)


class Everything(Protocol):
    """Who wants to know of every session."""

    def follow(self, topic: Topic) -> None:
        """A session has been opened."""
        ...

    def show(self, snapshot: Snapshot) -> None:
        """A session that nobody owns yet is to be shown as it is."""
        ...

    def close(self) -> None:
        """The tracker is left."""
        ...


OPEN: Final = frozenset({"queued", "running"})
"""The stored statuses of sessions that those see who begin to watch all."""

MOST: Final = 10_000
"""So many of them, or a few more, at most; newest first."""

REMEMBERED: Final = 4
"""Sessions that have ended whose feeds are kept: whoever still has such a page open asks again and again."""


@final
class Hub:
    """All topics by session id; a topic is there as long as a session or a listener needs it."""

    def __init__(self, store: Store, clock: Clock, tally: Tally, event_limit: int) -> None:
        self.clock = clock
        self.tally = tally
        self.store = store
        self._event_limit = event_limit
        self._topics: dict[str, Topic] = {}
        self._everything: dict[Everything, bool] = {}
        """Those who watch all, and whether only those of this process."""
        self._ended: dict[str, tuple[Stored, Feed]] = {}
        """By id: what was stored of sessions that have ended, and its feed; asked for last, last."""
        self._shut = False
        self.on_remote: Callable[[Topic], None] = lambda topic: None
        """Called with a topic that has listeners, but no session in this process."""
        self.on_idle: Callable[[str], None] = lambda session_id: None
        """Called with the id of a topic that nobody needs any more, or that a session here has taken."""
        self.on_everywhere: Callable[[], None] = lambda: None
        """Called when somebody begins to watch all sessions of all processes."""

    # Sessions of this process

    def open(self, session_id: str, feed: Feed) -> Topic:
        """A session has begun here."""
        topic = self._topic(session_id)
        self.on_idle(session_id)
        topic.open(feed)
        for everything in list(self._everything):
            everything.follow(topic)
        return topic

    def close(self, topic: Topic, ended: Ended) -> None:
        """A session of this process has ended, and so have its listeners' streams."""
        topic.close(ended)
        self._release(topic)

    def give_up(self, topic: Topic) -> None:
        """A session of this process has lost its ownership; its listeners follow the new owner."""
        topic.feed = None
        if topic.listeners:
            self.on_remote(topic)
        self._release(topic)

    def show(self, snapshot: Snapshot) -> None:
        """A session was declared here."""
        for everything in list(self._everything):
            everything.show(snapshot)

    # Listeners

    async def join(
        self, session_id: str, listener: Listener, *, wait: bool, allows: Allows | None = None
    ) -> Topic | None:
        """Registers a listener, wherever the session is.

        Args:
            session_id: The session.
            listener: Who listens. One that may not see what there is now must refuse it when it is attached.
            wait: Whether it waits for a session that there is not, or that it may not see.
            allows: Who may see a session with such labels; None: everybody. For one that may not be seen the store is
                asked as for one that there is not, and what it holds is looked at no further than its labels.

        Returns:
            The topic that it listens to; None where all that there is to read has been handed over.

        Raises:
            SessionNotFoundError: There is no such session, or none that may be seen, and `wait` is False.
            StoreError: It is not open here, and the store did not answer, or holds what cannot be read.
            SessionClosedError: The tracker has been left.
        """
        self._check_open()
        topic = self._topics.get(session_id)
        if topic is None or topic.feed is None or not _allowed(topic.feed, allows):
            stored = await self._stored(session_id, allows)
            self._check_open()
            topic = self._topics.get(session_id)
            if topic is None or topic.feed is None:
                if stored is None or not self._visible(stored, allows):
                    if not wait:
                        raise SessionNotFoundError(session_id)
                else:
                    feed = self.found(stored)
                    if feed.ended is not None:
                        listener.attach(feed)
                        return None
                    topic = self._topic(session_id)
                    topic.open(feed)
                topic = self._topic(session_id)
                topic.join(listener)
                self.on_remote(topic)
                return topic
        keen = topic.keen
        topic.join(listener)
        if not keen and isinstance(topic.feed.source, RemoteState):
            self.on_remote(topic)  # Known from a list so far: its owner has yet to hear that somebody watches.
        return topic

    def await_next(self, session_id: str, listener: Listener) -> Topic:
        """Registers a listener for whatever comes next of a session, without what there is of it now.

        Returns:
            The topic that it listens to from now on, which need not be the one that it listened to before.
        """
        if self._shut:
            listener.shut()
            return Topic(session_id)
        topic = self._topic(session_id)
        topic.expect(listener)
        if topic.feed is None:
            self.on_remote(topic)
        return topic

    def leave(self, topic: Topic | None, listener: Listener) -> None:
        """Takes a listener out; does nothing for one that has been let go already."""
        if topic is not None:
            topic.leave(listener)
            self._release(topic)

    async def join_all(self, everything: Everything, *, here: bool) -> None:
        """Registers for all sessions that are open now or later, and shows those that are queued.

        Args:
            everything: Who is to be told.
            here: Whether only of what this tracker runs or declares.

        Raises:
            StoreError: The store did not answer.
            SessionClosedError: The tracker has been left.
        """
        self._check_open()
        found: list[Stored] = []
        if not here:
            found = [stored async for stored in every(self.store, Query(status=OPEN, limit=500), MOST)]
        else:
            await trio.lowlevel.checkpoint()
        self.follow_all(everything, here=here)
        async for stored in InTurns(reversed(found)):
            self._check_open()
            self._meet(stored, [everything])

    def follow_all(self, everything: Everything, *, here: bool) -> None:
        """Registers for all sessions that are open, now or later; has no checkpoint.

        Args:
            everything: Who is to be told.
            here: Whether only of what this tracker runs or declares.

        Raises:
            SessionClosedError: The tracker has been left.
        """
        self._check_open()
        self._everything[everything] = here
        for topic in self._topics.values():
            if topic.feed is not None and not isinstance(topic.feed.source, RemoteState):
                everything.follow(topic)
        if not here:
            self.on_everywhere()

    @property
    def watched_everywhere(self) -> bool:
        """Whether anybody watches all sessions of all processes."""
        return not all(self._everything.values())

    def meet(self, stored: Stored) -> None:
        """There is a session in the store that those may not know who watch all; one that runs they follow."""
        self._meet(stored, [everything for everything, here in self._everything.items() if not here])

    def _meet(self, stored: Stored, whom: Sequence[Everything]) -> None:
        if not whom:
            return  # The last one has left meanwhile, and nobody would ever leave what is opened here.
        topic = self._topics.get(stored.id)
        if topic is None or topic.feed is None:
            try:
                remote = RemoteState(stored, self.clock, self._event_limit, self.tally)
            except StoreError as error:
                self.tally.pass_over(stored.id, error)
                return
            if remote.stored_status != "running":
                for everything in whom:
                    everything.show(remote.snapshot())
                return
            topic = self._topic(stored.id)
            topic.open(Feed(remote))
        for everything in whom:
            everything.follow(topic)
        if isinstance(topic.feed, Feed) and isinstance(topic.feed.source, RemoteState):
            self.on_remote(topic)

    def leave_all(self, everything: Everything) -> None:
        """Takes it out again."""
        self._everything.pop(everything, None)

    def shut(self) -> None:
        """The tracker is left: all streams end once what there is has been read, and no new ones begin."""
        self._shut = True
        for topic in list(self._topics.values()):  # A listener may leave at once.
            for listener in list(topic.listeners):
                listener.shut()
        for everything in list(self._everything):
            everything.close()

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

    def found(self, stored: Stored) -> Feed:
        """The feed of what the store has of a session; of one that has ended, the same for all who find the same.

        A thousand pages that are loaded anew once a run has ended cost one look at its phases, and hold one.

        Raises:
            StoreError: The stored entry cannot be read.
        """
        known = self._ended.pop(stored.id, None)
        if known is None or known[0] != stored:
            remote = RemoteState(stored, self.clock, self._event_limit, self.tally)
            feed = Feed(remote)
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
        topic = self._topics.get(session_id)
        return None if topic is None else topic.feed

    def topic(self, session_id: str) -> Topic | None:
        """The topic of that id, if anybody needs it now."""
        return self._topics.get(session_id)

    @property
    def listeners(self) -> int:
        """How many listen."""
        return sum(len(topic.listeners) for topic in self._topics.values())

    def _topic(self, session_id: str) -> Topic:
        topic = self._topics.get(session_id)
        if topic is None:
            topic = self._topics[session_id] = Topic(session_id)
        return topic

    def _release(self, topic: Topic) -> None:
        remote = topic.feed is not None and isinstance(topic.feed.source, RemoteState)
        if ((remote and not topic.listeners) or topic.idle) and self._topics.get(topic.id) is topic:
            del self._topics[topic.id]
            self.on_idle(topic.id)
