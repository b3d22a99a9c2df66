"""`python -m trio_progress.testing replay FILE`: runs the schedule in a file once more."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .explorer import explore
from .failure import ScheduleError
from .kept import PAGE_VARIABLE, SCHEDULE_VARIABLE, read_schedule

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 where the schedule fails still, 0 where it passes, 2 where it cannot be run."""
    parser = argparse.ArgumentParser(prog="python -m trio_progress.testing", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    replay = commands.add_parser("replay", help="run the schedule in a file once more")
    replay.add_argument("file", type=Path, help="as a failure names it, or written by str(error.schedule)")
    replay.add_argument("--html", type=Path, metavar="PAGE", help="write the schedule as a page")
    options = parser.parse_args(arguments)
    try:
        schedule = read_schedule(options.file)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    os.environ[SCHEDULE_VARIABLE] = str(options.file.resolve())
    if "::" in schedule.test:
        if options.html is not None:
            os.environ[PAGE_VARIABLE] = str(options.html.resolve())
        return subprocess.run([sys.executable, "-m", "pytest", schedule.test], check=False).returncode  # noqa: S603
    try:
        scenario = _scenario(schedule.test)
    except (ImportError, AttributeError, ValueError) as error:
        parser.error(
            f"its line 'test {schedule.test}' must be a test's id or MODULE:FUNCTION ({error}). Run the program that "
            f"explores with {SCHEDULE_VARIABLE}={options.file}"
        )
    try:
        sys.stdout.write(f"{explore(scenario)}\n")
    except ScheduleError as error:
        sys.stdout.write(f"{error}\n")
        if options.html is not None:
            options.html.write_text(error.page(), encoding="utf-8")
        return 1
    return 0


def _scenario(name: str) -> Any:
    module, found, path = name.partition(":")
    if not found or "<" in path or module == "__main__":
        raise ValueError("it is none")
    sys.path.insert(0, str(Path.cwd()))
    thing: Any = importlib.import_module(module)
    for part in path.split("."):
        thing = getattr(thing, part)
    return thing


if __name__ == "__main__":
    sys.exit(main())
