"""What is known of a session in this process, and who follows that.

A `Feed` is one epoch of a session: the source (the live state of a session that is open here, or what
was found in the store), the updates that were made of it, and in the end how it ended. A `Topic` is
the place of a session id: it outlives feeds, so that a subscriber can wait for a session which is yet to come
and follow it to a new owner.

Only the owner publishes: by the broadcaster's tick, which then announces what is new, by a flush, and by the
transitions of the state. Whoever follows reads what was published, and that changes nothing. A reader that comes at a
moment of its own (it joins, reads once, or could not be written to at the tick) asks the owner by `Feed.refresh()`
first: so what people read is of now, and what is numbered `seq` is the same for all. That announces nothing: where
others follow, the token for the broadcaster's next tick lies there already. Who reads once is told bar, ETA and rates
as of this moment, under the same `seq`; what was published stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias, cast, final

from .sparse import SparseUpdates

if TYPE_CHECKING:
    from ..protocol.messages import Update
    from ..protocol.snapshot import SessionStatus, Snapshot
    from ..state.session import SessionState
    from .remote import RemoteState

REMEMBERED: Final = 16
"""Updates that are kept for those who stand alike. After a standstill each of a thousand may stand elsewhere, and an
update of a large tree is large."""


class Ended(NamedTuple):
    """How a feed ended."""

    status: SessionStatus
    persisted_seq: int | None


class Group(Protocol):
    """Subscribers of one topic that are written to together, at less than it costs to notify each."""

    def add(self, subscriber: Any) -> None:
        """One more."""
        ...

    def discard(self, subscriber: Any) -> None:
        """One less; one that has gone already is no matter."""
        ...

    def notify(self, feed: Feed) -> None:
        """Something new was published. Does not wait, and raises nothing."""
        ...


NewGroup: TypeAlias = Callable[[], Group]
"""Makes the group of those subscribers of one topic that name the same one."""


class Subscriber(Protocol):
    """Whoever is notified that there is something new, and comes to get it when it can. No method waits."""

    @property
    def new_group(self) -> NewGroup | None:
        """With whom it is notified of what is published; None: by itself."""
        ...

    def attach(self, feed: Feed) -> None:
        """There is a feed to read, a new one."""
        ...

    def notify(self) -> None:
        """Something new was published, or the feed has ended."""
        ...

    def bookmark(self) -> None:
        """Nothing new, but the session lives."""
        ...

    def shut(self) -> None:
        """The tracker is left: nothing more will come."""
        ...


class SessionObserver(Protocol):
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
class Feed:
    """One session in one epoch, as its subscribers read it.

    Args:
        source: What is read.
        publish: Has the owner publish what has changed; None where that is another process.
        on_watched: Called when somebody comes who wants states at broadcast pace.
    """

    __slots__ = ("_at", "_publish", "_sparse", "_updates", "ended", "on_watched", "remote", "source")

    def __init__(
        self,
        source: SessionState | RemoteState,
        publish: Callable[[], object] | None = None,
        on_watched: Callable[[], None] = lambda: None,
    ) -> None:
        self.on_watched = on_watched
        self.source = source
        self.remote: RemoteState | None = None
        """The source, where another process owns the session; None: it is open here."""
        self.ended: Ended | None = None
        self._publish = publish
        self._at = (0, 0)
        self._updates: dict[tuple[int, str, bool], Update] = {}
        self._sparse: SparseUpdates | None = None

    @classmethod
    def found(cls, remote: RemoteState) -> Feed:
        """That of a session which another process owns."""
        feed = cls(remote)
        feed.remote = remote
        return feed

    @property
    def owned_here(self) -> bool:
        """Whether the session is of this process: then nobody knows of newer states."""
        return self.remote is None

    def refresh(self) -> None:
        """Has the owner publish what it has not published yet, for a reader that comes between two ticks."""
        if self._publish is not None:
            self._publish()

    def snapshot(self) -> Snapshot:
        """The state of this moment, for who reads it once; "lost" where another process owned it and is gone."""
        if self.remote is not None:
            return self.remote.snapshot()
        self.refresh()
        return cast("SessionState", self.source).snapshot_now()

    def published_state(self, *, sparse: bool = False) -> Snapshot:
        """The newest published state, for a subscriber; `sparse`: see `update()`."""
        state = self.source.published_state()
        if sparse:
            if self._sparse is None:
                self._sparse = SparseUpdates()
            self._sparse.hand_out(state)
        return state

    def update(self, since: int, resume: str, *, sparse: bool = False) -> Update:
        """The update from `since` to the newest state; all subscribers that stand alike share one.

        Args:
            since: Where the subscriber stands.
            resume: The token of where it stands then.
            sparse: Whether it has the state at `since`, and takes an update without what that has as well.
        """
        at = (self.source.epoch, self.source.seq)
        if at != self._at:
            self._at = at
            self._updates.clear()
        update = self._updates.get((since, resume, sparse))
        if update is None:
            if len(self._updates) >= REMEMBERED:
                self._updates.clear()
            update = self._sparse_update(since, resume) if sparse else self.source.update_since(since, resume)
            self._updates[since, resume, sparse] = update
        return update

    def _sparse_update(self, since: int, resume: str) -> Update:
        whole = self.update(since, resume)
        sparse = None if self._sparse is None else self._sparse.without_known(whole)
        if sparse is None:
            self.published_state(sparse=True)  # From here on it is known what it has.
            return whole
        return sparse


@final
class Topic:
    """The subscribers of one session id."""

    __slots__ = ("_alone", "_groups", "feed", "id", "subscribers")

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self._groups: dict[NewGroup, Group] = {}
        self._alone: dict[Subscriber, None] = {}
        """Those that are in no group."""
        self.feed: Feed | None = None
        self.subscribers: dict[Subscriber, bool] = {}
        """And whether each is keen: wants states at broadcast pace, not only as they are stored anyway."""

    def open(self, feed: Feed) -> None:
        """A session begins, or goes on under another owner: all subscribers turn to it."""
        self.feed = feed
        for subscriber in list(self.subscribers):
            subscriber.attach(feed)

    def join(self, subscriber: Subscriber, *, keen: bool = True) -> None:
        """Adds a subscriber. It is registered before it reads the state, so nothing falls in between."""
        self.expect(subscriber, keen=keen)
        if self.feed is not None:
            subscriber.attach(self.feed)

    def expect(self, subscriber: Subscriber, *, keen: bool = True) -> None:
        """Adds a subscriber that is notified of what comes from now on, and not of what there is."""
        known = subscriber in self.subscribers
        self.subscribers[subscriber] = keen
        if keen and self.feed is not None:
            self.feed.on_watched()
        new_group = subscriber.new_group
        if known:
            return
        if new_group is None:
            self._alone[subscriber] = None
            return
        group = self._groups.get(new_group)
        if group is None:
            group = self._groups[new_group] = new_group()
        group.add(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        """Removes a subscriber; one that has gone already is no matter."""
        if self.subscribers.pop(subscriber, None) is None:
            return
        new_group = subscriber.new_group
        if new_group is None:
            del self._alone[subscriber]
        else:
            self._groups[new_group].discard(subscriber)

    def announce(self) -> None:
        """Something new was published."""
        feed = self.feed
        if feed is None:
            for subscriber in list(self.subscribers):
                subscriber.notify()
            return
        for subscriber in list(self._alone):
            subscriber.notify()
        for group in list(self._groups.values()):
            group.notify(feed)

    def bookmark(self) -> None:
        """The session's event loop lives."""
        for subscriber in list(self.subscribers):
            subscriber.bookmark()

    def close(self, ended: Ended) -> None:
        """The feed has ended; its subscribers read on until they have all of it, and are let go."""
        feed, self.feed = self.feed, None
        if feed is None:
            return
        feed.ended = ended
        subscribers, self.subscribers = self.subscribers, {}
        self._alone, self._groups = {}, {}
        for subscriber in subscribers:
            subscriber.notify()

    @property
    def keen(self) -> bool:
        """Whether there is a subscriber who wants states at broadcast pace, whoever owns the session."""
        return any(self.subscribers.values())
