"""The files of counts that this process has open: made for a session, opened by a worker, removed when they are over.

What a parent that was killed has left is removed by the next one.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from .layout import FILE_SIZE
from .slots import Slots, is_owned

PREFIX: Final = "trio-progress-counts-"
_NAME: Final = "counts"
_FRESH: Final = 60.0
"""Seconds for which nobody asks whether a file has an owner: it may be on its way to one."""

_opened: Final[dict[str, Slots]] = {}
_guard = threading.RLock()
_swept: Final[list[bool]] = []
"""Whether this process has looked for what others have left; it does so once."""


def _after_fork() -> None:
    global _guard  # noqa: PLW0603 - a thread that is not in the child may have held it
    _guard = threading.RLock()
    for slots in _opened.values():
        slots.reset()


os.register_at_fork(after_in_child=_after_fork)


def make_file(*, strict: bool) -> tuple[str, Slots]:
    """Makes a file of counts, in a folder that only this user can enter; its path, and this process' way into it.

    Raises:
        OSError: It cannot be made.
    """
    with _guard:
        if not _swept:
            _swept.append(True)
            _remove_leftovers()
    folder = tempfile.mkdtemp(prefix=PREFIX)
    path = str(Path(folder, _NAME))
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            empty = memoryview(bytes(FILE_SIZE))
            while empty:
                empty = empty[os.write(file, empty) :]
            slots = Slots(file)
            slots.own()
        except BaseException:
            os.close(file)
            raise
    except BaseException:
        remove_file(path)
        raise
    slots.layout.begin(strict)
    with _guard:
        _opened[path] = slots
    return path, slots


def remove_file(path: str) -> None:
    """Takes the file and its folder away; who has it open can go on."""
    with suppress(OSError):
        Path(path).unlink(missing_ok=True)
        Path(path).parent.rmdir()


def close_file(path: str) -> None:
    """Nobody looks at the file any more: processes that have it open may close it."""
    with _guard:
        slots = _opened.pop(path, None)
    if slots is not None:
        slots.layout.end()
        slots.close()


def open_file(path: str) -> Slots | None:
    """This process' way into a file of counts; None: it is there no longer.

    Raises:
        PermissionError: Others than this user can get at it, only another user can, or it is a link.
        ValueError: It is no file of counts, or one of another version of trio-progress.
        OSError: It cannot be opened.
    """
    with _guard:
        slots = _opened.get(path)
        if slots is None:
            try:
                file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                if error.errno == errno.ELOOP:
                    text = f"{path} is a link, which is not followed: count with the counter of your own parent"
                    raise PermissionError(errno.EPERM, text) from None
                raise
            try:
                try:
                    _check_own(path, file)
                except FileNotFoundError:  # It is being taken away.
                    os.close(file)
                    return None
                slots = Slots(file)
                if not slots.layout.valid:
                    raise ValueError(f"{path} is no file of counts of this version of trio-progress")
            except BaseException:
                os.close(file)
                raise
            for other in [one for one, others in _opened.items() if others.layout.over]:
                _opened.pop(other).close()
            _opened[path] = slots
        return slots


def _remove_leftovers() -> None:
    """Removes the files of parents that have died before they could; what cannot be removed stays."""
    user = os.geteuid()
    for folder in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        path = folder / _NAME
        with suppress(OSError):
            found = folder.lstat()
            if found.st_uid != user or not stat.S_ISDIR(found.st_mode) or time.time() - found.st_mtime < _FRESH:
                continue
            # One that is open here is not opened again: closing that would drop the locks that it has.
            if str(path) not in _opened and not is_owned(path):
                remove_file(str(path))


def _check_own(path: str, file: int) -> None:
    user = os.geteuid()
    for what, found in (("folder", Path(path).parent.lstat()), ("file", os.fstat(file))):
        right = stat.S_ISDIR if what == "folder" else stat.S_ISREG
        if not right(found.st_mode) or found.st_uid != user or found.st_mode & 0o077:
            raise PermissionError(
                errno.EPERM, f"the {what} of {path} is not this user's alone: count with the counter of your own parent"
            )
    if found.st_size != FILE_SIZE:
        raise ValueError(f"{path} is no file of counts of this version of trio-progress")
