"""`server/static/merge.js` over the recorded streams comes to the states that `protocol/merge.py` comes to."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.streams import record
from trio_progress import Bookmark, Snapshot

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("node") is None, reason="node is missing: install the package nodejs"),
]

SCRIPT = Path(__file__).resolve().parents[1] / "browser" / "states.mjs"


def as_state(value: Any) -> Snapshot | None:
    return None if value is None else msgspec.convert(value, Snapshot)


def test_both_twins_come_to_the_same_state_after_each_message() -> None:
    names = record.names()
    assert len(names) >= 6
    streams = [(record.HERE / f"{name}.jsonl").read_text("utf-8").splitlines() for name in names]
    lines = "".join(f"[{','.join(stream)}]\n" for stream in streams)
    done = subprocess.run(["node", str(SCRIPT)], input=lines, capture_output=True, text=True, timeout=60, check=True)
    for name, line in zip(names, done.stdout.splitlines(), strict=True):
        messages = record.read(name)
        before = resume = None
        for position, (step, (state, taken)) in enumerate(zip(json.loads(line), record.states(messages), strict=True)):
            at = f"message {position} of {name}: {messages[position]!r:.300}"
            assert step["taken"] is taken, at
            # The page keeps the resume token beside the state, where events move it too.
            expected = None if state is None else state.resuming("")
            assert as_state(step["state"]) == as_state(step["view"]) == expected, at
            assert step["same"] == (state is before), at
            # A bookmark of another state than this one has no token for it.
            if taken and not (isinstance(messages[position], Bookmark) and state is before):
                resume = getattr(messages[position], "resume", resume)
            assert step["resume"] == resume, at
            before = state
