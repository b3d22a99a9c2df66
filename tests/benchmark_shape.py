"""The form of a benchmark's report, judged by the tests that measure and by those that do not."""

from __future__ import annotations

from typing import Any


def check_shape(report: dict[str, Any], rounds: int) -> None:
    """What a reader of the JSON, and a later `compare`, may count on."""
    assert set(report) == {"suite", "began", "machine", "settings", "rows", "targets", "notes"}
    assert {"cpu", "cores", "system", "load", "python", "packages"} == set(report["machine"])
    assert len({(row["group"], row["name"]) for row in report["rows"]}) == len(report["rows"])
    for row in report["rows"]:
        assert row["low"] <= row["median"] <= row["high"]
        assert len(row["rounds"]) in (1, rounds)
        beside = {other["name"] for other in report["rows"] if other["group"] == row["group"]}
        assert set(row["ratios"]) < beside
    for target in report["targets"]:
        assert target["met"] is (target["value"] <= target["limit"])
