"""Runs of pytest within a test: each in a process of its own, forked from one that has imported what all of them do.

What a run costs is for the most part importing pytest, Trio and hypothesis. So a process imports them, runs nothing
itself, and is forked for each run. What is about the loading itself is for a process of its own: `subprocess`.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]

IMPORTED = (
    "pytest",
    "_pytest.pytester",
    "anyio.pytest_plugin",
    "anyio._backends._asyncio",
    "anyio._backends._trio",
    "hypothesis",
    "hypothesis.database",
    "hypothesis.internal.conjecture.engine",
    "trio.testing",
    "pytest_trio.plugin",
    "pytest_asyncio.plugin",
    "xdist.plugin",
    "trio_progress.tracker",
    "trio_progress.testing",
)


class Ran(NamedTuple):
    """What came of a run."""

    code: int
    out: str
    err: str


class InnerPytest:
    """The process that is forked. Close it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.inner_pytest"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, folder: Path, options: Sequence[str], environment: Mapping[str, str]) -> Ran:
        """Runs pytest in that folder, as `python -m pytest` would."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as kept:
            out, err = Path(kept) / "out", Path(kept) / "err"
            # They were imported before pytest could rewrite their asserts; which is an error under -W error.
            given = [*options, "-W", "ignore::pytest.PytestAssertRewriteWarning"]
            asked = [str(folder), given, dict(environment), str(out), str(err)]
            print(json.dumps(asked), file=self._process.stdin, flush=True)
            code = int(self._process.stdout.readline())
            return Ran(code, out.read_text(), err.read_text())

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate(timeout=30)


def _main() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        process = os.fork()
        if not process:
            try:
                code = _run(*json.loads(line))
            except BaseException:
                sys.excepthook(*sys.exc_info())
                code = 70
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(folder: str, options: list[str], environment: dict[str, str], out: str, err: str) -> int:
    import pytest

    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for path, place in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), place)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = [folder, *environment.get("PYTHONPATH", "").split(os.pathsep), *sys.path[1:]]
    sys.argv = ["pytest", *options]
    return int(pytest.main(options))


if __name__ == "__main__":
    _main()
