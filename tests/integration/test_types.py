"""What strict type checkers say of code that uses the package: nothing of typical code, and each misuse by its line."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TYPICAL = ROOT / "tests" / "typing" / "user_code.py"
MISUSE = ROOT / "tests" / "typing" / "misuse.py"

pytestmark = pytest.mark.integration


class UnusableError(Exception):
    """A checker has said nothing of the code, but what is wrong with itself."""


def expected() -> list[int]:
    """The lines of the misuse that are wrong."""
    lines = MISUSE.read_text(encoding="utf-8").splitlines()
    return [number for number, line in enumerate(lines, 1) if line.endswith("# error")]


def run(command: list[str], cwd: Path) -> str:
    environment = {**os.environ, "NO_COLOR": "1", "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd, env=environment)
    if done.returncode not in (0, 1):
        raise UnusableError(done.stdout + done.stderr)
    return done.stdout


def by_mypy(folder: Path) -> list[tuple[str, int, str]]:
    """What mypy says: file, line and text. Under the project's own settings, which are strict ones and a few more.

    So it need not look again at what it has looked at for the project. It reads a copy of what it knows of that, for
    it may just be looking at the project; where that makes no sense to it, it looks at all.
    """
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed")
    known = folder / "known"
    if (ROOT / ".mypy_cache").is_dir():
        shutil.copytree(ROOT / ".mypy_cache", known)
    command = [sys.executable, "-m", "mypy", "--no-error-summary", str(TYPICAL), str(MISUSE), "--cache-dir"]
    try:
        told = run([*command, str(known)], ROOT)
    except UnusableError:
        told = run([*command, str(folder / "nothing")], ROOT)
    found = re.findall(r"^(?:.*/)?(\w+\.py):(\d+): error: (.*)$", told, re.MULTILINE)
    return [(file, int(line), text) for file, line, text in found]


def by_pyright(folder: Path) -> list[tuple[str, int, str]]:
    """What pyright says: file, line and text."""
    if importlib.util.find_spec("pyright") is None or shutil.which("node") is None:
        pytest.skip("pyright, or the node that it runs on, is not installed")
    config = folder / "pyrightconfig.json"
    config.write_text(json.dumps({"typeCheckingMode": "strict"}))
    for file in (TYPICAL, MISUSE):  # It looks at what lies beside its configuration.
        shutil.copy(file, folder)
    told = run(
        [sys.executable, "-m", "pyright", "--project", str(folder), "--pythonpath", sys.executable, "--outputjson"],
        ROOT,
    )
    return [
        (Path(one["file"]).name, one["range"]["start"]["line"] + 1, one["message"])
        for one in json.loads(told)["generalDiagnostics"]
        if one["severity"] == "error"
    ]


@pytest.mark.exhaustive
@pytest.mark.parametrize("checker", [by_mypy, by_pyright], ids=["mypy", "pyright"])
def test_typical_code_passes_and_each_misuse_is_told_at_its_line(
    checker: Callable[[Path], list[tuple[str, int, str]]], tmp_path: Path
) -> None:
    told = checker(tmp_path)
    assert [one for one in told if one[0] == TYPICAL.name] == []
    wrong = {line: text for file, line, text in told if file == MISUSE.name}
    assert len(expected()) > 30
    assert {line: text for line, text in wrong.items() if line not in expected()} == {}
    assert [line for line in expected() if line not in wrong] == []
