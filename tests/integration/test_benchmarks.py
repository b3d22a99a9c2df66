"""`python -m benchmarks` as a user runs it, each contender in a process of its own; most of them by `--exhaustive`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import page, together
from tests.benchmark_shape import check_shape

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
REPORT = "report.json"


def measured(folder: Path, *arguments: str) -> tuple[Any, subprocess.CompletedProcess[str]]:
    """The report that a suite writes into the folder, and what it printed."""
    out = folder / REPORT
    command = [sys.executable, "-m", "benchmarks", *arguments, "--json", str(out)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(out.read_text()), run


@pytest.mark.release
def test_sqlite_measures_beside_bare_sqlite3_and_with_a_watching_process(tmp_path: Path) -> None:
    small = ["--count", "20", "--rounds", "2", "--updates", "10", "--idle", "0.5"]
    report, run = measured(tmp_path, "sqlite", *small)
    rows = {(row["group"].partition(",")[0], row["name"]): row for row in report["rows"]}
    assert len(rows) == len(report["rows"]) == 8
    assert all(len(row["rounds"]) == 2 and row["low"] > 0 for row in rows.values() if row["name"] != "watcher")
    assert rows["an update", "p50"]["high"] <= rows["an update", "p99"]["high"]
    assert [target["limit"] for target in report["targets"]] == [30.0, 100.0, 1.5]
    assert "bare sqlite3, a batch" in run.stdout


@pytest.mark.release
def test_redis_measures_beside_bare_redis_py_and_with_a_watching_process(redis_program: str, tmp_path: Path) -> None:
    small = ["--count", "1", "2", "--passes", "5", "--rounds", "2", "--updates", "10", "--open", "20", "--idle", "0.5"]
    report, run = measured(tmp_path, "redis", *small)
    rows = {(row["group"].partition(" of ")[0].partition(",")[0], row["name"]) for row in report["rows"]}
    assert ("an update", "p50") in rows
    stored = [row for row in report["rows"] if row["group"].startswith("a snapshot of 1024 bytes")]
    assert {row["name"] for row in stored} >= {"our store", "redis-py, a pipeline of the same commands"}
    assert all(len(row["rounds"]) == 2 and row["low"] > 0 for row in stored)
    assert [target["limit"] for target in report["targets"]] == [1.3, 1.3, 100.0]
    assert "redis-py, one command a thread call" in run.stdout


@pytest.mark.release
def test_faults_counts_them_and_replays_a_seed(redis_program: str, tmp_path: Path) -> None:
    for given, scenarios in ((["--count", "20"], 2), (["--seed", "7"], 1)):
        report, _ = measured(tmp_path, "faults", *given)
        assert sum(row["median"] for row in report["rows"] if row["group"] == "faults") == 10 * scenarios
        assert [(target["value"], target["met"]) for target in report["targets"]] == [(0.0, True)]


@pytest.mark.release
def test_sessions_measures_in_fresh_processes_and_writes_json(tmp_path: Path) -> None:
    small = ["--count", "20", "--rounds", "2", "--settle", "0.01", "--idle", "0.05"]
    report, run = measured(tmp_path, "sessions", *small)
    assert report["settings"] == {"rounds": 2, "count": 20, "settle": 0.01, "idle": 0.05}
    timed = [row for row in report["rows"] if row["group"] == "enter, all at once"]
    assert [row["name"] for row in timed] == ["session", "trio nursery with 3 tasks", "asyncio TaskGroup with 3 tasks"]
    assert all(len(row["rounds"]) == 2 for row in timed)
    assert {target["limit"] for target in report["targets"]} == {1.2, 1.6, 1.8, 2.0, 2.2, 2.5}
    assert "targets" in run.stdout
    assert "6 of 6 runs" in run.stderr


@pytest.mark.release
def test_fanout_measures_ours_beside_a_bare_loop_of_sends_and_its_page_can_be_drawn(tmp_path: Path) -> None:
    small = ["--clients", "3", "--frames", "30", "--ticks", "3", "--rounds", "1", "--rivals", "websockets.broadcast"]
    report, run = measured(tmp_path, "fanout", *small)
    rows = [(row["group"], row["name"]) for row in report["rows"]]
    names = ["floor", "floor on Trio", "ours", "websockets.broadcast"]
    assert rows == [(f"3 clients, {how}", name) for how in ("flat out", "every 20 ms") for name in names]
    assert all(row["low"] > 0 for row in report["rows"])
    assert [target["limit"] for target in report["targets"]] == [1.3, 1.0, 1.2, 1.2]
    assert "floor on Trio" in run.stdout
    made = page.page(together.read(tmp_path / REPORT))
    assert page.find(made) is not None
    assert "`websockets.broadcast`" in made


@pytest.mark.release
def test_lists_measures_ours_beside_a_floor_and_a_rival(tmp_path: Path) -> None:
    small = ["--pages", "3", "--sessions", "4", "--seconds", "0.6", "--pace", "0.02", "--rounds", "1"]
    small += ["--rivals", "websockets.broadcast"]
    report, _ = measured(tmp_path, "lists", *small)
    assert {row["name"]: row["low"] > 0 for row in report["rows"]} == {
        "floor on Trio": True,
        "ours, list": True,
        "ours, nobody looks": True,
        "websockets.broadcast": True,
    }
    assert [target["limit"] for target in report["targets"]] == [1.0]


@pytest.mark.release
def test_slow_and_latency_measure_what_clients_are_told_and_when(tmp_path: Path) -> None:
    for small in (
        ["slow", "--clients", "4", "--ticks", "30", "--rounds", "1", "--rivals"],
        ["latency", "--clients", "4", "--seconds", "0.5", "--rounds", "1"],
    ):
        report, _ = measured(tmp_path, *small)
        waits = [row for row in report["rows"] if "told within" in row["group"]]
        assert all(0 < row["median"] < 60_000 for row in waits)
        assert {row["name"].partition(",")[0] for row in waits} == {"ours"}


@pytest.mark.release
def test_scale_measures_pages_writes_and_idle_trackers(redis_program: str, tmp_path: Path) -> None:
    small = ["--rounds", "1", "--count", "1000", "--writes", "500", "--jobs", "100", "--idle", "1", "--span", "1"]
    report, run = measured(tmp_path, "scale", *small)
    check_shape(report, 1)
    of_jobs = {target["what"].rpartition(": ")[2]: target["value"] for target in report["targets"]}
    assert (of_jobs["jobs that are not done"], of_jobs["claims that were refused"]) == (0, 0)
    assert of_jobs["commands a job, beside its own states"] < 6
    assert "what the reaper asks" in run.stdout
    sent = {row["name"]: row["median"] for row in report["rows"] if row["group"].endswith("commands that are sent")}
    assert sent["a label that one session has"] == 2, "the page, and its one session"
    assert sent["status queued"] == 3
    assert {row["name"] for row in report["rows"] if row["group"].startswith("Redis' CPU")} == {
        "ours",
        "without the index",
    }


@pytest.mark.release
def test_scale_measures_one_redis_beside_a_cluster(redis_program: str, tmp_path: Path) -> None:
    report, run = measured(tmp_path, "scale", "--parts", "nodes", "--rounds", "1", "--span", "0.2")
    check_shape(report, 1)
    assert all(row["low"] > 0 for row in report["rows"])
    assert len(report["targets"]) == 1
    assert any(note.startswith("nodes: judged by") for note in report["notes"])
    assert "a Cluster, the busiest master" in run.stdout


@pytest.mark.release
def test_deltas_measures_an_update_beside_what_has_changed(redis_program: str, tmp_path: Path) -> None:
    small = ["--rounds", "1", "--updates", "20", "--phases", "50", "--watching", "2"]
    report, _ = measured(tmp_path, "deltas", *small)
    check_shape(report, 1)
    sent = {row["name"]: row["median"] for row in report["rows"] if row["group"].endswith("into Redis")}
    assert sent["the delta"] < sent["what has changed"] < sent["whole states"] / 5
    on_the_wire = [target["met"] for target in report["targets"] if "on the wire" in target["what"]]
    assert on_the_wire == [True]
    assert all(target["met"] for target in report["targets"] if "into Redis" in target["what"])


@pytest.mark.release
def test_processes_counts_exactly_and_measures_beside_a_shared_value(tmp_path: Path) -> None:
    small = ["--rounds", "2", "--span", "0.2", "--workers", "2", "--units", "1000", "--kills", "4", "--ways", "fork"]
    report, run = measured(tmp_path, "processes", *small)
    assert [target["limit"] for target in report["targets"]] == [0, 0, 1, 0.4, 0.4, 0.5, 10]
    assert all(target["met"] for target in report["targets"][:3])
    assert "1000 units counted: wrong" in run.stdout
