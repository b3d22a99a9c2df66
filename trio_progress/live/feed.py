"""What is known of a session in this process, and who listens to that.

A `Feed` is one epoch's worth of news: the source (the live state of a session that is open here, or what
a reader found in the store), the updates that were made of it, and in the end how it ended. A `Topic` is
the place of a session id: it outlives feeds, so that a listener can wait for a session which is yet to come
and follow it to a new owner.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol, final

from ..protocol.messages import Update
from ..protocol.snapshot import Liveness, SessionStatus, Snapshot
from ..state.events import EventLog

REMEMBERED: Final = 16
"""Updates that are kept for those who stand alike. After a standstill each of a thousand may stand elsewhere, and an
update of a large tree is large."""


class Source(Protocol):
    """What a feed reads: the newest published state and what led to it. `SessionState` is one."""

    @property
    def id(self) -> str:
        """The session."""
        ...

    @property
    def epoch(self) -> int:
        """The ownership that it is about."""
        ...

    @property
    def seq(self) -> int:
        """The newest published state."""
        ...

    @property
    def labels(self) -> Mapping[str, str]:
        """The session's labels, at less than a snapshot costs: they say who may see it."""
        ...

    @property
    def published(self) -> float:
        """When `seq` was published, or known here, on the monotonic clock."""
        ...

    @property
    def oldest_delta(self) -> int:
        """The oldest state that an update can start from."""
        ...

    @property
    def secondhand(self) -> bool:
        """Whether others may know newer states of this epoch already."""
        ...

    @property
    def event_log(self) -> EventLog:
        """The retained custom events."""
        ...

    def publish(self) -> int:
        """Takes in what is not published yet; returns `seq`."""
        ...

    def snapshot(self) -> Snapshot:
        """The newest published state."""
        ...

    def told(self) -> Snapshot:
        """The same as subscribers are told it: of one `(epoch, seq)` it is one state, but for how alive it is."""
        ...

    def update_since(self, since: int, resume: str) -> Update:
        """What changed after the state `since`."""
        ...

    def liveness(self) -> Liveness:
        """How alive the session is now."""
        ...


class Ended(NamedTuple):
    """How a feed ended."""

    status: SessionStatus
    persisted_seq: int | None


class Audience(Protocol):
    """Those listeners of one topic that have the same crier, and are told of what is published together."""

    def add(self, listener: Any) -> None:
        """One more, of the same crier."""
        ...

    def discard(self, listener: Any) -> None:
        """One less; one that has gone already is no matter."""
        ...

    def tell(self, feed: Feed) -> None:
        """Something new was published. Does not wait, and raises nothing."""
        ...


class Crier(Protocol):
    """Who tells news to many at once, at less than it costs to tell each."""

    def audience(self) -> Audience:
        """A new one, without listeners."""
        ...


class Listener(Protocol):
    """Whoever is told that there is something new, and comes to get it when it can. No method waits."""

    @property
    def crier(self) -> Crier | None:
        """Who tells it of what is published, together with others; None: it is notified by itself."""
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


@final
class Feed:
    """One session in one epoch, as its listeners read it."""

    __slots__ = ("_at", "_updates", "ended", "source")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.ended: Ended | None = None
        self._at = (0, 0)
        self._updates: dict[tuple[int, str], Update] = {}

    def update(self, since: int, resume: str) -> Update:
        """The update from `since` to the newest state; all listeners that stand alike share one."""
        at = (self.source.epoch, self.source.seq)
        if at != self._at:
            self._at = at
            self._updates.clear()
        update = self._updates.get((since, resume))
        if update is None:
            if len(self._updates) >= REMEMBERED:
                self._updates.clear()
            update = self._updates[since, resume] = self.source.update_since(since, resume)
        return update


@final
class Topic:
    """The listeners to one session id."""

    __slots__ = ("_alone", "_audiences", "feed", "id", "listeners")

    def __init__(self, session_id: str) -> None:
        self.id = session_id
        self._audiences: dict[Crier, Audience] = {}
        self._alone: dict[Listener, None] = {}
        """The listeners without a crier."""
        self.feed: Feed | None = None
        self.listeners: dict[Listener, bool] = {}
        """And whether each is keen: wants states at broadcast pace, not only as they are stored anyway."""

    def open(self, feed: Feed) -> None:
        """A session begins, or goes on under another owner: all listeners turn to it."""
        self.feed = feed
        for listener in list(self.listeners):
            listener.attach(feed)

    def join(self, listener: Listener, *, keen: bool = True) -> None:
        """Adds a listener. It is registered before it reads the state, so nothing falls in between."""
        self.expect(listener, keen=keen)
        if self.feed is not None:
            self.feed.source.publish()
            listener.attach(self.feed)

    def expect(self, listener: Listener, *, keen: bool = True) -> None:
        """Adds a listener that is told of what comes from now on, and not of what there is."""
        known = listener in self.listeners
        self.listeners[listener] = keen
        crier = listener.crier
        if known:
            return
        if crier is None:
            self._alone[listener] = None
            return
        audience = self._audiences.get(crier)
        if audience is None:
            audience = self._audiences[crier] = crier.audience()
        audience.add(listener)

    def leave(self, listener: Listener) -> None:
        """Removes a listener; one that has gone already is no matter."""
        if self.listeners.pop(listener, None) is None:
            return
        crier = listener.crier
        if crier is None:
            del self._alone[listener]
        else:
            self._audiences[crier].discard(listener)

    def announce(self) -> None:
        """Something new was published."""
        feed = self.feed
        if feed is None:
            for listener in list(self.listeners):
                listener.notify()
            return
        for listener in list(self._alone):
            listener.notify()
        for audience in list(self._audiences.values()):
            audience.tell(feed)

    def bookmark(self) -> None:
        """The session's event loop lives."""
        for listener in list(self.listeners):
            listener.bookmark()

    def close(self, ended: Ended) -> None:
        """The feed has ended; its listeners read on until they have all of it, and are let go."""
        feed, self.feed = self.feed, None
        if feed is None:
            return
        feed.ended = ended
        listeners, self.listeners = self.listeners, {}
        self._alone, self._audiences = {}, {}
        for listener in listeners:
            listener.notify()

    def watched(self) -> bool:
        """Whether anybody listens."""
        return bool(self.listeners)

    @property
    def keen(self) -> bool:
        """Whether anybody listens who wants states at broadcast pace, whoever owns the session."""
        return any(self.listeners.values())

    @property
    def idle(self) -> bool:
        """Whether nobody needs the topic any more."""
        return self.feed is None and not self.listeners
