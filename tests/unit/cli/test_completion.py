"""What a shell is offered at a TAB: commands, options, statuses, folders, and the ids of the sessions in a store."""

from __future__ import annotations

import io
import os
from pathlib import Path
from unittest import mock

import pytest

from trio_progress import PipelineHistory
from trio_progress.blocking import Client
from trio_progress.cli import parser
from trio_progress.cli.completion import SHELLS
from trio_progress.cli.completion_answer import SETTINGS, Finder

EVIL = "\x1b]0;owned\x07\x1b[2Jevil\x7f\u202e\nforged"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with three sessions, named by the environment."""
    url = f"sqlite:{tmp_path / 'progress.db'}"
    with Client(url) as client:
        client.declare("r-1", title="One")
        client.declare("r-2", title=EVIL)
        client.declare("r-3")
        client.cancel("r-3", "no longer wanted")
    monkeypatch.setenv("TRIO_PROGRESS_STORE", url)
    return url


class Asked(Finder):
    """A finder that leaves file descriptor 9 alone, which is pytest's own."""

    def _init_debug_stream(self) -> None:
        pass


def described(line: str) -> dict[str, str]:
    """What the last word of a line can become, in the order in which it is offered, with what each is, as fish asks."""
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_SHELL": "fish", "_ARGCOMPLETE_SUPPRESS_SPACE": "1"}
    separators = {"_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_DFS": "\t"}
    whole = f"trio-progress {line}"
    answer = io.StringIO()
    with mock.patch.dict(os.environ, asked | separators, COMP_LINE=whole, COMP_POINT=str(len(whole))):
        Asked()(parser.parser(), output_stream=answer, exit_method=lambda _code: None, **SETTINGS)
    return dict(found.split("\t") for found in answer.getvalue().split("\n") if found)


def completed(line: str) -> list[str]:
    return list(described(line))


def test_commands_are_completed_and_options_once_a_dash_is_typed() -> None:
    commands = ["demo", "ls", "show", "watch", "cancel", "release", "rm", "history", "serve", "token", "completion"]
    assert completed("") == commands
    assert completed("c") == ["cancel", "completion"]
    assert completed("-") == ["--help", "--version"]
    assert completed("rm -") == ["--help", "--label", "--yes", "--store"]
    assert completed("ls --l") == ["--label", "--limit"]
    assert completed("nonsense x") == []


def test_an_option_is_not_offered_again_but_where_it_may_be_given_again() -> None:
    assert completed("ls --json --") == [
        "--help", "--label", "--status", "--parent", "--limit", "--all", "--watch", "--store",
    ]  # fmt: skip
    assert "--label" in completed("ls --label a=b --")
    assert "--all" not in completed("ls --limit 3 --")


def test_values_are_completed_where_there_are_some_to_choose_from() -> None:
    assert completed("ls --status ") == list(parser.STATUSES)
    assert completed("ls --status c") == ["completed", "cancelled"]
    assert completed("ls --status=f") == ["--status=failed"]
    assert completed("completion ") == list(SHELLS)


def test_nothing_is_offered_where_anything_may_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "what").touch()
    monkeypatch.chdir(tmp_path)
    for line in ("ls --limit ", "ls --label ", "demo w", "show --store "):
        assert completed(line) == [], line


def test_ids_of_sessions_are_completed_but_for_those_already_given(store: str) -> None:
    assert completed("show ") == ["r-3", "r-2", "r-1"]
    assert completed("watch r-1 r-") == ["r-3", "r-2"]
    assert completed("rm --yes r-3 r-1 ") == ["r-2"]
    assert completed("demo --resume r-1") == ["r-1"]
    assert completed("demo --resume=r-1") == ["--resume=r-1"]
    assert completed("rm -- r-1") == ["r-1"]


def test_sessions_are_those_of_the_store_that_the_line_names(store: str, tmp_path: Path) -> None:
    other = f"sqlite:{tmp_path / 'other.db'}"
    with Client(other) as client:
        client.declare("o-1")
    assert completed(f"show --store {other} ") == completed(f"show --store={other} ") == ["o-1"]
    assert completed(f"demo --store {other} --resume ") == ["o-1"]


def test_pipelines_that_have_a_history_are_completed(store: str) -> None:
    assert completed("history ") == []
    with Client(store) as client:
        client.import_history("research", PipelineHistory(runs=1, at=1.8e9))
    assert completed("history ") == completed("history r") == ["research"]
    assert completed("history --store sqlite:/no/such/file ") == []


def test_descriptions_say_what_is_offered_in_a_few_words_that_no_terminal_obeys(store: str) -> None:
    assert described("sh") == {"show": "show one session"}
    assert described("ls --lim") == {"--limit": "at most so many"}
    assert described("demo --resume=r-1") == {"--resume=r-1": "queued, One"}
    sessions = described("show ")
    assert sessions["r-1"] == "queued, One"
    assert sessions["r-3"] == "cancelled, r-3"
    assert "evil" in sessions["r-2"]
    assert sessions["r-2"].isprintable()


def test_a_folder_is_completed_by_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "corpus" / "inner").mkdir(parents=True)
    (tmp_path / "cover.txt").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert completed("demo --corpus c") == ["corpus/"]
    assert completed("demo --corpus corpus/") == ["corpus/inner/"]
    assert completed(f"demo --corpus {tmp_path}/c") == [f"{tmp_path}/corpus/"]
    assert completed("demo --corpus ~/c") == ["~/corpus/"]
    assert completed("demo --corpus=c") == ["--corpus=corpus/"]
    assert completed("demo --corpus nowhere/") == []


def test_a_store_that_cannot_be_read_offers_no_sessions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "garbage.db").write_bytes(b"garbage " * 100)
    for store in (f"sqlite:{tmp_path}/garbage.db", f"sqlite:{tmp_path}/none.db", "postgres://x", "''"):
        assert completed(f"show --store {store} ") == []
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "none.db").exists()
