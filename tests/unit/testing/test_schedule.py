"""A schedule is a value: recorded, printed, read, edited, replayed, shrunk, and compared with one that passes."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from trio_progress.testing import Schedule, ScheduleError, UnfitScheduleWarning, explore, jitter, seeded_random
from trio_progress.testing.following import Follow
from trio_progress.testing.running import Case, Limits, run_schedule
from trio_progress.testing.schedule import Block, Cancels, Entry, TimePasses


async def read_after_close(extra: int = 0) -> None:
    """Fails where `close` runs between the two steps of `read`."""
    open_ = True

    async def read() -> None:
        for _ in range(3 + extra):
            await trio.lowlevel.checkpoint()
        if not open_:
            return
        await trio.lowlevel.checkpoint()
        assert open_, "it was closed meanwhile"

    async def close() -> None:
        nonlocal open_
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        open_ = False

    async def other() -> None:
        for _ in range(5):
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        nursery.start_soon(close)
        nursery.start_soon(other)


def found(seed: int = 1, extra: int = 0) -> ScheduleError:
    with pytest.raises(ScheduleError) as caught:
        explore(read_after_close, extra, schedules=500, seed=seed)
    return caught.value


def test_a_text_and_its_schedule_are_the_same() -> None:
    schedule = Schedule(
        7,
        (Block("main", 1, "main+2"), TimePasses(0.25), TimePasses(None), Cancels("main"), Block("a#2/b c#1", None)),
        "tests/test_a.py::test_b[x y]",
    )
    assert Schedule.parse(str(schedule)) == schedule
    assert str(Schedule.parse(str(schedule))) == str(schedule)


@pytest.mark.parametrize("line", ["0 a", "-3 a", "x a", "+ -1", "+ soon", "cancel", "3", "seed x"])
def test_a_line_that_is_none_of_a_schedule_is_refused_with_its_number(line: str) -> None:
    with pytest.raises(ValueError, match="line 3 of the schedule must be"):
        Schedule.parse(f"# trio-progress schedule 1\n\n{line}\n")
    with pytest.raises(ValueError, match="begins with the line"):
        Schedule.parse(line)


def test_what_was_recorded_is_repeated_step_by_step() -> None:
    async def busy() -> None:
        async def one() -> None:
            for _ in range(4):
                await jitter(0.01)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(one)

    for seed in range(40):
        first = run_schedule(busy, (), seed)
        entries = first.record.entries()
        follow = Follow(entries)
        again = run_schedule(busy, (), seed, source=follow)
        assert (again.history, again.record.entries()) == (first.history, entries)
        assert follow.fits


def test_tasks_are_named_by_their_parent_and_by_how_many_came_before() -> None:
    async def leaf() -> None:
        await trio.lowlevel.checkpoint()

    async def branch() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(leaf)
            nursery.start_soon(leaf)

    async def tree() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(branch)
            nursery.start_soon(branch)

    names = {frozenset(run_schedule(tree, (), seed).record.names) for seed in range(10)}
    leaves = {f"branch#{branch}/leaf#{leaf}" for branch in (1, 2) for leaf in (1, 2)}
    assert names == {frozenset({"tree", "branch#1", "branch#2", *leaves})}


def test_another_order_leaves_the_delays_and_the_draws_of_a_task_alone() -> None:
    drawn: dict[str, float] = {}

    async def one(name: str) -> None:
        begun = trio.current_time()
        await jitter(0.01)
        drawn[name] = trio.current_time() - begun
        drawn[f"{name} drew"] = seeded_random().random()

    async def two() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one, "a")
            nursery.start_soon(one, "b")

    seen = []
    for first in ("one#1", "one#2"):
        run_schedule(two, (), 5, source=Follow([Block("two", 1), Block(first, 1)]))
        seen.append(dict(drawn))
    assert seen[0] == seen[1]
    assert seen[0]["a"] != seen[0]["b"]


def test_a_failure_shrinks_to_the_preemption_that_it_needs_and_says_what_would_have_passed() -> None:
    error = found()
    assert error.preemptions == 1
    assert error.schedule is not None
    assert error.passing is not None
    # `other` is nobody's reason: it does not run in between.
    assert [entry for entry in error.schedule.entries if isinstance(entry, Block) and entry.steps] == [
        Block("read#1", 4)
    ]
    assert "had `read` run before `close`, it would have passed" in str(error)
    assert len(str(error).splitlines()) <= 40
    case = Case(read_after_close, (), "", Limits())
    assert case.run(error.seed, Follow(error.schedule.entries)).error is not None
    assert case.run(error.seed, Follow(error.passing)).error is None


def test_time_that_passes_is_left_out_where_it_is_no_reason_and_stays_where_it_is() -> None:
    async def too_late() -> None:
        with trio.move_on_after(0.2) as scope:
            for _ in range(5):
                await trio.lowlevel.checkpoint()
        assert not scope.cancelled_caught

    with pytest.raises(ScheduleError, match="had no time passed there") as caught:
        explore(too_late, schedules=500, seed=1)
    assert caught.value.schedule is not None
    assert sum(isinstance(entry, TimePasses) for entry in caught.value.schedule.entries) == 1
    assert not any(isinstance(entry, TimePasses) for entry in found().schedule.entries)  # type: ignore[union-attr]


def test_without_shrinking_the_found_schedule_is_told() -> None:
    with pytest.raises(ScheduleError) as caught:
        explore(read_after_close, schedules=500, seed=1, shrink=0)
    assert caught.value.schedule is None
    assert caught.value.timeline


def test_a_kept_schedule_fails_still_where_a_checkpoint_was_added(tmp_path: Path) -> None:
    def again(extra: int) -> None:
        explore(read_after_close, extra, schedules=1, seed=10**6, database=tmp_path)

    with pytest.raises(ScheduleError) as caught:
        explore(read_after_close, 0, schedules=500, seed=1, database=tmp_path)
    path = caught.value.kept
    assert path is not None
    assert path.is_file()
    for extra in (0, 1, 2):
        with pytest.raises(ScheduleError, match="as it is kept in"):
            again(extra)
    with pytest.warns(UnfitScheduleWarning, match="no longer fits"):
        again(9)
    path.write_text(path.read_text().replace("read#1", "reader#1"))
    with pytest.warns(UnfitScheduleWarning, match="no longer fits"):
        again(0)


def test_an_edited_schedule_that_names_nobody_ends(tmp_path: Path) -> None:
    entries: list[Entry] = [
        Block("nobody#1", 3),
        Cancels("nobody#1"),
        TimePasses(None),
        TimePasses(5.0),
        Block("read#1", 99),
    ]
    follow = Follow(entries)
    run = run_schedule(read_after_close, (), 1, source=follow)
    assert run.error is None
    assert len(follow.misfits) == 5
