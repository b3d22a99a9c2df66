"""Where the platform keeps what a program remembers between its runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

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
        OSError: It cannot be made.
    """
    folder = state_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # What it makes above gets the usual mode.
    return folder
