"""Where the platform keeps what a program remembers between its runs."""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
from pathlib import Path
from typing import Final

from ..telemetry.logs import log_event

_NAME: Final = "trio-progress"


def state_folder() -> Path:
    r"""The folder for this user's state; it need not exist.

    `$XDG_STATE_HOME/trio-progress`, by default `~/.local/state/trio-progress` (XDG Base Directory
    Specification 0.8); `~/Library/Application Support/trio-progress` on macOS; `%LOCALAPPDATA%\trio-progress`
    on Windows.

    Raises:
        RuntimeError: The user has no home directory.
    """
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", "")
        return (Path(local) if Path(local).is_absolute() else Path.home() / "AppData" / "Local") / _NAME
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / _NAME
    given = os.environ.get("XDG_STATE_HOME", "")
    # The specification has relative paths ignored.
    return (Path(given) if Path(given).is_absolute() else Path.home() / ".local" / "state") / _NAME


def make_state_folder() -> Path:
    """The same folder, made (for this user only) where there is none.

    Raises:
        RuntimeError: The user has no home directory.
        OSError: It cannot be made, or is not this user's own.
    """
    folder = state_folder()
    make_own(folder)
    return folder


def make_own(folder: Path) -> None:
    """Makes a folder for this user only, or sees that the one that there is can be written by nobody else.

    Whoever can write there could put a store, a link or a last state of theirs in our place. Where others may write to
    a folder of this user's, that is taken from them and logged; their folders, and links, are refused.

    Raises:
        OSError: It cannot be made, or is not this user's own; the message says what to do.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # What it makes above gets the usual mode.
    check_own(folder)


def check_own(folder: Path) -> None:
    """The second half of `make_own()`.

    Raises:
        OSError: There is no such folder, or it is not this user's own.
    """
    if sys.platform == "win32":  # Modes say nothing there; the user's profile has its own access list.
        return
    found = folder.lstat()
    if stat.S_ISLNK(found.st_mode):
        raise PermissionError(
            errno.EPERM, f"{folder} is a link, which somebody may have put there: replace it by a folder"
        )
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, f"{folder} is no folder")
    if found.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, f"{folder} belongs to another user: give XDG_STATE_HOME a place of your own")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        folder.chmod(stat.S_IMODE(found.st_mode) & ~(stat.S_IWGRP | stat.S_IWOTH))
        text = "%s could be written by other users, who can no longer do so; see whether what is in it is yours"
        log_event(logging.WARNING, "state_folder_repaired", text, folder)
