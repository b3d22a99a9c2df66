"""Which files are read, and which are skipped and why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trio_progress.demo import corpus
from trio_progress.demo.corpus import (
    CorpusError,
    File,
    checked_folder,
    list_files,
    read_lines,
    shards,
    standard_library,
)


def put(root: Path, **files: bytes) -> str:
    for name, data in files.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return str(root)


def test_files_are_listed_sorted_with_hidden_generated_and_empty_ones_left_out(tmp_path: Path) -> None:
    root = put(tmp_path, b_txt=b"b", a_txt=b"aa", empty_txt=b"", z__c_md=b"c", node_modules__x_js=b"x", q__x_js=b"x")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("x")
    (tmp_path / ".hidden").write_text("x")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "m.py").write_text("x")
    listing = list_files(root, aside=frozenset({"q"}))
    assert listing.files == (File("a.txt", 2), File("b.txt", 1), File("node.modules/x.js", 1), File("z/c.md", 1))
    assert listing.size == 5
    assert listing.skipped == {}


def test_what_is_no_plain_file_is_skipped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "MAX_FILE_BYTES", 10)
    root = put(tmp_path, a_txt=b"a", big_txt=b"x" * 11)
    (tmp_path / "link.txt").symlink_to(tmp_path / "a.txt")
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    listing = list_files(root)
    assert [file.path for file in listing.files] == ["a.txt"]
    assert listing.skipped == {"too_large": 1, "not_a_file": 2}


def test_a_name_that_is_no_text_is_skipped_and_counted(tmp_path: Path) -> None:
    root = put(tmp_path, a_txt=b"a")
    try:
        Path(os.fsdecode(os.fsencode(root) + b"/odd\xff.txt")).write_text("x")
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    assert list_files(root).skipped == {"odd_name": 1}


def test_reading_tells_text_from_what_is_none(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        plain_txt="grüße\r\nzwei\n".encode(),
        bom_txt=b"\xef\xbb\xbfone",
        latin_py="# -*- coding: latin-1 -*-\nx = 'é'\n".encode("latin-1"),
        utf_py=b"# coding: utf_8\nx",
        unknown_py=b"# coding: no-such-code\n",
        binary_bin=b"PK\0\1",
        undecodable_txt=b"\xff\xfe\xfa",
    )
    assert read_lines(root, "plain.txt") == ["grüße", "zwei"]
    assert read_lines(root, "bom.txt") == ["one"]
    assert read_lines(root, "latin.py") == ["# -*- coding: latin-1 -*-", "x = 'é'"]
    assert read_lines(root, "utf.py") == ["# coding: utf_8", "x"]
    assert read_lines(root, "unknown.py") == "undecodable"
    assert read_lines(root, "binary.bin") == "binary"
    assert read_lines(root, "undecodable.txt") == "undecodable"
    assert read_lines(root, "gone.txt") == "unreadable"


def test_a_pipe_that_took_a_files_place_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    assert read_lines(str(tmp_path), "a.txt") == "not_a_file"


def test_the_same_files_always_fall_into_the_same_portions() -> None:
    files = [File(f"{number:03}", 1000) for number in range(60)] + [File("large", corpus.SHARD_BYTES), File("last", 1)]
    found = list(shards(files))
    assert [path for portion in found for path in portion] == [file.path for file in files]
    assert [len(portion) for portion in found] == [corpus.SHARD_FILES, corpus.SHARD_FILES, 60 - 48, 1, 1]
    assert list(shards([])) == []


def test_a_corpus_that_cannot_be_searched_is_refused_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    for folder, reason in (
        (str(tmp_path / "none"), "there is no folder"),
        (str(tmp_path / "file"), "is not a folder"),
        ("a\0b", "no zero character"),
    ):
        with pytest.raises(CorpusError, match=reason):
            checked_folder(folder)
    assert checked_folder(f"{tmp_path}/.") == str(tmp_path.resolve())
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="has no file to read"):
        list_files(str(tmp_path / "empty"))
    monkeypatch.setattr(corpus, "MAX_FILES", 0)
    with pytest.raises(CorpusError, match="more than 0 files"):
        list_files(str(tmp_path))


def test_the_default_corpus_is_the_standard_library_without_its_tests() -> None:
    files = {file.path for file in list_files(standard_library(), corpus.BESIDE_THE_LIBRARY).files}
    assert {"os.py", "asyncio/tasks.py", "json/decoder.py"} <= files
    assert not any(path.startswith(("test/", "site-packages/", "idlelib/")) for path in files)


def test_a_listing_that_is_no_longer_wanted_stops() -> None:
    def unwanted() -> None:
        raise RuntimeError("unwanted")

    with pytest.raises(RuntimeError, match="unwanted"):
        list_files(standard_library(), check=unwanted)
