"""A failing schedule is kept: `--lf` finds it each time, a file replays it, a committed one says when it is old."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.forking import ForkServer, Ran

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]

RARE = """
import pytest, trio

@pytest.mark.schedules({options})
async def test_rare():
    lock, other = trio.Lock(), trio.Lock()

    async def takes(first, second, after):
        for _ in range(after):
            await trio.lowlevel.checkpoint()
        async with first, second:
            pass

    async def idle():
        for _ in range(15):
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(takes, lock, other, 3)
        nursery.start_soon(takes, other, lock, 18{more})
        for _ in range(3):
            nursery.start_soon(idle)

def test_another():
    pass
"""

MODULE = """
import trio

class Account:
    balance = 0

async def transfer():
    account = Account()

    async def deposit():
        seen = account.balance
        await trio.lowlevel.checkpoint()
        account.balance = seen + 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(deposit)
        nursery.start_soon(deposit)
    assert account.balance == 2
"""


PROGRAM = """
import bank
from trio_progress.testing import ScheduleError, explore
try:
    explore(bank.transfer)
except ScheduleError as error:
    open("found.schedule", "w").write(str(error.schedule))
"""


def _plugins() -> list[str]:
    """The plugin is loaded by its entry point only where the project is installed."""
    points = entry_points(group="pytest11")
    installed = any(point.value == "trio_progress.pytest_plugin" for point in points)
    return ["-p", "no:asyncio", *([] if installed else ["-p", "trio_progress.pytest_plugin"])]


class Project:
    """A folder with one test file, and pytest in it."""

    def __init__(self, folder: Path, server: ForkServer) -> None:
        self.folder = folder
        self._server = server
        self.environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
        for name in ("PYTEST_CURRENT_TEST", "CI"):
            self.environment.pop(name, None)

    def write(self, options: str, more: str = "") -> None:
        (self.folder / "test_rare.py").write_text(RARE.format(options=options, more=more))
        (self.folder / "pytest.ini").write_text("[pytest]\n")

    def pytest(self, *options: str) -> Ran:
        given = ["-q", *_plugins(), *options]
        return self._server.run("pytest", given, self.folder, self.environment)

    def replay(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "trio_progress.testing", "replay", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )


@pytest.fixture
def project(tmp_path: Path, fork_server: ForkServer) -> Project:
    return Project(tmp_path, fork_server)


@pytest.mark.exhaustive
def test_six_runs_of_a_rare_failure_under_lf_fail_six_times(project: Project) -> None:
    project.write("500, horizon=1000")
    assert project.pytest().code == 1
    project.write("1, horizon=1000")  # From now on only what was kept can find it.
    for _ in range(6):
        done = project.pytest("--lf", "-x")
        assert done.code == 1, done.out
        assert "fails as it is kept in" in done.out
        assert "1 failed" in done.out


@pytest.mark.exhaustive
def test_what_the_cache_knows_is_kept_in_the_folder_that_is_given_later(project: Project) -> None:
    project.write("500, horizon=1000")
    assert project.pytest().code == 1
    project.write("1, horizon=1000, database='schedules'")
    assert project.pytest().code == 1
    (kept,) = (project.folder / "schedules").rglob("*.schedule")
    done = project.pytest("-p", "no:cacheprovider")
    assert done.code == 1, done.out
    assert f"fails as it is kept in {kept}" in done.out


PARTS = """
import pytest, trio
from trio_progress.testing.within import current

@pytest.mark.schedules(7, parts=3, seed=10)
@pytest.mark.parametrize("letter", ["a", "b"])
async def test_parts(letter, request_log):
    with open("seen.txt", "a") as seen:
        seen.write(f"{letter} {current.get()._seed}\\n")

@pytest.fixture
def request_log():
    return None
"""


def test_the_schedules_of_a_test_can_be_spread_over_workers(project: Project) -> None:
    (project.folder / "test_parts.py").write_text(PARTS)
    (project.folder / "pytest.ini").write_text("[pytest]\n")
    done = project.pytest("-vv")
    assert done.code == 0, done.out
    assert "test_parts[a-part 1 of 3] PASSED" in done.out or "test_parts[part 1 of 3-a] PASSED" in done.out
    assert "6 passed" in done.out
    seen = (project.folder / "seen.txt").read_text().split("\n")
    assert sorted(filter(None, seen)) == sorted(f"{letter} {seed}" for letter in "ab" for seed in range(10, 17))


@pytest.mark.exhaustive
def test_a_mended_test_forgets_after_some_passes(project: Project) -> None:
    project.write("500, horizon=1000")
    assert project.pytest().code == 1
    kept = list(project.folder.glob(".pytest_cache/d/trio_progress/*/*.schedule"))
    assert len(kept) == 1
    project.write("1, horizon=1000")
    source = (project.folder / "test_rare.py").read_text()
    (project.folder / "test_rare.py").write_text(source.replace("takes, other, lock", "takes, lock, other"))
    for _ in range(10):
        assert kept[0].exists()
        assert project.pytest("-k", "rare").code == 0
    assert not kept[0].exists()


@pytest.mark.exhaustive
def test_a_committed_schedule_fails_after_a_checkpoint_was_added_or_says_that_it_fits_no_more(project: Project) -> None:
    project.write("500, horizon=1000, database='schedules'")
    assert project.pytest().code == 1
    kept = list((project.folder / "schedules").glob("*/*.schedule"))
    assert len(kept) == 1
    for more in ("", " + 1", " - 1"):
        project.write("1, horizon=1000, database='schedules'", more)
        done = project.pytest("-p", "no:cacheprovider")
        assert done.code == 1, done.out
        assert "fails as it is kept in" in done.out
    kept[0].write_text(kept[0].read_text().replace("takes#", "takes_both#"))
    done = project.pytest("-p", "no:cacheprovider", "-W", "error::UserWarning")
    assert "no longer fits" in done.out


@pytest.mark.exhaustive
def test_a_file_is_replayed_by_the_test_that_it_names_and_drawn_as_a_page(project: Project) -> None:
    project.write("500, horizon=1000, database='schedules'")
    project.pytest()
    kept = next((project.folder / "schedules").glob("*/*.schedule"))
    project.write("500, horizon=1000")
    (project.folder / "pytest.ini").write_text(f"[pytest]\naddopts = {' '.join(_plugins())}\n")
    done = project.replay(str(kept), "--html", "page.html")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "a circle: `takes" in done.stdout
    assert "test_rare" in (project.folder / "page.html").read_text()


@pytest.mark.exhaustive
def test_a_file_is_replayed_by_the_function_that_it_names(project: Project) -> None:
    (project.folder / "bank.py").write_text(MODULE)
    subprocess.run([sys.executable, "-c", PROGRAM], cwd=project.folder, env=project.environment, check=True)
    done = project.replay("found.schedule")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "account.balance" in done.stdout
    (project.folder / "bank.py").write_text(MODULE.replace("await trio.lowlevel.checkpoint()", "pass"))
    assert project.replay("found.schedule").returncode == 0
    (project.folder / "found.schedule").write_text("nothing of the kind")
    done = project.replay("found.schedule")
    assert done.returncode == 2
    assert "a schedule begins with the line" in done.stderr
