"""`python -m benchmarks sessions` as a user runs it: each contender in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]


def test_sqlite_measures_beside_bare_sqlite3_and_with_a_watching_process(tmp_path: Path) -> None:
    out = tmp_path / "sqlite.json"
    small = ["--count", "20", "--rounds", "2", "--updates", "10", "--idle", "0.5", "--json", str(out)]
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "sqlite", *small], cwd=ROOT, capture_output=True, text=True, check=True
    )
    report = json.loads(out.read_text())
    rows = {(row["group"].partition(",")[0], row["name"]): row for row in report["rows"]}
    assert len(rows) == len(report["rows"]) == 8
    assert all(len(row["rounds"]) == 2 and row["low"] > 0 for row in rows.values() if row["name"] != "watcher")
    assert rows["an update", "p50"]["high"] <= rows["an update", "p99"]["high"]
    assert [target["limit"] for target in report["targets"]] == [30.0, 100.0, 1.5]
    assert "bare sqlite3, a batch" in run.stdout


def test_sessions_measures_in_fresh_processes_and_writes_json(tmp_path: Path) -> None:
    out = tmp_path / "sessions.json"
    small = ["--count", "20", "--rounds", "2", "--settle", "0.01", "--idle", "0.05", "--json", str(out)]
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "sessions", *small], cwd=ROOT, capture_output=True, text=True, check=True
    )
    report = json.loads(out.read_text())
    assert report["settings"] == {"rounds": 2, "count": 20, "settle": 0.01, "idle": 0.05}
    timed = [row for row in report["rows"] if row["group"] == "enter, all at once"]
    assert [row["name"] for row in timed] == ["session", "trio nursery with 3 tasks", "asyncio TaskGroup with 3 tasks"]
    assert all(len(row["rounds"]) == 2 for row in timed)
    assert {target["limit"] for target in report["targets"]} == {120.0, 200.0, 24.0}
    assert "targets" in run.stdout
    assert "6 of 6 runs" in run.stderr
