"""One session, followed from attempt to attempt until it has ended for good.

A `Watch` ends with the attempt; who waits for a session to complete goes on, for somebody may go on with what was
interrupted or lost. It stays registered with the hub, which hands it the next feed, and tells an old one by its epoch:
nothing is looked up at intervals. It is not keen: the owner stores as often as it would without it, unless `keen` is
set, because somebody watches who follows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar, final

import trio

from ..errors import CorruptEntryError, StoreError
from ..protocol.backoff import Backoff
from ..state.mirror import AWAITED
from .store_watcher import FIRST_PAUSE, LONGEST_PAUSE
from .subscription import Stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..protocol.snapshot import Snapshot
    from .feed import Feed, Topic
    from .hub import Hub

T = TypeVar("T")


@final
class Following(Stream["Snapshot"]):
    """The published states of a session, latest wins, through all of its attempts.

    Iterating ends behind the last state of one that has ended and is not gone on with, that was deleted (`gone`), or
    when the tracker is left. A session that there is not is waited for, and so is a store that does not answer.
    """

    __slots__ = ("_after", "_feed", "_hub", "_id", "_shown", "_shut", "_topic", "gone", "keen")

    new_group: Final = None

    def __init__(self, hub: Hub, session_id: str, *, keen: bool = False) -> None:
        super().__init__()
        self._hub = hub
        self._id = session_id
        self._topic: Topic | None = None
        self._feed: Feed | None = None
        self._after: int | None = None
        """The epoch that has ended, where the next one is waited for."""
        self._shown: tuple[object, ...] | None = None
        self._shut = False
        self.keen = keen
        """Whether states are wanted at broadcast pace; set by `set_keen()`."""
        self.gone = False
        """Whether the session was deleted, or has expired."""

    async def _start(self) -> None:
        self._topic = await answered(lambda: self._hub.join(self._id, self, wait=True, keen=self.keen))
        if self._topic is None:
            self._settle()  # It has ended before.
        elif self._topic.subscribers.get(self, self.keen) != self.keen:
            self._hub.set_keen(self._topic, self, keen=self.keen)  # Somebody has begun to watch meanwhile.

    def _stop(self) -> None:
        self._hub.leave(self._topic, self)

    def set_keen(self, keen: bool) -> None:
        """Says whether states are wanted at broadcast pace from now on."""
        if keen != self.keen:
            self.keen = keen
            if self._topic is not None:
                self._hub.set_keen(self._topic, self, keen=keen)

    # What the topic calls

    def attach(self, feed: Feed) -> None:
        """There is a feed to read; that of an attempt whose end was read already is no news."""
        if self._after is None or feed.source.epoch > self._after:
            self._feed, self._after = feed, None
            self._wake()

    def notify(self) -> None:
        """Something new was published, the feed has ended, or what is stored is gone."""
        topic = self._topic
        if topic is not None and not self._closed:
            if self not in topic.subscribers:
                self._settle()
            elif topic.feed is None and self._after is not None:
                self.gone = True
        self._wake()

    bookmark = notify  # Whether it advances may have changed.

    def shut(self) -> None:
        """The tracker is left."""
        self._shut = True
        self._wake()

    def _settle(self) -> None:
        """The feed has ended: waits for the next one, if there may be one."""
        feed = self._feed
        ended = None if feed is None else feed.ended
        if self._after is None and feed is not None and ended is not None:
            if feed.remote is not None and ended.persisted_seq is None:
                self.gone = True
            if self.gone or ended.status not in AWAITED:
                return
            self._after = feed.source.epoch
        if not self._shut:
            self._topic = self._hub.await_next(self._id, self, keen=self.keen, after=self._after)

    # What the reader calls

    def _next(self) -> Snapshot | None:
        if self._feed is None:
            return None
        source = self._feed.source
        shown = (source.epoch, source.seq, source.liveness())
        if shown == self._shown:
            return None
        self._shown = shown
        return source.published_state()

    def _over(self) -> bool:
        ended = self._feed is not None and self._feed.ended is not None and self._after is None
        return self._shut or self.gone or ended


async def answered(ask: Callable[[], Awaitable[T]]) -> T:
    """What a store answers; one that is down is asked again until it does.

    Raises:
        CorruptEntryError: What is stored cannot be read.
    """
    backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
    while True:
        try:
            return await ask()
        except CorruptEntryError:
            raise
        except StoreError:
            await trio.sleep(backoff.pause())
