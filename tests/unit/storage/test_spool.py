"""A final state that the store did not take is kept in a file."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path

import msgspec
import pytest

from tests.unit.storage.spooling import APPEND, files
from trio_progress.storage.folders import state_folder
from trio_progress.storage.spool import FILES, Spool
from trio_progress.stores.base import (
    Key,
)

pytestmark = pytest.mark.usefixtures("folder")


class Clock:
    """Seconds since 1970 that pass when a test says so."""

    now = 1e9

    def __call__(self) -> float:
        return self.now


def test_what_is_saved_is_pending_until_it_is_discarded(folder: Path) -> None:
    spool = Spool("sqlite:/x")
    assert list(spool.pending()) == []
    assert not folder.exists(), "looking makes no folder"
    assert spool.save(APPEND, claimed=True)
    assert spool.save(msgspec.structs.replace(APPEND, id="b"), claimed=False)
    first, second = Spool("sqlite:/x").pending()
    assert (first.append, first.claimed) == (APPEND, True)
    assert (second.append, second.claimed) == (msgspec.structs.replace(APPEND, id="b"), False)
    assert list(Spool("sqlite:/y").pending()) == [], "each store has its own"
    spool.discard(first)
    spool.discard(first)
    assert [spooled.append.id for spooled in spool.pending()] == ["b"]


def test_files_are_for_their_user_only(folder: Path) -> None:
    before = os.umask(0)
    try:
        assert Spool("sqlite:/x").save(APPEND, claimed=True)
    finally:
        os.umask(before)
    (path,) = files(folder)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for parent in (path.parent, path.parent.parent):
        assert stat.S_IMODE(parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("hostile", ["../../../etc/passwd", "/etc/passwd", "..", "a" * 128, ":-._"])
def test_nothing_that_a_user_gives_becomes_part_of_a_path(hostile: str, folder: Path, tmp_path: Path) -> None:
    spool = Spool(f"sqlite:{hostile}")
    assert spool.save(msgspec.structs.replace(APPEND, id=hostile), claimed=True)
    everything = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert everything == files(folder)
    assert hostile not in str(everything[0])


def test_the_next_end_of_a_session_is_another_file_and_the_same_end_the_same(folder: Path) -> None:
    spool = Spool("sqlite:/x")
    spool.save(APPEND, claimed=True)
    spool.save(msgspec.structs.replace(APPEND, record=b"newer"), claimed=True)
    (old,) = spool.pending()
    assert old.append.record == b"newer"
    spool.save(msgspec.structs.replace(APPEND, key=Key(2000, 1)), claimed=True)
    spool.discard(old)
    assert [spooled.append.key for spooled in spool.pending()] == [Key(2000, 1)]


def test_what_the_store_would_have_forgotten_is_forgotten(folder: Path) -> None:
    clock = Clock()
    spool = Spool("sqlite:/x", wall=clock)
    spool.save(APPEND, claimed=True)
    clock.now += APPEND.keep - 1
    assert len(list(spool.pending())) == 1
    clock.now += 2
    assert list(spool.pending()) == []
    assert files(folder) == []


def test_a_file_that_cannot_be_read_is_logged_and_removed_and_the_others_are_delivered(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool("sqlite:/x")
    spool.save(APPEND, claimed=True)
    (good,) = files(folder)
    data = good.read_bytes()
    file = json.loads(data)
    poison = {
        "truncated": data[:-20],
        "empty": b"",
        "random": b"\x00\xff\xfe" * 50,
        "pickle": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x94.",
        "deep": b"[" * 100_000,
        "future": json.dumps(file | {"format": 2}).encode(),
        "types": json.dumps(file | {"epoch": "1000"}).encode(),
        "negative": json.dumps(file | {"seq": -1}).encode(),
        "huge": json.dumps(file | {"seq": 10**30}).encode(),
        "extra": json.dumps(file | {"more": 1}).encode(),
        "id": json.dumps(file | {"id": "../x"}).encode(),
        "events": json.dumps(file | {"events": [[1]]}).encode(),
        "elsewhere": json.dumps(file | {"store": "sqlite:/other"}).encode(),
    }
    for name, bad in poison.items():
        (good.parent / f"{name}.json").write_bytes(bad)
    (good.parent / "folder.json").mkdir()
    os.mkfifo(good.parent / "fifo.json")
    (good.parent / "link.json").symlink_to("/etc/passwd")
    with caplog.at_level(logging.INFO, logger="trio_progress"):
        (read,) = spool.pending()
    assert read.append == APPEND
    assert len([record for record in caplog.records if "passed over" in record.message]) == len(poison) - 1 + 3
    assert Path("/etc/passwd").exists()
    assert [path.name for path in files(folder)] == [good.name]


def test_a_file_that_vanishes_meanwhile_keeps_back_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool("sqlite:/x")
    for name in ("a", "b"):
        assert spool.save(msgspec.structs.replace(APPEND, id=name), claimed=True)
    (place,) = {path.parent for path in files(folder)}
    for age, spooled in enumerate(spool.pending()):
        os.utime(spooled.path, (2 * age, 2 * age))
    unfinished = place / "x.part"
    unfinished.touch()
    os.utime(unfinished, (1, 1))
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: iter([self / "gone.json", *iterdir(self)]))
    waiting = spool.pending()
    first = next(waiting)
    unfinished.unlink()
    assert {first.append.id, *(spooled.append.id for spooled in waiting)} == {"a", "b"}


@pytest.mark.parametrize("trouble", ["read-only", "a file in its place", "no home"])
def test_saving_never_raises(
    trouble: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if trouble == "no home":
        monkeypatch.delenv("XDG_STATE_HOME")

        def nobody() -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr(Path, "home", nobody)
    elif trouble == "a file in its place":
        (tmp_path / "trio-progress").write_text("")
    else:
        # Root may write anywhere, so the disk says no itself.
        def full(*_: object, **__: object) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "open", full)
    assert not Spool("sqlite:/x").save(APPEND, claimed=True)
    (record,) = caplog.records
    assert (record.levelname, "could not be spooled" in record.message) == ("ERROR", True)
    assert not record.exc_info


def test_a_write_that_fails_leaves_no_part(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fails)
    assert not Spool("sqlite:/x").save(APPEND, claimed=True)
    assert files(folder) == []


def test_there_is_a_most_of_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_progress.storage.spool.FILES", 3)
    spool = Spool("sqlite:/x")
    assert [spool.save(msgspec.structs.replace(APPEND, id=f"s{n}"), claimed=True) for n in range(5)] == [True] * 3 + [
        False
    ] * 2
    assert len(files(folder)) == 3
    assert FILES >= 100


def test_the_place_for_state_is_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/u"))
    assert state_folder() == tmp_path / "trio-progress"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert state_folder() == Path("/home/u/.local/state/trio-progress")
    monkeypatch.delenv("XDG_STATE_HOME")
    assert state_folder() == Path("/home/u/.local/state/trio-progress")
    monkeypatch.setattr("sys.platform", "darwin")
    assert state_folder() == Path("/home/u/Library/Application Support/trio-progress")
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert state_folder() == Path("/local/trio-progress")
