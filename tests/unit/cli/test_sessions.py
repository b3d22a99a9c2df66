"""The command line on a store, in this process: what it prints, what it refuses, and by which exit code."""

from __future__ import annotations

import io
import json
import re
import socket
import sqlite3
import stat
import sys
from pathlib import Path
from typing import get_args

import pytest

from trio_progress import Pipeline
from trio_progress.blocking import Client
from trio_progress.cli import exit_codes, main, parser, store_location
from trio_progress.protocol.snapshot import ENDED, SessionStatus
from trio_progress.storage.folders import state_folder

Capture = pytest.CaptureFixture[str]

EVIL = "\x1b]0;owned\x07\x1b[2Jevil\x7f\u202e\nforged"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store with three queued sessions, named by the environment."""
    url = f"sqlite:{tmp_path / 'progress.db'}"
    with Client(url) as client:
        client.declare("r-1", Pipeline("research", {"search": 3, "report": 1}), title="One", labels={"user": "u1"})
        client.declare("r-2", title=EVIL, labels={"user": "u1", "team": EVIL})
        client.declare("r-3", labels={"user": "u2"})
        client.cancel("r-3", "no longer wanted")
    monkeypatch.setenv("TRIO_PROGRESS_STORE", url)
    return url


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has kept nothing yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def said(capsys: Capture) -> str:
    """What went to standard error, which is one line."""
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.isprintable()
    return line


def test_the_statuses_and_codes_are_those_that_there_are() -> None:
    assert get_args(SessionStatus) == parser.STATUSES
    assert set(exit_codes.ENDED) == ENDED
    assert len(set(exit_codes.ENDED.values())) == len(ENDED)


def test_a_user_who_has_kept_nothing_has_no_sessions_and_gets_no_file(home: Path, capsys: Capture) -> None:
    assert main(["ls"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["ls", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    for command in (
        ["show", "r"],
        ["cancel", "r"],
        ["release", "r"],
        ["rm", "r"],
        ["watch", "r", "--no-wait"],
        ["demo", "--resume", "r"],
    ):
        assert main(command) == exit_codes.NOT_FOUND
        assert "there is no session 'r'" in said(capsys)
    assert main(["rm", "--label", "user=u1"]) == 0
    assert not home.exists()


@pytest.mark.parametrize("command", [["ls"], ["serve", "--port", "0"], ["demo", "x"]])
def test_the_home_of_a_user_that_is_not_there_is_told(command: list[str], capsys: Capture) -> None:
    assert main([*command, "--store", "sqlite:~nosuchuser/x.db"]) == exit_codes.USAGE
    assert "'~nosuchuser/x.db'" in said(capsys)


def test_the_users_own_store_is_for_nobody_else(home: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("We keep backups for two years.\n")
    assert main(["demo", "--corpus", str(tmp_path), "backups"]) == 0
    assert stat.S_IMODE((home / "trio-progress").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "trio-progress" / "sessions.db").stat().st_mode) == 0o600


def test_piped_a_list_is_a_line_for_each_session_with_tabs_between(store: str, capsys: Capture) -> None:
    assert main(["ls"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in rows] == ["r-3", "r-2", "r-1"]
    assert all(len(row) == 8 for row in rows)
    assert rows[2][1:3] == ["queued", "0"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", rows[2][3])
    assert rows[2][4:7] == ["", "", "One"]
    assert json.loads(rows[1][7]) == {"user": "u1", "team": EVIL}
    assert "\x1b" not in rows[1][6]


def test_a_list_is_filtered_and_cut(store: str, capsys: Capture) -> None:
    def ids(*arguments: str) -> list[str]:
        assert main(["ls", *arguments]) == 0
        return [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()]

    assert ids("--label", "user=u1") == ["r-2", "r-1"]
    assert ids("--label", "user=u1", "--label", f"team={EVIL}") == ["r-2"]
    assert ids("--status", "cancelled") == ["r-3"]
    assert ids("--status", "cancelled", "--status", "lost") == ["r-3"]
    assert ids("--status", "cancelled", "--status", "queued", "--limit", "2") == ["r-3", "r-2"]
    assert ids("--limit", "1") == ["r-3"]
    assert ids("--all") == ["r-3", "r-2", "r-1"]
    assert ids("--label", "user=nobody") == []
    with Client(store) as client:
        for number in range(2):
            client.declare(f"shard-{number}", parent="r-1")
    assert ids("--parent", "r-1") == ["shard-1", "shard-0"]
    assert ids("--parent", "r-1", "--status", "cancelled") == []
    assert ids("--parent", "r-2") == []


def test_json_is_one_array_or_object_of_whole_states_in_plain_ascii(store: str, capsys: Capture) -> None:
    assert main(["ls", "--json"]) == 0
    out = capsys.readouterr().out
    assert all(line.isascii() and line.isprintable() for line in out.splitlines())
    listed = json.loads(out)
    assert [one["id"] for one in listed] == ["r-3", "r-2", "r-1"]
    assert listed[1]["labels"]["team"] == EVIL
    assert main(["show", "r-3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == listed[0]
    with Client(store) as client:
        snapshot = client.snapshot("r-1")
    assert set(listed[2]) == set(snapshot.__struct_fields__) - {"resume"}
    assert [phase["name"] for phase in listed[2]["phases"]] == ["search", "report"]
    assert listed[0]["error"] == {"type": "Cancelled", "message": "no longer wanted", "details": {}}


def test_a_session_is_shown_and_nothing_in_it_can_act_on_the_terminal(store: str, capsys: Capture) -> None:
    assert main(["show", "r-2"]) == 0
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines())
    assert "r-2  queued  0 %" in out
    assert "evil forged" in out
    assert main(["show", "r-9"]) == exit_codes.NOT_FOUND
    assert said(capsys) == "trio-progress: there is no session 'r-9'"


def test_cancelling_is_said_of_each_and_one_that_is_not_there_is_the_exit_code(store: str, capsys: Capture) -> None:
    assert main(["cancel", "r-1", "r-9", "r-3", "--reason", EVIL]) == exit_codes.NOT_FOUND
    assert capsys.readouterr().err.splitlines() == [
        "r-1: cancelled",
        "trio-progress: there is no session 'r-9'",
        "r-3: nothing to cancel, it is cancelled",
    ]
    with Client(store) as client:
        error = client.snapshot("r-1").error
    assert error is not None
    assert error.message == EVIL


def test_named_sessions_are_removed_without_a_question(store: str, capsys: Capture) -> None:
    assert main(["rm", "r-1", "r-9", "r-2"]) == exit_codes.NOT_FOUND
    assert capsys.readouterr().err.splitlines() == [
        "r-1: removed",
        "trio-progress: there is no session 'r-9'",
        "r-2: removed",
    ]
    with Client(store) as client:
        assert [one.id for one in client.sessions()] == ["r-3"]


def test_removing_by_label_shows_what_and_needs_somebody_to_say_yes(
    store: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["rm", "--label", "user=u1"]) == exit_codes.USAGE
    captured = capsys.readouterr()
    assert re.search(r"^r-1 +queued .* One +user=u1$", captured.out, re.MULTILINE)
    assert captured.err.splitlines() == [
        "trio-progress: nothing was removed: there is nobody to ask; --yes removes them"
    ]

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for answer, code, left in (("", 1, 3), ("n\n", 1, 3), ("yes\n", 0, 1)):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        monkeypatch.setattr(sys, "stderr", asked := Terminal())
        assert main(["rm", "--label", "user=u1"]) == code
        assert asked.getvalue().startswith("Remove 2 sessions? [y/N] ")
        with Client(store) as client:
            assert len(client.sessions()) == left
    monkeypatch.undo()
    assert main(["rm", "--label", "user=u2", "--yes", "--store", store]) == 0
    with Client(store) as client:
        assert len(client.sessions()) == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["show"],
        ["show", "a/b"],
        ["show", "r", "--store", ""],
        ["ls", "--status", "done"],
        ["ls", "--label", "user"],
        ["ls", "--label", "=x"],
        ["ls", "--limit", "0"],
        ["ls", "--limit", "1", "--all"],
        ["ls", "--store", "postgres://x"],
        ["ls", "--store", "memory:"],
        ["ls", "--store", "sqlite:"],
        ["watch", "r", "--store", "memory:"],
        ["watch", "r", "--store", "postgres://x"],
        ["rm"],
        ["rm", "r", "--label", "a=b"],
        ["demo", "--resume", "r", "a question"],
        ["demo", "--lost-after", "0"],
        ["demo", "--store", "postgres://x"],
        ["completion", "tcsh"],
        ["serve", "--store", "memory:"],
        ["serve", "--host", ""],
    ],
)
def test_what_cannot_be_asked_is_refused_without_a_traceback(arguments: list[str], capsys: Capture) -> None:
    try:
        code: object = main(arguments)
    except SystemExit as left:
        code = left.code
    assert code == exit_codes.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "trio-progress" in captured.err.splitlines()[-1]


def test_a_session_of_another_program_is_not_gone_on_with(store: str, capsys: Capture) -> None:
    assert main(["demo", "--resume", "r-1"]) == exit_codes.USAGE
    assert "not one of the demo's" in said(capsys)


COMMANDS = [
    ["ls"],
    ["show", "r"],
    ["watch", "r"],
    ["cancel", "r"],
    ["release", "r"],
    ["rm", "r"],
    ["demo", "--resume", "r"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_store_that_cannot_be_used_is_told_in_one_line(command: list[str], tmp_path: Path, capsys: Capture) -> None:
    def told(path: Path) -> str:
        assert main([*command, "--store", f"sqlite:{path}"]) == exit_codes.STORE
        return said(capsys)

    if command[0] != "watch":  # That waits for what is to come.
        assert "there is no such file" in told(tmp_path / "none.db")
    assert "cannot be opened" in told(tmp_path) or "no file" in told(tmp_path)
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"no database at all " * 100)
    assert "no SQLite file" in told(garbage)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    assert "another program's" in told(other)
    newer = tmp_path / "newer.db"
    Client(f"sqlite:{newer}").close()
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    assert "newer trio-progress" in told(newer)
    assert not list(tmp_path.glob("none.db*"))


def test_a_store_that_another_process_writes_to_can_be_looked_at_and_is_told_in_one_line_where_not(
    store: str, capsys: Capture
) -> None:
    connection = sqlite3.connect(store.removeprefix("sqlite:"), isolation_level=None)
    try:
        connection.execute("BEGIN EXCLUSIVE")
        assert main(["ls"]) == main(["show", "r-1"]) == exit_codes.OK
        assert "r-1" in capsys.readouterr().out
        assert main(["cancel", "r-1"]) == exit_codes.STORE
        assert "locked" in said(capsys)
    finally:
        connection.close()


def test_rows_that_cannot_be_read_are_told_and_the_rest_is_listed(store: str, capsys: Capture) -> None:
    connection = sqlite3.connect(store.removeprefix("sqlite:"), isolation_level=None)
    connection.execute("UPDATE sessions SET record = x'00' WHERE id = 'r-2'")
    connection.close()
    assert main(["ls"]) == 0
    captured = capsys.readouterr()
    assert [line.split("\t")[0] for line in captured.out.splitlines()] == ["r-3", "r-1"]
    (line,) = captured.err.splitlines()
    assert "passed over" in line
    assert "r-2" in line
    assert main(["show", "r-2"]) == exit_codes.STORE
    assert "cannot be read" in said(capsys)


def test_reading_writes_nothing(store: str, capsys: Capture) -> None:
    path = Path(store.removeprefix("sqlite:"))
    before = path.read_bytes()
    for command in (["ls", "--all"], ["ls", "--json"], ["show", "r-1"], ["show", "r-3", "--json"]):
        assert main(command) == 0
    assert path.read_bytes() == before


def test_each_command_teaches_its_exit_codes_and_gives_examples(capsys: Capture) -> None:
    for command in ("demo", "ls", "show", "watch", "cancel", "release", "rm"):
        with pytest.raises(SystemExit) as left:
            main([command, "--help"])
        assert left.value.code == 0
        told = capsys.readouterr().out
        assert "exit codes:" in told
        assert "examples:" in told
        assert ("must be cancelled first; 130" in told) == (command == "rm")  # No other one can be refused for that.
        assert all(len(line) <= 120 for line in told.splitlines())
    with pytest.raises(SystemExit):
        main(["watch", "--help"])
    told = capsys.readouterr().out
    for status, code in exit_codes.ENDED.items():
        assert re.search(rf"\b{code} {status.replace('_', ' ')}", told)


def test_serving_tells_in_options_what_it_lacks_and_names_the_port_that_is_taken(
    store: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRIO_PROGRESS_SECRET", raising=False)
    assert main(["serve", "--store", store, "--host", "0.0.0.0"]) == exit_codes.USAGE
    told = capsys.readouterr().err
    assert "TRIO_PROGRESS_SECRET" in told
    assert "--secret-file" in told
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for wanted in (["--port", str(port)], ["--port", "0", "--admin-port", str(port)]):
            assert main(["serve", "--store", store, *wanted]) == exit_codes.USAGE
            assert capsys.readouterr().err == (
                f"trio-progress: port {port} of 127.0.0.1 is in use: choose another one, or 0 for any\n"
            )


def test_the_store_is_the_named_one_then_the_environments_then_the_users(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place(*arguments: str) -> store_location.StoreLocation:
        return store_location.locate(parser.parser().parse_args(["ls", *arguments]))

    monkeypatch.setenv("TRIO_PROGRESS_STORE", "sqlite:env.db")
    assert place("--store", "sqlite:given.db") == store_location.StoreLocation("sqlite:given.db", named=True)
    assert place() == store_location.StoreLocation("sqlite:env.db", named=True)
    monkeypatch.setenv("TRIO_PROGRESS_STORE", "")
    assert place() == store_location.StoreLocation(f"sqlite:{state_folder() / 'sessions.db'}", named=False)


def test_ls_watches_until_ctrl_c_and_a_pipe_gets_what_has_changed(
    store: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(["r-1", None, "r-2"])

    def look_again(_seconds: float) -> None:
        try:
            ending = next(looks)
        except StopIteration:
            raise KeyboardInterrupt from None
        if ending is not None:
            with Client(store) as client:
                client.cancel(ending)

    monkeypatch.setattr("time.sleep", look_again)
    assert main(["ls", "--watch"]) == exit_codes.SIGNAL + 2
    lines = [line.split("\t")[:2] for line in capsys.readouterr().out.splitlines()]
    assert sorted(lines[:3]) == [["r-1", "queued"], ["r-2", "queued"], ["r-3", "cancelled"]]
    assert lines[3:] == [["r-1", "cancelled"], ["r-2", "cancelled"]]
    assert main(["ls", "--watch", "--json", "--limit", "1"]) == exit_codes.SIGNAL + 2
    assert json.loads(capsys.readouterr().out)["id"] == "r-3"


def test_ls_watches_a_store_that_is_not_there_yet(home: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", stop)
    assert main(["ls", "--watch"]) == exit_codes.SIGNAL + 2
    assert said(capsys) == "no sessions yet: waiting for the first"
    assert not home.exists()


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_ls_draws_its_table_anew_as_much_as_fits(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([None])

    def look_again(_seconds: float) -> None:
        if next(looks, KeyboardInterrupt) is KeyboardInterrupt:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", look_again)
    monkeypatch.setenv("LINES", "4")
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    assert main(["ls", "--watch"]) == exit_codes.SIGNAL + 2
    first, second = terminal.getvalue().split("\x1b[H")[1:]
    assert first == second
    lines = first.split("\x1b[K\n")
    assert lines[0].startswith("ID")
    assert lines[-2:] == ["and 2 more", "\x1b[J"]
    assert len(lines) == 4
