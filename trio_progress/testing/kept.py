"""Failing schedules that are kept in a folder: tried first the next time, and forgotten when they pass often.

A folder of a test holds one file for each schedule, which people can read, edit and commit. How often each has passed
stands in a file beside it where schedules are to be forgotten, as in pytest's cache; a folder that was given to
`explore()` forgets nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Final, final

from .schedule import Schedule

PASSES: Final = 10
"""How often a schedule may pass in a row before it is forgotten."""

MOST: Final = 20
"""Schedules that are kept of one test; the oldest is dropped."""

SCHEDULE_VARIABLE: Final = "TRIO_PROGRESS_SCHEDULE"
"""The environment variable with the path of one schedule, which alone is run then."""

PAGE_VARIABLE: Final = "TRIO_PROGRESS_PAGE"
"""The environment variable with the path to which a marked test that fails writes its schedule as a page."""

cache: ContextVar[Path | None] = ContextVar("trio_progress cache", default=None)
"""The folder in pytest's cache, while a test with the marker is run."""

_SUFFIX: Final = ".schedule"


@final
class Kept:
    """The schedules of one test.

    Args:
        folder: Where all tests have theirs.
        test: The test.
        forgets: Whether those that pass often are deleted.
    """

    def __init__(self, folder: Path, test: str, *, forgets: bool) -> None:
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", test.rpartition("::")[2])[:60].strip("-.") or "scenario"
        digest = hashlib.blake2b(test.encode(), digest_size=4).hexdigest()
        self.folder = folder / f"{plain}-{digest}"
        self.forgets = forgets

    def paths(self) -> list[Path]:
        """The files, newest first."""
        with suppress(OSError):
            return sorted(self.folder.glob(f"*{_SUFFIX}"), key=lambda path: (-path.stat().st_mtime_ns, path.name))
        return []

    def schedules(self) -> Iterator[tuple[Path, Schedule]]:
        """What is kept.

        Raises:
            ValueError: A file is none of a schedule.
        """
        for path in self.paths():
            yield path, read_schedule(path)

    def keep(self, schedule: Schedule) -> Path | None:
        """Writes a schedule down; None where the folder cannot be written."""
        text = str(schedule)
        path = self.folder / f"{hashlib.blake2b(text.encode(), digest_size=5).hexdigest()}{_SUFFIX}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_text(text, encoding="utf-8")
            part.replace(path)  # Another worker of xdist may read it meanwhile.
            path.with_suffix(".passes").unlink(missing_ok=True)
            for old in self.paths()[MOST:] if self.forgets else ():
                self._forget(old)
        except OSError:
            return None
        return path

    def passed(self, path: Path) -> None:
        """A schedule has passed once more."""
        if not self.forgets:
            return
        passes = path.with_suffix(".passes")
        with suppress(OSError, ValueError):
            count = int(passes.read_text(encoding="utf-8")) if passes.exists() else 0
            if count + 1 >= PASSES:
                self._forget(path)
            else:
                passes.write_text(str(count + 1), encoding="utf-8")

    def failed(self, path: Path) -> None:
        """A schedule fails still."""
        if self.forgets:
            with suppress(OSError):
                path.with_suffix(".passes").unlink(missing_ok=True)

    def _forget(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        path.with_suffix(".passes").unlink(missing_ok=True)


def read_schedule(path: Path) -> Schedule:
    """The schedule in a file.

    Raises:
        ValueError: It is none; with the path.
        OSError: It cannot be read.
    """
    try:
        return Schedule.parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


@contextmanager
def cached_in(folder: Path | None) -> Iterator[None]:
    """While this is open, schedules are kept there as well."""
    token = cache.set(folder)
    try:
        yield
    finally:
        cache.reset(token)


def folders_of(test: str, database: str | os.PathLike[str] | None) -> list[Kept]:
    """Where schedules of a test are kept; a failing one is written into the first."""
    folders = [] if database is None else [Kept(Path(database), test, forgets=False)]
    cached = cache.get()
    return folders if cached is None else [*folders, Kept(cached, test, forgets=True)]


def test_name(scenario: object) -> str:
    """The id of the test that is run, else where the scenario can be imported from; or its name."""
    test = os.environ.get("PYTEST_CURRENT_TEST")
    if test is not None:
        return test.rpartition(" (")[0]
    name = str(getattr(scenario, "__qualname__", None) or repr(scenario))
    return f"{getattr(scenario, '__module__', '')}:{name}"
