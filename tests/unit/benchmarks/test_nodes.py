"""A Cluster is judged by what this machine can show: throughput, or what each Redis is spared."""

from __future__ import annotations

import os

import pytest

from benchmarks.nodes import CLUSTER, ONE, Found, tell
from benchmarks.report import Report

FOUND = {
    ONE: [Found(10.0, 20.0, [8.0], [4.0]), Found(20.0, 40.0, [16.0], [8.0])],
    CLUSTER: [Found(4.0, 22.0, [3.0, 4.0, 2.0], [1.0, 2.0, 1.0]), Found(10.0, 44.0, [4.0, 6.0, 6.0], [2.0, 3.0, 3.0])],
}


@pytest.mark.parametrize(
    ("cores", "judged", "value", "limit"),
    [(10, "time of an append", 0.45, 1 / 2.2), (9, "CPU of the busiest master", 0.4375, 0.45)],
)
def test_a_cluster_is_judged_by_throughput_only_where_each_process_has_a_core(
    cores: int, judged: str, value: float, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    report = Report("scale", {})
    tell(report, FOUND, 10)
    (target,) = report.targets
    assert judged in target.what
    assert (target.value, target.limit) == pytest.approx((value, limit))
    assert any(f"{cores} cores" in note for note in report.notes)
    rows = {(row.group.partition(": ")[2], row.name): row for row in report.rows}
    assert rows["CPU of the masters, an append", "a Cluster, the busiest master"].values == (4.0, 6.0)
    assert rows["CPU of the masters, an append", CLUSTER].values == (9.0, 16.0)
    assert rows["CPU of who appends, an append", CLUSTER].ratios[ONE].median == pytest.approx(1.1)
    assert rows["the busiest master, of a core", ONE].values == (80.0, 80.0)
