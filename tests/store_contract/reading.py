"""What `stores/base.py` promises to who lists or watches; the tests that every store passes.

A module of tests imports all of it and has a fixture `rig`.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.store_contract.rig import LEASE, E, Rig, append, claim, index
from trio_progress.stores.base import (
    Ask,
    Changes,
    Delete,
    Done,
    Key,
    Query,
    Renew,
    Seen,
    Stored,
)

# Reading


async def test_a_list_is_newest_first_and_comes_in_pages(rig: Rig, mock_clock: MockClock) -> None:
    await rig.store.commit([claim(f"s{n}", index=index(queued_at=n / 7 if n != 3 else 2 / 7)) for n in range(10)])
    everything = await rig.listed()
    assert everything == ["s9", "s8", "s7", "s6", "s5", "s4", "s3", "s2", "s1", "s0"]
    pages, cursor = list[list[str]](), None
    while True:
        page = await rig.store.list(Query(limit=4, after=cursor))
        pages.append([stored.id for stored in page.sessions])
        cursor = page.next
        if cursor is None:
            break
    assert pages == [["s9", "s8", "s7", "s6"], ["s5", "s4", "s3", "s2"], ["s1", "s0"]]
    assert (await rig.store.list(Query(limit=10))).next is None


async def test_a_list_goes_on_behind_a_session_that_has_gone(rig: Rig, mock_clock: MockClock) -> None:
    await rig.store.commit([claim(f"s{n}", lease=None, index=index(queued_at=float(n // 3))) for n in range(9)])
    page = await rig.store.list(Query(limit=5))
    assert [stored.id for stored in page.sessions] == ["s8", "s7", "s6", "s5", "s4"]
    assert await rig.one(Delete("s4")) == Done()
    page = await rig.store.list(Query(limit=5, after=page.next))
    assert [stored.id for stored in page.sessions] == ["s3", "s2", "s1", "s0"]


async def test_a_list_is_filtered_by_status_and_labels(rig: Rig, mock_clock: MockClock) -> None:
    hostile = {"user": 'u1","team":"b', "team": "ä\\"}
    batch = [
        claim("s1", index=index(labels={"user": "u1", "team": "a"}, queued_at=1.0)),
        claim("s2", index=index(labels={"user": "u1", "team": "b"}, queued_at=2.0, status="queued")),
        claim("s3", index=index(labels={"user": "u11"}, queued_at=3.0)),
        claim("s4", index=index(labels=hostile, queued_at=4.0, status="failed")),
    ]
    await rig.store.commit(batch)
    assert await rig.listed(labels={"user": "u1"}) == ["s2", "s1"]
    assert await rig.listed(labels={"team": "b", "user": "u1"}) == ["s2"]
    assert await rig.listed(labels=hostile) == ["s4"]
    assert await rig.listed(status=frozenset({"queued", "failed"})) == ["s4", "s2"]
    assert await rig.listed(status=frozenset({"running"}), labels={"user": "u1"}) == ["s1"]
    assert await rig.listed(status=frozenset()) == []
    assert await rig.listed(labels={"user": "u1"}, limit=1) == ["s2"]


async def test_a_list_of_what_has_no_owner_leaves_out_who_has_a_lease(rig: Rig, mock_clock: MockClock) -> None:
    await rig.store.commit(
        [
            claim("owned", lease=LEASE * 3),
            claim("lapsing", lease=LEASE),
            claim("declared", lease=None, index=index(status="queued")),
        ]
    )
    assert await rig.listed(lapsed=True) == ["declared"]
    rig.sleep(LEASE + 1)
    assert await rig.listed(lapsed=True) == ["lapsing", "declared"]
    assert await rig.listed(lapsed=True, status=frozenset({"running"})) == ["lapsing"]


async def test_a_claim_keeps_the_events_that_it_names_and_no_others(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    await rig.one(append(E, 1, lease=None, events=[(1, b"e1"), (2, b"e2")]))
    await rig.claimed(lease=None, events=[(2, b"e2"), (3, b"e3")])
    assert list((await rig.read()).events) == [b"e2", b"e3"]
    await rig.claimed(lease=None)
    assert list((await rig.read()).events) == []


async def test_a_list_follows_what_is_appended(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed(index=index(labels={"user": "u1"}, queued_at=5.0))
    await rig.one(append(E, 1, index=index(status="failed", labels={"user": "u2"}, queued_at=1.0)))
    assert await rig.listed(status=frozenset({"running"})) == []
    assert await rig.listed(status=frozenset({"failed"}), labels={"user": "u2"}) == ["a"]
    await rig.claimed("b", index=index(queued_at=2.0))
    assert await rig.listed() == ["b", "a"]


async def test_a_list_tells_what_is_lost_from_what_runs(rig: Rig, mock_clock: MockClock) -> None:
    await rig.store.commit(
        [
            claim("runs", lease=LEASE * 3, index=index(queued_at=3.0)),
            claim("lapsing", lease=LEASE, index=index(queued_at=2.0)),
            claim("lost", lease=None, index=index(status="lost", queued_at=1.0, pipeline=None)),
        ]
    )
    assert await rig.listed(shown=frozenset({"running"})) == ["runs", "lapsing"]
    rig.sleep(LEASE + 1)
    assert await rig.listed(shown=frozenset({"running"})) == ["runs"]
    assert await rig.listed(shown=frozenset({"lost"})) == ["lapsing", "lost"]
    assert await rig.listed(shown=frozenset({"lost"}), pipeline="p") == ["lapsing"]
    assert await rig.listed(shown=frozenset({"lost", "running"}), limit=2) == ["runs", "lapsing"]


async def test_what_is_claimed_is_listed_as_it_was_declared_where_the_claim_says_so(
    rig: Rig, mock_clock: MockClock
) -> None:
    declared = index(status="queued", labels={"user": "u1"}, queued_at=1.0)
    await rig.store.commit([claim(name, lease=None, index=declared, owner=name) for name in ("a", "b", "c")])
    await rig.claimed("middle", index=index(queued_at=2.0))
    new = index(queued_at=3.0, labels={"user": "u2"})
    await rig.claimed("a", index=new, keep_queued_at=True, keep_labels=True)
    await rig.claimed("b", index=new, keep_queued_at=True)
    await rig.claimed("c", index=new)
    assert await rig.listed() == ["c", "middle", "b", "a"]
    assert await rig.listed(labels={"user": "u1"}) == ["a"]
    assert await rig.listed(labels={"user": "u2"}) == ["c", "b"]
    # It is no declaration any more.
    await rig.one(append(E + 1, 1, "a", lease=None, index=index(status="failed", queued_at=1.0)))
    await rig.claimed("a", index=new, keep_queued_at=True, keep_labels=True)
    assert await rig.listed(labels={"user": "u2"}) == ["c", "a", "b"]


async def test_a_list_only_names_the_sessions_that_are_known(rig: Rig, mock_clock: MockClock) -> None:
    await rig.store.commit([claim(f"s{n}", lease=None, index=index(queued_at=float(n))) for n in range(4)])
    await rig.claimed("s1", lease=None, index=index(queued_at=1.0))
    for status in (None, frozenset({"running"})):
        page = await rig.store.list(Query(status=status, limit=3, known={"s2": E, "s1": E, "s0": E}))
        assert ([one.id for one in page.sessions], list(page.known)) == (["s3", "s1"], ["s2"])
        page = await rig.store.list(Query(status=status, limit=3, known={"s0": E}, after=page.next))
        assert (list(page.sessions), list(page.known), page.next) == ([], ["s0"], None)


@pytest.mark.parametrize("cursor", ["", "x", "0x1p99999 a", "nonsense a"])
async def test_a_cursor_that_is_none_is_a_value_error_that_names_it(
    rig: Rig, mock_clock: MockClock, cursor: str
) -> None:
    with pytest.raises(ValueError, match="cursor"):
        await rig.store.list(Query(after=cursor))


# Watching


async def changes(
    rig: Rig, mark: str | None, seen: Mapping[str, Seen | None], act: Callable[[], Awaitable[object]]
) -> Changes:
    """What waiting for news gives when `act` is done after it has begun to wait."""
    found: list[Changes] = []
    mark = (await rig.store.changes(None, {})).mark if mark is None else mark

    async def wait() -> None:
        found.append(await rig.store.changes(mark, seen))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert found == []
        await act()
    return found[0]


def seen(stored: Stored) -> dict[str, Seen | None]:
    return {stored.id: Seen(stored.key, stored.heartbeat, stored.alive)}


async def test_news_is_a_newer_entry_with_all_of_its_events(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    await rig.one(append(E, 1, events=[(1, b"e1")]))
    write = append(E, 2, events=[(2, b"e2")])
    found = await changes(rig, None, seen(await rig.read()), lambda: rig.one(write))
    assert [(s.key, s.record, list(s.events)) for s in found.sessions] == [(Key(E, 2), b"state 2", [b"e1", b"e2"])]
    assert (list(found.gone), list(found.asked)) == ([], [])


async def test_news_is_a_heartbeat_a_new_session_one_that_is_gone_and_another_owner(
    rig: Rig, mock_clock: MockClock
) -> None:
    await rig.claimed()
    known = seen(await rig.read())
    found = await changes(rig, None, known, lambda: rig.one(Renew("a", E, LEASE, 42.0)))
    assert [s.heartbeat for s in found.sessions] == [42.0]

    found = await changes(rig, None, {"b": None}, lambda: rig.claimed("b"))
    assert [(s.id, s.alive) for s in found.sessions] == [("b", True)]

    await rig.one(append(E, 3, lease=None))
    known = seen(await rig.read())
    found = await changes(rig, None, known, lambda: rig.one(Delete("a")))
    assert (list(found.sessions), list(found.gone)) == ([], ["a"])

    await rig.one(append(E, 3, "b", lease=None))
    known = seen(await rig.read("b"))
    found = await changes(rig, None, known, lambda: rig.claimed("b", owner="you"))
    assert [s.key for s in found.sessions] == [Key(E + 1, 0)]


async def test_news_that_is_there_already_is_given_at_once(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    await rig.claimed("b")
    mark = (await rig.store.changes(None, {})).mark
    found = await rig.store.changes(mark, {"a": None, "b": None, "c": None, "d": Seen(Key(1, 1), None, False)})
    assert (sorted(s.id for s in found.sessions), list(found.gone)) == (["a", "b"], ["d"])


async def test_a_lease_that_lapses_is_news(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()

    async def lapse() -> None:
        rig.sleep(LEASE + 1)

    found = await changes(rig, None, seen(await rig.read()), lapse)
    assert [s.alive for s in found.sessions] == [False]


async def test_what_is_asked_reaches_who_waits_and_who_comes_back_with_a_mark(rig: Rig, mock_clock: MockClock) -> None:
    start = await rig.store.changes(None, {"a": None})
    assert (start.sessions, start.gone, start.asked) == ((), (), ()), "the first call gives a mark, at once"
    first, second, third = (Ask("a", "cancel", f"reason {n}") for n in range(3))
    found = await changes(rig, start.mark, {}, lambda: rig.one(first))
    assert list(found.asked) == [first]
    await rig.store.commit([second, third])
    assert list((await rig.store.changes(found.mark, {})).asked) == [second, third]
    assert list((await rig.store.changes(start.mark, {})).asked) == [first, second, third]
    mark = (await rig.store.changes(found.mark, {})).mark
    fourth = Ask("b", "watch")
    found = await changes(rig, mark, {}, lambda: rig.one(fourth))
    assert list(found.asked) == [fourth]


async def test_waiting_for_news_can_be_cancelled_and_misses_nothing(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    known = seen(await rig.read())
    mark = (await changes(rig, None, {}, lambda: rig.one(Ask("x", "cancel")))).mark
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rig.store.changes, mark, known)
            await wait_all_tasks_blocked()
            scope.cancel()
    await rig.store.commit([append(E, 9), Ask("a", "cancel", "meanwhile")])
    found = await rig.store.changes(mark, known)
    assert [s.key for s in found.sessions] == [Key(E, 9)]
    assert [ask.reason for ask in found.asked] == ["meanwhile"]


async def test_threads_do_not_pile_up_when_waiting_is_cancelled_again_and_again(
    rig: Rig, mock_clock: MockClock
) -> None:
    before = threading.active_count()
    mark = (await rig.store.changes(None, {})).mark
    for _ in range(30):
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(rig.store.changes, mark, {"a": None})
                await wait_all_tasks_blocked()
                scope.cancel()
    assert threading.active_count() <= before + 4
