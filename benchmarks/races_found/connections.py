"""httpcore's pool of connections, over a network in memory: requests that give up, and are cancelled."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import cache
from typing import Any

import trio

from trio_progress.testing import cancelled_somewhere, jitter

from .entry import Entry, library, steps

PATIENCE = {"connect": 5.0, "read": 5.0, "write": 5.0, "pool": 5.0}
"""Seconds that a request waits for each of its steps."""

LATENCY = 0.002
"""Seconds that each thing done over the network takes at most."""

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@cache
def _network() -> Any:
    """The class of a network on which every host answers every request."""
    httpcore = library("httpcore")
    of = httpcore if hasattr(httpcore, "AsyncNetworkBackend") else library("httpcore.backends.base")

    class Wire(of.AsyncNetworkStream):  # type: ignore[misc, name-defined, unused-ignore]
        def __init__(self) -> None:
            self.asked = 0

        async def read(self, *_: object, **__: object) -> bytes:
            await jitter(LATENCY)
            if not self.asked:
                return b""
            self.asked -= 1
            return ANSWER

        async def write(self, buffer: bytes, *_: object, **__: object) -> None:
            await jitter(LATENCY)
            self.asked += buffer.startswith(b"GET")

        async def aclose(self) -> None:
            await steps()

        def get_extra_info(self, info: str) -> None:
            return None

    class Network(of.AsyncNetworkBackend):  # type: ignore[misc, name-defined, unused-ignore]
        async def connect_tcp(self, *_: object, **__: object) -> Wire:
            await jitter(LATENCY)
            return Wire()

        async def sleep(self, seconds: float) -> None:
            await trio.sleep(seconds)

    return Network


def _pool(most: int) -> AbstractAsyncContextManager[Any]:
    made: Callable[..., AbstractAsyncContextManager[Any]] = library("httpcore").AsyncConnectionPool
    return made(max_connections=most, network_backend=_network()())


async def _get(pool: Any, patience: float = 5.0) -> None:
    response = await pool.request("GET", "http://example.org/", extensions={"timeout": PATIENCE | {"pool": patience}})
    assert response.status == 200


async def _still_serves(pool: Any) -> None:
    """A pool that nobody uses any more answers."""
    for _ in range(2):
        with trio.fail_after(20):
            await _get(pool)


async def _impatient(patience: float) -> None:
    httpcore = library("httpcore")
    async with _pool(1) as pool:

        async def get() -> None:
            try:
                await _get(pool, patience)
            except httpcore.PoolTimeout:
                pass

        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(get)
        await _still_serves(pool)


async def gives_up() -> None:
    """Requests that wait 2.5 ms for a connection."""
    await _impatient(0.0025)


async def gives_up_late() -> None:
    """Requests that wait 250 ms for a connection."""
    await _impatient(0.25)


async def cancelled_in_flight() -> None:
    """A request over a connection that is there is cancelled; the one after it waits for that connection."""
    async with _pool(1) as pool:
        await _get(pool)
        async with cancelled_somewhere():
            await _get(pool)
        await _still_serves(pool)


async def first_answer_closes() -> None:
    """The first answer cancels the other requests, and then the pool is closed."""
    async with _pool(3) as pool, trio.open_nursery() as nursery:

        async def get() -> None:
            await _get(pool)
            nursery.cancel_scope.cancel()

        for _ in range(5):
            nursery.start_soon(get)


async def _cancelled(pool: Any, *, shielded: bool = False) -> None:
    async def get() -> None:
        with trio.CancelScope(shield=shielded):
            await _get(pool)

    async def patient() -> None:
        try:
            await _get(pool)
        except library("httpcore").PoolTimeout:
            pass  # What is asked is how the pool is left.

    async with trio.open_nursery() as nursery:
        nursery.start_soon(patient)
        async with trio.open_nursery() as given_up:
            for _ in range(3):
                given_up.start_soon(get)
            await jitter(4 * LATENCY)
            given_up.cancel_scope.cancel()


async def cancelled_in_queue() -> None:
    """Requests are cancelled while they wait for the one connection; none of them may stay in the queue."""
    async with _pool(1) as pool:
        await _cancelled(pool)
        assert not pool._requests, "nobody asks for anything any more, and a request is queued"


async def cancelled_with_connection() -> None:
    """Requests are cancelled under contention for two connections."""
    async with _pool(2) as pool:
        await _cancelled(pool)
        await _still_serves(pool)


async def cancelled_when_given() -> None:
    """Requests are cancelled under contention for one connection."""
    async with _pool(1) as pool:
        await _cancelled(pool)
        await _still_serves(pool)


async def shielded_when_given() -> None:
    """The same, with the requests shielded."""
    async with _pool(1) as pool:
        await _cancelled(pool, shielded=True)
        await _still_serves(pool)


async def _stolen(*, guarded: bool) -> None:
    httpcore = library("httpcore")
    async with _pool(1) as pool:
        waited: list[float] = []

        async def steal() -> None:
            for _ in range(6):
                await _slow(pool)

        async def wait() -> None:
            begun = trio.current_time()
            try:
                with trio.move_on_after(2.0 if guarded else 600.0):
                    await _get(pool, 2.0)
            except httpcore.PoolTimeout:
                pass
            waited.append(trio.current_time() - begun)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(steal)
            nursery.start_soon(steal)
            nursery.start_soon(wait)
    assert waited[0] < 3.5, f"a pool timeout of 2 s took {waited[0]:.1f} s"


async def stolen_connection() -> None:
    """A request with a pool timeout of 2 s waits while others take each connection that is set free."""
    await _stolen(guarded=False)


async def stolen_and_guarded() -> None:
    """Its caller has a deadline of its own."""
    await _stolen(guarded=True)


async def _slow(pool: Any) -> None:
    async with pool.stream("GET", "http://example.org/", extensions={"timeout": PATIENCE | {"pool": 60.0}}) as response:
        await response.aread()
        await trio.sleep(0.9)


POOL = ("httpcore==0.17.0", "anyio==3.4.0")
MENDED_POOL = ("httpcore==0.17.1", "anyio==3.4.0")

ENTRIES = (
    Entry(
        name="httpcore-550",
        library="httpcore",
        issue="encode/httpcore#550",
        affected="0.17.0",
        mended="0.17.1",
        text="A request that gives up waiting for a connection leaves one in the pool that nobody uses; "
        "with a pool timeout of 2.5 ms.",
        faulty=gives_up,
        right=gives_up,
        packages=POOL,
        mended_packages=MENDED_POOL,
    ),
    Entry(
        name="httpcore-550-late",
        library="httpcore",
        issue="encode/httpcore#550",
        affected="0.17.0",
        mended="0.17.1",
        text="The same with a pool timeout of 250 ms.",
        faulty=gives_up_late,
        right=gives_up_late,
        packages=POOL,
        mended_packages=MENDED_POOL,
    ),
    Entry(
        name="httpcore-564",
        library="httpcore",
        issue="encode/httpcore#564",
        affected="0.15.0",
        mended="0.16.3",
        text="The first answer cancels the other requests; the pool says that it is closed with requests in flight.",
        faulty=first_answer_closes,
        right=first_answer_closes,
        packages=("httpcore==0.15.0", "anyio==3.4.0"),
        mended_packages=("httpcore==0.16.3", "anyio==3.4.0"),
    ),
    Entry(
        name="httpcore-642",
        library="httpcore",
        issue="encode/httpcore#642",
        affected="0.17.0",
        mended="0.17.3",
        text="What a cancelled request has to clean up is cancelled as well; later ones wait for its connection.",
        faulty=cancelled_in_flight,
        right=cancelled_in_flight,
        packages=POOL,
        mended_packages=("httpcore==0.17.3", "anyio==3.4.0"),
    ),
    Entry(
        name="httpcore-785",
        library="httpcore",
        issue="encode/httpcore#785",
        affected="1.0.2",
        mended="1.0.3",
        text="Requests are cancelled under contention for connections; the pool then answers nobody.",
        faulty=cancelled_with_connection,
        right=cancelled_with_connection,
        packages=("httpcore==1.0.2",),
        mended_packages=("httpcore==1.0.3",),
    ),
    Entry(
        name="httpcore-822",
        library="httpcore",
        issue="encode/httpcore#822",
        affected="1.0.0",
        mended="1.0.1, by the real clock",
        text="A request whose connection is taken by another one waits anew, and its pool timeout begins again.",
        faulty=stolen_connection,
        right=stolen_and_guarded,
        packages=("httpcore==1.0.0",),
        mended_packages=("httpcore==1.0.0",),
    ),
    Entry(
        name="httpcore-830",
        library="httpcore",
        issue="encode/httpcore#830",
        affected="1.0.2",
        mended="1.0.3",
        text="A request is cancelled between being queued and being given a connection, and stays queued for ever.",
        faulty=cancelled_in_queue,
        right=cancelled_in_queue,
        packages=("httpcore==1.0.2",),
        mended_packages=("httpcore==1.0.3",),
    ),
    Entry(
        name="httpcore-1093",
        library="httpcore",
        issue="encode/httpcore#1093",
        affected="1.0.9",
        mended="open",
        text="A request is cancelled when it has been given a connection and has not used it: the slot is lost.",
        faulty=cancelled_when_given,
        right=shielded_when_given,
        packages=("httpcore==1.0.9",),
        mended_packages=("httpcore==1.0.9",),
    ),
)
