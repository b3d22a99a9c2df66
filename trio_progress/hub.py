"""The topics of one tracker: where sessions, readers of the store and listeners find each other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol, final

from .errors import SessionClosedError, SessionNotFoundError, StoreError
from .feed import Ended, Feed, Listener, Topic
from .remote import RemoteState
from .state.clock import Clock
from .state.snapshot import ENDED, Snapshot
from .statistics import Tally
from .stores.base import Query, Store

logger = logging.getLogger("trio_progress")


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


@final
class Hub:
    """All topics by session id; a topic is there as long as a session or a listener needs it."""

    def __init__(self, store: Store, clock: Clock, tally: Tally, event_limit: int) -> None:
        self.clock = clock
        self.tally = tally
        self._store = store
        self._event_limit = event_limit
        self._topics: dict[str, Topic] = {}
        self._everything: dict[Everything, None] = {}
        self._shut = False
        self.on_remote: Callable[[Topic], None] = lambda topic: None
        """Called with a topic that has listeners, but no session in this process."""
        self.on_idle: Callable[[str], None] = lambda session_id: None
        """Called with the id of a topic that nobody needs any more, or that a session here has taken."""

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

    async def join(self, session_id: str, listener: Listener, *, wait: bool) -> Topic | None:
        """Registers a listener, wherever the session is.

        Returns:
            The topic that it listens to; None where all that there is to read has been handed over.

        Raises:
            SessionNotFoundError: There is no such session, and `wait` is False.
            StoreError: It is not open here, and the store did not answer.
            SessionClosedError: The tracker has been left.
        """
        self._check_open()
        topic = self._topics.get(session_id)
        if topic is None or topic.feed is None:
            stored = await self._store.read(session_id)
            self._check_open()
            topic = self._topics.get(session_id)
            if topic is None or topic.feed is None:
                if stored is None:
                    if not wait:
                        raise SessionNotFoundError(session_id)
                else:
                    remote = RemoteState(stored, self.clock, self._event_limit)
                    if remote.snapshot().status in ENDED and not stored.alive and remote.stored_status in ENDED:
                        feed = Feed(remote)
                        feed.ended = Ended(remote.stored_status, remote.seq)
                        listener.attach(feed)
                        return None
                    topic = self._topic(session_id)
                    topic.open(Feed(remote))
                topic = self._topic(session_id)
                topic.join(listener)
                self.on_remote(topic)
                return topic
        topic.join(listener)
        return topic

    def leave(self, topic: Topic | None, listener: Listener) -> None:
        """Takes a listener out; does nothing for one that has been let go already."""
        if topic is not None:
            topic.leave(listener)
            self._release(topic)

    async def join_all(self, everything: Everything) -> None:
        """Registers for all sessions that are open here now or later, and shows those that are queued."""
        self._check_open()
        queued = await self._store.list(Query(status=frozenset({"queued"})))
        self._check_open()
        for stored in reversed(queued.sessions):
            try:
                everything.show(RemoteState(stored, self.clock, self._event_limit).snapshot())
            except StoreError as error:
                logger.warning("passed over: %s", error)
        self.follow_all(everything)

    def follow_all(self, everything: Everything) -> None:
        """Registers for all sessions that are open here, now or later; has no checkpoint."""
        self._check_open()
        self._everything[everything] = None
        for topic in self._topics.values():
            if topic.feed is not None and not isinstance(topic.feed.source, RemoteState):
                everything.follow(topic)

    def leave_all(self, everything: Everything) -> None:
        """Takes it out again."""
        self._everything.pop(everything, None)

    def shut(self) -> None:
        """The tracker is left: all streams end once what there is has been read, and no new ones begin."""
        self._shut = True
        for topic in self._topics.values():
            for listener in list(topic.listeners):
                listener.shut()
        for everything in list(self._everything):
            everything.close()

    def _check_open(self) -> None:
        if self._shut:
            raise SessionClosedError("the tracker has been left: nothing can be followed through it any more")

    # Reading

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
