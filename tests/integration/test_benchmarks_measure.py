"""The benchmarks measure what they say, at a tiny size; that the figures are good is not for a test to say."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from benchmarks import hot, scrape, sessions_worker, slope
from benchmarks.harness import Timing, interleave
from tests.benchmark_shape import check_shape

pytestmark = pytest.mark.integration


@pytest.mark.release
def test_hot_measures_every_contender_beside_its_rivals_in_every_round() -> None:
    options = argparse.Namespace(rounds=2, span=0.0005, subscribers=3)
    clock = trio.testing.MockClock(autojump_threshold=0)
    report = trio.run(hot.measure, options, clock=clock).as_json()
    check_shape(report, rounds=2)
    assert [row["name"] for row in report["rows"] if row["group"] == "one update, no checkpoint"] == [
        "empty loop",
        "bare method",
        "phase.advance()",
        "phase.advance(), 3 subscribers",
        "tqdm.update(1)",
        "rich Progress.advance(task)",
    ]
    assert [target["limit"] for target in report["targets"]] == [1.5, 0.4, 1.05]


@pytest.mark.release
def test_scrape_measures_counting_and_scraping_beside_prometheus_client() -> None:
    options = argparse.Namespace(rounds=2, span=0.0005, sessions=3, past=5)
    report = trio.run(scrape.measure, options, clock=trio.testing.MockClock(autojump_threshold=0)).as_json()
    series = [report["rows"].pop() for _ in range(2)]
    assert {row["group"] for row in series} == {"series told"}
    assert series[0]["median"] == series[1]["median"] > 100
    check_shape(report, rounds=2)
    assert [row["name"] for row in report["rows"] if row["group"] == "a scrape"] == [
        "a tracker with one open session",
        "a tracker with 3 open sessions",
        "prometheus_client, as many series",
    ]
    assert all(row["low"] > 0 for row in report["rows"])
    assert [target["limit"] for target in report["targets"]] == [0.5, 0.5, 10.0, 0]


@pytest.mark.release
@pytest.mark.parametrize("contender", sessions_worker.CONTENDERS)
@pytest.mark.parametrize("traced", [False, True])
def test_each_contender_of_sessions_is_measured_at_every_step(contender: str, traced: bool) -> None:
    plan = sessions_worker.Plan(number=3, samples=2, settle=0.001, idle=0.001, traced=traced)
    figures = sessions_worker.measure(contender, plan)
    if traced:
        assert figures["memory"] > 0
    else:
        assert set(figures) == {figure.name for figure in sessions_worker.FIGURES}


@pytest.mark.release
async def test_contenders_take_turns_and_what_is_between_rounds_is_not_measured() -> None:
    asked: list[str] = []

    def contender(name: str, value: float) -> Callable[[], Awaitable[float]]:
        async def ask() -> float:
            await trio.lowlevel.checkpoint()
            asked.append(name)
            return value

        return ask

    async def between() -> None:
        await trio.lowlevel.checkpoint()
        asked.append("|")

    values = await interleave({"a": contender("a", 1.0), "b": contender("b", 2.0)}, 3, passes=2, between=between)
    assert values == {"a": [1.0] * 3, "b": [2.0] * 3}
    rounds = "".join(asked).split("|")[1:]
    assert len(rounds) == 3
    assert all({"a", "b"} == set(passed) for r in rounds for passed in (r[:2], r[2:]))


async def test_a_timing_counts_operations_and_not_repetitions() -> None:
    calls: list[int] = []
    timing = Timing("call(1)", {"call": calls.append}, span=0.002, each=1000)
    calibration = len(calls)
    value = await timing()
    repetitions = len(calls) - calibration
    assert repetitions > 100
    assert 0 < value < 10 * 0.002e9 / repetitions / 1000


@pytest.mark.release
def test_slope_looks_at_the_memory_ten_times() -> None:
    report = slope.run(argparse.Namespace(rounds=1, count=40, together=2)).as_json()
    check_shape(report, rounds=1)
    assert [row["name"] for row in report["rows"]] == [f"after {number}" for number in range(4, 41, 4)]
    assert [target["limit"] for target in report["targets"]] == [slope.ALLOWED]
