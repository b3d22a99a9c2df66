"""What the bar and the ETA tell of runs that are known: each a run in virtual time, after earlier ones alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest
import trio
import trio.testing

from trio_progress import Phase, Pipeline, ProgressTracker, Session, open_tracker

Body = Callable[[Session], Awaitable[None]]


@pytest.fixture
def run_all() -> Callable[[Callable[[ProgressTracker], Awaitable[None]]], None]:
    def run(body: Callable[[ProgressTracker], Awaitable[None]]) -> None:
        async def main() -> None:
            async with open_tracker(stall_after=1e9, lost_after=1e9) as tracker:
                await body(tracker)

        trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    return run


def rates_of(told: list[tuple[float, float]]) -> list[float]:
    return [rate for rate, _ in told]


async def count(phase: Phase, units: int, seconds: float) -> None:
    for _ in range(units):
        await trio.sleep(seconds / units)
        phase.advance()


# Phases that do not count


def test_an_uncounted_phase_counts_down(run_all: Callable[..., None]) -> None:
    pipeline = Pipeline("p", {"link": 1})
    told: list[tuple[float, float | None]] = []

    async def body(tracker: ProgressTracker) -> None:
        for number in (1, 2):
            async with tracker.session(f"s{number}", pipeline) as session:
                with session.phase("link"):
                    for _ in range(10):
                        await trio.sleep(9.9)
                        if number == 2:
                            snapshot = session.snapshot()
                            told.append((snapshot.progress, snapshot.eta))
                    await trio.sleep(1)

    run_all(body)
    for index, (progress, eta) in enumerate(told, 1):
        assert progress == pytest.approx(0.099 * index, abs=0.08)
        assert eta == pytest.approx(100 - 9.9 * index, abs=9)


def test_an_overdue_phase_is_never_nearly_over(run_all: Callable[..., None]) -> None:
    pipeline = Pipeline("p", {"work": 1, "pack": 1})
    told: list[float] = []

    async def body(tracker: ProgressTracker) -> None:
        for number, work in ((1, 60), (2, 200)):
            async with tracker.session(f"s{number}", pipeline) as session:
                with session.phase("work"):
                    for second in range(work):
                        await trio.sleep(1)
                        if number == 2 and second > 60:
                            told.append(session.snapshot().eta or 0)
                with session.phase("pack"):
                    await trio.sleep(20)

    run_all(body)
    assert min(told) > 25
    assert told == sorted(told)


# What is learnt


def test_the_bar_learns_from_one_run(run_all: Callable[..., None]) -> None:
    weights = {"a": 8, "b": 12, "c": 38, "d": 16}
    seconds = {"a": 1, "b": 1, "c": 80, "d": 18}
    off: list[float] = []

    async def body(tracker: ProgressTracker) -> None:
        for number in range(1, 4):
            began = trio.current_time()
            async with tracker.session(f"s{number}", Pipeline("p", weights)) as session:
                for name, took in seconds.items():
                    with session.phase(name, total=50) as phase:
                        for _ in range(50):
                            await trio.sleep(took / 50)
                            phase.advance()
                            snapshot = session.snapshot()
                            passed = trio.current_time() - began
                            if number > 1:
                                off.append(abs(snapshot.progress - passed / 100))
                                assert snapshot.eta == pytest.approx(100 - passed, abs=2)

    run_all(body)
    assert max(off) < 0.02


def test_a_slow_first_run_is_soon_forgotten(run_all: Callable[..., None]) -> None:
    told: list[float | None] = []

    async def body(tracker: ProgressTracker) -> None:
        for number in range(6):
            async with tracker.session(f"s{number}", Pipeline("p", {"build": 1})) as session:
                with session.phase("build"):
                    await trio.sleep(0.1)
                    told.append(session.snapshot().eta)
                    await trio.sleep(10 if number else 100)

    run_all(body)
    assert told[0] is None
    assert told[1] == pytest.approx(100, rel=0.01)
    assert all(eta is not None and eta < 20 for eta in told[2:])
    assert told[-1] == pytest.approx(10, rel=0.25)


def test_skipping_is_learnt_and_phases_that_run_together_are_not_added_up(run_all: Callable[..., None]) -> None:
    after_plan: list[float] = []
    at_the_start: list[float | None] = []

    async def skips(tracker: ProgressTracker, number: int) -> None:
        async with tracker.session(f"a{number}", Pipeline("skips", {"plan": 1, "download": 5, "build": 4})) as session:
            with session.phase("plan"):
                await trio.sleep(5)
                after_plan.append(session.snapshot().eta or 0)
            if number:
                session.skip_phase("download", "cached")
            else:
                with session.phase("download", total=10) as phase:
                    await count(phase, 10, 90)
            assert number == 0 or session.snapshot().eta == pytest.approx(40, rel=0.01)
            with session.phase("build"):
                await trio.sleep(40)

    async def together(tracker: ProgressTracker, number: int) -> None:
        async with tracker.session(f"b{number}", Pipeline("overlap", ["a", "b", "c", "d"])) as session:

            async def work(name: str) -> None:
                with session.phase(name, total=60) as phase:
                    await count(phase, 60, 60)

            at_the_start.append(session.snapshot().eta)
            async with trio.open_nursery() as nursery:
                for name in "abcd":
                    nursery.start_soon(work, name)
                    await trio.sleep(5)

    async def body(tracker: ProgressTracker) -> None:
        for number in range(8):
            await skips(tracker, number)
        for number in range(2):
            await together(tracker, number)

    run_all(body)
    assert after_plan[1] == pytest.approx(130, rel=0.02)
    assert after_plan[-1] < 70
    assert at_the_start == [None, pytest.approx(75, rel=0.02)]


@pytest.mark.parametrize("changed", ["added", "renamed"])
def test_a_changed_pipeline_keeps_its_eta(changed: str, run_all: Callable[..., None]) -> None:
    told: list[float | None] = []

    async def body(tracker: ProgressTracker) -> None:
        for number in range(4):
            last = {"added": ["build", "lint"], "renamed": ["compile"]}[changed] if number == 3 else ["build"]
            async with tracker.session(f"s{number}", Pipeline("p", ["fetch", *last])) as session:
                told.append(session.snapshot().eta)
                with session.phase("fetch"):
                    await trio.sleep(120)
                for name in last:
                    with session.phase(name):
                        await trio.sleep(30 if name != "lint" else 1)

    run_all(body)
    assert told[1:3] == [pytest.approx(150, rel=0.01)] * 2
    # What was renamed is expected to take what is gone from the pipeline; what is new, its weight at the others' pace.
    assert told[3] == pytest.approx({"renamed": 150, "added": 225}[changed], rel=0.01)


# Children


def test_children_without_a_total_do_not_make_their_phase_look_finished(run_all: Callable[..., None]) -> None:
    told: list[list[tuple[float, float | None]]] = []

    async def body(tracker: ProgressTracker) -> None:
        for number in range(6):
            told.append([])
            async with tracker.session(f"s{number}", Pipeline("p", {"groups": 9, "finish": 1})) as session:
                with session.phase("groups") as groups:
                    for index in range(8):
                        with groups.phase(f"g{index}", total=10) as group:
                            await count(group, 10, 10)
                        snapshot = session.snapshot()
                        told[-1].append((snapshot.phase("groups").fraction or 0, snapshot.eta))
                with session.phase("finish"):
                    await trio.sleep(9)

    run_all(body)
    for index, ((first, no_eta), *later) in enumerate(zip(*told, strict=True), 1):
        assert first <= index / (index + 1) + 1e-9
        assert no_eta is None
        assert [fraction for fraction, _ in later] == [pytest.approx(index / 8, abs=1e-3)] * 5
        assert [eta for _, eta in later] == [pytest.approx(89 - 10 * index, abs=1)] * 5


def test_the_bar_moves_through_rounds_of_unknown_number(run_all: Callable[..., None]) -> None:
    told: list[float] = []

    async def body(tracker: ProgressTracker) -> None:
        pipeline = Pipeline("agent", {"search": 2, "rounds": 6, "synthesis": 2})
        async with tracker.session("s", pipeline) as session:
            with session.phase("search", total=10) as search:
                await count(search, 10, 20)
            with session.phase("rounds") as rounds:
                for number in range(6):
                    with rounds.phase(f"round-{number}", total=10) as one:
                        for _ in range(10):
                            await trio.sleep(2)
                            one.advance()
                            told.append(session.snapshot().progress)
            assert session.snapshot().progress < 0.85

    run_all(body)
    assert told == sorted(told)
    assert all(after > before for before, after in zip(told[::10], told[10::10], strict=False))


def test_a_finished_child_is_one_of_the_units(run_all: Callable[..., None]) -> None:
    async def body(tracker: ProgressTracker) -> None:
        async with tracker.session("s") as session:
            with session.phase("download", total=4) as download:
                for number in range(4):
                    with download.phase(f"f{number}", total=10) as file:
                        file.advance(5)
                        assert session.snapshot().raw == pytest.approx((number + 0.5) / 4)
                        file.advance(5)
                    shown = session.snapshot().phase("download")
                    assert (download.done, shown.done) == (number + 1, number + 1)
            with session.phase("counted", total=4) as counted:
                for number in range(2):
                    with counted.phase(f"f{number}"):
                        await trio.sleep(1)
                    counted.advance()
                assert counted.done == 2

    run_all(body)


# Pauses


def test_rate_and_eta_do_not_stand_still_in_a_pause(run_all: Callable[..., None]) -> None:
    told: list[tuple[float, float]] = []

    async def body(tracker: ProgressTracker) -> None:
        async with tracker.session("pause") as session:
            with session.phase("x", total=200) as phase:
                await count(phase, 100, 10)
                for _ in range(6):
                    shown = session.snapshot().phase("x")
                    told.append((shown.rate or 0, shown.eta or 0))
                    await trio.sleep(8)
                await count(phase, 90, 9)
                assert (session.snapshot().phase("x").rate or 0) > rates_of(told)[-1]

    run_all(body)
    rates, etas = rates_of(told), [eta for _, eta in told]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 3 * rates[-1] > 0
    assert etas == sorted(etas)
    assert etas[-1] < 10 * etas[0]


# Reading


def test_reading_makes_no_new_state_and_no_reader_sees_the_bar_go_back(run_all: Callable[..., None]) -> None:
    bars: list[float] = []
    watched: list[tuple[int, float]] = []

    async def read(session: Session, tracker: ProgressTracker) -> None:
        for _ in range(100):
            await trio.sleep(0.7)
            bars.append(session.snapshot().progress)
            bars.append((await tracker.snapshot(session.id)).progress)

    async def watch(tracker: ProgressTracker) -> None:
        async with tracker.watch("s1") as snapshots:
            async for snapshot in snapshots:
                bars.append(snapshot.progress)
                watched.append((snapshot.seq, trio.current_time()))

    async def body(tracker: ProgressTracker) -> None:
        for number in range(2):
            async with tracker.session(f"s{number}", Pipeline("p", ["a", "b"])) as session:
                with session.phase("a"):
                    await trio.sleep(100)
                    before = session.snapshot()
                    await read(session, tracker)
                    after = session.snapshot()
                    assert before.seq == after.seq
                    if number:
                        assert after.progress > before.progress
                        assert before.published_at is not None
                        assert after.published_at is not None
                        assert after.published_at > before.published_at
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(watch, tracker)
                            await read(session, tracker)
                            nursery.cancel_scope.cancel()
                with session.phase("b"):
                    await trio.sleep(10)
                bars.clear() if not number else None

    run_all(body)
    assert bars == sorted(bars)
    # Each heartbeat tells who follows what time has changed.
    assert [seq - watched[0][0] for seq, _ in watched] == list(range(len(watched)))
    assert len(watched) == 8
    assert {round(after - before) for (_, before), (_, after) in pairwise(watched[1:])} == {10}


# Saying so


def test_what_was_expected_and_from_what_is_told(run_all: Callable[..., None]) -> None:
    async def body(tracker: ProgressTracker) -> None:
        pipeline = Pipeline("p", {"fetch": 1, "build": 1}, usual={"build": 12.0})
        for number in range(2):
            async with tracker.session(f"s{number}", pipeline) as session:
                start = session.snapshot()
                with session.phase("fetch", total=10 * (number + 1)) as fetch:
                    inside = session.snapshot().phase("fetch").expected
                    await count(fetch, 10 * (number + 1), 20)
                with session.phase("build"):
                    await trio.sleep(10)
            expected = [phase.expected for phase in start.phases]
            assert all(one is not None for one in expected)
            sources: list[Any] = [(one.source, one.seconds, one.runs) for one in expected if one is not None]
            if number == 0:
                assert sources == [("weight", 12.0, 0), ("given", 12.0, 0)]
                assert start.eta == 24
            else:
                assert sources == [("usual", pytest.approx(20), 1), ("usual", pytest.approx(10), 1)]
                assert inside is not None
                assert (inside.source, inside.count) == ("unit", 20)
                assert inside.seconds == pytest.approx(40)
                assert start.eta_range is not None
                assert start.eta_range[0] < 30 < start.eta_range[1]

    run_all(body)


def test_a_pipeline_that_does_not_learn_goes_by_its_weights(run_all: Callable[..., None]) -> None:
    async def body(tracker: ProgressTracker) -> None:
        pipeline = Pipeline("p", {"a": 1, "b": 1}, learn=False)
        for number in range(2):
            async with tracker.session(f"s{number}", pipeline) as session:
                assert session.snapshot().eta is None
                with session.phase("a"):
                    await trio.sleep(90)
                assert session.snapshot().progress == pytest.approx(0.5)
                with session.phase("b"):
                    await trio.sleep(10)
        assert await tracker.history("p") is None

    run_all(body)


def test_a_history_is_read_exported_forgotten_and_taken_over(run_all: Callable[..., None]) -> None:
    async def body(tracker: ProgressTracker) -> None:
        async with tracker.session("s", Pipeline("p", {"a": 1})) as session:
            with session.phase("a"):
                await trio.sleep(30)
        history = await tracker.history("p")
        assert history is not None
        assert history.runs == 1
        assert history.phases["a"].seconds == pytest.approx(30)
        assert list(await tracker.histories()) == ["p"]
        exported = history.to_json()
        assert await tracker.forget_history("p")
        assert not await tracker.forget_history("p")
        assert await tracker.history("p") is None
        assert await tracker.import_history("other", exported) == history
        async with tracker.session("t", Pipeline("other", {"a": 1})) as session:
            assert session.snapshot().eta == pytest.approx(30)
        for wrong in ("{}x", '{"phases":{"a":{"seconds":-1}}}', '{"phases":{"a":{"seconds":1,"worked":7}}}'):
            with pytest.raises(ValueError, match="no history"):
                await tracker.import_history("p", wrong)

    run_all(body)


def test_a_resumed_session_goes_on_and_teaches_all_of_its_time(run_all: Callable[..., None]) -> None:
    pipeline = Pipeline("p", {"a": 1, "b": 1})

    async def body(tracker: ProgressTracker) -> None:
        for number in range(2):
            with pytest.raises(OSError):  # noqa: PT011 - the test's own
                async with tracker.session(f"s{number}", pipeline) as session:
                    with session.phase("a"):
                        await trio.sleep(20)
                    with session.phase("b"):
                        await trio.sleep(10)
                        raise OSError
            async with tracker.session(f"s{number}", pipeline, resume="always") as session:
                if number:
                    # 30 of what takes 60 s; b is begun anew.
                    assert session.snapshot().progress == pytest.approx(0.43, abs=0.15)
                with session.phase("b"):
                    await trio.sleep(30)
            history = await tracker.history("p")
            assert history is not None
            seconds = {name: phase.seconds for name, phase in history.phases.items()}
            assert seconds == {"a": pytest.approx(20), "b": pytest.approx(40)}

    run_all(body)
