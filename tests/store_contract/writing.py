"""What `stores/base.py` promises of writes, rule by rule; the tests that every store passes.

A module of tests imports all of it and has a fixture `rig`.
"""

from __future__ import annotations

import math

import pytest
from trio.testing import MockClock

from tests.store_contract.rig import KEEP, LEASE, E, Rig, append, claim, index, lesson, seconds_of
from trio_progress import PhaseHistory, PipelineHistory
from trio_progress.stores.base import (
    Ask,
    Claimed,
    Delete,
    Done,
    Fenced,
    HistoryStore,
    Key,
    Moved,
    Refused,
    Renew,
    SetHistory,
    Stored,
    Write,
)

# 1. The key


async def test_a_claim_makes_an_entry_under_the_epoch_that_it_proposes(rig: Rig, mock_clock: MockClock) -> None:
    claimed = await rig.claimed(seq=3)
    assert claimed == Claimed(E, None)
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
    again = append(E, 4, events=[(1, b"e1")], lesson=lesson(x=8.0), lease=None)
    assert await rig.one(again) == Done()
    before = await rig.read()
    assert await rig.one(again) == Done()
    assert await rig.read() == before
    assert seconds_of(await rig.claimed()) == {"x": 8.0}


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
    assert await rig.one(claim(proposal=E + 4000, seq=1)) == Claimed(E, None)
    assert (await rig.read()).key == Key(E, 2)


async def test_a_claim_that_is_repeated_after_its_lease_has_lapsed_is_recognised_and_takes_it_up_again(
    rig: Rig, mock_clock: MockClock
) -> None:
    await rig.claimed(lease=None)
    again = claim(expect=Key(E, 0), seq=1, owner="you")
    assert isinstance(await rig.one(again), Claimed)
    rig.sleep(LEASE + 1)
    assert not (await rig.read()).alive
    assert await rig.one(again) == Claimed(E + 1, None)
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
    assert await rig.one(claim(lease=None)) == Claimed(E, None)
    assert (await rig.read()).alive
    rig.sleep(LEASE + 1)
    assert await rig.one(claim(lease=None)) == Claimed(E, None)
    assert not (await rig.read()).alive


async def test_a_claim_of_what_was_declared_is_told_that_again_when_it_is_repeated(
    rig: Rig, mock_clock: MockClock
) -> None:
    declaration = index(status="queued", labels={"user": "u1"}, queued_at=7.0)
    await rig.claimed(owner="front", record=b"declared", index=declaration, lease=None)
    mine = claim(owner="mine", seq=1, keep_labels=True, keep_queued_at=True)
    first = await rig.one(mine)
    assert isinstance(first, Claimed)
    assert first.previous is not None
    assert (first.previous.key, first.previous.record) == (Key(E, 0), b"declared")
    assert await rig.one(mine) == first
    rig.sleep(LEASE + 1)
    assert await rig.one(mine) == first
    assert (await rig.read()).key == Key(first.epoch, 1)
    assert await rig.listed(labels={"user": "u1"}) == ["a"]


@pytest.mark.parametrize("declared_first", [False, True])
async def test_a_repeated_claim_is_told_nothing_that_it_has_not_replaced_itself(
    declared_first: bool, rig: Rig, mock_clock: MockClock
) -> None:
    await rig.claimed(owner="front", record=b"declared", index=index(status="queued"), lease=None)
    if declared_first:
        await rig.claimed(owner="front again", record=b"anew", index=index(status="queued"), lease=None)
    await rig.claimed(owner="mine")
    rig.sleep(LEASE + 1)
    yours = await rig.claimed(owner="yours")
    assert yours.previous is not None
    assert yours.previous.record == b"claimed"
    assert await rig.claimed(owner="yours") == Claimed(yours.epoch, None)


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


async def test_a_claim_that_names_the_owner_passes_its_lease_and_that_owner_is_fenced(
    rig: Rig, mock_clock: MockClock
) -> None:
    await rig.claimed()
    await rig.one(append(E, 3))
    outcome = await rig.one(claim(owner="you", lease=None, expect=Key(E, 3), past_lease=True, seq=4, record=b"lost"))
    assert isinstance(outcome, Claimed)
    assert outcome.epoch == E + 1
    assert await rig.read() == Stored("a", Key(E + 1, 4), b"lost", False, None, ())
    assert await rig.one(append(E, 4)) == Fenced(E + 1)
    assert await rig.one(Renew("a", E, LEASE, 6.0)) == Fenced(E + 1)
    assert (await rig.claimed(owner="next")).epoch == E + 2


async def test_a_claim_passes_no_lease_of_another_owner_and_no_newer_state(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed(lease=None)
    await rig.claimed()
    await rig.one(append(E + 1, 3))
    before = await rig.read()
    for expect, answer in (
        (Key(E, 0), Refused()),
        (Key(E, 3), Refused()),
        (Key(E + 2, 3), Refused()),
        (Key(E + 1, 2), Moved()),
        (None, Refused()),
    ):
        late = claim(owner="you", lease=None, expect=expect, past_lease=True, seq=4)
        assert await rig.one(late) == answer, expect
    assert await rig.read() == before


async def test_of_many_who_claim_one_session_exactly_one_wins(rig: Rig, mock_clock: MockClock) -> None:
    outcomes = await rig.store.commit([claim(owner=f"owner {n}") for n in range(50)])
    assert [type(outcome) for outcome in outcomes] == [Claimed] + [Refused] * 49


# 3. The fence


async def test_what_is_written_under_an_older_epoch_is_refused(rig: Rig, mock_clock: MockClock) -> None:
    await rig.claimed()
    rig.sleep(LEASE + 1)
    await rig.claimed(owner="you", record=b"yours")
    before = await rig.read()
    late = append(E, 99, events=[(1, b"late")], lesson=lesson(x=1.0), lease=None)
    assert await rig.one(late) == Fenced(E + 1)
    assert await rig.one(Renew("a", E, 99.0, 1.0)) == Fenced(E + 1)
    assert await rig.read() == before
    rig.sleep(LEASE + 1)
    assert seconds_of(await rig.claimed()) == {}


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
        Claimed(E, None),
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
    rig.sleep(KEEP - 60)  # Where a real server keeps the time, a slow machine adds to it.
    assert await rig.listed() == ["a"]
    rig.sleep(61)
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


async def test_runs_teach_the_history_of_their_pipeline(rig: Rig, mock_clock: MockClock) -> None:
    for n, (first, second) in enumerate([(10.0, 4.0), (16.0, 4.0)]):
        epoch = (await rig.claimed(f"s{n}")).epoch
        await rig.one(append(epoch, 1, f"s{n}", lease=None, lesson=lesson(x=first, y=second)))
    assert seconds_of(await rig.claimed("next")) == pytest.approx({"x": math.sqrt(160), "y": 4.0})
    assert seconds_of(await rig.claimed("other", index=index(pipeline="q"))) == {}
    assert seconds_of(await rig.claimed("none", index=index(pipeline=None))) == {}


async def test_a_history_is_read_replaced_and_forgotten(rig: Rig, mock_clock: MockClock) -> None:
    store = rig.store
    assert isinstance(store, HistoryStore)
    assert (await store.history("p"), list(await store.histories())) == (None, [])
    history = PipelineHistory(runs=2, at=4e9, phases={"x": PhaseHistory(seconds=3.0, at=4e9)})
    assert await rig.one(SetHistory("p", history)) == Done()
    assert await rig.one(SetHistory("older", PipelineHistory(runs=1, at=3e9))) == Done()
    assert await store.history("p") == history
    assert list(await store.histories()) == ["p", "older"]
    assert await rig.one(SetHistory("p", None)) == Done()
    assert await rig.one(SetHistory("p", None)) == Done(found=False)
    assert (await store.history("p"), list(await store.histories())) == (None, ["older"])
