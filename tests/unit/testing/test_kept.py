"""Schedules that are kept in a folder: which, for how long, and what can be read of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trio_progress.testing.kept import MOST, PASSES, Kept, cached_in, folders_of
from trio_progress.testing.schedule import Block, Schedule

FAILING = Schedule(17, (Block("reader#1", 2), Block("close#1", None)))


def numbered(count: int) -> list[Schedule]:
    return [Schedule(seed, FAILING.entries) for seed in range(count)]


def test_what_is_kept_is_read_again_newest_first(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "tests/test_a.py::test_b[one two]", forgets=True)
    assert list(kept.schedules()) == []
    for age, schedule in enumerate(numbered(3)):
        path = kept.keep(schedule)
        assert path is not None
        os.utime(path, ns=(age, age))
    assert [schedule.seed for _, schedule in kept.schedules()] == [2, 1, 0]
    assert kept.folder.name.startswith("test_b-one-two-")


def test_tests_of_one_name_have_folders_of_their_own(tmp_path: Path) -> None:
    folders = {Kept(tmp_path, f"tests/test_{file}.py::test_b", forgets=True).folder for file in "abc"}
    assert len(folders) == 3


def test_a_schedule_is_forgotten_when_it_has_passed_often_in_a_row(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "t::t", forgets=True)
    path = kept.keep(FAILING)
    assert path is not None
    for _ in range(PASSES - 1):
        kept.passed(path)
    kept.failed(path)  # Once more: it is counted anew.
    for _ in range(PASSES - 1):
        kept.passed(path)
    assert kept.paths() == [path]
    kept.passed(path)
    assert list(kept.folder.iterdir()) == []


def test_a_folder_of_ones_own_forgets_nothing(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "t::t", forgets=False)
    path = kept.keep(FAILING)
    assert path is not None
    for _ in range(2 * PASSES):
        kept.passed(path)
    assert [entry.name for entry in kept.folder.iterdir()] == [path.name]


def test_of_many_schedules_the_newest_are_kept(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "t::t", forgets=True)
    for age, schedule in enumerate(numbered(MOST + 3)):
        path = kept.keep(schedule)
        assert path is not None
        os.utime(path, ns=(age, age))
    assert [schedule.seed for _, schedule in kept.schedules()] == [*range(MOST + 2, 2, -1)]


def test_what_is_no_schedule_is_an_error_with_its_path(tmp_path: Path) -> None:
    kept = Kept(tmp_path, "t::t", forgets=False)
    path = kept.keep(FAILING)
    assert path is not None
    path.write_text("seed 17\n")
    with pytest.raises(ValueError, match=r"a schedule begins with the line") as caught:
        list(kept.schedules())
    assert str(path) in str(caught.value)


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = Kept(tmp_path / "file", "t::t", forgets=True)
    assert kept.keep(FAILING) is None
    assert kept.paths() == []


def test_the_folder_that_was_given_comes_before_the_cache_which_alone_forgets(tmp_path: Path) -> None:
    assert folders_of("t::t", None) == []
    with cached_in(tmp_path / "cache"):
        own, cached = folders_of("t::t", tmp_path / "own")
        (alone,) = folders_of("t::t", None)
    assert (own.folder.parent, own.forgets) == (tmp_path / "own", False)
    assert (cached.folder.parent, cached.forgets) == (tmp_path / "cache", True)
    assert alone.folder == cached.folder
