"""What `stores/taking.py` promises, rule by rule; the tests that every store passes which hands sessions out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import MockClock

from tests.store_contract.rig import KEEP, LEASE, Rig, append, claim, index
from trio_progress.stores.base import Claimed, Done, Key, Refused
from trio_progress.stores.taking import (
    HEARD_FOR,
    RESERVED_FOR,
    SPENT_SHOWN,
    Chosen,
    Release,
    Spent,
    Take,
    Taken,
    Wanted,
)

PATIENCE = 30.0


async def declare(rig: Rig, session_id: str, queued_at: float = 1.0, **by: Any) -> int:
    """A session is declared; its epoch."""
    made = index(**{"status": "queued", "queued_at": queued_at} | by)
    claimed = await rig.claimed(session_id, owner=session_id, index=made, lease=None, attempts=0)
    return claimed.epoch


async def begin(rig: Rig, session_id: str, attempts: int, **given: Any) -> Claimed:
    """It is begun, for the so many-th time."""
    return await rig.claimed(session_id, owner=f"{session_id}{attempts}", attempts=attempts, **given)


async def interrupt(rig: Rig, session_id: str, epoch: int, queued_at: float = 1.0) -> None:
    by = index(status="interrupted", queued_at=queued_at)
    assert await rig.one(append(epoch, 5, session_id, index=by, lease=None)) == Done()


async def take(rig: Rig, process: str = "w1", without: Sequence[str] = (), **wanted: Any) -> list[str]:
    """What a process is given."""
    return [chosen.id for chosen in (await taken(rig, process, Wanted(**wanted), without=without)).sessions]


async def taken(rig: Rig, process: str, *wanted: Wanted, without: Sequence[str] = ()) -> Taken:
    outcome = await rig.one(Take(process, wanted, frozenset(without)))
    assert isinstance(outcome, Taken)
    return outcome


class Bells:
    """Who is rung."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._mark: str | None = None

    async def start(self) -> Bells:
        self._mark = (await self._rig.store.changes(None, {})).mark
        return self

    async def rung(self) -> list[str]:
        """Those who were rung since the last time, at least one."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._lose_patience)
            changes = await self._rig.store.changes(self._mark, {})
            nursery.cancel_scope.cancel()
        self._mark = changes.mark
        assert {ask.what for ask in changes.asked} <= {"take"}
        return [ask.id for ask in changes.asked]

    async def _lose_patience(self) -> None:
        """By the clock on the wall: nobody turns the one of a test that waits here."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            await trio.to_thread.run_sync(time.sleep, 0.02, abandon_on_cancel=True)
        raise AssertionError("nobody is rung")


async def bells(rig: Rig) -> Bells:
    return await Bells(rig).start()


# 1. What can be taken


async def test_the_oldest_that_waits_is_chosen_with_its_newest_key(rig: Rig, mock_clock: MockClock) -> None:
    await declare(rig, "b", 2.0)
    at = await declare(rig, "a", 1.0)
    await declare(rig, "c", 3.0)
    assert await taken(rig, "w1", Wanted(count=2)) == Taken(
        [Chosen("a", Key(at, 0), 0), Chosen("b", Key((await rig.read("b")).key.epoch, 0), 0)], []
    )


async def test_what_is_interrupted_lost_or_lapsed_is_chosen_as_well(rig: Rig, mock_clock: MockClock) -> None:
    await declare(rig, "d", 4.0)
    for number, name in enumerate(("lapsed", "interrupted", "lost", "runs", "completed"), 1):
        claimed = await begin(
            rig, name, 1, index=index(queued_at=float(number)), lease=LEASE * (3 if name == "runs" else 1)
        )
        if name == "interrupted":
            await interrupt(rig, name, claimed.epoch, 2.0)
        if name == "completed":
            by = index(status="completed")
            await rig.one(append(claimed.epoch, 5, name, index=by, lease=None))
    rig.sleep(LEASE * 1.5)
    await rig.claimed("lost", owner="reaper", index=index(status="lost", queued_at=3.0), lease=None)
    assert await take(rig, count=9) == ["lapsed", "interrupted", "lost", "d"]


async def test_of_what_was_never_begun_the_record_may_be_told_and_then_need_not_be_read(
    rig: Rig, mock_clock: MockClock
) -> None:
    await declare(rig, "a", 1.0)
    begun = await begin(rig, "b", 1, index=index(queued_at=2.0))
    await interrupt(rig, "b", begun.epoch, 2.0)
    outcome = await taken(rig, "w1", Wanted(count=2))
    assert [chosen.id for chosen in outcome.sessions] == ["a", "b"]
    assert outcome.records in ({}, {"a": (await rig.read("a")).record})


async def test_what_is_reserved_is_given_to_nobody_else_and_the_claim_expects_it(
    rig: Rig, mock_clock: MockClock
) -> None:
    at = await declare(rig, "a")
    assert await take(rig, "w1") == ["a"]
    assert await take(rig, "w2") == []
    assert await take(rig, "w1") == []
    outcome = await rig.one(claim("a", owner="w1", expect=Key(at, 0), attempts=1))
    assert isinstance(outcome, Claimed)
    assert await rig.one(claim("a", owner="w2", expect=Key(at, 0))) == Refused()


async def test_a_reservation_lapses(rig: Rig, mock_clock: MockClock) -> None:
    await declare(rig, "a")
    assert await take(rig, "w1") == ["a"]
    rig.sleep(RESERVED_FOR + 1)
    assert await take(rig, "w2") == ["a"]


async def test_a_reservation_is_given_back_by_who_has_it(rig: Rig, mock_clock: MockClock) -> None:
    await declare(rig, "a")
    assert await take(rig, "w1") == ["a"]
    assert await rig.one(Release("w2", ("a", "nothing"))) == Done()
    assert await take(rig, "w2") == []
    assert await rig.one(Release("w1", ("a",))) == Done()
    assert await take(rig, "w2") == ["a"]


async def test_who_claims_a_session_by_its_id_is_not_held_up(rig: Rig, mock_clock: MockClock) -> None:
    await declare(rig, "a")
    assert await take(rig, "w1") == ["a"]
    claimed = await begin(rig, "a", 1)
    await interrupt(rig, "a", claimed.epoch)
    # And it waits again, by a claim that knows nothing of the reservation.
    assert await take(rig, "w2") == ["a"]


async def test_what_is_declared_anew_is_no_longer_reserved(rig: Rig, mock_clock: MockClock) -> None:
    await declare(rig, "a")
    assert await take(rig, "w1") == ["a"]
    await rig.claimed("a", owner="anew", index=index(status="queued"), lease=None, attempts=0)
    assert await take(rig, "w2") == ["a"]


async def test_what_has_expired_or_was_deleted_is_not_chosen(rig: Rig, mock_clock: MockClock) -> None:
    await declare(rig, "a")
    rig.sleep(KEEP * 1.5)
    assert await take(rig) == []


# 2. What is wanted


async def test_pipelines_and_labels_choose(rig: Rig, mock_clock: MockClock) -> None:
    await declare(rig, "none", 1.0, pipeline=None)
    await declare(rig, "p", 2.0, pipeline="p", labels={"user": "u1", "team": "t"})
    await declare(rig, "q", 3.0, pipeline="q", labels={"user": "u1"})
    await declare(rig, "r", 4.0, pipeline="r", labels={"user": "u2"})
    for wanted, expected in (
        ({"pipelines": ("q",)}, ["q"]),
        ({"pipelines": ("r", "q")}, ["q", "r"]),
        ({"labels": {"user": "u1"}}, ["p", "q"]),
        ({"labels": {"user": "u1", "team": "t"}}, ["p"]),
        ({"pipelines": ("q", "r"), "labels": {"user": "u1"}}, ["q"]),
        ({"pipelines": ("nobody",)}, []),
        ({"labels": {"user": "u3"}}, []),
        ({}, ["none", "p", "q", "r"]),
    ):
        found = await take(rig, count=9, **wanted)
        assert found == expected, wanted
        await rig.one(Release("w1", found))


async def test_several_wishes_are_met_by_one_take(rig: Rig, mock_clock: MockClock) -> None:
    await declare(rig, "p1", 1.0, pipeline="p")
    await declare(rig, "q1", 2.0, pipeline="q")
    await declare(rig, "q2", 3.0, pipeline="q")
    wanted = Wanted(("q",)), Wanted(("p",), count=2), Wanted(count=1)
    chosen = (await taken(rig, "w1", *wanted)).sessions
    assert [(one.id, one.wanted) for one in chosen] == [("q1", 0), ("p1", 1), ("q2", 2)]


async def test_what_a_process_cannot_open_is_left_out_for_it(rig: Rig, mock_clock: MockClock) -> None:
    await declare(rig, "a", 1.0)
    await declare(rig, "b", 2.0)
    assert await take(rig, "w1", without=["a"]) == ["b"]
    assert await take(rig, "w2") == ["a"]


async def test_many_that_are_reserved_hold_up_none(rig: Rig, mock_clock: MockClock) -> None:
    for number in range(30):
        await declare(rig, f"s{number:02}", float(number))
    for number in range(30):
        assert await take(rig, f"w{number}") == [f"s{number:02}"]
    assert await take(rig) == []


# 3. How often it was begun


async def test_what_was_begun_as_often_as_is_allowed_is_left_and_told(rig: Rig, mock_clock: MockClock) -> None:
    await declare(rig, "a", 1.0)
    await declare(rig, "b", 2.0)
    for attempts in (1, 2):
        claimed = await begin(rig, "a", attempts, index=index(queued_at=1.0))
        await interrupt(rig, "a", claimed.epoch)
    assert await taken(rig, "w1", Wanted(max_attempts=2)) == Taken(
        [Chosen("b", (await rig.read("b")).key, 0)], [Spent("a", 2)]
    )
    assert await take(rig, "w2", max_attempts=3) == ["a"]
    assert (await taken(rig, "w3", Wanted(("other",), max_attempts=2))).spent == []


async def test_the_count_stays_when_it_is_written_off_and_ends_when_it_is_declared(
    rig: Rig, mock_clock: MockClock
) -> None:
    await begin(rig, "a", 2)
    rig.sleep(LEASE * 1.5)
    assert await take(rig, max_attempts=2) == []
    await rig.claimed("a", owner="reaper", index=index(status="lost"), lease=None)
    assert await take(rig, max_attempts=2) == []
    assert await take(rig, "w2", max_attempts=3) == ["a"]
    await declare(rig, "a")
    assert await take(rig, max_attempts=1) == ["a"]


async def test_many_of_them_hold_up_none(rig: Rig, mock_clock: MockClock) -> None:
    for number in range(SPENT_SHOWN + 10):
        claimed = await begin(rig, f"s{number:02}", 3, index=index(queued_at=float(number)))
        await interrupt(rig, f"s{number:02}", claimed.epoch, float(number))
    await declare(rig, "new", 100.0)
    found = await taken(rig, "w1", Wanted())
    assert [one.id for one in found.sessions] == ["new"]
    assert len(found.spent) == SPENT_SHOWN


# 4. The bell


async def test_what_is_declared_rings_who_has_waited_longest(rig: Rig, mock_clock: MockClock) -> None:
    heard = await bells(rig)
    for process in ("w1", "w2", "w3"):
        assert await take(rig, process) == []
    assert await take(rig, "w1") == []  # Who looks again keeps its place.
    await declare(rig, "a")
    assert await heard.rung() == ["w1"]
    await declare(rig, "b")
    assert await heard.rung() == ["w2"]


async def test_only_who_can_use_it_is_rung(rig: Rig, mock_clock: MockClock) -> None:
    heard = await bells(rig)
    for process, wanted in (
        ("other pipeline", Wanted(("q",))),
        ("other label", Wanted(labels={"user": "u2"})),
        ("several", Wanted(("q", "p"), {"user": "u1"})),
        ("any", Wanted()),
    ):
        assert (await taken(rig, process, wanted)).sessions == []
    for number, expected in enumerate(("several", "any")):
        await declare(rig, f"s{number}", pipeline="p", labels={"user": "u1"})
        assert await heard.rung() == [expected]


async def test_one_that_was_begun_too_often_rings_nobody(rig: Rig, mock_clock: MockClock) -> None:
    heard = await bells(rig)
    assert await take(rig, "w1", max_attempts=1) == []
    assert await take(rig, "w2", max_attempts=2) == []
    claimed = await begin(rig, "a", 1)
    await interrupt(rig, "a", claimed.epoch)
    assert await heard.rung() == ["w2"]


async def test_what_is_given_back_rings_the_next(rig: Rig, mock_clock: MockClock) -> None:
    heard = await bells(rig)
    await declare(rig, "a")
    assert await take(rig, "w1") == ["a"]
    assert await take(rig, "w2") == []
    await rig.one(Release("w1", ("a",), leaves=True))
    assert await heard.rung() == ["w2"]


async def test_who_was_rung_and_leaves_rings_the_next(rig: Rig, mock_clock: MockClock) -> None:
    heard = await bells(rig)
    for process in ("w1", "w2", "w3"):
        assert await take(rig, process) == []
    await declare(rig, "a", 1.0)
    assert await heard.rung() == ["w1"]
    await rig.one(Release("w1", leaves=True))
    assert await heard.rung() == ["w2"]
    assert await take(rig, "w3") == ["a"]
    await rig.one(Release("w2", leaves=True))  # What it was rung for is taken: it rings nobody.
    for process in ("w3", "w4"):
        assert await take(rig, process) == []
    await declare(rig, "b", 2.0)
    assert await heard.rung() == ["w3"]


async def test_who_was_rung_for_what_it_wants_no_more_rings_the_next(rig: Rig, mock_clock: MockClock) -> None:
    heard = await bells(rig)
    for process in ("w1", "w2"):
        assert await take(rig, process, pipelines=("p",)) == []
    await declare(rig, "a", 1.0, pipeline="p")
    assert await heard.rung() == ["w1"]
    assert await take(rig, "w1", pipelines=("q",)) == []
    assert await heard.rung() == ["w2"]
    await declare(rig, "b", 2.0, pipeline="q")
    assert await heard.rung() == ["w1"]


async def test_who_was_rung_and_cannot_open_it_rings_nobody(rig: Rig, mock_clock: MockClock) -> None:
    heard = await bells(rig)
    for process in ("w1", "w2"):
        assert await take(rig, process) == []
    await declare(rig, "a", 1.0)
    assert await heard.rung() == ["w1"]
    assert await take(rig, "w1", without=["a"]) == []  # Or those who cannot would ring each other for ever.
    await declare(rig, "b", 2.0)
    assert await heard.rung() == ["w2"]


async def test_who_has_left_or_is_not_heard_of_is_not_rung(rig: Rig, mock_clock: MockClock) -> None:
    heard = await bells(rig)
    assert await take(rig, "silent") == []
    rig.sleep(HEARD_FOR + 1)
    for process in ("leaves", "w3"):
        assert await take(rig, process) == []
    await rig.one(Release("leaves", leaves=True))
    await declare(rig, "a")
    assert await heard.rung() == ["w3"]


async def test_who_was_given_all_that_it_wants_waits_no_more(rig: Rig, mock_clock: MockClock) -> None:
    heard = await bells(rig)
    assert await take(rig, "w1") == []
    await declare(rig, "a", 1.0)
    await declare(rig, "b", 2.0)
    assert await heard.rung() == ["w1"]
    assert await take(rig, "w1") == ["a"]
    assert await take(rig, "w2", labels={"only": "this"}) == []
    await declare(rig, "c", 3.0, labels={"only": "this"})
    assert await heard.rung() == ["w2"]


@pytest.mark.parametrize("lapses", [False, True])
async def test_a_lapsed_lease_or_reservation_is_found_by_who_looks(
    lapses: bool, rig: Rig, mock_clock: MockClock
) -> None:
    if lapses:
        await begin(rig, "a", 1)
    else:
        await declare(rig, "a")
        assert await take(rig, "w1") == ["a"]
    assert await take(rig, "w2") == []
    assert await take(rig, "w3") == []
    rig.sleep(LEASE * 1.5)
    assert await take(rig, "w3") == ["a"]


async def test_a_claim_without_a_count_keeps_it(rig: Rig, mock_clock: MockClock) -> None:
    await begin(rig, "a", 2, lease=None, index=index(status="interrupted"))
    await rig.claimed("a", owner="end again", index=index(status="interrupted"), lease=None)
    assert await take(rig, max_attempts=2) == []
    again = msgspec.structs.replace(claim("a", owner="w9", lease=None, index=index(status="interrupted")), attempts=1)
    assert isinstance(await rig.one(again), Claimed)
    assert await take(rig, max_attempts=2) == ["a"]
