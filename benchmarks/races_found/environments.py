"""Environments of their own for old libraries: made once, by `python -m venv` and pip, and kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def cache() -> Path:
    """Where environments are kept unless told."""
    kept = os.environ.get("XDG_CACHE_HOME")
    return (Path(kept) if kept else Path.home() / ".cache") / "trio-progress" / "races-found"


def requirements(packages: tuple[str, ...]) -> list[str]:
    """What is installed: the packages, and what trio-progress needs, with Trio as it is here unless they name one."""
    named = {_name(package) for package in packages}
    own = [text.partition(";")[0].strip() for text in metadata.requires("trio-progress") or () if ";" not in text]
    held = [f"{name}=={metadata.version(name)}" if name == "trio" else text for text in own for name in [_name(text)]]
    return [*packages, *(text for text in held if _name(text) not in named)]


def python_with(packages: tuple[str, ...], folder: Path) -> str:
    """The interpreter of an environment with the packages; the one that runs, where there are none.

    Raises:
        RuntimeError: pip has failed.
    """
    if not packages:
        return sys.executable
    wanted = requirements(packages)
    place = folder / hashlib.sha256("\n".join([sys.version, *wanted]).encode()).hexdigest()[:12]
    python, complete = place / "bin" / "python", place / "complete"
    folder.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Two runs may want the same one.
        if complete.exists():
            return str(python)
        print(f"installing {', '.join(packages)}", file=sys.stderr, flush=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
        for command in ([sys.executable, "-m", "venv", "--clear", str(place)], pip):
            made = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own
            if made.returncode:
                raise RuntimeError(f"{', '.join(packages)} cannot be installed: {made.stderr.strip()[-800:]}")
        complete.touch()
    return str(python)


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower()
