"""Stamps and durations: while tests freeze the time, while the wall clock is set, and in zones that are none."""

from __future__ import annotations

import datetime as datetime_module
import io
import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import trio
import trio.testing

from tests.support import QuietHost
from trio_progress import ProgressTracker, Snapshot, open_display, open_tracker
from trio_progress.cli.output import Stdout
from trio_progress.cli.session_page import session_page
from trio_progress.cli.session_table import session_table
from trio_progress.live.remote import RemoteState
from trio_progress.protocol.clock import Clock, datetime_class, moment, utc
from trio_progress.protocol.messages import decode_message, encode_message
from trio_progress.protocol.snapshot import phase_ran, ran
from trio_progress.state.record import decode_record, encode_lost, encode_record, resume_from
from trio_progress.state.session import SessionState
from trio_progress.stores.base import Key, Stored
from trio_progress.terminal import words
from trio_progress.terminal.display_model import OwnerClock
from trio_progress.terminal.layout import Frame, View, draw
from trio_progress.terminal.plain_lines import line
from trio_progress.terminal.symbols import UNICODE

ROOT = Path(__file__).parents[3]
JUMPS = [3600.0, -3600.0, 365 * 86400.0, -365 * 86400.0]
BEGUN = 1_774_747_800.0
"""The night in which Europe's clocks go from 1 to 3: 2026-03-29, 01:30 UTC."""


class FrozenDatetime(datetime):
    """What tools that freeze the time put in the place of `datetime`."""


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time as such tools freeze it: the class by every name that a module has for it, and the clock."""
    itself = datetime
    monkeypatch.setattr(datetime_module, "datetime", FrozenDatetime)
    for name, module in list(sys.modules.items()):
        if name.startswith("trio_progress"):
            for attribute, value in list(vars(module).items()):
                if value is itself:
                    monkeypatch.setattr(module, attribute, FrozenDatetime)
    monkeypatch.setattr(time, "time", lambda: BEGUN)


@pytest.mark.usefixtures("frozen")
async def test_pain_31_a_session_runs_and_is_stored_while_the_time_is_frozen(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("p", total=1) as phase:
            phase.advance()
            await trio.sleep(3)
        session.emit("found")
        await session.flush()
        stored = await tracker.snapshot("a")
    assert (session.status, tracker.statistics().final_lost) == ("completed", 0)
    assert type(stored.started_at) is datetime_class() is not FrozenDatetime
    assert stored.started_at == datetime_class().fromtimestamp(BEGUN, UTC), "the frozen time is the time"
    assert stored.phases[0].elapsed == 3.0
    assert decode_message(encode_message(stored)) == stored


class Wall:
    """A wall clock that somebody sets."""

    def __init__(self) -> None:
        self.off = 0.0

    def __call__(self) -> float:
        return BEGUN + trio.current_time() + self.off


async def a_run(tracker: ProgressTracker, set_clock: Callable[[], None]) -> tuple[Snapshot, Snapshot, Snapshot]:
    """A session of 9 s with a jump in each of its two phases, and its states: running, stalled and ended."""
    async with tracker.session("a") as session:
        with session.phase("first", total=2) as phase:
            await trio.sleep(1)
            set_clock()
            phase.advance()
            await trio.sleep(1)
        with session.phase("second", total=2) as phase:
            await trio.sleep(2)
            set_clock()
            phase.advance()
            await trio.sleep(0.2)
            running = session.snapshot()
            await trio.sleep(3.8)
            stalled = session.snapshot()
        await trio.sleep(1)
    return running, stalled, session.snapshot()


@pytest.mark.parametrize("jump", JUMPS)
async def test_pain_32_the_wall_clock_jumps_and_durations_do_not(
    jump: float, autojump_clock: trio.testing.MockClock
) -> None:
    wall, out = Wall(), io.StringIO()

    def set_clock() -> None:
        wall.off += jump

    async with open_tracker(wall_clock=wall, stall_after=2, heartbeat_interval=1) as tracker:
        async with open_display(tracker, file=out, interval=1):
            running, stalled, ended = await a_run(tracker, set_clock)
        now = wall()
    page = Stdout(width=100, terminal=False, colours=False, symbols=UNICODE)
    assert (ended.elapsed, [phase.elapsed for phase in ended.phases]) == (9.0, [2.0, 6.0])
    assert decode_message(encode_message(ended)) == ended
    lines = out.getvalue().splitlines()
    assert lines[-1].endswith("completed | after 9s")
    assert next("stalled for 2s |" in one or "stalled for 3s |" in one for one in lines if "stalled" in one)
    (row,) = session_table([ended], now, page)[1:]
    assert " 9s" in row
    said = session_page(ended, now, page)
    assert "  took        9s" in said
    assert [one.split("  ")[-1] for one in said[-2:]] == ["2s", "6s"]
    # One that runs: the jump was before the work last advanced.
    assert running.elapsed == 4.0
    assert running.progressed_at is not None
    later = running.progressed_at.timestamp() + 1.5
    assert ran(running, later) == 5.5
    assert phase_ran(running.phases[1], ran(running, later), later) == 3.5
    assert phase_ran(running.phases[0], ran(running, later), later) == 2.0
    said = session_page(running, later, page)
    assert "  5s  a moment left" in said[0]  # The rest of a phase that was half done after a second, and 1.5 s later.
    assert any("second  " in one and "  3s" in one for one in said), said
    assert stalled.liveness == "stalled"


async def test_a_display_measures_what_has_passed_by_its_own_clock(autojump_clock: trio.testing.MockClock) -> None:
    wall, passing = Wall(), OwnerClock()
    async with open_tracker(wall_clock=wall) as tracker, tracker.session("a") as session:
        shown = []
        for off in (0.0, 3600.0, -86400.0):
            wall.off = off
            one = session.snapshot()
            now = passing.now(one, trio.current_time(), wall())
            (headline, *_) = draw([View(one, now=now)], Frame(80, 24, wall()))
            shown.append(headline.plain.split("  ")[-1])
            await trio.sleep(70)
        assert shown == ["0s", "1m 10s", "2m 20s"]
        session.increment("n")
        one = session.snapshot()
        assert one.progressed_at is not None
        assert passing.now(one, trio.current_time(), wall()) == one.progressed_at.timestamp()
        passing.keep([])
        assert passing.now(one, trio.current_time(), wall() + 5) == pytest.approx(wall() + 5)


class Clocks:
    """Two clocks that a test turns."""

    def __init__(self) -> None:
        self.mono = 100.0
        self.wall = BEGUN
        self.clock = Clock(lambda: self.mono, lambda: self.wall)

    def pass_by(self, seconds: float, jump: float = 0.0) -> None:
        self.mono += seconds
        self.wall += seconds + jump


def begun(clocks: Clocks) -> SessionState:
    state = SessionState("a", host=QuietHost(), clock=clocks.clock)
    clocks.pass_by(50)  # Queued.
    state.begin(1)
    return state


def test_a_record_without_durations_is_shown_by_its_stamps() -> None:
    clocks = Clocks()
    state = begun(clocks)
    node = state.enter(state.root, "p")
    clocks.pass_by(5)
    state.leave(node, "completed")
    state.end("completed")
    new = json.loads(encode_record(state))
    for part in (new["state"], new["state"]["phases"][0]):
        del part["elapsed"]
    del new["state"]["phases"][0]["started_after"]
    old = decode_record("a", 1, state.seq, json.dumps(new).encode()).state
    assert (old.elapsed, old.phases[0].elapsed, old.phases[0].started_after) == (None, None, None)
    assert (ran(old, 0.0), phase_ran(old.phases[0], 0.0, 0.0)) == (5.0, 5.0)
    running = msgspec.structs.replace(old, ended_at=None, status="running")
    assert ran(running, clocks.wall + 2) == 7.0


def test_one_that_is_written_off_has_run_until_it_was_last_heard_of() -> None:
    clocks = Clocks()
    state = begun(clocks)
    clocks.pass_by(10, jump=3600)
    state.enter(state.root, "p")
    clocks.pass_by(5)
    data = encode_lost(decode_record("a", 1, state.seq, encode_record(state)), clocks.wall)
    lost = decode_record("a", 1, state.seq + 1, data).state
    assert (lost.elapsed, lost.phases[0].elapsed) == (15.0, 5.0)
    # An owner that was silent since long before the jump back: nothing is below 0.
    early = decode_record("a", 1, 9, encode_lost(decode_record("a", 1, 1, encode_record(state)), BEGUN - 9)).state
    assert (early.elapsed, early.phases[0].elapsed) == (10.0, 0.0)


def test_one_that_is_lost_but_not_yet_written_off_has_run_until_then_too() -> None:
    clocks = Clocks()
    state = begun(clocks)
    clocks.pass_by(10)
    state.enter(state.root, "p")
    shown = state.snapshot()
    assert (ran(shown, clocks.wall), ran(shown, clocks.wall + 60)) == (10.0, 70.0)
    heard = moment(clocks.wall + 5)
    lost = msgspec.structs.replace(shown, status="lost", liveness="lost", heartbeat_at=heard)
    assert (ran(lost, clocks.wall + 2), ran(lost, clocks.wall + 60)) == (12.0, 15.0)
    assert phase_ran(lost.phases[0], ran(lost, clocks.wall + 60), clocks.wall + 60) == 5.0


def test_a_later_attempt_goes_on_from_what_was_measured() -> None:
    clocks = Clocks()
    state = begun(clocks)
    node = state.enter(state.root, "p")
    clocks.pass_by(5, jump=-86400)
    state.leave(node, "completed")
    state.end("failed")
    again = SessionState("a", host=QuietHost(), clock=clocks.clock)
    resume_from(again, decode_record("a", 1, state.seq, encode_record(state)), (), 10)
    clocks.pass_by(60)
    again.begin(2)
    kept = again.get("p")
    assert kept is not None
    assert (kept.spent, kept.elapsed, again.snapshot().elapsed) == (5.0, 5.0, 0.0)
    assert kept.started_after is None, "of another attempt"


def test_who_has_seen_another_process_advance_judges_it_by_a_clock_of_its_own() -> None:
    owner, reader = Clocks(), Clocks()
    state = begun(owner)

    def stored() -> Stored:
        state.publish()
        return Stored("a", Key(1, state.seq), encode_record(state), alive=True, heartbeat=owner.wall, events=())

    remote = RemoteState(stored(), reader.clock, 10)
    assert remote.liveness() == "ok"
    owner.pass_by(1)
    state.increment("n")
    remote.take_in(stored())
    reader.pass_by(5, jump=3600)
    assert remote.liveness() == "ok"
    reader.pass_by(61, jump=-7200)
    assert remote.liveness() == "stalled"


@pytest.mark.parametrize(
    "zone", ["", "UTC", "America/New_York", "nowhere", ":", "AAA-26", "AAA+24", "/etc/passwd", "Asia/Kathmandu"]
)
async def test_stamps_are_utc_and_shown_in_any_zone(
    zone: str, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        async with open_tracker(wall_clock=Wall()) as tracker, tracker.session("a") as session:
            await trio.sleep(3600)
        ended = session.snapshot()
        assert b'"ended_at":"2026-03-29T02:30:00Z"' in encode_message(ended)
        assert line(ended)[2:6:3] == "::"
        assert line(ended).endswith("after 1h 00m")
        page = Stdout(width=100, terminal=False, colours=False, symbols=UNICODE)
        assert "  took        1h 00m" in session_page(ended, BEGUN + 3600, page)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_stamp_is_a_moment_in_utc_whatever_the_zone() -> None:
    stamp = utc(BEGUN)
    assert (stamp, stamp.utcoffset()) == (datetime(2026, 3, 29, 1, 30, tzinfo=UTC), timedelta(0))
    assert words.clock(1e300) == "--:--:--"
