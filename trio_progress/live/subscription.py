"""The async iterators that a task reads: the protocol's messages, or merged snapshots of one or all sessions."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, NoReturn, Self, TypeVar, final

import trio

from ..protocol.labels import has_labels
from ..protocol.messages import Message, resume_token
from ..protocol.snapshot import Snapshot
from .cursor import Consumer

if TYPE_CHECKING:
    from .feed import Feed, Topic
    from .hub import Hub

T = TypeVar("T")


class Stream(Generic[T]):
    """Items that are made when they are asked for; one task reads them.

    Iterating has a checkpoint for each item; an item is never lost by being cancelled.
    """

    __slots__ = ("_closed", "_entered", "_news")

    _entering = "tracker.subscribe(...) as messages"

    def __init__(self) -> None:
        self._news = trio.Event()
        self._closed = False
        self._entered = False

    async def _start(self) -> None:
        """Registers the stream where its items come from."""
        raise NotImplementedError

    def _stop(self) -> None:
        """Takes the stream out again."""
        raise NotImplementedError

    def _next(self) -> T | None:
        """The next item, if there is one."""
        raise NotImplementedError

    def _over(self) -> bool:
        """Whether no item will ever come again."""
        return False

    def _due(self) -> float:
        """When, on Trio's clock, there may be an item without any news."""
        return float("inf")

    def _wake(self) -> None:
        self._news.set()

    async def __aenter__(self) -> Self:
        if self._entered:
            raise RuntimeError("this subscription was entered before: make a new one")
        self._entered = True
        try:
            await self._start()
        except BaseException:
            self._closed = True
            self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        self._stop()
        self._wake()
        await trio.lowlevel.cancel_shielded_checkpoint()

    if not TYPE_CHECKING:  # Type checkers know without these that there is no such use.

        def __enter__(self) -> NoReturn:
            raise TypeError("use `async with`, not `with`, to watch or subscribe")

        def __exit__(self, *_: object) -> None:
            raise AssertionError("never entered")

        def __await__(self) -> NoReturn:
            raise TypeError("use `async with`, not `await`, to watch or subscribe")

    def __aiter__(self) -> Self:
        if not self._entered:
            raise RuntimeError(f"enter it first: `async with {self._entering}`")
        return self

    async def __anext__(self) -> T:
        if not self._entered:
            raise RuntimeError(f"enter it first: `async with {self._entering}`")
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = False
        while True:
            item = None if self._closed else self._next()
            if item is not None or self._closed or self._over():
                if not waited:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                if item is None:
                    raise StopAsyncIteration
                return item
            waited = True
            self._news = trio.Event()
            with trio.move_on_at(self._due()):
                await self._news.wait()

    def take_nowait(self) -> T:
        """The next item without waiting.

        Raises:
            trio.WouldBlock: There is none now.
            trio.EndOfChannel: There will never be one again.
        """
        item = None if self._closed else self._next()
        if item is not None:
            return item
        raise trio.EndOfChannel if self._closed or self._over() else trio.WouldBlock


@final
class Subscription(Stream[Message]):
    """The messages of one session; see `trio_progress.protocol.messages` for their order."""

    __slots__ = ("_consumer", "_hub", "_id", "_topic", "_wait")

    def __init__(self, hub: Hub, session_id: str, *, since: str | None, interval: float, wait: bool) -> None:
        super().__init__()
        self._hub = hub
        self._id = session_id
        self._wait = wait
        self._topic: Topic | None = None
        self._consumer = Consumer(since=since, interval=interval, tally=hub.tally, wake=self._wake)

    @property
    def resume(self) -> str:
        """The token that `since=` goes on from after the last message that was delivered."""
        return resume_token(*self._consumer.cursor.position)

    async def _start(self) -> None:
        self._topic = await self._hub.join(self._id, self._consumer, wait=self._wait)

    def _stop(self) -> None:
        self._hub.leave(self._topic, self._consumer)

    def _next(self) -> Message | None:
        return self._consumer.next()

    def _over(self) -> bool:
        return self._consumer.done

    def _due(self) -> float:
        not_before = self._consumer.not_before
        return not_before if not_before > trio.current_time() else float("inf")


class _Given(NamedTuple):
    """The state that a watcher was given last."""

    epoch: int
    seq: int


class _Unread(NamedTuple):
    """A state that a watcher is about to be given."""

    snapshot: Snapshot
    published: float
    """When, on the monotonic clock."""
    last: _Given | None


def _given(hub: Hub, snapshot: Snapshot, published: float, last: _Given | None) -> _Given:
    """Counts a snapshot that a watcher is given."""
    hub.tally.broadcasts += 1
    if last is not None and last.epoch == snapshot.epoch and snapshot.seq > last.seq:
        hub.tally.conflated += snapshot.seq - last.seq - 1
        hub.tally.delivery_lag.observe(hub.clock.monotonic() - published)
    return _Given(snapshot.epoch, snapshot.seq)


@final
class Watch(Stream[Snapshot]):
    """One session as merged snapshots: the newest wins, and the last one is the ended state."""

    __slots__ = ("_feed", "_given", "_hub", "_id", "_shown", "_shut", "_topic", "_wait")

    _entering = "tracker.watch(...) as snapshots"
    new_group: Final = None

    def __init__(self, hub: Hub, session_id: str, *, wait: bool) -> None:
        super().__init__()
        self._hub = hub
        self._id = session_id
        self._wait = wait
        self._topic: Topic | None = None
        self._feed: Feed | None = None
        self._shown: tuple[object, ...] | None = None
        self._given: _Given | None = None
        self._shut = False

    async def _start(self) -> None:
        self._topic = await self._hub.join(self._id, self, wait=self._wait)

    def _stop(self) -> None:
        self._hub.leave(self._topic, self)

    def attach(self, feed: Feed) -> None:
        """There is a session to watch, or a new owner of it."""
        self._feed = feed
        self._wake()

    def notify(self) -> None:
        """Something new was published, or it has ended."""
        self._wake()

    bookmark = notify  # Whether it advances may have changed.

    def shut(self) -> None:
        """The tracker is left."""
        self._shut = True
        self._wake()

    def _next(self) -> Snapshot | None:
        if self._feed is None:
            return None
        feed = self._feed
        source = feed.source
        shown = (source.epoch, source.seq, source.liveness())
        if shown == self._shown:
            return None
        snapshot = feed.snapshot()
        self._shown = (source.epoch, snapshot.seq, snapshot.liveness)
        self._given = _given(self._hub, snapshot, source.published, self._given)
        return snapshot

    def _over(self) -> bool:
        return self._shut or (self._feed is not None and self._feed.ended is not None)


TOLD: Final = 20_000
"""Sessions that nobody owns, and are remembered by who watches all; above what is met in a store at one look."""

UNREAD: Final = 20_000
"""Sessions that have ended, or that nobody owns, which wait for who watches all to read them; the oldest go first."""


class _Entry:
    """One session's part in a `WatchAll`."""

    __slots__ = ("_all", "feed", "given")

    new_group: Final = None

    def __init__(self, everything: WatchAll) -> None:
        self._all = everything
        self.feed: Feed | None = None
        self.given: _Given | None = None

    def attach(self, feed: Feed) -> None:
        self.feed = feed
        self._all.changed(self)

    def notify(self) -> None:
        self._all.changed(self)

    bookmark = notify

    def shut(self) -> None:
        """The whole ends, and with it this part."""


@final
class WatchAll(Stream[Snapshot]):
    """All sessions, as merged snapshots: the newest of each that changed. Ends when the tracker does."""

    __slots__ = ("_ended", "_entries", "_here", "_hub", "_labels", "_latest", "_pending", "_shown", "_told")

    _entering = "tracker.watch_all(...) as snapshots"

    def __init__(self, hub: Hub, labels: Mapping[str, str], *, here: bool) -> None:
        super().__init__()
        self._hub = hub
        self._labels = dict(labels)
        self._here = here
        self._ended = False
        self._entries: dict[_Entry, Topic] = {}
        self._latest: dict[str, _Entry] = {}
        self._told: dict[str, tuple[int, int]] = {}
        """The states of sessions that nobody owns, for they are met in the store once more."""
        self._pending: dict[_Entry | str, _Unread | None] = {}
        self._shown: dict[_Entry, tuple[object, ...]] = {}

    async def _start(self) -> None:
        await self._hub.join_all(self, here=self._here, labels=self._labels)

    def _stop(self) -> None:
        self._hub.leave_all(self)
        for entry, topic in self._entries.items():
            self._hub.leave(topic, entry)
        self._entries.clear()
        self._latest.clear()
        self._pending.clear()

    def follow(self, topic: Topic) -> None:
        """A session has been opened, here or elsewhere."""
        known = self._latest.get(topic.id)
        if known is not None and known in topic.subscribers:
            return
        entry = self._latest[topic.id] = _Entry(self)
        self._entries[entry] = topic
        topic.join(entry, keen=False)

    def show(self, snapshot: Snapshot) -> None:
        """A session that nobody owns is to be shown as it is."""
        state = (snapshot.epoch, snapshot.seq)
        if self._told.get(snapshot.id) != state and self._matches(snapshot.labels):
            self._tell(snapshot.id, state)
            self._keep(_Unread(snapshot, 0.0, None))
            self._wake()

    def _tell(self, session_id: str, state: tuple[int, int]) -> None:
        self._told.pop(session_id, None)
        self._told[session_id] = state
        if len(self._told) > TOLD:
            del self._told[next(iter(self._told))]

    def changed(self, entry: _Entry) -> None:
        """Something new was published in one session; of one that has ended only its last state is kept."""
        if entry.feed is not None and entry.feed.ended is not None:
            self._pending.pop(entry, None)
            last = self._newest(entry)
            if last is not None:
                self._keep(last)
        else:
            self._pending[entry] = None
        self._wake()

    def _keep(self, last: _Unread) -> None:
        """Keeps a state that is the last one, until it is read or there are too many."""
        self._pending[last.snapshot.id] = last
        if len(self._pending) - len(self._entries) > UNREAD:
            del self._pending[next(what for what in self._pending if isinstance(what, str))]
            self._hub.tally.ends_dropped += 1

    def close(self) -> None:
        """The tracker is left: what is pending can still be read, then iterating ends."""
        self._ended = True
        self._wake()

    def _over(self) -> bool:
        return self._ended

    def _matches(self, labels: Mapping[str, str]) -> bool:
        return has_labels(labels, self._labels)

    def _next(self) -> Snapshot | None:
        while self._pending:
            what = next(iter(self._pending))
            unread = self._pending.pop(what)
            if unread is None:
                assert isinstance(what, _Entry)
                unread = self._newest(what)
            if unread is not None:
                given = _given(self._hub, *unread)
                if isinstance(what, _Entry):
                    what.given = given
                return unread.snapshot
        return None

    def _newest(self, entry: _Entry) -> _Unread | None:
        feed = entry.feed
        assert feed is not None
        source = feed.source
        shown = (source.epoch, source.seq, source.liveness())
        known = self._shown.get(entry)
        if feed.ended is not None:
            self._entries.pop(entry, None)
            self._shown.pop(entry, None)
            if self._latest.get(source.id) is entry:
                del self._latest[source.id]
            self._tell(source.id, (source.epoch, source.seq))
        else:
            self._shown[entry] = shown
        if shown == known:
            return None
        snapshot = feed.snapshot()
        if not self._matches(snapshot.labels):
            return None
        if feed.ended is None:
            self._shown[entry] = (source.epoch, snapshot.seq, snapshot.liveness)
        return _Unread(snapshot, source.published, entry.given)
