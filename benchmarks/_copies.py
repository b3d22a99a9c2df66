"""Copies of the package that a few files are changed in: all else in them are links, with the bytecode that is there.

To copy the whole costs as much as most planted bugs cost to be found, and to compile it again as much once more.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Final

BYTECODE: Final = "__pycache__"


def copy_to_change(package: Path, copy: Path, files: Collection[str]) -> None:
    """Makes a folder of what is in the package; the files are named as seen from there, and are no links.

    Raises:
        FileNotFoundError: There is no such file.
    """
    copy.mkdir(parents=True)
    below: dict[str, list[str]] = {}
    for file in files:
        first, *rest = PurePosixPath(file).parts
        below.setdefault(first, []).extend(["/".join(rest)] if rest else [])
    for name, inner in below.items():
        if inner:
            copy_to_change(package / name, copy / name, inner)
        else:
            shutil.copy(package / name, copy / name)
    for entry in package.iterdir():
        if entry.name == BYTECODE:
            _link_bytecode(entry, copy / BYTECODE, {name.removesuffix(".py") for name in below})
        elif entry.name not in below:
            (copy / entry.name).symlink_to(entry)


def _link_bytecode(compiled: Path, copy: Path, changed: Collection[str]) -> None:
    """Into a folder of the copy's own: where Python writes that of a changed file, it is not beside the source."""
    copy.mkdir()
    for entry in compiled.iterdir():
        if entry.name.partition(".")[0] not in changed:
            (copy / entry.name).symlink_to(entry)
