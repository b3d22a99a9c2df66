"""The guide to testing, done as it says: the planted bug is found, the printed command repeats it, pytest passes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT, blocks, files, text_of

pytestmark = pytest.mark.integration

GUIDE = "guides/testing.md"
(EXAMPLE,) = (block.text for block in blocks(GUIDE) if block.language == "python" and "explore(research" in block.text)


def run(folder: Path, command: str) -> str:
    """What a shell would print for it, with this Python."""
    words = shlex.split(command)
    given = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
    arguments = words[len(given) + 1 :]
    environment = {name: value for name, value in os.environ.items() if name not in ("TRIO_PROGRESS_SEED", "CI")}
    environment.pop("PYTEST_CURRENT_TEST", None)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(ROOT), **given},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.exhaustive
def test_the_lost_update_is_found_within_the_stated_number_of_schedules_and_the_command_repeats_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "research.py").write_text(EXAMPLE)
    stated = re.search(r"finds it within (\d+) schedules", text_of(GUIDE))
    assert stated is not None
    assert f"schedules={stated[1]})" in EXAMPLE
    said = run(tmp_path, "python research.py")
    found = re.search(r"fails under seed (\d+), the (\d+)\w\w schedule tried", said)
    assert found is not None, said
    assert int(found[2]) <= int(stated[1])
    assert re.search(r"is over +bill\.tokens: \d+ -> \d+$", said, re.MULTILINE), "the lost update is to be seen"
    (command,) = re.findall(r"^replay it:  (.*)$", said, re.MULTILINE)
    again = run(tmp_path, command)
    assert f"fails under seed {found[1]}, the 1st schedule tried" in again
    assert again.partition("history")[2] == said.partition("history")[2], "and it is the same history"


@pytest.mark.exhaustive
def test_the_test_that_the_guide_writes_passes_under_pytest(tmp_path: Path) -> None:
    (tmp_path / "test_research.py").write_text(files(GUIDE)["test_research.py"], encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    said = run(tmp_path, "python -m pytest -q -p no:asyncio -p no:cacheprovider test_research.py")
    assert "1 passed" in said
