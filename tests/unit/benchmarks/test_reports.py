"""How the benchmarks reckon and report; that they measure is for tests/integration/test_benchmarks_measure.py."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from benchmarks import suites
from benchmarks.__main__ import main
from benchmarks.harness import Spread
from benchmarks.report import Report
from tests.benchmark_shape import check_shape


def test_a_ratio_is_taken_within_a_round_so_that_a_slow_round_is_slow_for_both() -> None:
    ours, rival = [2.0, 20.0, 3.0], [1.0, 10.0, 1.0]
    assert Spread.ratio(ours, rival) == Spread(median=2.0, low=2.0, high=3.0)
    assert Spread.ratio(ours, [1.0, 0.0, 1.0]) is None


def test_a_report_prints_what_it_writes(tmp_path: Path) -> None:
    report = Report("one", {"rounds": 3})
    values = {"us": [30.0, 10.0, 20.0], "rival": [10.0, 10.0, 10.0]}
    report.add("an operation", "ns", values, against=("rival",))
    report.aim("us to the rival", "x", 1.5, values["us"], values["rival"])
    report.aim("us", "ns", 25.0, values["us"])
    report.write(tmp_path / "one.json")
    check_shape(json.loads((tmp_path / "one.json").read_text()), rounds=3)
    printed = io.StringIO()
    report.print(printed)
    lines = [line.split() for line in printed.getvalue().splitlines()]
    assert ["us", "20.0", "ns", "(10.0", "to", "30.0)", "2.00x", "rival", "(1.00", "to", "3.00)"] in lines
    assert ["us", "to", "the", "rival", "2.00", "x", "<=", "1.50", "MISSED"] in lines
    assert ["us", "20.0", "ns", "<=", "25.0", "met"] in lines


def test_suites_that_register_themselves_are_found_and_no_two_have_one_name() -> None:
    found = suites.discover()
    assert {"hot", "sessions"} <= set(found)
    with pytest.raises(ValueError, match="two suites are named 'hot'"):
        suites.register(suites.Suite("hot", "", 1, lambda _: None, lambda _: Report("hot", {})))


@pytest.mark.parametrize(
    "arguments", [["hot", "--rounds", "0"], ["hot", "--span", "-1"], ["sessions", "--idle", "nan"]]
)
def test_the_command_line_refuses_what_cannot_be_measured(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert arguments[1] in capsys.readouterr().err
