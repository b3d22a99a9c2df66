"""The folders of a user's state: nobody else can write there, or they are not used."""

from __future__ import annotations

import logging
import os
import stat
import sys
from pathlib import Path

import pytest

from trio_progress.cli import exit_codes, main
from trio_progress.storage.folders import check_own, make_own, make_state_folder, state_folder
from trio_progress.storage.spool import Spool
from trio_progress.stores.base import Append, Index, Key

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no modes")

APPEND = Append(
    id="a",
    key=Key(1000, 7),
    record=b"{}",
    index=Index("completed", "p", {"user": "u1"}, 5.0),
    lease=None,
    keep=100.0,
    heartbeat=6.0,
)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    return tmp_path / "trio-progress"


def test_a_folder_that_others_can_write_is_taken_back(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    state.mkdir()
    for mode in (0o777, 0o770, 0o702):
        state.chmod(mode)
        assert make_state_folder() == state
        assert stat.S_IMODE(state.stat().st_mode) == mode & 0o755
    assert caplog.text.count("could be written by other users") == 3
    caplog.clear()
    make_state_folder()
    assert caplog.text == ""


def test_a_link_and_what_is_no_folder_are_refused(state: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    state.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="is a link"):
        make_own(state)
    state.unlink()
    state.write_text("")
    with pytest.raises(OSError, match="is no folder"):
        check_own(state)


def test_a_folder_of_another_user_is_refused(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_own(state)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError, match="belongs to another user"):
        make_own(state)


@pytest.mark.parametrize("which", ["trio-progress", "trio-progress/spool", "the store's"])
def test_a_last_state_is_not_spooled_through_a_link(
    which: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool("sqlite:x.db")
    assert spool.save(APPEND, claimed=True)
    (folder,) = (state_folder() / "spool").iterdir()
    linked = folder if which == "the store's" else tmp_path / which
    theirs = tmp_path / "theirs"
    linked.rename(theirs)
    linked.symlink_to(theirs)
    before = sorted(theirs.rglob("*"))
    caplog.set_level(logging.ERROR)
    assert not spool.save(APPEND, claimed=True)
    assert "is a link" in caplog.text
    with pytest.raises(OSError, match="is a link"):
        list(spool.pending())
    assert sorted(theirs.rglob("*")) == before


def test_what_others_could_have_put_there_is_not_delivered_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    spool = Spool("sqlite:x.db")
    assert spool.save(APPEND, claimed=True)
    (state_folder() / "spool").chmod(0o777)
    assert [one.append.id for one in spool.pending()] == ["a"]
    assert "could be written by other users" in caplog.text
    assert stat.S_IMODE((state_folder() / "spool").stat().st_mode) == 0o755


@pytest.mark.parametrize("command", [["ls"], ["show", "r-1"], ["cancel", "r-1"], ["watch", "r-1"]])
def test_commands_do_not_use_a_store_that_others_could_have_put_there(
    command: list[str], state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    state.symlink_to(tmp_path / "elsewhere")
    assert main(command) == exit_codes.STORE
    assert "is a link" in capsys.readouterr().err
