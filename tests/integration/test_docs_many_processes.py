"""The programs of the guide "Many processes", as it prints them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT, files

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not hasattr(os, "register_at_fork"), reason="there are no POSIX locks"),
]


def ran(folder: Path, program: str, *arguments: str) -> tuple[str, str]:
    """What the program said, and showed."""
    (folder / program).write_text(files("guides/many-processes.md")[program], encoding="utf-8")
    done = subprocess.run(
        [sys.executable, program, *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_plain_script_shows_what_its_pool_counts(tmp_path: Path) -> None:
    said, shown = ran(tmp_path, "primes.py")
    assert said == "completed 8000 1007\n"
    assert "| primes | 100 % | completed" in shown
    assert "Traceback" not in shown


@pytest.mark.exhaustive
def test_the_results_of_a_pool_are_counted_as_they_come(tmp_path: Path) -> None:
    assert ran(tmp_path, "results.py") == ("completed 8 16\n", "")


@pytest.mark.exhaustive  # trio-parallel is installed for these only.
def test_workers_of_trio_parallel_count_the_bytes_of_their_files(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(6):
        (texts / f"{number}.txt").write_text("a line\n" * 100 * number, encoding="utf-8")
    said, shown = ran(tmp_path, "lines.py", "texts")
    assert said == "completed 1500 True\n"
    assert "| lines | 100 % | completed" in shown
