"""What the bars of jobs and of pipelines are judged by."""

from __future__ import annotations

import argparse

import pytest

from benchmarks import bar
from benchmarks._courses import Course
from tests.benchmark_shape import check_shape

QUICK = 9
"""The seed of a job that takes less than a minute of virtual time."""


@pytest.fixture(scope="module")
def courses() -> dict[str, list[list[Course]]]:
    """Those of one run of a job."""
    return bar.job_courses(QUICK, 1)


def test_a_job_whose_shards_are_followed_takes_as_long_as_in_one_session(
    courses: dict[str, list[list[Course]]],
) -> None:
    [[followed]], [[in_one]] = courses[bar.FOLLOWED], courses[bar.IN_ONE]
    shards = [one for [one] in courses[bar.SHARD]]
    assert followed.took == pytest.approx(in_one.took)
    assert len(shards) == 4
    last = followed.looks[-1][1].phases
    split, merge = last[0].elapsed or 0.0, followed.took - (last[2].started_after or 0.0)
    assert followed.took == pytest.approx(split + max(one.took for one in shards) + merge, abs=0.01)
    assert {part.follows and part.follows.status for part in last[1].phases} == {"completed"}
    assert [part.follows for part in in_one.looks[-1][1].phases[1].phases] == [None] * 4
    for one in (followed, in_one):
        assert len(one.looks) > 100
        assert 0 < bar.judge(one, [(part, None) for part in (0.5,) * len(one.looks)])["A"] < 50


def test_a_bar_is_judged_by_how_far_it_is_from_the_time_that_has_passed(
    courses: dict[str, list[list[Course]]],
) -> None:
    snapshot = courses[bar.FOLLOWED][0][0].looks[0][1]
    course = Course(10.0, [(now / 2, snapshot) for now in range(20)])
    right = bar.judge(course, [(now / 20, 10.0 - now / 2) for now in range(20)])
    assert right == pytest.approx({"A": 0, "B50": 0, "freeze": 5, "jumps": 0})
    stands = bar.judge(course, [(0.0, 5.0) for _ in range(20)])
    assert stands == pytest.approx({"A": 47.5, "B50": 22.5, "freeze": 100, "jumps": 1})


@pytest.mark.release
def test_bar_reports_every_run_of_pipelines_and_of_jobs() -> None:
    report = bar.run(argparse.Namespace(pipelines=1, jobs=1, full=False, rounds=1)).as_json()
    check_shape(report, rounds=1)
    jobs = [(row["group"], row["name"]) for row in report["rows"] if row["group"].startswith("a job, run 2: ")]
    names = (bar.FOLLOWED, bar.IN_ONE, bar.SHARD)
    assert jobs == [(f"a job, run 2: {what}", name) for what in ("A", "B50", "freeze", "jumps") for name in names]
    assert [target["limit"] for target in report["targets"]] == [1.0, 1.0, 1.0]
