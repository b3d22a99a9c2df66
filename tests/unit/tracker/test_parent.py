"""A session that is declared as a part of another one keeps saying so, whatever becomes of it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from trio_progress import FencedError, MemoryStore, open_tracker
from trio_progress.blocking import Client
from trio_progress.state.record import decode_record


async def test_the_parent_is_kept_from_the_declaration_to_the_end_and_into_the_next_attempt() -> None:
    store = MemoryStore()
    async with open_tracker(store) as tracker:
        assert (await tracker.declare("shard-1", parent="job-1")).parent == "job-1"
        async with tracker.session("shard-1") as session:
            assert session.snapshot().parent == "job-1"
            session.fail("once more")
        async with open_tracker(store) as other:
            async with other.session("shard-1", resume="always") as session:
                assert (session.attempt, session.snapshot().parent) == (2, "job-1")
            assert (await other.snapshot("shard-1")).parent == "job-1"
        (listed,) = (await tracker.sessions()).sessions
        assert listed.parent == "job-1"


async def test_the_parts_of_a_session_are_listed_whatever_they_stand_at_and_no_others(tmp_path: Path) -> None:
    store = f"sqlite:{tmp_path / 'p.db'}"
    async with open_tracker(store, spool=False) as tracker:
        for number in range(5):
            await tracker.declare(f"shard-{number}", labels={"n": f"{number}"}, parent="job-1")
        await tracker.declare("other", parent="job-2")
        await tracker.declare("named-alike", labels={"parent": "job-1"})
        await tracker.cancel("shard-0")
        async with tracker.session("shard-1", labels={"more": "labels"}):
            pass
        async with tracker.session("shard-2", resume="always") as session:
            session.fail("once more")
        async with tracker.session("shard-2", resume="always"):
            found = await tracker.sessions(parent="job-1")
            stand = {one.id: one.status for one in found}
        assert stand == {
            "shard-0": "cancelled",
            "shard-1": "completed",
            "shard-2": "running",
            "shard-3": "queued",
            "shard-4": "queued",
        }
        assert [one.id for one in await tracker.sessions({"n": "3"}, parent="job-1")] == ["shard-3"]
        assert [one.id for one in await tracker.sessions(status="cancelled", parent="job-1")] == ["shard-0"]
        first = await tracker.sessions(limit=2, parent="job-1")
        rest = await tracker.sessions(cursor=first.cursor, parent="job-1")
        assert len({one.id for one in (*first, *rest)}) == 5
        assert not (await tracker.sessions(parent="shard-1")).sessions
        with pytest.raises(ValueError, match="session"):
            await tracker.sessions(parent="")
        assert all("" not in one.labels for one in await tracker.sessions())
    with Client(store) as client:
        assert [one.id for one in client.sessions(parent="job-2")] == ["other"]


async def test_a_part_that_is_written_off_is_still_listed_by_its_parent(autojump_clock: MockClock) -> None:
    store = MemoryStore()
    async with open_tracker(store) as tracker, open_tracker(store) as other:
        await tracker.declare("part", parent="job-1")
        with suppress(FencedError):
            async with other.session("part"):
                await tracker.fence("part")
                assert [one.status for one in await tracker.sessions(parent="job-1")] == ["lost"]
                await trio.sleep_forever()


async def test_a_part_that_is_cancelled_before_it_ran_keeps_its_parent() -> None:
    async with open_tracker(MemoryStore()) as tracker:
        await tracker.declare("cancelled", parent="job-1")
        await tracker.cancel("cancelled")
        assert (await tracker.wait_ended("cancelled")).parent == "job-1"


async def test_a_new_run_of_the_id_is_nobodys_part() -> None:
    async with open_tracker(MemoryStore()) as tracker:
        await tracker.declare("shard-1", parent="job-1")
        async with tracker.session("shard-1"):
            pass
        async with tracker.session("shard-1"):
            pass
        assert (await tracker.snapshot("shard-1")).parent is None
        assert (await tracker.declare("shard-1")).parent is None


@pytest.mark.parametrize("parent", ["", "a b", 7, "shard-1"])
async def test_a_parent_that_is_no_id_or_the_session_itself_is_refused(parent: object) -> None:
    async with open_tracker(MemoryStore()) as tracker:
        with pytest.raises(ValueError, match="session"):
            await tracker.declare("shard-1", parent=parent)  # type: ignore[arg-type]
        assert not (await tracker.sessions()).sessions


def test_a_client_without_an_event_loop_declares_parts_as_well(tmp_path: Path) -> None:
    with Client(f"sqlite:{tmp_path / 'p.db'}") as client:
        assert client.declare("shard-1", parent="job-1").parent == "job-1"
        assert client.snapshot("shard-1").parent == "job-1"


class OlderHead(msgspec.Struct):
    """What a version without the key reads."""

    id: str
    labels: dict[str, str]


class OlderRecord(msgspec.Struct):
    state: OlderHead


async def test_a_record_of_an_older_version_is_of_nobody_and_one_of_a_part_is_read_by_older_ones() -> None:
    store = MemoryStore()
    async with open_tracker(store) as tracker:
        await tracker.declare("part", parent="job-1")
        await tracker.declare("alone")
        part, alone = await store.read("part"), await store.read("alone")
    assert part is not None
    assert alone is not None
    assert b"parent" not in alone.record
    assert decode_record("alone", *alone.key, alone.record).state.parent is None

    assert msgspec.json.decode(part.record, type=OlderRecord).state.id == "part"
