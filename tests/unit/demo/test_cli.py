"""The command line, without processes: what is refused, and how that is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trio_progress import __version__
from trio_progress.cli import main
from trio_progress.cli.demo import DEFAULT_QUESTION


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("trio-progress: ")
    return lines[0]


def test_what_cannot_be_asked_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "the question is empty" in refused(["demo", " "], capsys)
    assert "can be searched for" in refused(["demo", "how", "is", "it"], capsys)
    assert "there is no folder" in refused(["demo", "--corpus", str(tmp_path / "none")], capsys)
    assert "not a folder" in refused(["demo", "--corpus", __file__], capsys)


def test_a_folders_name_cannot_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(["demo", "--corpus", "/none\x1b[2J\nforged: all is well"], capsys)
    assert line.isprintable()


def test_an_empty_corpus_is_refused_with_the_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--corpus", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].startswith("trio-progress: ")
    assert "has no file to read" in captured.err.splitlines()[-1]
    assert "Traceback" not in captured.err


def test_the_answer_goes_to_standard_output_and_the_progress_to_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.md").write_text("# Backups\n\nWe decided to keep backups for two years.\n")
    assert main(["demo", "--corpus", str(tmp_path), "what", "was", "decided", "on", "backups?"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("what was decided on backups?\n")
    assert "notes.md:3" in captured.out
    assert "100 %" in captured.err
    assert "100 %" not in captured.out


def test_nothing_found_is_said_and_is_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("something\n")
    assert main(["demo", "--corpus", str(tmp_path), "zebra"]) == 1
    assert capsys.readouterr().out == f"zebra\n\nNothing in {tmp_path} speaks of that.\n"


def test_help_teaches_and_names_what_is_asked_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["--help"], ["examples:", "demo"]),
        (["demo", "--help"], ["--corpus", "exit codes", DEFAULT_QUESTION]),
    ):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 0
        told = re.sub(r"\s+", " ", capsys.readouterr().out)
        assert all(word in told for word in words)


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"trio-progress {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["demo", "--nonsense"]])
def test_wrong_arguments_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "usage: trio-progress" in capsys.readouterr().err
