"""The words of the page and of the terminal for what is left are the same: of recorded states, and of made ones."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from tests.streams import record
from tests.support import QuietHost
from trio_progress import PhaseHistory, Pipeline, PipelineHistory, Snapshot
from trio_progress.protocol.clock import Clock
from trio_progress.state.session import SessionState
from trio_progress.terminal import words

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("node") is None, reason="node is missing: install the package nodejs"),
]

SCRIPT = Path(__file__).resolve().parents[1] / "browser" / "left.mjs"
LATER = (0.0, 0.371, 4.2, 61.3, 700.9, 9000.1, 300_000.7)
"""Seconds after which a state is shown."""


def recorded() -> Iterator[Snapshot]:
    """The states of the recorded streams."""
    for name in record.names():
        for state, _ in record.states(record.read(name)):
            if state is not None:
                yield state


def made(seed: int) -> Iterator[Snapshot]:
    """The states of a run that is estimated from earlier ones: sized, skipped, uncounted, overdue, stalled."""
    draw = Random(seed)
    now = 0.0
    names = ("fetch", "parse", "load")
    unit = draw.choice(["page", "pages", "bytes", None])
    phases = {
        name: PhaseHistory(runs=draw.randint(1, 9), seconds=draw.choice([0.5, 8, 90, 5000]), unit_seconds=one, count=40)
        for name, one in zip(names, (None, draw.choice([0.01, 0.2, 3]), None), strict=True)
    }
    history = PipelineHistory(runs=3, spread=draw.choice([0.05, 0.4, 1.0, 2.5]), phases=phases)
    state = SessionState(
        "r",
        host=QuietHost(),
        clock=Clock(lambda: now, lambda: record.BEGUN + now),
        pipeline=Pipeline("import", dict.fromkeys(names, 1), usual={"load": 12}),
        stall_after=draw.choice([60, 1e9]),
    )
    state.use_history(draw.choice([history, history, history, None]))
    state.begin(1)
    for name in names:
        total = draw.choice([None, 40, 200])
        node = state.enter(state.root, name, total=total)
        node.unit = unit
        for _ in range(draw.randint(1, 3)):
            now = round(now + draw.choice([0.2, 3, 40, 900]) * draw.uniform(0.5, 1.5), 3)
            if draw.random() < 0.8:
                node.advance(draw.randint(0, 9))
            state.publish()
            yield state.snapshot_now()
        state.leave(node, "completed")


def in_python(state: Snapshot, now: float) -> dict[str, Any]:
    plain = words.session_left(state, now)
    times = words.times_of(state, now)
    phases = [words.phase_left(phase, times) for phase in state.phases]
    return {
        "plain": plain,
        "labelled": with_left(plain),
        "phases": [with_left(said) for said in phases] if state.liveness == "ok" else [],
        "expected": [words.expected(phase) for phase in state.phases],
    }


def with_left(said: str) -> str:
    """The page puts "left" behind every time; what is longer than usual is none."""
    return said if not said or said.startswith("longer") else f"{said} left"


def test_both_twins_say_the_same_of_what_is_left() -> None:
    states = [*recorded(), *(state for seed in range(60) for state in made(seed))]
    assert len(states) > 300
    asked = []
    for state in states:
        told_at = state.published_at or state.started_at or state.queued_at
        assert told_at is not None
        asked.append((state, [told_at.timestamp() + later for later in LATER]))
    lines = "".join(
        json.dumps({"state": msgspec.to_builtins(state), "moments": [moment * 1000 for moment in moments]}) + "\n"
        for state, moments in asked
    )
    done = subprocess.run(["node", str(SCRIPT)], input=lines, capture_output=True, text=True, timeout=60, check=True)
    said = {"", "longer", "about", "up to", "a moment"}
    for (state, moments), line in zip(asked, done.stdout.splitlines(), strict=True):
        for moment, in_page in zip(moments, json.loads(line), strict=True):
            assert in_page == in_python(state, moment), (state, moment)
            said -= {one for one in said if in_page["plain"].startswith(one) and (one or not in_page["plain"])}
    assert not said, "nothing was ever said so"
