"""What one subscriber is to be sent next: a cursor, never a queue.

1. A cursor holds a position: the `(epoch, seq)` last handed over, and the ordinal of the last event; and the little
   that is owed besides (a greeting, a whole snapshot, a bookmark). It is a value.
2. When its subscriber can take something, the next message is made from the newest published state: the head,
   and each phase that changed since the position. A slow reader gets fewer messages, never wrong ones.
   `peek()` makes it, and says where the subscriber stands once it has it; asking changes and counts nothing, and may
   be done again. Whoever has delivered the message commits that cursor, and only then is anything counted.
3. Custom events are owed one by one, out of the session's own bounded log. Those that had to be dropped
   are sent as one `Gap`.
4. A position that cannot be gone on from (another epoch, too old, not ours) gets a whole snapshot, and
   `Subscribed` says why.
5. A position can be ahead of what a reader of the store has found so far: its subscriber was sent more by another
   gateway. Nothing is sent until that is made up for, for nobody is shown an older state than before.
6. The end comes last, after the ended state and all events.

(One slot of delta frames per subscriber, the obvious other way, leaves every reader wrong that missed one.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple, final

from ..protocol.clock import utc
from ..protocol.messages import Bookmark, CustomEvent, End, Gap, Message, Position, Subscribed, Update, resume_token
from ..protocol.snapshot import RESUMABLE, Snapshot

if TYPE_CHECKING:
    from ..telemetry.statistics import Tally
    from .feed import Feed

NOWHERE: Final = Position(0, 0, 0)


class Cursor(NamedTuple):
    """Where one subscriber stands, and what it is owed besides what changes from there on."""

    position: Position = NOWHERE
    resuming: Position | None = None
    """What its resume token names, until it has been greeted."""
    reason: str = "new"
    """Why it cannot be gone on where there is nothing to resume from."""
    greeting: Subscribed | None = None
    whole: bool = False
    """Whether the next state that it is sent is a whole one."""
    bookmark: bool = False
    over: bool = False
    """Whether it has its `End`."""
    joined: float = 0.0
    """Since when it follows, on the monotonic clock: what is older has not kept it waiting."""
    sparse: bool = False
    """Whether it takes updates without what it has; see `live.sparse`."""

    @classmethod
    def starting(cls, since: str | None, *, sparse: bool = False) -> Cursor:
        """That of a new subscriber, who may have a resume token."""
        if since is None:
            return cls(sparse=sparse)
        return cls(resuming=Position.parse(since), reason="bad_token", sparse=sparse)

    @property
    def steady(self) -> bool:
        """Whether all that it can be owed now is updates and events."""
        return bool(self.position.epoch) and self.greeting is None and not (self.whole or self.bookmark or self.over)


def follow(cursor: Cursor, feed: Feed) -> Cursor:
    """The cursor in this feed: where its token says, or anew; one of the same epoch just goes on."""
    if _goes_on(cursor, feed):
        return cursor
    source, resuming = feed.source, cursor.resuming
    reason: str | None = cursor.reason
    if resuming is not None:
        if resuming.epoch != source.epoch:
            reason = "epoch"
        elif resuming.seq < max(source.oldest_delta, 1) or not _reached(feed, resuming):
            reason = "too_old"
        else:
            reason = None
    if resuming is not None and reason is None:
        position = resuming
    else:
        known = resuming.event if resuming is not None and reason == "too_old" else source.event_log.oldest - 1
        position = Position(source.epoch, 0, min(known, source.event_log.newest))
    clock = source.clock
    server_time = utc(clock.wall())
    greeting = Subscribed(session=source.id, recovered=reason is None, reason=reason, server_time=server_time)
    return cursor._replace(position=position, greeting=greeting, whole=reason is not None, joined=clock.monotonic())


def _goes_on(cursor: Cursor, feed: Feed) -> bool:
    source = feed.source
    epoch, seq, _ = cursor.position
    return (
        epoch == source.epoch
        and cursor.greeting is None
        and (cursor.whole or source.oldest_delta <= seq)
        and _reached(feed, cursor.position)
    )


def _reached(feed: Feed, position: Position) -> bool:
    """Whether the source has come to a position of its epoch, or still may."""
    if not feed.owned_here and feed.ended is None:
        return True
    return position.seq <= feed.source.seq and position.event <= feed.source.event_log.newest


def peek(feed: Feed, cursor: Cursor, *, held: bool = False) -> tuple[Message, Cursor] | None:
    """The next message from the published state, and the cursor of who has got it; None where there is none.

    Changes nothing. What the owner has not published yet is to be asked for before, by `feed.refresh()`.

    Args:
        feed: What is followed.
        cursor: Where the subscriber stands.
        held: Whether an update would come too soon for it, by its `max_hz`; events and the end do not wait.
    """
    if cursor.over:
        return None
    if cursor.greeting is not None:  # Whatever comes after it is another owner.
        return cursor.greeting, cursor._replace(greeting=None, resuming=None, reason="epoch")
    source, ended = feed.source, feed.ended
    epoch, seq, event = cursor.position
    if epoch != source.epoch:
        return peek(feed, follow(cursor, feed))
    behind = seq < source.seq and (ended is not None or not held)
    if cursor.whole or (behind and seq < source.oldest_delta):
        return _whole(feed, cursor)
    if behind:
        after = Position(epoch, source.seq, event)
        # Made anew, for `_replace` would cost as much as all the rest of this path.
        sparse = cursor.sparse
        moved = Cursor(after, cursor.resuming, cursor.reason, None, False, False, False, cursor.joined, sparse)
        return feed.update(seq, resume_token(*after), sparse=sparse), moved
    if event < source.event_log.newest:
        return _event(feed, cursor)
    if ended is not None:
        if seq > source.seq:
            return _whole(feed, cursor)  # The store has lost what this subscriber was sent, for good.
        end = End(
            session=source.id,
            seq=source.seq,
            status=ended.status,
            resumable=ended.status in RESUMABLE,
            persisted_seq=ended.persisted_seq,
            resume=resume_token(*cursor.position),
        )
        return end, cursor._replace(over=True)
    if cursor.bookmark and seq == source.seq:
        return _bookmark(feed, cursor), cursor._replace(bookmark=False)
    return None


def _whole(feed: Feed, cursor: Cursor) -> tuple[Snapshot, Cursor]:
    after = cursor.position._replace(seq=feed.source.seq)
    snapshot = feed.published_state(sparse=cursor.sparse).resuming(resume_token(*after))
    return snapshot, cursor._replace(position=after, whole=False, bookmark=False)


def _event(feed: Feed, cursor: Cursor) -> tuple[CustomEvent | Gap, Cursor]:
    """The event behind the cursor, of which there is one; or how many were dropped there."""
    source, position = feed.source, cursor.position
    log, event = source.event_log, position.event
    missing = log.oldest - 1 - event
    if missing > 0:
        behind = position._replace(event=event + missing)
        return Gap(session=source.id, dropped=missing, resume=resume_token(*behind)), cursor._replace(position=behind)
    logged = log.first_after(event)
    assert logged is not None
    after = position._replace(event=logged.n)
    message = CustomEvent(
        session=source.id,
        n=logged.n,
        seq=logged.seq,
        resume=resume_token(*after),
        name=logged.name,
        data=logged.data,
        at=utc(logged.at),
    )
    return message, cursor._replace(position=after)


def _bookmark(feed: Feed, cursor: Cursor) -> Bookmark:
    source = feed.source
    state = source.published_state()
    return Bookmark(
        session=source.id,
        seq=cursor.position.seq,
        resume=resume_token(*cursor.position),
        liveness=source.liveness(),
        heartbeat_at=state.heartbeat_at,
        progressed_at=state.progressed_at,
        server_time=utc(source.clock.wall()),
    )


def count(tally: Tally, feed: Feed, cursor: Cursor, message: Message, subscribers: int = 1) -> None:
    """Counts a message that was delivered to those who stood at this cursor."""
    if isinstance(message, Update):
        tally.broadcasts += subscribers
        tally.conflated += max(message.seq - message.from_ - 1, 0) * subscribers
        lag = feed.source.clock.monotonic() - max(feed.source.published, cursor.joined)
        tally.delivery_lag.observe(lag, subscribers)
    elif isinstance(message, Snapshot):
        tally.broadcasts += subscribers
    elif isinstance(message, Gap):
        tally.events_dropped += message.dropped * subscribers


def _nobody() -> None:
    """Wakes nobody."""


@final
class Consumer:
    """One subscriber of a topic: its feed, its cursor in that, and its pace. Nothing in it waits.

    Args:
        since: The resume token of the last message that the subscriber has, or None.
        interval: The least seconds between two updates (1 / `max_hz`); 0 for as they come.
        tally: Where it is counted what was delivered.
        wake: Called, synchronously, when there may be something to peek at.
        sparse: Whether the subscriber takes updates without what it has; see `live.sparse`.
    """

    __slots__ = ("_feed", "_interval", "_shut", "_tally", "_wake", "cursor", "not_before")

    new_group: Final = None

    def __init__(
        self,
        *,
        since: str | None,
        interval: float,
        tally: Tally,
        wake: Callable[[], None] = _nobody,
        sparse: bool = False,
    ) -> None:
        self._interval = interval
        self._tally = tally
        self._wake = wake
        self._feed: Feed | None = None
        self._shut = False
        self.cursor = Cursor.starting(since, sparse=sparse)
        self.not_before = 0.0
        """When the next update may be delivered, on the monotonic clock."""

    # What the topic calls

    def attach(self, feed: Feed) -> None:
        """There is a feed to follow, a new one."""
        self._feed = feed
        self.cursor = follow(self.cursor, feed)
        self._wake()

    def notify(self) -> None:
        """There is something new."""
        self._wake()

    def bookmark(self) -> None:
        """The session lives."""
        self.cursor = self.cursor._replace(bookmark=True)
        self._wake()

    def shut(self) -> None:
        """The tracker is left: what there is can still be delivered."""
        self._shut = True
        self._wake()

    # What whoever delivers calls

    @property
    def done(self) -> bool:
        """Whether nothing more will come: `End` was delivered, or the tracker was left."""
        return self.cursor.over or self._shut

    @property
    def steady(self) -> bool:
        """Whether all that it can be owed now is updates and events, as they come."""
        return not self._interval and self.cursor.steady

    def peek(self) -> tuple[Message, Cursor] | None:
        """The next message, made of the state of this moment, and the cursor to commit once it is delivered.

        None where there is nothing (yet, see `not_before`).
        """
        feed = self._feed
        if feed is None:
            return None
        feed.refresh()
        held = self._interval > 0 and feed.source.clock.monotonic() < self.not_before
        return peek(feed, self.cursor, held=held)

    def commit(self, message: Message, after: Cursor) -> None:
        """The message that `peek()` has made was delivered: counts it and stands behind it."""
        feed = self._feed
        assert feed is not None
        count(self._tally, feed, self.cursor, message)
        self.cursor = after
        if self._interval and isinstance(message, (Update, Snapshot)):
            self.not_before = feed.source.clock.monotonic() + self._interval

    def next(self) -> Message | None:
        """The next message, delivered by being returned."""
        step = self.peek()
        if step is None:
            return None
        self.commit(*step)
        return step[0]
