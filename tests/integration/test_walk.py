"""How far it is from an `advance()` to who reads of it: what one passes who follows it with a debugger.

The bounds are what one can follow in a sitting. What makes a walk longer than that has to replace a step.
`docs/maintainers/one-advance.md` tells of them, and is held to what is passed.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TypeAlias

import pytest

from tests.unit.house.test_imports import ROOMS

pytestmark = pytest.mark.integration

SEAMS = {("state", "session"), ("live", "server"), ("storage", "session")}
"""Where a call goes to a room that the caller's does not know: from the state to its `Host`, from a topic to its
`Group`, from the committer to its `Writer`."""


Walk: TypeAlias = list[tuple[str, str, str | None]]
"""The functions on the way, with their files and those of their callers."""


def taken(where: str) -> list[Walk]:
    """Some walks, the shortest first."""
    command = [sys.executable, "-m", "tests.walk", where]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 0, done.stderr
    return [[tuple(step) for step in walk] for walk in json.loads(done.stdout)]


def on_the_page(heading: str = "") -> set[tuple[str, str]]:
    """The functions, with their files, that the page for maintainers tells of, in one of its sections or in all."""
    page = (Path(__file__).parents[2] / "docs" / "maintainers" / "one-advance.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {heading}")[2].partition("\n## ")[0] if heading else page
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| `")]
    return {(row[1].strip(" `"), function) for row in rows for function in re.findall(r"`([^`]+)`", row[2])}


def check(walks: list[Walk], heading: str, functions: int, files: int) -> None:
    steps = walks[0]
    passed = [f"{file} {function}" for file, function, _ in steps]
    assert passed[0] == "session/phase.py Phase.advance"
    assert len(passed) <= functions, "\n".join(passed)
    assert len({file for file, _, _ in steps}) <= files, "\n".join(passed)
    told = on_the_page(heading)
    assert len(told) > 10
    in_any = {(file, function) for walk in walks for file, function, _ in walk}
    assert told <= in_any, "the page tells of what is not passed"
    assert {file for file, _, _ in steps} <= {file for file, _ in on_the_page()}, "the page leaves out a file"
    for file, function, by in steps:
        if by is not None:
            down, up = Path(by).parts[0], Path(file).parts[0].removesuffix(".py")
            assert up == down or up in ROOMS[down] or (down, up) in SEAMS, f"{by} -> {file} {function}"


def test_an_advance_comes_to_a_websocket_by_few_functions_and_no_unknown_way_up() -> None:
    walks = taken("websocket")
    assert ("server/encoder.py", "write_many_nowait") in {(file, function) for file, function, _ in walks[0]}
    check(walks, "To a WebSocket", functions=35, files=12)


def test_an_advance_comes_to_another_tracker_through_redis_by_few_functions_and_no_unknown_way_up(
    redis_url: str,
) -> None:
    walks = taken(f"{redis_url}?prefix=walk:{uuid.uuid4().hex[:12]}")
    passed = {file for file, _, _ in walks[0]}
    assert {"stores/redis/writes.py", "stores/redis/reads.py", "live/subscription.py"} <= passed
    check(walks, "To another tracker", functions=90, files=20)
