"""What all tests share: seeds that a failure tells, hypothesis' settings, and no skipping where CI decides."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import re
import secrets
import shlex
import shutil
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from tests.support import Cases, Seeds

# Asserts in what several test modules share say as much as those in the modules.
pytest.register_assert_rewrite("tests.store_contract")

IN_CI = os.environ.get("CI", "").lower() in ("1", "true")

_SEED = pytest.StashKey[int]()

FOR_EXHAUSTIVE = re.compile(r"exhaustive|release|hypothesis|store_contract|both_doors|\b(cases|seeds|kills)\b")
"""A file without any of these words has no test that `--exhaustive` runs."""

USUAL_EXAMPLES = 10
"""How many examples hypothesis tries without `--exhaustive`, of the 100 that it would; see `support.examples()`."""

FEW_EXAMPLES = 5
"""How many it tries with `--few`."""

PART = 40
"""Percent that `--exhaustive --few` takes of all that `--exhaustive` takes, as .ci/run does."""


ROOT = Path(__file__).resolve().parents[1]

_LEAVE_NO_BYTECODE = sys.dont_write_bytecode
if _LEAVE_NO_BYTECODE:
    # Each process that a test starts would compile the whole package anew, and each worker all tests. So the bytecode
    # of what is ours is kept for as long as the tests run. Workers inherit that it may be.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a shell starts what it runs in the background: a test of Ctrl-C would wait for ever.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # No deadline: on a shared machine it fails tests that are right. No database: a failure prints what replays it.
    hypothesis.settings.register_profile(
        "local",
        deadline=None,
        database=None,
        print_blob=True,
        max_examples=_examples(config),
    )
    hypothesis.settings.register_profile(
        "ci",
        hypothesis.settings.get_profile("local"),
        derandomize=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow],
    )
    hypothesis.settings.load_profile("ci" if IN_CI else "local")


def _examples(config: pytest.Config) -> int:
    few = config.getoption("--few")
    if config.getoption("--exhaustive"):
        return PART if few else 100
    return FEW_EXAMPLES if few else USUAL_EXAMPLES


def pytest_unconfigure() -> None:
    if _LEAVE_NO_BYTECODE:
        for part in ("trio_progress", "benchmarks", "tests"):
            for folder in [*(ROOT / part).rglob("__pycache__")]:
                shutil.rmtree(folder, ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed",
        type=int,
        metavar="N",
        help="the seed of all tests that draw random numbers; by default each draws a fresh one, told where it fails; "
        "in CI the same each time",
    )
    parser.addoption(
        "--exhaustive",
        action="store_true",
        help="run those tests alone that else take a part of their seeds, examples or steps, and have them take all; "
        "and those that are marked `exhaustive`, which else are left out; some need the extra `dev`",
    )
    parser.addoption(
        "--few",
        action="store_true",
        help="have hypothesis try few examples: on a second Python, say; with --exhaustive, "
        f"{PART} percent of all seeds, examples and steps",
    )
    parser.addoption(
        "--frames",
        type=int,
        metavar="N",
        help="how many WebSocket frames are looked at by the tests of whole frames (default: 250, exhaustive: 1000)",
    )


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Nothing that a test, or a process that it starts, leaves behind gets into the user's own place for state."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder))
        patch.delenv("TRIO_PROGRESS_STORE", raising=False)
        yield folder


@pytest.fixture(autouse=True)
def no_loop_of_the_browser(request: pytest.FixtureRequest) -> Iterator[None]:
    """A browser that tests of this process share keeps an event loop of asyncio in its thread: it is theirs alone."""
    if "browser" in request.fixturenames:
        yield
        return
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(loop)


@pytest.fixture(scope="session")
def exhaustive(request: pytest.FixtureRequest) -> bool:
    """Whether a test that can take a part of its cases is to take all."""
    return bool(request.config.getoption("--exhaustive"))


@pytest.fixture(scope="session")
def cases(request: pytest.FixtureRequest, exhaustive: bool) -> Cases:
    """`cases(100, exhaustive=1000)`: how many cases a test takes; with `--exhaustive --few` a part of all, 400."""
    everything, few = exhaustive, request.config.getoption("--few")

    def number(usual: int, *, exhaustive: int) -> int:
        if not everything:
            return usual
        return max(usual, exhaustive * PART // 100) if few else exhaustive

    return number


@pytest.fixture
def seeds(request: pytest.FixtureRequest, cases: Cases) -> Seeds:
    """`for seed in seeds(100, exhaustive=1000)`: so many fresh seeds, or the one of `--seed` alone.

    In CI they are the same each time. The one that the test has come to is told when it fails.
    """

    def draw(count: int, *, exhaustive: int | None = None) -> Iterator[int]:
        return _drawn(request, count if exhaustive is None else cases(count, exhaustive=exhaustive))

    return draw


def _drawn(request: pytest.FixtureRequest, count: int) -> Iterator[int]:
    given = request.config.getoption("--seed")
    # In CI the same each time, as the examples of hypothesis are: what differs there is to be the change alone.
    source = random.Random(request.node.nodeid) if IN_CI else secrets.SystemRandom()
    for seed in [source.getrandbits(32) for _ in range(count)] if given is None else [given]:
        request.node.stash[_SEED] = seed
        yield seed


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """One seed; told when the test fails. Unlike `seeds`, it makes no case for `--exhaustive` of the test."""
    return next(_drawn(request, 1))


@pytest.fixture
def rng(seed: int) -> random.Random:
    """Random numbers whose seed is told when the test fails."""
    return random.Random(seed)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI takes for a failure: {_reason(report)}"
    if report.failed and _SEED in item.stash:
        seed = item.stash[_SEED]
        replay = f"python -m pytest {shlex.quote(item.nodeid)} --seed {seed}"
        if not _is_for_every_day(item):
            replay = f"{replay} --exhaustive"
        report.sections.append(("seed", f"{seed}; this replays it:\n{replay}"))
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    worker = getattr(collector.config, "workerinput", None)
    if worker is not None and isinstance(collector, pytest.Dir):
        # Workers that began with the same file would all compile it, and then the next. Each begins elsewhere, and
        # finds compiled what another has come by.
        begin = len(report.result) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
        report.result = [*report.result[begin:], *report.result[:begin]]
    if IN_CI and report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid}: skipped whole, which CI takes for a failure: {_reason(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected stays: nobody looks through it for garbage, now or as a sweep does after each of its runs."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `--exhaustive`, the files that have nothing for it: each worker would import them all the same."""
    if not config.getoption("--exhaustive") or not collection_path.match("test_*.py"):
        return None
    return None if _speaks_of_exhaustive(collection_path) else True


def _speaks_of_exhaustive(path: Path) -> bool:
    return FOR_EXHAUSTIVE.search(path.read_text(encoding="utf-8")) is not None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves those that the options ask for; and workers agree on one order, whichever they were found in."""
    exhaustive = config.getoption("--exhaustive")
    if hasattr(config, "workerinput"):
        # What uses a browser comes first: so it is the first worker alone that starts one.
        items.sort(key=lambda item: ("browser" not in getattr(item, "fixturenames", ()), item.path))
    chosen = _is_for_exhaustive if exhaustive else _is_for_every_day
    others = [item for item in items if not chosen(item)]
    if not exhaustive:
        for path in {item.path for item in items if _is_for_exhaustive(item)}:
            if not _speaks_of_exhaustive(path):
                raise LookupError(f"{path} has tests that --exhaustive would not find: FOR_EXHAUSTIVE")
    if others:
        items[:] = [item for item in items if chosen(item)]
        config.hook.pytest_deselected(items=others)


def _is_for_every_day(item: pytest.Item) -> bool:
    return item.get_closest_marker("exhaustive") is None and item.get_closest_marker("release") is None


def _is_for_exhaustive(item: pytest.Item) -> bool:
    by_hypothesis = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    return by_hypothesis or "exhaustive" in getattr(item, "fixturenames", ()) or not _is_for_every_day(item)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    where = report.longrepr
    return f"{where[2]} ({where[0]}:{where[1]})" if isinstance(where, tuple) else str(where)
