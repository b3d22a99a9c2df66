"""What a session has of how it was declared, whatever happens on the way, over any store."""

from __future__ import annotations

from contextlib import aclosing

from trio_progress import open_tracker
from trio_progress.stores.base import Claim, Store
from trio_progress.testing import FaultyStore


async def check_a_lost_answer_to_its_claim(inner: Store) -> None:
    """A session has what it was declared with also where the answer to its claim was lost; closes the store."""
    store = FaultyStore(inner)
    async with aclosing(inner), open_tracker(store) as tracker:
        declared = await tracker.declare("a", title="declared", labels={"user": "u1"}, parent="job")
        store.mode = "lost"
        async with tracker.session("a") as session:
            store.mode = "up"
            await session.flush()
            state = session.snapshot()
            assert (state.title, state.labels, state.parent) == ("declared", {"user": "u1"}, "job")
            assert state.queued_at == declared.queued_at
            assert [one.id for one in (await tracker.sessions(parent="job", labels={"user": "u1"})).sessions] == ["a"]
    assert [mode for _, mode, batch in store.commits if isinstance(batch[0], Claim)] == ["up", "lost", "up"]
