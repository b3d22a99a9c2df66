"""`recorded()`: every message of a tracker's sessions, as a list."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

from ..live.cursor import Consumer
from ..protocol.messages import Message, Update
from ..protocol.snapshot import Snapshot
from ..telemetry.statistics import Tally
from ..tracker import ProgressTracker, runtime_of

if TYPE_CHECKING:
    from ..live.feed import Topic

LIMIT: Final = 100_000
"""Messages that a recording holds."""


@final
class Recording(list[Message]):
    """Messages in the order in which a subscriber that is never slow gets them; a list like any other."""

    def __init__(self, tracker: ProgressTracker, session_id: str | None, limit: int) -> None:
        super().__init__()
        self._tracker = tracker
        self._id = session_id
        self._limit = limit
        self._consumers: dict[Consumer, Topic] = {}
        self.overflowed = 0
        """Messages that did not fit any more."""

    def of(self, session_id: str) -> list[Message]:
        """The messages of one session."""
        return [message for message in self if _session(message) == session_id]

    def states(self, session_id: str) -> list[Snapshot]:
        """The states that the messages of one session lead through."""
        found: list[Snapshot] = []
        for message in self.of(session_id):
            if isinstance(message, Snapshot):
                found.append(message)
            elif isinstance(message, Update):
                found.append(message.apply(found[-1]))
        return found

    # What the hub calls

    def follow(self, topic: Topic) -> None:
        """A session has been opened."""
        if self._id not in (None, topic.id) or topic in self._consumers.values():
            return
        draining = False

        def wake() -> None:
            nonlocal draining
            if draining:
                return  # From within the loop below, which comes to it.
            draining = True
            try:
                while (message := consumer.next()) is not None:
                    if len(self) < self._limit:
                        self.append(message)
                    else:
                        self.overflowed += 1
            finally:
                draining = False
            if consumer.done:
                self._consumers.pop(consumer, None)

        # A tally of its own: recorded messages are not counted as sent.
        consumer = Consumer(since=None, interval=0.0, tally=Tally(), wake=wake)
        self._consumers[consumer] = topic
        topic.join(consumer)

    def show(self, snapshot: Snapshot) -> None:
        """Does nothing: a session without an owner has no messages."""

    def close(self) -> None:
        """Does nothing: the tracker is left."""

    def stop(self) -> None:
        """Records no more."""
        hub = runtime_of(self._tracker).hub
        hub.leave_all(self)
        for consumer, topic in list(self._consumers.items()):
            hub.leave(topic, consumer)
        self._consumers.clear()

    def start(self) -> None:
        """Records what is open, and what will be."""
        runtime_of(self._tracker).hub.follow_all(self, here=True)

    __hash__ = object.__hash__  # type: ignore[assignment]  # One recording is not another, whatever is in them.


@contextmanager
def recorded(tracker: ProgressTracker, session_id: str | None = None, *, limit: int = LIMIT) -> Iterator[Recording]:
    """Records every message of one session, or of all that are opened here; a plain `with`, without a checkpoint.

    Each is taken when it is published, so that nothing is conflated beyond `broadcast_interval`.

    Args:
        tracker: Whose sessions.
        session_id: Only this one.
        limit: Messages that are held, at least 1.

    Raises:
        ValueError: `limit` is out of range.
        RuntimeError: When the block is left: there were more messages than `limit`.
    """
    if type(limit) is not int or limit < 1:
        raise ValueError(f"limit must be a whole number of at least 1, not {limit!r:.200}")
    recording = Recording(tracker, session_id, limit)
    recording.start()
    try:
        yield recording
    finally:
        recording.stop()
    if recording.overflowed:
        raise RuntimeError(f"{recording.overflowed} messages more than limit={limit} were recorded: raise the limit")


def _session(message: Message) -> str:
    return message.id if isinstance(message, Snapshot) else message.session
