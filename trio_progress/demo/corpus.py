"""The documents: which files of a folder are read, and their lines."""

from __future__ import annotations

import os
import re
import stat
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from .text import split_lines

Skipped: TypeAlias = Literal["binary", "undecodable", "too_large", "unreadable", "not_a_file", "odd_name"]

MAX_FILE_BYTES = 2 * 1024 * 1024
"""Larger files are skipped: they are data, and one would keep a worker thread busy for long."""
MAX_PATH = 500
"""Characters of a path from the root; files with longer ones are skipped."""
MAX_FILES = 100_000
SHARD_FILES = 24
SHARD_BYTES = 512 * 1024
"""At most so much is read by one call of a worker thread: it takes some tenths of a second, so leaving is quick."""

GENERATED = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
"""Folders of tools, which are never searched; hidden ones are not, either."""
BESIDE_THE_LIBRARY = frozenset(
    {"test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo", "pydoc_data", "lib-dynload", "ensurepip"}
)
"""Folders of the standard library that do not explain it: tests, tools, data."""

_CODING = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")


class CorpusError(Exception):
    """There is nothing to search; the message says why and what to do."""


class File(NamedTuple):
    """A file of the corpus: its path from the root with `/` between the parts, and its size in bytes."""

    path: str
    size: int


class Listing(NamedTuple):
    """The files of a corpus, sorted by path, and how many entries were skipped for which reason."""

    files: tuple[File, ...]
    skipped: dict[str, int]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def standard_library() -> str:
    """The folder with the sources of the standard library that runs this.

    Raises:
        CorpusError: This Python came without them (in a zip file, or compiled only).
    """
    folder = sysconfig.get_path("stdlib")
    if not folder or not Path(folder, "os.py").is_file():
        raise CorpusError("this Python has no sources of its standard library on disk: name a folder with --corpus")
    return folder


def checked_folder(folder: str) -> str:
    """The absolute path of a folder that can be searched; a `CorpusError` says why it cannot."""
    if "\0" in folder:
        raise CorpusError("a path has no zero character: name a folder of text files")
    path = Path(folder)
    if not path.exists():
        raise CorpusError(f"there is no folder {folder!r}: name one that has text files in it")
    if not path.is_dir():
        raise CorpusError(f"{folder!r} is not a folder: name the folder that holds it")
    if not os.access(path, os.R_OK | os.X_OK):
        raise CorpusError(f"the folder {folder!r} may not be read by you: name another")
    return str(path.resolve())


def list_files(root: str, aside: frozenset[str] = frozenset(), check: Callable[[], None] = lambda: None) -> Listing:
    """The files under a folder. Symbolic links are not followed: their targets are elsewhere, or here twice.

    Args:
        root: The folder.
        aside: Names of folders that are not searched, beside those in `GENERATED`.
        check: Called for every folder; raises where the listing is no longer wanted.

    Raises:
        CorpusError: There is no file, or more than `MAX_FILES`.
    """
    files: list[File] = []
    skipped: Counter[str] = Counter()
    for folder, folders, names in os.walk(root, onerror=lambda _error: skipped.update(unreadable=1)):
        check()
        # In place: `os.walk` descends into those that remain.
        folders[:] = [name for name in folders if not name.startswith(".") and name not in GENERATED | aside]
        for name in names:
            if name.startswith("."):
                continue
            path = Path(folder, name)
            if len(str(path)) - len(root) > MAX_PATH or not _encodable(str(path)):
                skipped["odd_name"] += 1
                continue
            try:
                info = path.lstat()
            except OSError:
                skipped["unreadable"] += 1
                continue
            if not stat.S_ISREG(info.st_mode):
                skipped["not_a_file"] += 1
            elif info.st_size > MAX_FILE_BYTES:
                skipped["too_large"] += 1
            elif info.st_size:
                files.append(File(path.relative_to(root).as_posix(), info.st_size))
        if len(files) > MAX_FILES:
            raise CorpusError(f"{root!r} has more than {MAX_FILES:,} files: name a folder further down")
    if not files:
        raise CorpusError(f"{root!r} has no file to read: name a folder that has text files in it")
    return Listing(tuple(sorted(files)), dict(skipped))


def _encodable(path: str) -> bool:
    """Whether a path can be saved and shown as it is: bytes that are not UTF-8 come as lone surrogates."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_lines(root: str, path: str) -> list[str] | Skipped:
    """The lines of a file, or why it has none that can be read."""
    try:
        # Not blocking: since it was listed, a pipe that nobody writes to may have replaced the file.
        with open(Path(root, path), "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return "not_a_file"
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError:
        return "unreadable"
    if len(data) > MAX_FILE_BYTES:
        return "too_large"
    if b"\0" in data[:8192]:
        return "binary"
    try:
        return split_lines(data.decode(_encoding(data)))
    except (UnicodeError, LookupError):
        return "undecodable"


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _encoding(data: bytes) -> str:
    """UTF-8, unless the first two lines name another encoding as Python sources may (PEP 263)."""
    for line in data.split(b"\n", 2)[:2]:
        found = _CODING.match(line[:200])
        if found is not None:
            name = found[1].decode("ascii", "replace").lower().replace("_", "-")
            return "utf-8-sig" if name in ("utf-8", "utf8") else name
    return "utf-8-sig"


def shards(files: Iterable[File]) -> Iterator[tuple[str, ...]]:
    """The files in order, in portions for one call of a worker thread; the same files make the same portions."""
    portion: list[str] = []
    size = 0
    for file in files:
        if portion and (len(portion) >= SHARD_FILES or size + file.size > SHARD_BYTES):
            yield tuple(portion)
            portion, size = [], 0
        portion.append(file.path)
        size += file.size
    if portion:
        yield tuple(portion)
