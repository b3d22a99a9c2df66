"""Runs of pytest and of the command within a test: each a process, forked from one that has imported what they do.

What such a run costs is for the most part importing pytest, Trio, hypothesis and the package. So a process imports
them, runs nothing itself, and is forked for each run. What is about the loading, or about how the system sees a
process, is for one of its own: `subprocess`.
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
from typing import Final, Literal, NamedTuple, TypeAlias

ROOT = Path(__file__).resolve().parents[1]

IMPORTED: Final = (
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
    "trio_progress.blocking",
    "trio_progress.cli",
    "trio_progress.demo.engine",
    "trio_progress.server",
    "trio_progress.stores.redis.backend",
    "trio_progress.stores.sqlite.backend",
    "trio_progress.testing",
    "trio_progress.tracker",
)

Program: TypeAlias = Literal["pytest", "trio_progress"]
"""What `python -m` would be told."""


class Ran(NamedTuple):
    """What came of a run."""

    code: int
    out: str
    err: str


class ForkServer:
    """The process that is forked. Close it."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forking"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, program: Program, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Ran:
        """Runs the program in that folder, to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as kept:
            out, err = Path(kept) / "out", Path(kept) / "err"
            asked = [program, [*arguments], str(folder), dict(environment), str(out), str(err)]
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
            os._exit(_told(*json.loads(line)))
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _told(program: Program, arguments: list[str], folder: str, environment: dict[str, str], out: str, err: str) -> int:
    """The exit code of the program, as the interpreter would leave with it."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for path, place in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), place)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = [folder, *environment.get("PYTHONPATH", "").split(os.pathsep), *sys.path[1:]]
    sys.argv = [program, *arguments]
    try:
        code = _run(program, arguments)
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:  # noqa: ASYNC103 - as the interpreter does with what leaves a program
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _run(program: Program, arguments: list[str]) -> int:
    if program == "pytest":
        import pytest

        # They were imported before pytest could rewrite their asserts; which is an error under -W error.
        return int(pytest.main([*arguments, "-W", "ignore::pytest.PytestAssertRewriteWarning"]))
    from trio_progress.cli import main

    return main(arguments)


if __name__ == "__main__":
    _main()
