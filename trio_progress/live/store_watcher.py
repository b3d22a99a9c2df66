"""The one task that waits for news in the store: of sessions that others own, and of what owners are asked."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol, final, runtime_checkable

import trio

from ..errors import StoreError
from ..protocol.backoff import Backoff
from ..stores.base import Ask, Changes, Seen, Store, Stored
from ..telemetry.logs import log_event
from .feed import Ended, Feed, Topic

if TYPE_CHECKING:
    from ..protocol.clock import Clock
    from ..telemetry.statistics import Tally
    from .hub import Hub

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 2.0
"""Seconds, before jitter, between tries on a store that cannot be read."""

PROBE: Final = "-"
"""The id of a session that is looked up only to see whether the store answers."""

WATCH_RENEWAL: Final = 5.0
"""Seconds after which the owner of a session is told again that it is watched from here."""


@runtime_checkable
class Looks(Protocol):
    """A store that says when it was last known what news there was, for waiting for news can be in vain."""

    @property
    def looked_at(self) -> float:
        """By `time.monotonic()`."""
        ...


@final
class StoreWatcher:
    """Keeps the topics that no session of this process feeds in step with the store.

    Args:
        on_asked: Called with the session's id, what is asked, and the reason.
        on_listens: Called once that is heard of. What was asked before is not.
        ask: Asks the owner of a session for something; does not wait.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        tally: Tally,
        rng: random.Random,
        on_asked: Callable[[str, str, str | None], None],
        on_listens: Callable[[], None],
        ask: Callable[[Ask], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._tally = tally
        self._rng = rng
        self._on_asked = on_asked
        self._on_listens = on_listens
        self._ask = ask
        self._asked_at: dict[str, float] = {}
        self._told = False
        self._seen: dict[str, Seen | None] = {}
        self._mark: str | None = None
        self._scope = trio.CancelScope(shield=True)
        self._waiting: trio.CancelScope | None = None
        self._answered_at = clock.monotonic()
        self.up = True
        """Whether the store answered the last time."""

    @property
    def followed(self) -> int:
        """Sessions that are kept in step with the store."""
        return len(self._seen)

    @property
    def lag(self) -> float:
        """Seconds since it was last known what news there is in the store; 0 where the store wakes its readers."""
        if self._scope.cancel_called:
            return 0.0  # The tracker has been left, perhaps with its event loop: there is no clock to ask.
        since = self._clock.monotonic() - self._answered_at
        if isinstance(self._store, Looks):
            return max(min(since, time.monotonic() - self._store.looked_at), 0.0)
        return 0.0 if self.up else since

    def watch(self, topic: Topic, after: int | None = None) -> None:
        """From now on the topic is kept in step with the store.

        One that is without a feed because its session has ended goes on from that end, of which it has heard; unless
        somebody has not, who has seen the end of the epoch `after`.
        """
        remote = None if topic.feed is None else topic.feed.remote
        seen = self._seen.get(topic.id) if remote is None else remote.seen
        if remote is None and seen is not None and after is not None and seen.key.epoch > after:
            seen = None
        self._seen[topic.id] = seen
        self._changed()

    def forget(self, session_id: str) -> None:
        """The topic is no longer needed, or a session of this process feeds it."""
        self._asked_at.pop(session_id, None)
        if self._seen.pop(session_id, False) is not False:
            self._changed()

    def _changed(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel(reason="the sessions to watch have changed")

    def close(self) -> None:
        """Ends `run`."""
        self._scope.cancel(reason="the tracker is left")

    @trio.lowlevel.enable_ki_protection
    async def run(self, hub: Hub) -> None:
        """Reads until closed. Shielded: only `close()` ends it."""
        backoff: Backoff | None = None
        with self._scope:
            while True:
                try:
                    if not self.up:
                        # Waiting for news says nothing until there is some, which may be never.
                        await self._store.read(PROBE)
                        self._answered()
                    changes = await self._wait(hub)
                except Exception as error:
                    self.up = False
                    self._told |= log_event(
                        logging.WARNING,
                        "store_not_read",
                        "the store cannot be read, it is tried again: %s",
                        error,
                        throttle=self._tally.throttle,
                        error=None if isinstance(error, (StoreError, OSError)) else error,
                        reason=error,
                    )
                    backoff = backoff or Backoff(FIRST_PAUSE, LONGEST_PAUSE, self._rng)
                    await trio.sleep(backoff.pause())
                    continue
                if changes is not None:
                    self._answered()
                    backoff = None
                    self._take_in(hub, changes)

    def _answered(self) -> None:
        self.up = True
        self._answered_at = self._clock.monotonic()
        if self._told:
            self._told = False
            log_event(logging.INFO, "store_read_again", "the store can be read again")

    async def _wait(self, hub: Hub) -> Changes | None:
        """The next news; None where what is waited for has changed meanwhile, or owners are to be told again."""
        with trio.CancelScope(deadline=self._tell_owners(hub)) as self._waiting:
            return await self._store.changes(self._mark, dict(self._seen))
        return None

    def _tell_owners(self, hub: Hub) -> float:
        """Tells the owners of what is watched from here, who store more often then; and when to do it again."""
        now = trio.current_time()
        for session_id, seen in self._seen.items():
            topic = hub.topics.get(session_id)
            if seen is None or not seen.alive or topic is None or not topic.keen:
                self._asked_at.pop(session_id, None)
            elif self._asked_at.get(session_id, float("-inf")) + WATCH_RENEWAL <= now:
                self._asked_at[session_id] = now
                self._ask(Ask(session_id, "watch"))
        return min(self._asked_at.values(), default=float("inf")) + WATCH_RENEWAL

    def _take_in(self, hub: Hub, changes: Changes) -> None:
        listens = self._mark is None
        self._mark = changes.mark
        if listens:
            self._on_listens()
        for stored in changes.sessions:
            if stored.id in self._seen:
                self._seen[stored.id] = Seen(stored.key, stored.heartbeat, stored.alive)
                try:
                    self._show(hub, stored)
                except StoreError as error:
                    self._tally.pass_over(stored.id, error)
        for session_id in changes.gone:
            if session_id in self._seen:
                self._seen[session_id] = None
                self._lose(hub, session_id)
        for ask in changes.asked:
            self._on_asked(ask.id, ask.what, ask.reason)

    def _lose(self, hub: Hub, session_id: str) -> None:
        """What is stored of a session was deleted, or has expired."""
        topic = hub.topics.get(session_id)
        remote = None if topic is None or topic.feed is None else topic.feed.remote
        if topic is None or remote is None:
            if topic is not None and topic.feed is None:
                topic.announce()  # To who waits for somebody to go on with it.
            return
        status = remote.snapshot().status
        # The owner of one that runs stores it anew; nobody does that for the others.
        if status != "running":
            hub.close(topic, Ended(status, None))

    def _show(self, hub: Hub, stored: Stored) -> None:
        topic = hub.topics.get(stored.id)
        if topic is None:
            return
        remote = None if topic.feed is None else topic.feed.remote
        if remote is not None and remote.epoch == stored.key.epoch:
            if remote.take_in(stored):
                topic.announce()
            else:
                topic.bookmark()
        elif topic.feed is None or (remote is not None and stored.key.epoch > remote.epoch):
            remote = hub.remote(stored)
            topic.open(Feed.found(remote))
        else:
            return
        if remote.ended:
            hub.close(topic, Ended(remote.stored_status, remote.seq))
