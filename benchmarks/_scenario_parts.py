"""What our scenarios for the explorer share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from trio_progress import Pipeline, ProgressTracker, Session, Snapshot
from trio_progress.protocol.page import STATUSES
from trio_progress.state.record import decode_record
from trio_progress.stores.base import Query
from trio_progress.testing import FaultyStore, jitter
from trio_progress.tracker import runtime_of

NAMES = ("search", "analysis", "report")
PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})

Scenario = Callable[[], Awaitable[None]]


async def stored(store: FaultyStore, session_id: str = "a") -> Snapshot:
    """What the store holds in the end."""
    entry = await store.inner.read(session_id)
    assert entry is not None, "nothing was stored"
    assert not entry.alive, "the lease was not released"
    return decode_record(session_id, *entry.key, entry.record).state


async def listed_where_it_stands(store: FaultyStore, session_id: str = "a") -> None:
    """After quiescence the lists by status have the session where it is stored, and nowhere else."""
    status = (await stored(store, session_id)).status
    for asked in STATUSES:
        listed = [entry.id for entry in (await store.inner.list(Query(shown=frozenset({asked})))).sessions]
        assert (session_id in listed) == (asked == status), (
            f"it is {status}, and among those that are {asked}: {listed}"
        )


def nothing_left(tracker: ProgressTracker) -> None:
    """After a session's scope nothing of it is in the tracker."""
    held = runtime_of(tracker).held()
    assert not any(held.values()), held


def same_state(*states: Snapshot | None) -> None:
    """After quiescence everybody has the same state."""
    plain = [None if state is None else state.resuming("") for state in states]
    for other in plain[1:]:
        assert other == plain[0], f"{other}\nis not\n{plain[0]}"


async def count(session: Session, name: str, times: int, counted: dict[str, int]) -> None:
    """A worker: counts, and takes its time."""
    for _ in range(times):
        session.phases[name].advance()
        counted[name] += 1
        await jitter(0.03)
