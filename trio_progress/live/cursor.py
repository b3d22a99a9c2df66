"""What one subscriber still has to be told: a cursor, never a queue.

1. A mailbox holds its position: the `(epoch, seq)` last handed over, and the ordinal of the last event.
2. When its reader can take something, the next message is made from the newest state there is: the head,
   and each phase that changed since the position. A slow reader gets fewer messages, never wrong ones.
3. Custom events are owed one by one, out of the session's own bounded log. Those that had to be dropped
   are told as one `Gap`.
4. A position that cannot be gone on from (another epoch, too old, not ours) gets a whole snapshot, and
   `Subscribed` says why.
5. A position can be ahead of what a reader of the store has found so far: its subscriber was told more by another
   gateway. Nothing is told until that is made up for, for nobody is shown an older state than before.
6. The end comes last, after the ended state and all events.

(One slot of delta frames per subscriber, the obvious other way, leaves every reader wrong that missed one.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from ..protocol.clock import Clock, utc
from ..protocol.messages import Bookmark, CustomEvent, End, Gap, Message, Position, Subscribed, Update
from ..protocol.snapshot import RESUMABLE, Snapshot
from ..telemetry.statistics import Tally
from .feed import Feed


@final
class Cursor:
    """The cursor of one subscriber. Nothing in it waits.

    Args:
        session_id: What it subscribes to.
        since: The resume token of the last message that the subscriber has, or None.
        interval: The least seconds between two updates (1 / `max_hz`); 0 for as they come.
        wake: Called, synchronously, when there may be something to take.
    """

    __slots__ = (
        "_bookmark",
        "_clock",
        "_done",
        "_feed",
        "_greet",
        "_id",
        "_interval",
        "_joined",
        "_lag",
        "_reason",
        "_resuming",
        "_shut",
        "_snapshot",
        "_tally",
        "_wake",
        "not_before",
        "position",
        "steady",
    )

    crier: Final = None

    def __init__(
        self,
        session_id: str,
        *,
        since: str | None,
        interval: float,
        clock: Clock,
        tally: Tally,
        wake: Callable[[], None],
    ) -> None:
        self._id = session_id
        self._interval = interval
        self._clock = clock
        self._tally = tally
        self._wake = wake
        self._feed: Feed | None = None
        self._resuming = None if since is None else Position.parse(since)
        self._reason = "new" if since is None else "bad_token"
        self._greet: Subscribed | None = None
        self._snapshot = False
        self._bookmark = False
        self._done = False
        self._shut = False
        self._joined = 0.0
        self._lag: float | None = None
        """What was counted for the newest update."""
        self.not_before = 0.0
        """When the next update may be taken, on the monotonic clock."""
        self.position = Position(0, 0, 0)
        self.steady = False
        """Whether all that it can owe is an update and events: no greeting, snapshot, bookmark or pause."""

    def attach(self, feed: Feed) -> None:
        """Takes the feed up where the token says, or anew; one of the same epoch just goes on."""
        if self._goes_on(feed):
            self._feed = feed
            self._wake()
            return
        resuming = self._resuming
        reason: str | None = self._reason
        source = feed.source
        if resuming is not None:
            if resuming.epoch != source.epoch:
                reason = "epoch"
            elif resuming.seq < max(source.oldest_delta, 1) or not _reached(feed, resuming):
                reason = "too_old"
            else:
                reason = None
        self._feed = feed
        self.steady = False
        self._joined = self._clock.monotonic()
        self._snapshot = reason is not None
        if resuming is not None and reason is None:
            self.position = resuming
        else:
            known = resuming.event if resuming is not None and reason == "too_old" else source.event_log.oldest - 1
            self.position = Position(source.epoch, 0, min(known, source.event_log.newest))
        self._greet = Subscribed(
            session=self._id,
            recovered=reason is None,
            reason=reason,
            server_time=utc(self._clock.wall()),
        )
        self._wake()

    def _goes_on(self, feed: Feed) -> bool:
        source = feed.source
        epoch, seq, _ = self.position
        return (
            self._feed is not None
            and self._greet is None
            and epoch == source.epoch
            and (self._snapshot or source.oldest_delta <= seq)
            and _reached(feed, self.position)
        )

    def notify(self) -> None:
        """There is something new."""
        self._wake()

    def bookmark(self) -> None:
        """The session lives."""
        self._bookmark = True
        self.steady = False
        self._wake()

    def shut(self) -> None:
        """The tracker is left: what there is can still be taken."""
        self._shut = True
        self._wake()

    @property
    def done(self) -> bool:
        """Whether nothing more will come: `End` has been taken, or the tracker was left."""
        return self._done or self._shut

    def take(self) -> Message | None:
        """The next message, made now; None where there is nothing to tell (yet, see `not_before`)."""
        feed = self._feed
        if feed is None or self._done:
            return None
        if self._greet is not None:
            greeting, self._greet = self._greet, None
            self._resuming, self._reason = None, "epoch"  # Whatever comes after this greeting is another owner.
            return greeting
        source = feed.source
        source.publish()  # What is sent as `seq` is what all others get as `seq`.
        epoch, seq, event = self.position
        if epoch != source.epoch:
            self.attach(feed)
            return self.take()
        if self._snapshot:
            return self._take_snapshot(feed)
        if seq < source.seq and (
            not self._interval or feed.ended is not None or self._clock.monotonic() >= self.not_before
        ):
            return self._take_update(feed) if seq >= source.oldest_delta else self._take_snapshot(feed)
        if event < source.event_log.newest:
            return self._take_event(feed)
        if feed.ended is not None and seq > source.seq:
            return self._take_snapshot(feed)  # The store has lost what this subscriber was told, for good.
        if feed.ended is not None:
            self._done = True
            return End(
                session=self._id,
                seq=source.seq,
                status=feed.ended.status,
                resumable=feed.ended.status in RESUMABLE,
                persisted_seq=feed.ended.persisted_seq,
                resume=self.position.token(),
            )
        if self._bookmark and seq == source.seq:
            self._bookmark = False
            now = self._clock.wall()
            head = source.snapshot()
            return Bookmark(
                session=self._id,
                seq=seq,
                resume=self.position.token(),
                liveness=source.liveness(),
                heartbeat_at=head.heartbeat_at,
                progressed_at=head.progressed_at,
                server_time=utc(now),
            )
        return None

    def put_back(self, message: Message, before: Position) -> None:
        """The message just taken was not begun on the wire: whatever is newest then is made in its place.

        Args:
            message: What `take()` has returned last.
            before: The position as it was before that.
        """
        if isinstance(message, (Update, Snapshot)):
            self._tally.broadcasts -= 1
            self._snapshot = isinstance(message, Snapshot)
            self.not_before = 0.0
            if isinstance(message, Update):
                self._tally.conflated -= max(message.seq - before.seq - 1, 0)
                if self._lag is not None:
                    self._tally.delivery_lag.retract(self._lag)
        elif isinstance(message, Subscribed):
            self._greet = message
            return  # It moves nothing, but taking it may have: to another epoch, which it is about.
        elif isinstance(message, Gap):
            self._tally.events_dropped -= message.dropped
        elif isinstance(message, Bookmark):
            self._bookmark = True
        elif isinstance(message, End):
            self._done = False
        self.position = before

    def _moved(self, seq: int, missed: int, published: float | None) -> None:
        now = self._clock.monotonic()
        self.position = Position(self.position.epoch, seq, self.position.event)
        if self._interval:
            self.not_before = now + self._interval
        self._bookmark = False
        # What is older than the subscriber has not kept it waiting.
        self._lag = None if published is None else now - max(published, self._joined)
        self._tally.handed_over(missed, self._lag)

    def _take_snapshot(self, feed: Feed) -> Message:
        self._snapshot = False
        snapshot = feed.source.told()
        self._moved(snapshot.seq, 0, None)
        return snapshot.resuming(self.position.token())

    def _take_update(self, feed: Feed) -> Message:
        since = self.position.seq
        update, after = next_update(feed, self.position)
        self._moved(after.seq, after.seq - since - 1, feed.source.published)
        self.steady = not self._interval
        return update

    def _take_event(self, feed: Feed) -> Message:
        message, self.position = next_event(feed, self.position)
        if isinstance(message, Gap):
            self._tally.events_dropped += message.dropped
        return message


def next_update(feed: Feed, position: Position) -> tuple[Update, Position]:
    """What leads from `position`, an older state that an update can start from, to the newest; and where that is."""
    epoch, _, event = position
    after = Position(epoch, feed.source.seq, event)
    return feed.update(position.seq, after.token()), after


def next_event(feed: Feed, position: Position) -> tuple[CustomEvent | Gap, Position]:
    """The event behind `position`, of which there is one, or how many were dropped there; and what follows from it."""
    log = feed.source.event_log
    epoch, seq, event = position
    missing = log.oldest - 1 - event
    if missing > 0:
        behind = Position(epoch, seq, event + missing)
        return Gap(session=feed.source.id, dropped=missing, resume=behind.token()), behind
    logged = log.first_after(event)
    assert logged is not None
    after = Position(epoch, seq, logged.n)
    message = CustomEvent(
        session=feed.source.id,
        n=logged.n,
        seq=logged.seq,
        resume=after.token(),
        name=logged.name,
        data=logged.data,
        at=utc(logged.at),
    )
    return message, after


def _reached(feed: Feed, position: Position) -> bool:
    """Whether the source has come to a position of its epoch, or still may."""
    source = feed.source
    if source.secondhand and feed.ended is None:
        return True
    return position.seq <= source.seq and position.event <= source.event_log.newest
