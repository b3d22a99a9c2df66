"""A store, the clock that it goes by, and writes that are short to say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trio_progress.state.history import Lesson, PhaseLesson
from trio_progress.stores.base import (
    Append,
    Claim,
    Claimed,
    Index,
    Key,
    Outcome,
    Query,
    Store,
    Stored,
    Write,
)

EVENT_LIMIT = 5

E = 4_000_000_000_000
"""The epoch that is proposed; as milliseconds since 1970 it is beyond the clock of any store that looks at one."""

KEEP = 100.0

LEASE = 10.0


class Rig:
    """A store, the clock that it goes by, and writes that are short to say.

    Tests ask for `mock_clock` themselves as well: pytest-trio runs by the clock of the test, not of its fixtures.
    """

    def __init__(self, store: Store, sleep: Callable[[float], None]) -> None:
        self.store = store
        self.sleep = sleep
        """Lets so many seconds pass; nobody does anything meanwhile."""

    async def one(self, write: Write) -> Outcome:
        (outcome,) = await self.store.commit([write])
        return outcome

    async def claimed(self, session_id: str = "a", **given: Any) -> Claimed:
        outcome = await self.one(claim(session_id, **given))
        assert isinstance(outcome, Claimed)
        return outcome

    async def read(self, session_id: str = "a") -> Stored:
        found = await self.store.read(session_id)
        assert found is not None
        return found

    async def listed(self, **given: Any) -> list[str]:
        return [stored.id for stored in (await self.store.list(Query(**given))).sessions]


def index(**given: Any) -> Index:
    defaults: dict[str, Any] = {"status": "running", "pipeline": "p", "labels": {}, "queued_at": 1.0}
    return Index(**defaults | given)


def claim(session_id: str = "a", **given: Any) -> Claim:
    defaults: dict[str, Any] = {
        "proposal": E,
        "owner": "me",
        "record": b"claimed",
        "index": index(),
        "lease": LEASE,
        "keep": KEEP,
    }
    return Claim(id=session_id, **defaults | given)


def append(epoch: int, seq: int, session_id: str = "a", **given: Any) -> Append:
    defaults: dict[str, Any] = {
        "record": f"state {seq}".encode(),
        "index": index(),
        "lease": LEASE,
        "keep": KEEP,
        "heartbeat": 5.0,
    }
    return Append(id=session_id, key=Key(epoch, seq), **defaults | given)


def lesson(**seconds: float) -> Lesson:
    """What a run teaches in which phases took so long."""
    return Lesson(at=4e9, phases={name: PhaseLesson(seconds=took) for name, took in seconds.items()})


def seconds_of(claimed: Claimed) -> dict[str, float]:
    """What each phase usually takes, by the history that came with a claim."""
    return {} if claimed.history is None else {name: p.seconds for name, p in claimed.history.phases.items()}
