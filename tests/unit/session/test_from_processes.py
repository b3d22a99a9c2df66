"""`phase.from_processes()`: what stands in the file of counts comes to the phase, in time and once.

Here the counter is used in the session's own process; tests/integration/test_counting.py has the others.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest
import trio
import trio.testing

from trio_progress import NullCounter, PhaseError, ProcessCounter, Session, current_session, open_tracker
from trio_progress.counting.files import open_file

pytestmark = pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="there are no POSIX locks")


def file_of(counter: ProcessCounter | NullCounter) -> Path:
    (path,) = counter.environment.values()
    return Path(path)


def descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


async def test_counts_are_seen_within_a_tick_and_when_the_block_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x", total=10) as phase:
            async with phase.from_processes() as counter:
                counter.advance(3)
                assert phase.done == 0
                await trio.sleep(0.26)
                assert phase.done == 3
                counter.advance()
                counter.skip(2)
                counter.extend(5)
                counter.increment("found", 7)
                counter.update(message="page 3")
            assert (phase.done, phase.skipped, phase.total, phase.message) == (6, 2, 15, "page 3")
            assert type(phase.done) is int
        assert session.snapshot().counters == {"found": 7}
        assert tracker.statistics().late == 0


async def test_where_somebody_watches_the_sums_come_at_the_pace_of_the_broadcasts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            async with tracker.watch("a") as snapshots, phase.from_processes() as counter:
                counter.advance(3)
                begun = trio.current_time()
                async for snapshot in snapshots:
                    if snapshot.phase("x").done == 3:
                        break
                assert trio.current_time() - begun <= 0.21


async def test_where_many_have_counted_the_sums_come_less_often(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            async with phase.from_processes() as counter:
                slots = open_file(str(file_of(counter)))
                assert slots is not None
                for slot in range(500):
                    slots.layout.cell(slot, slots.layout.take(slot))[0] = 1
                await trio.sleep(0.26)
                assert phase.done == 500
                counter.advance()
                await trio.sleep(1.1)
                assert phase.done == 500
                await trio.sleep(0.3)
                assert phase.done == 501


async def test_flush_and_snapshot_take_in_what_was_counted_before(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            async with phase.from_processes() as counter:
                counter.advance(3)
                assert session.snapshot().phase("x").done == 3
                counter.advance()
                await session.flush()
                assert (await tracker.snapshot("a")).phase("x").done == 4


async def test_the_end_of_the_phase_or_session_within_the_block_takes_it_in(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_tracker() as tracker:
        async with tracker.session("a") as session:
            first = session.advance_to("first")
            async with first.from_processes() as counter:
                counter.advance(2)
                second = session.advance_to("second")
                assert (first.done, first.status) == (2, "completed")
                counter.advance(5)
                async with second.from_processes() as another:
                    another.advance(3)
            assert (first.done, second.done) == (2, 3)
        assert session.snapshot().phase("second").done == 3
        assert tracker.statistics().late == 1
    texts = [record.getMessage() for record in caplog.records if getattr(record, "event", None) == "late_update"]
    assert len(texts) == 1
    assert "on phase 'first' after its end, or the block of from_processes() (5 units)" in texts[0]


async def test_counts_after_the_block_are_late_and_logged_once(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "trio_progress")
    async with open_tracker() as tracker:
        async with tracker.session("a") as session:
            with session.phase("x") as phase:
                counters = []
                for _ in range(3):
                    async with phase.from_processes() as counter:
                        counters.append(counter)
                        counter.advance()
                    counters[-1].advance(4)
                assert phase.done == 3
        assert session.snapshot().phase("x").done == 3
        assert tracker.statistics().late == 3
        assert [getattr(record, "event", None) for record in caplog.records].count("late_update") == 1
        counters[-1].advance()  # Into nothing.


async def test_a_session_holds_on_to_few_files(autojump_clock: trio.testing.MockClock) -> None:
    before = descriptors()
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            for _ in range(60):
                async with phase.from_processes() as counter:
                    counter.advance()
                    folder = file_of(counter).parent
                    assert folder.exists()
                    del counter
                assert not folder.exists()
                assert descriptors() < before + 60
        assert phase.done == 60


async def test_what_is_taken_back_is_taken_back_from_the_phase(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x", total=10) as phase:
            async with phase.from_processes() as counter:
                phase.advance()
                with pytest.raises(KeyError), counter.job():
                    counter.advance(5)
                    counter.skip(1)
                    counter.extend(3)
                    await trio.sleep(0.3)
                    assert (phase.done, phase.skipped, phase.total) == (7, 1, 13)
                    raise KeyError
                await trio.sleep(0.3)
                assert (phase.done, phase.skipped, phase.total) == (1, 0, 10)


async def test_what_comes_out_of_the_block_leaves_as_itself(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker:
        with pytest.raises(KeyError):
            async with tracker.session("a") as session:
                with session.phase("x") as phase:
                    async with phase.from_processes() as counter:
                        counter.advance()
                        raise KeyError
        assert (session.status, session.snapshot().phase("x").done) == ("failed", 1)
        with trio.move_on_after(1) as scope:
            async with tracker.session("b") as session, session.advance_to("x").from_processes() as counter:
                counter.advance(2)
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert (session.status, session.snapshot().phase("x").done) == ("timed_out", 2)


async def test_it_is_for_an_open_phase_and_entered_once(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            scope = phase.from_processes()
            async with scope:
                pass
            with pytest.raises(PhaseError, match="entered before"):
                await scope.__aenter__()
            with pytest.raises(TypeError, match="use `async with"):
                phase.from_processes().__enter__()  # type: ignore[attr-defined]
            with pytest.raises(AttributeError, match=r"async with phase\.from_processes"):
                _ = phase.from_processes().advance  # type: ignore[attr-defined]
        with pytest.raises(PhaseError, match="open phase only"):
            async with phase.from_processes():
                pass


async def test_a_session_that_is_not_strict_goes_on_where_no_file_can_be_made(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    async with open_tracker(strict=False) as tracker, tracker.session("a") as session:
        with session.phase("x") as phase:
            async with phase.from_processes() as counter:
                counter.advance()
                assert isinstance(counter, NullCounter)
    assert tracker.statistics().refused == 1
    async with open_tracker() as tracker, tracker.session("a") as session:
        with session.phase("x") as phase, pytest.raises(OSError, match="missing"):
            async with phase.from_processes():
                pass


async def test_where_nobody_follows_it_counts_nothing(autojump_clock: trio.testing.MockClock) -> None:
    with current_session().phase("x") as phase:
        async with phase.from_processes() as counter:
            counter.advance()
            counter.update(message="x")
            with counter.job():
                counter.increment("n")


async def test_more_counters_than_a_session_has_room_for_are_dropped(autojump_clock: trio.testing.MockClock) -> None:
    async def full(session: Session) -> None:
        for number in range(100):
            session.increment(f"n{number}")

    async with open_tracker() as tracker, tracker.session("a") as session:
        await full(session)
        with session.phase("x") as phase:
            async with phase.from_processes() as counter:
                counter.advance()
                counter.increment("one more")
        assert phase.done == 1
        assert tracker.statistics().refused == 1


async def test_what_is_refused_takes_nothing_else_along(autojump_clock: trio.testing.MockClock) -> None:
    largest = 2**53 - 1
    async with open_tracker() as tracker, tracker.session("a") as session:
        session.increment("full", largest)
        with session.phase("x", total=largest) as phase:
            async with phase.from_processes() as counter:
                counter.advance(3)
                counter.extend(largest)
                counter.increment("full")
                counter.increment("other", 7)
        assert (phase.done, phase.total) == (3, largest)
        assert session.snapshot().counters == {"full": largest, "other": 7}
        assert tracker.statistics().refused == 2
