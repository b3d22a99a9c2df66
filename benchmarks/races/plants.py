"""Each race, planted into a copy of trio-progress: what shows that the harness would see it in ours.

A plant is a few replacements in the package's source, each of which must fit exactly once. It is made in a
copy, and the suite runs against that copy in a process of its own:
`python -m benchmarks.races.plants` prints what each plant turns a zero into.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trio_progress

from .._copies import copy_to_change

ROOT: Final = Path(__file__).resolve().parents[2]

PACKAGE: Final = Path(trio_progress.__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Change:
    """A replacement in one file: what stands there once, and what is put there instead, at an indentation."""

    file: str
    old: str
    new: str
    indent: int = 0

    def made(self, source: str) -> str:
        """The changed source.

        Raises:
            ValueError: It has changed, and the plant does not fit any more.
        """
        old, new = self._placed(self.old), self._placed(self.new)
        if source.count(old) != 1:
            raise ValueError(f"{self.file} holds {source.count(old)} times what is to be replaced there: {old!r}")
        return source.replace(old, new)

    def _placed(self, text: str) -> str:
        if not text.startswith("\n"):
            return " " * self.indent + text + "\n" * (self.indent > 0)
        return textwrap.indent(textwrap.dedent(text[1:]).rstrip(" "), " " * self.indent)


@dataclass(frozen=True, slots=True)
class Plant:
    """A fault.

    Args:
        name: What it does.
        figure: The row that must not stay zero.
        changes: What brings it about.
    """

    name: str
    figure: str
    changes: tuple[Change, ...]


PLANTS: Final = (
    Plant(
        "the previous phase is recorded a checkpoint after the hand-over",
        "1. phase completion: schedules with it",
        (
            Change(
                "state/transitions.py",
                "class PhaseTransitions(PhaseTree):",
                """
                import trio

                _PREVIOUS: dict = {}

                async def _record(tree):
                    await trio.lowlevel.checkpoint()
                    tree.leave(_PREVIOUS[id(tree)], "completed")

                class PhaseTransitions(PhaseTree):
                """,
            ),
            Change(
                "state/transitions.py",
                """
                for node in self.root.children.values():
                    if node is target:
                        break
                    if node.status == "running":
                        self._close(node, "completed", now, wall)
                """,
                """
                for node in self.root.children.values():
                    if node is target:
                        break
                    if node.status == "running" and target.status == "pending":
                        _PREVIOUS[id(self)] = node
                        trio.lowlevel.spawn_system_task(_record, self)
                """,
                indent=8,
            ),
        ),
    ),
    Plant(
        "a persist that comes too early is skipped, and writes the time back",
        "2. snapshot skipped: schedules with it",
        (
            Change("session/persister.py", "@final\n@dataclass", "_LAST: dict = {}\n\n@final\n@dataclass"),
            Change(
                "session/persister.py",
                """
                await self._store()
                await self._pause()
                """,
                """
                now = trio.current_time()
                if now - _LAST.get(id(self), -10.0) > self._settings.persist_interval:
                    await self._store()
                _LAST[id(self)] = now
                await trio.lowlevel.checkpoint()
                """,
                indent=32,
            ),
        ),
    ),
    Plant(
        "an id is not reserved, and is given back without a guard",
        "3. heartbeat clean-up: KeyErrors",
        (
            Change("session/scope.py", "if session_id in runtime.open:", "if False:"),
            Change("session/scope.py", "if self._runtime.open.get(self._options.id) is self._reservation:", "if True:"),
        ),
    ),
    Plant(
        "the heartbeat is a task of nobody, and is not stopped",
        "3. heartbeat clean-up: heartbeats left beating",
        (
            Change(
                "session/lifecycle.py",
                "for child in (self._persister, broadcaster, heartbeat):",
                """
                trio.lowlevel.spawn_system_task(heartbeat.run, name=f"Heartbeat of session {state.id}")
                for child in (self._persister, broadcaster):
                """,
                indent=8,
            ),
            Change(
                "session/heartbeat.py",
                """
                while not self._flushed.is_set():
                    due = trio.current_time() + self._interval
                    with trio.CancelScope(deadline=due, shield=True):
                        await self._flushed.wait()
                        return
                """,
                """
                while True:
                    due = trio.current_time() + self._interval
                    await trio.sleep_until(due)
                """,
                indent=12,
            ),
        ),
    ),
    Plant(
        "a subscriber is sent the newest delta instead of all since its own state",
        "4. broadcasts that overlap: messages lost",
        (Change("live/cursor.py", "feed.update(seq,", "feed.update(source.seq - 1,"),),
    ),
    Plant(
        "a counter counts what did not happen",
        "beyond the four: own counters that disagree",
        (
            Change(
                "storage/committer.py",
                "self._tally.persists += 1",
                "self._tally.persists += 1 + (self._tally.persists % 3 == 0)",
            ),
        ),
    ),
)


def make(plant: Plant | None, folder: Path) -> None:
    """A copy of the package in `folder`, with the plant in it.

    Raises:
        ValueError: The source has changed, and the plant does not fit any more.
    """
    copy = folder / "trio_progress"
    changes = () if plant is None else plant.changes
    copy_to_change(PACKAGE, copy, {change.file for change in changes})
    for change in changes:
        path = copy / change.file
        path.write_text(change.made(path.read_text(encoding="utf-8")), encoding="utf-8")


def figures(plant: Plant | None, *, seed: int, runs: int) -> dict[str, float]:
    """The suite's figures for trio-progress, run against a copy with the plant (None: an untouched copy).

    Raises:
        subprocess.CalledProcessError: The suite has failed.
    """
    with tempfile.TemporaryDirectory(prefix="trio-progress-plant-") as name:
        folder = Path(name)
        make(plant, folder)
        # The copy comes first on the path; the current folder, which -m puts there, is the copy's.
        command = [sys.executable, "-m", "benchmarks", "races", "--only", "trio-progress", "--rounds", "1"]
        command += ["--seed", str(seed), "--runs", str(runs), "--json", str(folder / "races.json")]
        path = os.pathsep.join([name, str(ROOT)])
        subprocess.run(  # noqa: S603 - it is our own
            command, cwd=folder, env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True, text=True
        )
        report: dict[str, Any] = json.loads((folder / "races.json").read_text(encoding="utf-8"))
    return {row["group"]: row["median"] for row in report["rows"]}


def main() -> None:
    """Prints what each plant turns its figure into."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.races.plants", description=main.__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    untouched = figures(None, seed=options.seed, runs=options.runs)
    for plant in PLANTS:
        found = figures(plant, seed=options.seed, runs=options.runs)
        print(f"{plant.name}\n  {plant.figure}: {untouched[plant.figure]:.0f} -> {found[plant.figure]:.0f}")


if __name__ == "__main__":
    main()
