"""All suites into one file, two files side by side, and README's page made of one."""

from __future__ import annotations

import argparse
import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import page, together
from benchmarks.__main__ import main
from benchmarks.report import Report
from benchmarks.suites import Suite, discover

README = Path(__file__).parents[2] / "README.md"


def report(name: str, ours: list[float], rival: list[float]) -> Report:
    made = Report(name, {"rounds": len(ours)})
    made.add("an operation", "ns", {"ours": ours, "rival": rival}, against=("rival",))
    made.aim("ours to the rival", "x", 1.5, ours, rival)
    return made


def run_of(ours: list[float], rival: list[float]) -> together.Run:
    made = report("one", ours, rival).as_json()
    return {"began": made["began"], "machine": made["machine"], "full": False, "suites": {"one": made}}


def test_all_runs_every_suite_with_its_short_arguments_or_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[list[str]] = []

    def missing(options: argparse.Namespace) -> Report:
        raise ModuleNotFoundError("no", name="tqdm")

    suites = {
        "a": Suite("a", "", 1, lambda _: None, lambda _: report("a", [1.0], [2.0]), ("--rounds", "2")),
        "b": Suite("b", "", 1, lambda _: None, missing),
    }

    def parse(arguments: list[str]) -> argparse.Namespace:
        asked.append(arguments)
        return argparse.Namespace()

    run = together.run_all(suites, parse, full=False)
    together.run_all(suites, parse, full=True)
    assert asked == [["a", "--rounds", "2"], ["b"], ["a"], ["b"]]
    assert set(run["suites"]) == {"a"}
    assert run["left_out"] == {"b": "tqdm is not installed"}
    assert run["machine"]["cores"] >= 1
    assert "b: left out, tqdm is not installed" in capsys.readouterr().err
    json.dumps(run, allow_nan=False)


def test_every_suite_can_be_parsed_with_its_short_arguments(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parsed: dict[str, argparse.Namespace] = {}

    def note(suites: dict[str, Suite], parse: Any, *, full: bool) -> together.Run:
        parsed.update({name: parse([name, *suite.short]) for name, suite in suites.items()})
        return {"suites": {}}

    monkeypatch.setattr(together, "run_all", note)
    assert main(["all", "--json", str(tmp_path / "all.json")]) == 0
    assert set(parsed) == set(discover()) >= {"fanout", "hot", "latency", "races", "sessions", "slow", "soak", "sqlite"}
    assert parsed["races"].runs == 1000
    assert json.loads((tmp_path / "all.json").read_text()) == {"suites": {}}


def test_compare_tells_what_moved_from_what_only_wavered() -> None:
    before, after = run_of([10.0, 11.0, 12.0], [5.0, 5.0, 5.0]), run_of([20.0, 21.0, 22.0], [5.0, 4.0, 6.0])
    printed = io.StringIO()
    assert together.compare(before, after, printed) == 1
    lines = [line.split() for line in printed.getvalue().splitlines()]
    assert ["an", "operation,", "ours", "11.0", "21.0", "ns", "1.91x", "MOVED"] in lines
    assert ["an", "operation,", "rival", "5.00", "5.00", "ns"] in lines
    assert "another one" not in printed.getvalue()
    same = io.StringIO()
    assert together.compare(before, before, same) == 0


def test_compare_says_when_the_machine_is_another_and_when_a_figure_is_in_one_file_only() -> None:
    before = run_of([1.0], [1.0])
    after = copy.deepcopy(before)
    after["machine"] |= {"cpu": "another", "load": 99}
    after["suites"]["two"] = report("two", [3.0], [1.0]).as_json()
    del after["suites"]["one"]["rows"][1]
    printed = io.StringIO()
    together.compare(before, after, printed)
    assert "The machine, or a version, is another one" in printed.getvalue()
    assert "only before" in printed.getvalue()
    assert printed.getvalue().count("only after") == 2


def test_compare_on_the_command_line_takes_files_of_one_suite_as_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, every, other = (tmp_path / name for name in ("one.json", "every.json", "other.json"))
    report("one", [10.0], [5.0]).write(one)
    every.write_text(json.dumps(run_of([30.0], [5.0])))
    other.write_text("[]")
    assert main(["compare", str(one), str(every)]) == 0
    assert "1 moved" in capsys.readouterr().out
    assert main(["compare", str(one), str(other)]) == 1
    assert "other.json is not what" in capsys.readouterr().err
    assert main(["compare", str(one), str(tmp_path / "none.json")]) == 1


def test_a_page_is_put_where_the_one_before_was_and_nothing_else_changes(tmp_path: Path) -> None:
    readme, run = tmp_path / "README.md", tmp_path / "run.json"
    run.write_text(json.dumps(run_of([30.0], [10.0])))
    readme.write_text(f"before\n\n{page.BEGIN}\nold\n{page.END}\n\nafter\n")
    for _ in range(2):
        assert main(["page", str(run), "--into", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith(f"before\n\n{page.BEGIN}\n")
    assert text.endswith(f"{page.END}\n\nafter\n")
    assert "| an operation | `ours` | 30.0 ns | 3.00x `rival` |" in text
    assert "Targets missed in this run: ours to the rival 3.00 x." in text
    assert page.find(text)
    assert page.find(text.replace("| `ours` |", "| `ours`")) is None
    assert page.find(text.replace("**`python", "`python")) is None
    readme.write_text("no place")
    assert main(["page", str(run), "--into", str(readme)]) == 1


def test_the_results_in_readme_have_the_form_of_the_page_and_the_races_rows() -> None:
    text = README.read_text(encoding="utf-8")
    made = page.find(text)
    assert made, "make it: `python -m benchmarks all --json RUN`, then `python -m benchmarks page RUN --into README.md`"
    for suite in ("hot", "races", "sessions", "sqlite"):
        assert f"**`python -m benchmarks {suite}`**" in made
    races = [line for line in made.splitlines() if ": schedules with it" in line]
    assert len(races) == 4
    for line in races:
        old, _, ours = (cell.strip().replace(",", "") for cell in line.split("|")[2:5])
        assert int(old) > 10
        assert ours == "0"
