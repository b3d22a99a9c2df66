"""A store in memory is given records as they are; what is read of it, and what other stores are given, is bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from trio_progress import MemoryStore, Pipeline, open_tracker
from trio_progress.errors import StoreError
from trio_progress.state.record import decode_record
from trio_progress.stores.base import Append, Claim, Outcome, Write
from trio_progress.testing import FaultyStore

PIPELINE = Pipeline("research", {"fetch": 3, "load": 1})


class Seen(MemoryStore):  # type: ignore[misc] # it is final for users
    """Keeps what it was asked to write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[Write] = []
        self.down = False

    async def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        if self.down:
            raise StoreError("down")
        self.writes.extend(batch)
        return await super().commit(batch)


async def run(store: MemoryStore | FaultyStore) -> None:
    async with open_tracker(store) as tracker, tracker.session("a", PIPELINE) as session:
        session.emit("found", {"n": 1})
        with session.phase("fetch", total=2) as phase:
            phase.advance(2)
        session.save({"page": 7})
        await session.flush()


async def test_it_keeps_records_and_encodes_what_is_read(autojump_clock: trio.testing.MockClock) -> None:
    store = Seen()
    await run(store)
    kept = [write for write in store.writes if isinstance(write, (Claim, Append))]
    assert len(kept) > 2
    assert all(write.record == b"" and write.unencoded is not None for write in kept)
    stored = await store.read("a")
    assert stored is not None
    record = decode_record("a", *stored.key, stored.record)
    assert (record.state.status, record.saved, record.state.phases[0].done) == ("completed", {"page": 7}, 2)
    again = await store.read("a")
    assert again is not None
    assert again.record is stored.record


async def test_a_store_that_does_not_say_so_is_given_bytes(autojump_clock: trio.testing.MockClock) -> None:
    inner = Seen()
    await run(FaultyStore(inner))
    kept = [write for write in inner.writes if isinstance(write, (Claim, Append))]
    assert all(write.record.startswith(b"{") and write.unencoded is None for write in kept)


async def test_both_keep_the_same(autojump_clock: trio.testing.MockClock) -> None:
    found = []
    for store in (inner := MemoryStore(), FaultyStore(other := MemoryStore())):
        await run(store)
    for kept in (inner, other):
        stored = await kept.read("a")
        assert stored is not None
        record = decode_record("a", *stored.key, stored.record)
        found.append((stored.key.seq, record.state.status, record.state.events, record.saved, len(stored.events)))
    assert found[0] == found[1] == (found[0][0], "completed", 1, {"page": 7}, 1)


async def test_a_record_that_it_does_not_take_can_be_kept_for_later(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled: list[Append] = []

    def save(_: object, append: Append, **__: object) -> bool:
        spooled.append(append)
        return True

    monkeypatch.setattr("trio_progress.storage.spool_delivery.SpoolDelivery.save", save)
    store = Seen()
    async with open_tracker(store, flush_timeout=1) as tracker:
        async with tracker.session("a", PIPELINE):
            store.down = True
        store.down = False
    (append,) = spooled
    assert append.unencoded is None
    assert decode_record("a", *append.key, append.record).state.status == "completed"
