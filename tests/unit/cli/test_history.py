"""`history`: what earlier runs of a pipeline have taught, listed, shown, given on, taken over and forgotten."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from trio_progress import PhaseHistory, PipelineHistory
from trio_progress.blocking import Client
from trio_progress.cli import exit_codes, main
from trio_progress.cli.history_page import history_page, pipelines_table, usual_seconds
from trio_progress.cli.output import Stdout
from trio_progress.terminal.cells import cells
from trio_progress.terminal.symbols import UNICODE

Capture = pytest.CaptureFixture[str]

NOW = 1.8e9

RESEARCH = PipelineHistory(
    runs=5,
    at=NOW - 180,
    judged=4,
    error=0.034,
    phases={
        "search": PhaseHistory(runs=5, reached=5, seconds=60.0, unit_seconds=0.2, count=312.4, at=NOW),
        "check": PhaseHistory(runs=4, reached=5, seconds=20.0, alone=0.5, worked=0.8, at=NOW),
        "\x1b[2Jevil": PhaseHistory(seconds=0.25, at=NOW),
    },
)


def stdout(width: int = 100) -> Stdout:
    return Stdout(terminal=True, width=width, symbols=UNICODE, colours=False)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store that knows two pipelines, named by the environment."""
    url = f"sqlite:{tmp_path / 'progress.db'}"
    with Client(url) as client:
        client.import_history("research", RESEARCH)
        client.import_history("crawl", PipelineHistory(runs=1, at=NOW))
    monkeypatch.setenv("TRIO_PROGRESS_STORE", url)
    return url


def said(capsys: Capture) -> str:
    """What went to standard error, which is one line."""
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.isprintable()
    return line


def test_the_page_says_how_long_each_phase_takes_and_how_far_off_the_bar_was() -> None:
    lines = [" ".join(line.split()) for line in history_page("research", RESEARCH, NOW, stdout())]
    assert lines == [
        "research 5 runs, the last 3 min ago, usually 1m 08s",
        "its bar was off by 3 % of the time, in the mean of 4 runs",
        "",
        "PHASE USUALLY A UNIT UNITS RUNS WORKED ON",
        "search 1m 00s 0.2 s 312 5",
        "check 20s 4 80 %",
        "evil 0.3s 1",
    ]
    assert usual_seconds(RESEARCH) == pytest.approx(68.25)


def test_pipelines_are_listed_with_what_is_known_of_them() -> None:
    known = {"research": RESEARCH, "crawl": PipelineHistory(runs=1)}
    assert [" ".join(line.split()) for line in pipelines_table(known, NOW, stdout())] == [
        "PIPELINE RUNS LAST RUN USUALLY BAR OFF BY",
        "research 5 3 min ago 1m 08s 3 %",
        "crawl 1 - 0s",
    ]


@pytest.mark.parametrize("width", [1, 10, 30, 60])
def test_the_pages_are_never_wider_than_the_terminal(width: int) -> None:
    pages = (
        history_page("r" * 90, RESEARCH, NOW, stdout(width)),
        pipelines_table({"r" * 90: RESEARCH}, NOW, stdout(width)),
    )
    for line in (line for page in pages for line in page):
        assert line.isprintable()
        assert cells(line) <= width


def test_a_history_is_given_on_and_taken_over(store: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["history", "research", "--json"]) == exit_codes.OK
    given = capsys.readouterr().out
    assert json.loads(given)["phases"]["search"]["seconds"] == 60
    file = tmp_path / "research.json"
    file.write_text(given, "utf-8")
    assert main(["history", "other", "--import", str(file)]) == exit_codes.OK
    assert said(capsys) == "other: history of 5 runs and 3 phases imported"
    with Client(store) as client:
        assert client.history("other") == RESEARCH


def test_a_history_is_taken_over_from_standard_input_into_a_store_that_is_made_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.delenv("TRIO_PROGRESS_STORE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert main(["history"]) == exit_codes.OK
    assert "no history yet" in said(capsys)
    assert not (tmp_path / "state").exists()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(RESEARCH.to_json().encode())))
    assert main(["history", "research", "--import", "-"]) == exit_codes.OK
    assert "imported" in said(capsys)
    assert main(["history", "--json"]) == exit_codes.OK
    assert list(json.loads(capsys.readouterr().out)) == ["research"]


@pytest.mark.usefixtures("store")
def test_a_history_is_forgotten(capsys: Capture) -> None:
    assert main(["history", "research", "--delete"]) == exit_codes.OK
    assert said(capsys) == "research: history forgotten"
    assert main(["history", "research", "--delete"]) == exit_codes.NOT_FOUND
    assert "there is no history of pipeline 'research'" in said(capsys)
    assert main(["history"]) == exit_codes.OK
    assert "crawl" in capsys.readouterr().out


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["unknown"], exit_codes.NOT_FOUND, "there is no history of pipeline 'unknown'"),
        (["--delete"], exit_codes.USAGE, "--delete needs the name of a pipeline"),
        (["--import", "x"], exit_codes.USAGE, "--import needs the name of a pipeline"),
        (["research", "--import", "no/such/file"], exit_codes.USAGE, "cannot be read"),
        (["research", "--store", "sqlite:/no/such/file.db"], exit_codes.STORE, "there is no such file"),
    ],
)
def test_bad_input_is_refused_with_a_line_and_a_code(
    arguments: list[str], code: int, words: str, capsys: Capture
) -> None:
    assert main(["history", *arguments]) == code
    assert words in said(capsys)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"runs": -1}', '{"phases": {"a": {"seconds": 0}}}', "\xff"])
def test_a_file_that_is_no_history_changes_nothing(text: str, store: str, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(text.encode("latin-1"))
    assert main(["history", "research", "--import", str(file)]) == exit_codes.USAGE
    assert "this is no history" in said(capsys)
    with Client(store) as client:
        assert client.history("research") == RESEARCH


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("arguments", [["a\nb"], ["research", "--json", "--delete"]])
def test_what_no_pipeline_can_be_called_is_wrong_use(arguments: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as wrong:
        main(["history", *arguments])
    assert wrong.value.code == exit_codes.USAGE
    assert "error" in capsys.readouterr().err
