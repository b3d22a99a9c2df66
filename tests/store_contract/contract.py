"""What `stores/base.py` promises, rule by rule: the tests that every store passes.

A module of tests imports all of it and has a fixture `rig`.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_progress.stores.base import (
    Append,
    Ask,
    Changes,
    Claim,
    Claimed,
    Delete,
    Done,
    Fenced,
    Index,
    Key,
    Moved,
    Outcome,
    Query,
    Refused,
    Renew,
    Seen,
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


# 1. The key


async def test_a_claim_makes_an_entry_under_the_epoch_that_it_proposes(rig: Rig, mock_clock: MockClock) -> None:
    claimed = await rig.claimed(seq=3)
    assert claimed == Claimed(E, None, {})
    assert await rig.read() == Stored("a", Key(E, 3), b"claimed", True, None, ())


async def test_every_claim_raises_the_epoch(rig: Rig, mock_clock: MockClock) -> None:
    epochs = [(await rig.claimed(proposal=proposal, lease=None)).epoch for proposal in (E, E, 5, E + 3000, 0)]
    assert epochs == [E, E + 1, E + 2, E + 3000, E + 3001]


async def test_a_claim_is_given_what_was_there_before(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    await rig.one(append(E, 7, lease=None, heartbeat=9.0))
    assert (await rig.claimed()).previous == Stored("a", Key(E, 7), b"state 7", False, 9.0, ())


async def test_appends_replace_the_newest_entry(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    assert await rig.one(append(E, 1)) == Done()
    assert await rig.one(append(E, 5, heartbeat=6.0)) == Done()
    assert await rig.read() == Stored("a", Key(E, 5), b"state 5", True, 6.0, ())


async def test_the_same_append_again_is_acknowledged_and_changes_nothing(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    again = append(E, 4, events=[(1, b"e1")], durations={"x": 8.0}, lease=None)
    assert await rig.one(again) == Done()
    before = await rig.read()
    assert await rig.one(again) == Done()
    assert await rig.read() == before
    assert (await rig.claimed()).typical_seconds == {"x": 8.0}


async def test_an_older_append_of_the_same_epoch_changes_nothing(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    await rig.one(append(E, 4, lease=None, heartbeat=6.0))
    before = await rig.read()
    await rig.one(append(E, 3, heartbeat=5.0))
    assert await rig.read() == before


# 2. The lease


async def test_nobody_else_claims_while_a_lease_stands(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    rig.sleep(LEASE - 3)  # Where a real server keeps the time, a slow machine adds to it.
    assert await rig.one(claim(owner="you")) == Refused()
    rig.sleep(3.1)
    assert not (await rig.read()).alive
    assert (await rig.claimed(owner="you")).epoch == E + 1


async def test_appends_and_renewals_renew_the_lease(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    for seq in range(1, 4):
        rig.sleep(LEASE - 3)
        assert await rig.one(append(E, seq)) == Done()
        rig.sleep(LEASE - 3)
        assert await rig.one(Renew("a", E, LEASE, 77.0 + seq)) == Done()
    found = await rig.read()
    assert (found.alive, found.heartbeat, found.key) == (True, 80.0, Key(E, 3))


async def test_the_final_append_releases_the_lease(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    await rig.one(append(E, 1, lease=None))
    assert not (await rig.read()).alive
    assert (await rig.claimed(owner="you")).epoch == E + 1


async def test_a_lease_that_has_lapsed_is_taken_up_again(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    rig.sleep(LEASE + 1)
    assert await rig.one(Renew("a", E, LEASE, 5.0)) == Done()
    assert (await rig.read()).alive
    rig.sleep(LEASE + 1)
    assert await rig.one(append(E, 1)) == Done()
    assert (await rig.read()).alive


async def test_a_claim_that_is_repeated_by_its_owner_is_recognised(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed(seq=1)
    await rig.one(append(E, 2))
    assert await rig.one(claim(proposal=E + 4000, seq=1)) == Claimed(E, None, {})
    assert (await rig.read()).key == Key(E, 2)


async def test_a_claim_that_is_repeated_after_its_lease_has_lapsed_is_recognised_and_takes_it_up_again(
    rig: Rig, mock_clock: MockClock
) -> None:
    await rig.claimed(lease=None)
    again = claim(expect=Key(E, 0), seq=1, owner="you")
    assert isinstance(await rig.one(again), Claimed)
    rig.sleep(LEASE + 1)
    assert not (await rig.read()).alive
    assert await rig.one(again) == Claimed(E + 1, None, {})
    found = await rig.read()
    assert (found.key, found.alive) == (Key(E + 1, 1), True)
    assert await rig.one(claim()) == Refused()
    rig.sleep(LEASE + 1)
    await rig.claimed()
    assert await rig.one(again) == Refused()


async def test_a_repeated_claim_that_wants_no_lease_is_recognised_and_renews_none(
    rig: Rig, mock_clock: MockClock
) -> None:
    await rig.claimed()
    assert await rig.one(claim(lease=None)) == Claimed(E, None, {})
    assert (await rig.read()).alive
    rig.sleep(LEASE + 1)
    assert await rig.one(claim(lease=None)) == Claimed(E, None, {})
    assert not (await rig.read()).alive


async def test_an_owner_that_has_released_its_lease_claims_anew(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    await rig.one(append(E, 1, lease=None))
    assert (await rig.claimed()).epoch == E + 1


async def test_a_claim_without_a_lease_leaves_no_owner(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed(lease=None)
    assert not (await rig.read()).alive
    assert (await rig.claimed(owner="you")).epoch == E + 1


async def test_a_claim_that_expects_another_entry_is_refused(rig: Rig, mock_clock: MockClock) -> None:
    assert await rig.one(claim(expect=Key(1, 1))) == Moved()
    await rig.claimed()
    await rig.one(append(E, 2, lease=None))
    assert await rig.one(claim(expect=Key(E, 1))) == Moved()
    assert (await rig.read()).record == b"state 2"
    assert (await rig.claimed(expect=Key(E, 2))).epoch == E + 1


async def test_of_many_who_claim_one_session_exactly_one_wins(rig: Rig, mock_clock: MockClock) -> None:
    outcomes = await rig.store.commit([claim(owner=f"owner {n}") for n in range(50)])
    assert [type(outcome) for outcome in outcomes] == [Claimed] + [Refused] * 49


# 3. The fence


async def test_what_is_written_under_an_older_epoch_is_refused(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    rig.sleep(LEASE + 1)
    await rig.claimed(owner="you", record=b"yours")
    before = await rig.read()
    late = append(E, 99, events=[(1, b"late")], durations={"x": 1.0}, lease=None)
    assert await rig.one(late) == Fenced(E + 1)
    assert await rig.one(Renew("a", E, 99.0, 1.0)) == Fenced(E + 1)
    assert await rig.read() == before
    rig.sleep(LEASE + 1)
    assert (await rig.claimed()).typical_seconds == {}


async def test_what_is_written_under_an_epoch_that_was_never_given_out_is_refused(
    rig: Rig, mock_clock: MockClock
) -> None:
    await rig.claimed()
    assert await rig.one(append(E + 1000, 1)) == Fenced(E)
    assert await rig.one(Renew("a", E + 1000, 9.0, 1.0)) == Fenced(E)


async def test_what_is_written_to_a_session_that_is_gone_is_refused_and_says_so(
    rig: Rig, mock_clock: MockClock
) -> None:
    assert await rig.one(append(E, 1)) == Fenced(None)
    assert await rig.one(Renew("a", E, 9.0, 1.0)) == Fenced(None)
    assert await rig.store.read("a") is None


# 4. Events


async def test_events_are_kept_in_order_and_once(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    await rig.one(append(E, 1, events=[(1, b"e1"), (2, b"e2")]))
    await rig.one(append(E, 2, events=[(2, b"e2"), (3, b"e3")]))
    await rig.one(append(E, 2, events=[(3, b"e3"), (4, b"e4")]))
    assert list((await rig.read()).events) == [b"e1", b"e2", b"e3", b"e4"]


async def test_the_newest_events_are_retained(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    for n in range(1, 21):
        await rig.one(append(E, n, events=[(n, b"e%d" % n)]))
    assert list((await rig.read()).events) == [b"e16", b"e17", b"e18", b"e19", b"e20"]
    await rig.one(append(E, 21, events=[(n, b"e%d" % n) for n in range(1, 41)]))
    assert list((await rig.read()).events) == [b"e36", b"e37", b"e38", b"e39", b"e40"]
    await rig.one(append(E, 21, events=[(1, b"again")]))
    assert list((await rig.read()).events) == [b"e36", b"e37", b"e38", b"e39", b"e40"]


async def test_a_claim_begins_an_empty_log_of_events(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    await rig.one(append(E, 1, events=[(1, b"e1"), (2, b"e2")], lease=None))
    await rig.claimed()
    assert (await rig.read()).events == ()
    await rig.one(append(E + 1, 1, events=[(1, b"new")]))
    assert list((await rig.read()).events) == [b"new"]


# 5. The batch


async def test_each_write_of_a_batch_has_its_own_outcome_in_order(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed("taken", owner="you")
    batch: list[Write] = [
        claim("a"),
        claim("taken"),
        append(E, 1, "a"),
        append(E, 1, "missing"),
        Renew("a", E, LEASE, 8.0),
        Renew("a", E - 1, LEASE, 8.0),
        Delete("missing"),
        Delete("taken"),
        claim("b", expect=Key(1, 1)),
        append(E, 2, "a", lease=None),
        Delete("a"),
        Ask("taken", "cancel", "because"),
    ]
    assert await rig.store.commit(batch) == [
        Claimed(E, None, {}),
        Refused(),
        Done(),
        Fenced(None),
        Done(),
        Fenced(E),
        Done(found=False),
        Refused(),
        Moved(),
        Done(),
        Done(),
        Done(),
    ]
    assert await rig.listed() == ["taken"]


async def test_an_empty_batch_is_nothing(rig: Rig, mock_clock: MockClock) -> None:
    assert list(await rig.store.commit([])) == []


# Deletion, expiry, history


async def test_a_session_is_deleted_when_it_has_no_owner(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    assert await rig.one(Delete("a")) == Refused()
    await rig.one(append(E, 1, lease=None, events=[(1, b"e")]))
    assert await rig.one(Delete("a")) == Done()
    assert await rig.store.read("a") is None
    assert await rig.listed() == []
    assert await rig.one(Delete("a")) == Done(found=False)


async def test_a_session_that_is_lost_can_be_deleted(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    rig.sleep(LEASE + 1)
    assert await rig.one(Delete("a")) == Done()


async def test_a_session_expires_when_nothing_was_written_for_as_long_as_it_was_to_be_kept(
    rig: Rig, mock_clock: MockClock
) -> None:
    await rig.claimed()
    await rig.one(append(E, 1, lease=None))
    rig.sleep(KEEP - 1)
    assert await rig.listed() == ["a"]
    rig.sleep(2)
    assert await rig.store.read("a") is None
    assert await rig.listed() == []
    claimed = await rig.claimed(expect=None)
    assert claimed.previous is None


async def test_a_session_that_is_owned_does_not_expire(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed(keep=1.0)
    rig.sleep(LEASE - 3)
    assert await rig.listed() == ["a"]
    for _ in range(5):
        await rig.one(Renew("a", E, LEASE, 5.0))
        rig.sleep(LEASE - 3)
    assert (await rig.read()).alive


async def test_durations_are_smoothed_by_pipeline(rig: Rig, mock_clock: MockClock) -> None:
    for n, (first, second) in enumerate([(10.0, 4.0), (20.0, 4.0)]):
        epoch = (await rig.claimed(f"s{n}")).epoch
        await rig.one(append(epoch, 1, f"s{n}", lease=None, durations={"x": first, "y": second}))
    typical = (await rig.claimed("next")).typical_seconds
    assert typical == pytest.approx({"x": 13.0, "y": 4.0})
    assert (await rig.claimed("other", index=index(pipeline="q"))).typical_seconds == {}
    assert (await rig.claimed("none", index=index(pipeline=None))).typical_seconds == {}


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
