"""Phases that nobody declares, under the name of a pipeline: what they take is learnt, and told in later runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from trio_progress import Pipeline, ProgressTracker, open_tracker
from trio_progress.blocking import Client


def run_all(body: Callable[[ProgressTracker], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_tracker(stall_after=1e9, lost_after=1e9) as tracker:
            await body(tracker)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


Seen = list[tuple[float, float, float | None]]
"""The part of the time that has passed, the bar, and the ETA over what is left."""


async def one_run(tracker: ProgressTracker, session_id: str, phases: Sequence[tuple[str, float]]) -> Seen:
    whole = sum(seconds for _, seconds in phases)
    seen: Seen = []
    began = trio.current_time()
    async with tracker.session(session_id, pipeline="import") as session:
        for name, seconds in phases:
            with session.phase(name):
                for _ in range(10):
                    await trio.sleep(seconds / 10)
                    state = session.snapshot()
                    passed = (trio.current_time() - began) / whole
                    left = whole * (1 - passed)
                    seen.append((passed, state.progress, state.eta / left if state.eta is not None and left else None))
    return seen[:-1]


def off(seen: Seen) -> float:
    return max(abs(bar - passed) for passed, bar, _ in seen)


def test_phases_that_come_as_they_are_entered_are_known_in_the_next_run() -> None:
    async def body(tracker: ProgressTracker) -> None:
        phases = [("fetch", 20.0), ("parse", 70.0), ("load", 10.0)]
        first = await one_run(tracker, "s1", phases)
        assert off(first) > 0.3
        for number in (2, 3):
            seen = await one_run(tracker, f"s{number}", phases)
            assert off(seen) < 0.08
            assert all(eta == pytest.approx(1, abs=0.5) for passed, _, eta in seen if passed < 0.9)
        history = await tracker.history("import")
        assert history is not None
        assert (history.runs, sorted(history.phases)) == (3, ["fetch", "load", "parse"])
        state = await tracker.snapshot("s3")
        assert state.pipeline == "import"
        assert [phase.expected.seconds for phase in state.phases if phase.expected] == pytest.approx([20, 70, 10])

    run_all(body)


def test_a_phase_that_comes_now_and_then_counts_as_often_as_it_comes() -> None:
    async def body(tracker: ProgressTracker) -> None:
        for number in range(9):
            download = [("download", 60.0)] * (number % 2 == 0)
            await one_run(tracker, f"s{number}", [("plan", 10.0), *download, ("build", 30.0)])
        history = await tracker.history("import")
        assert history is not None
        assert 0.3 < history.phases["download"].worked < 0.8
        async with tracker.session("last", pipeline="import") as session:
            assert 55 < (session.snapshot().eta or 0) < 90

    run_all(body)


def test_names_that_are_made_up_in_each_run_do_no_harm() -> None:
    async def body(tracker: ProgressTracker) -> None:
        for number in range(6):
            seen = await one_run(tracker, f"s{number}", [(f"page {number}.{page}", 20.0) for page in range(5)])
            if number:
                assert off(seen) < 0.12, number
        history = await tracker.history("import")
        assert history is not None
        assert len(history.phases) <= 30

    run_all(body)


def test_one_that_failed_does_not_teach_that_the_rest_is_not_worked_on() -> None:
    async def body(tracker: ProgressTracker) -> None:
        phases = [("fetch", 20.0), ("load", 10.0)]
        await one_run(tracker, "s1", phases)
        with pytest.raises(OSError, match="no space"):
            async with tracker.session("s2", pipeline="import") as session:
                with session.phase("fetch"):
                    await trio.sleep(20)
                raise OSError("no space")
        history = await tracker.history("import")
        assert history is not None
        assert history.phases["load"].worked == 1
        assert off(await one_run(tracker, "s3", phases)) < 0.08

    run_all(body)


def test_a_name_stands_for_the_pipeline_that_is_declared_elsewhere() -> None:
    async def body(tracker: ProgressTracker) -> None:
        async with tracker.session("s1", Pipeline("import", {"fetch": 1, "load": 1})) as session:
            for name, seconds in (("fetch", 20), ("load", 80)):
                with session.phase(name):
                    await trio.sleep(seconds)
        assert off(await one_run(tracker, "s2", [("fetch", 20.0), ("load", 80.0)])) < 0.05
        assert (await tracker.declare("s3", "import")).pipeline == "import"

    run_all(body)


def test_a_pipeline_is_a_pipeline_or_a_name(tmp_path: Path) -> None:
    async def body(tracker: ProgressTracker) -> None:
        with pytest.raises(TypeError, match="the name of one"):
            tracker.session("s", pipeline=7)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="a pipeline's name"):
            tracker.session("s", pipeline="")

    run_all(body)
    with Client(f"sqlite:{tmp_path / 'store'}") as client:
        assert client.declare("s", "import").pipeline == "import"
