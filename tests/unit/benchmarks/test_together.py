"""All suites into one file, two files side by side, and the page of results in docs/ made of one."""

from __future__ import annotations

import argparse
import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import page, suites, together
from benchmarks.__main__ import main
from benchmarks.report import Report
from benchmarks.suites import MissingError, Suite, discover
from tests.documents import text_of


def report(name: str, ours: list[float], rival: list[float]) -> Report:
    made = Report(name, {"rounds": len(ours)})
    made.add("an operation", "ns", {"ours": ours, "rival": rival}, against=("rival",), headline={"ours": ("rival",)})
    made.add("not for the page", "ns", {"ours": [1.0] * len(ours)})
    made.aim("ours to the rival", "x", 1.5, ours, rival)
    return made


def run_of(ours: list[float], rival: list[float]) -> together.Run:
    made = report("one", ours, rival).as_json()
    return {"began": made["began"], "machine": made["machine"], "full": False, "suites": {"one": made}}


def test_all_runs_every_suite_with_its_short_arguments_or_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[list[str]] = []
    saved: list[int] = []

    def raising(error: BaseException) -> Suite:
        def run(options: argparse.Namespace) -> Report:
            raise error

        return Suite("raising", "", 1, lambda _: None, run)

    suites = {
        "a": Suite("a", "", 1, lambda _: None, lambda _: report("a", [1.0], [2.0]), ("--rounds", "2")),
        "b": raising(ModuleNotFoundError("no", name="tqdm")),
        "c": raising(MissingError("there is no redis-server")),
        "d": raising(ValueError("a bug")),
        "e": raising(SystemExit("seed 7 fails")),
        "f": Suite("f", "", 1, lambda _: None, lambda _: report("f", [1.0], [2.0])),
    }

    def parse(arguments: list[str]) -> argparse.Namespace:
        asked.append(arguments)
        return argparse.Namespace()

    run = together.run_all(suites, parse, full=False, save=lambda run: saved.append(len(run["suites"])))
    together.run_all(suites, parse, full=True)
    assert asked[:2] == [["a", "--rounds", "2"], ["b"]]
    assert asked[6:8] == [["a"], ["b"]]
    assert set(run["suites"]) == {"a", "f"}
    assert saved == [1, 1, 1, 1, 1, 2], "what was measured is kept, should the next one take the machine down"
    assert run["left_out"]["b"].startswith("tqdm is not installed: pip install")
    assert run["left_out"]["c"] == "there is no redis-server"
    assert run["failed"] == {"d": "ValueError: a bug", "e": "SystemExit: seed 7 fails"}
    assert run["machine"]["cores"] >= 1
    said = capsys.readouterr().err
    assert "c: left out, there is no redis-server" in said
    assert "d: failed" in said
    json.dumps(run, allow_nan=False)
    made = page.page(run)
    assert "`c` was left out: there is no redis-server." in made
    assert "`e` FAILED: SystemExit: seed 7 fails." in made


def test_a_failed_suite_fails_all_and_a_missing_program_only_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(options: argparse.Namespace) -> Report:
        raise errors.pop()

    suite = Suite("one", "", 1, lambda _: None, run)
    monkeypatch.setattr(suites, "discover", lambda *_: {"one": suite})
    out = tmp_path / "all.json"
    errors: list[Exception] = [ValueError("a bug"), MissingError("nothing to measure with")]
    assert main(["all", "--json", str(out)]) == 0
    assert json.loads(out.read_text())["left_out"] == {"one": "nothing to measure with"}
    assert main(["all", "--json", str(out)]) == 1
    assert json.loads(out.read_text())["failed"] == {"one": "ValueError: a bug"}
    errors.append(MissingError("nothing to measure with"))
    assert main(["one"]) == 1
    assert capsys.readouterr().err.endswith("nothing to measure with\n")
    assert main(["all", "--json", str(tmp_path / "no folder" / "all.json")]) == 1


def test_every_suite_can_be_parsed_with_its_short_arguments(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parsed: dict[str, argparse.Namespace] = {}

    def note(suites: dict[str, Suite], parse: Any, *, full: bool, save: Any) -> together.Run:
        parsed.update({name: parse([name, *suite.short]) for name, suite in suites.items()})
        save({"suites": {}})
        return {"failed": {}}

    monkeypatch.setattr(together, "run_all", note)
    assert main(["all", "--json", str(tmp_path / "all.json")]) == 0
    assert set(parsed) == set(discover()) >= {"fanout", "hot", "latency", "races", "sessions", "slow", "soak", "sqlite"}
    assert parsed["races"].runs == 1000
    assert json.loads((tmp_path / "all.json").read_text()) == {"suites": {}}


def test_compare_tells_what_moved_from_what_only_wavered() -> None:
    before, after = run_of([10.0, 11.0, 12.0], [5.0, 5.0, 5.0]), run_of([20.0, 21.0, 22.0], [5.0, 4.0, 6.0])
    for every in (False, True):
        printed = io.StringIO()
        assert together.compare(before, after, printed, every=every) == 1
        lines = [line.split() for line in printed.getvalue().splitlines()]
        assert ["an", "operation,", "ours", "11.0", "21.0", "ns", "1.91x", "MOVED"] in lines
        assert (["an", "operation,", "rival", "5.00", "5.00", "ns"] in lines) == every
        assert "another one" not in printed.getvalue()
    same = io.StringIO()
    assert together.compare(before, before, same) == 0
    assert "\none" not in same.getvalue(), "no heading above nothing"


def test_what_was_measured_once_moves_by_a_quarter_and_what_is_counted_by_one() -> None:
    def moved(ours: float, then: float, unit: str = "ns") -> int:
        before, after = run_of([ours], [5.0]), run_of([then], [5.0])
        for run in (before, after):
            run["suites"]["one"]["rows"][0]["unit"] = unit
        return together.compare(before, after, io.StringIO())

    assert moved(10.0, 12.0) == moved(12.0, 10.0) == 0
    assert moved(10.0, 12.6) == moved(12.6, 10.0) == 1
    assert moved(0.0, 1.0) == 1
    assert moved(112.0, 113.0, "schedules") == 1


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
    assert printed.getvalue().count("only after") == 1, "one line for a suite"


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
    assert "| an operation: `ours` | 30.0 ns | **3.00x** `rival` (10.0) |" in text, "a rival that is cheaper stands out"
    assert "Missed in this run, of 1 limits that we have set ourselves: ours to the rival 3 x, not 1.50." in text
    assert "not for the page" not in text
    assert page.find(text)
    assert page.find(text.replace("| 30.0 ns |", "| 30.0 ns")) is None
    assert page.find(text.replace("**`python", "`python")) is None
    readme.write_text("no place")
    assert main(["page", str(run), "--into", str(readme)]) == 1


def test_trackers_that_are_counted_have_a_column_each_and_the_better_one_stands_out() -> None:
    made = Report("races", {"runs": 3})
    every = {"old": [7.0], "old, remedied": [2.0], "ours": [3.0]}
    made.add("messages lost", "messages", every, headline={"ours": ("old", "old, remedied")})
    made.add("CPU", "us", every, headline={"ours": ("old", "old, remedied")})
    made.add("waited", "s", {"old, remedied": [9.0], "ours": [3.0]}, headline={"ours": ("old, remedied",)})
    shown = page.page({**run_of([1.0], [1.0]), "suites": {"races": {**made.as_json(), "summary": "what it is"}}})
    assert "**`python -m benchmarks races`**: what it is (runs 3)\n\n| | old | old, remedied | ours | |\n" in shown
    assert "| messages lost | 7 | 2 | 3 | messages |" in shown
    assert "| CPU | 7.00 | **2.00** | 3.00 | us |" in shown
    assert "| waited | - | 9.00 | 3.00 | s |" in shown
    assert page.find(shown)


def test_the_page_tells_how_busy_the_machine_was() -> None:
    run = run_of([1.0], [1.0])
    run["machine"] = {**run["machine"], "load": 2.5}
    run["suites"]["one"]["machine"] = {**run["machine"], "load": 0.75}
    assert ", load 0.75 to 2.50, " in page.page(run)
    run["machine"]["load"] = run["suites"]["one"]["machine"]["load"] = None
    assert ", load unknown, " in page.page(run)


def test_a_suite_without_headlines_shows_its_limits_and_its_first_note() -> None:
    made = Report("two", {"rounds": 1})
    made.add("schedules", "schedules", {"explore": [200.0]})
    made.aim("a schedule", "ms", 10.0, [2.5])
    made.notes += ["none of 200 failed", "not this"]
    shown = page.page({**run_of([1.0], [1.0]), "suites": {"two": made.as_json()}})
    assert "| a schedule | 2.50 ms | 10 |\n\nnone of 200 failed\n" in shown
    assert "not this" not in shown


def test_a_headline_of_what_was_not_measured_is_refused() -> None:
    with pytest.raises(ValueError, match=r"names \['tqdm'\], measured are \['ours'\]"):
        Report("one", {}).add("an operation", "ns", {"ours": [1.0]}, headline={"ours": ("tqdm",)})


def test_the_results_in_the_docs_have_the_form_of_the_page_and_the_races_rows() -> None:
    text = text_of("results.md")
    made = page.find(text)
    assert made, "make it: `python -m benchmarks all --json RUN`, then `page RUN --into docs/results.md`"
    for suite in ("hot", "races", "sessions", "sqlite"):
        assert f"**`python -m benchmarks {suite}`**" in made
    races = [line for line in made.splitlines() if ": schedules with it" in line]
    assert len(races) == 4
    for line in races:
        old, _, ours = (cell.strip().replace(",", "") for cell in line.split("|")[2:5])
        assert int(old) > 10
        assert ours == "0"
