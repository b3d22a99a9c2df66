"""Subscribers that are slow, stall or vanish, and hold what they see against what must always be true."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import trio

from ..protocol.messages import CustomEvent, End, Message, Position, Subscribed, Update
from ..protocol.snapshot import PhaseSnapshot, Snapshot

if TYPE_CHECKING:
    from ..tracker import ProgressTracker


@final
class Subscriber:
    """Reads one session through `tracker.subscribe()`, merges what it gets, and checks it.

    Within an epoch `seq` only rises, the overall fraction never falls, and a phase that completed stays
    completed; each update fits; `End` is the last message. What breaks one of these is an AssertionError
    out of `run()`.

    Args:
        session_id: Which session; it may not be there yet.
        delay: Seconds between two messages: a slow reader.
        stalls_after: It stops reading after so many messages, until `resume_from()`.
        leaves_after: It vanishes after so many messages, and comes back...
        away: ... so many seconds later, with its resume token; None: never again.
        max_hz: As `subscribe()` has it.
    """

    def __init__(
        self,
        session_id: str,
        *,
        delay: float = 0.0,
        stalls_after: int | None = None,
        leaves_after: int | None = None,
        away: float | None = 0.0,
        max_hz: float | None = None,
    ) -> None:
        self.id = session_id
        self._delay = delay
        self._stalls_after = stalls_after
        self._leaves_after = leaves_after
        self._away = away
        self._max_hz = max_hz
        self._resumed = trio.Event()
        self._since: str | None = None
        self.view: Snapshot | None = None
        """The state as it has come to know it."""
        self.end: End | None = None
        self.events: list[CustomEvent] = []
        self.received = 0
        """Messages so far."""
        self.greetings: list[Subscribed] = []

    async def run(self, tracker: ProgressTracker) -> None:
        """Reads until the end, or until it has vanished for good.

        Raises:
            AssertionError: It received what cannot be.
        """
        while self.end is None:
            left = await self._read(tracker)
            if not left or self._away is None:
                return
            await trio.sleep(self._away)

    def resume_from(self) -> None:
        """Reads on, where it has stalled."""
        self._resumed.set()

    async def _read(self, tracker: ProgressTracker) -> bool:
        """One connection; True where it vanished by itself."""
        taken = 0
        async with tracker.subscribe(self.id, since=self._since, max_hz=self._max_hz, wait=True) as messages:
            async for message in messages:
                self.take(message)
                self._since = messages.resume
                taken += 1
                if self.received == self._stalls_after:
                    await self._resumed.wait()
                if taken == self._leaves_after and self.end is None:
                    return True
                await trio.sleep(self._delay)
        return False

    def take(self, message: Message) -> None:
        """Takes one message in and checks it; for messages that come by another way than `run()`."""
        self.received += 1
        assert self.end is None, f"{message} came after {self.end}"
        match message:
            case Subscribed():
                self.greetings.append(message)
                assert not message.recovered or self.view is not None, "recovered, but there was nothing to recover"
            case Snapshot():
                self._see(message)
            case Update():
                assert self.view is not None, f"an update came before any snapshot: {message}"
                self._see(message.apply(self.view))
            case CustomEvent():
                assert not self.events or _ordinal(message) > _ordinal(self.events[-1]), "an event came twice"
                self.events.append(message)
            case End():
                self.end = message
                assert self.view is not None, "the end came before any state"
                assert (self.view.seq, self.view.status) == (message.seq, message.status), "the end is not the state's"
            case _:
                pass

    def _see(self, state: Snapshot) -> None:
        before, self.view = self.view, state
        if before is None or state.epoch != before.epoch:
            assert before is None or state.epoch > before.epoch, f"epoch {state.epoch} came after {before.epoch}"
            return
        assert state.seq >= before.seq, f"seq {state.seq} came after {before.seq}"
        assert state.progress >= before.progress, f"progress fell from {before.progress} to {state.progress}"
        lost = completed(before.phases) - completed(state.phases)
        lost -= {path for path in lost if len(path) > 1}  # Children may have folded into their parent.
        assert not lost, f"these phases were completed, and no longer are: {sorted(lost)}"
        assert not before.ended or state.status == before.status, f"{before.status} became {state.status}"


def _ordinal(event: CustomEvent) -> tuple[int, int]:
    """What orders the events of one session: each epoch numbers its own."""
    position = Position.parse(event.resume)
    assert position is not None, f"{event.resume!r} is no resume token"
    return position.epoch, event.n


def completed(phases: tuple[PhaseSnapshot, ...], above: tuple[str, ...] = ()) -> frozenset[tuple[str, ...]]:
    """The paths of the phases that are completed, at any depth."""
    found: set[tuple[str, ...]] = set()
    for phase in phases:
        path = (*above, phase.name)
        if phase.status == "completed":
            found.add(path)
        found |= completed(phase.phases, path)
    return frozenset(found)
