"""The whole chain on a real Redis and on a Cluster: workers, two gateways and clients, each in a process of its own.

What becomes of them when any of the links is killed, stopped, restarted or cut.
"""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import pytest
import trio

from tests.chain import LOST_AFTER, Farm, Gateway, Viewer, gateways_on, open_farm, until
from tests.redis_server import RedisServer, client_of
from tests.support import PATIENCE
from trio_progress import Pipeline, open_tracker
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.redis.partitions import partition_of

if TYPE_CHECKING:
    from tests.redis_cluster import RedisCluster

pytestmark = pytest.mark.integration

PIPELINE = Pipeline("work", {"count": 3, "report": 1})
AT_ONCE = 20

StartRedis = Callable[..., RedisServer]


class Place(NamedTuple):
    """Where a store is: its URL, those of the servers that it consists of, and how many partitions it has."""

    url: str
    servers: Sequence[str]
    partitions: int


@pytest.fixture(scope="module", params=["one Redis", pytest.param("a Cluster", marks=pytest.mark.release)])
def place(request: pytest.FixtureRequest) -> Place:
    if request.param == "one Redis":
        url: str = request.getfixturevalue("redis_url")
        return Place(url, [url], 1)
    cluster: RedisCluster = request.getfixturevalue("redis_cluster")
    return Place(cluster.url, [node.url for node in cluster.nodes], 16)


@pytest.fixture(scope="module")
def store(place: Place) -> str:
    return f"{place.url}?prefix=test:{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def gateways(store: str) -> Iterator[list[Gateway]]:
    """Two that tests share, each with sessions of its own."""
    with gateways_on(f"{store}&client_name=one", f"{store}&client_name=other") as gateways:
        yield gateways


@pytest.fixture
async def farm() -> AsyncIterator[Farm]:
    async with open_farm() as farm:
        yield farm


@pytest.mark.exhaustive
async def test_workers_that_are_killed_are_lost_exactly_once_and_resume_goes_on(
    store: str, place: Place, farm: Farm, gateways: list[Gateway], kills: int
) -> None:
    kills //= 1 if place.partitions == 1 else 4  # Each takes two seconds of a processor.
    before = await lost(gateways)
    for first in range(0, kills, AT_ONCE):
        names = [f"killed-{n}" for n in range(first, min(first + AT_ONCE, kills))]
        await kill(names, gateways, farm, store, place)
    assert await lost(gateways) - before == kills


async def lost(gateways: list[Gateway]) -> float:
    """How many sessions the gateways have written off."""
    return sum([await gateway.metric('sessions_ended_total{.*status="lost"') for gateway in gateways])


async def kill(names: list[str], gateways: list[Gateway], farm: Farm, store: str, place: Place) -> None:
    """Kills the owners of sessions that are watched through both gateways, and goes on with the sessions."""
    viewers = {name: [Viewer(name), Viewer(name)] for name in names}
    partitions = len({partition_of(name, place.partitions) for name in names})
    before = await lost(gateways)
    with trio.fail_after(120):
        async with trio.open_nursery() as nursery:
            for watching in viewers.values():
                for viewer, gateway in zip(watching, gateways, strict=True):
                    nursery.start_soon(viewer.watch, gateway)
            await farm.work(store, *names, pace=0.1, broadcast_interval=0.2, lost_after=2 * LOST_AFTER)
            for watching in viewers.values():
                for viewer in watching:
                    await viewer.sees(5)
            assert max(waiting(place, name) for name in ("one", "other") for _ in range(20)) <= partitions
            for name in names:
                farm.signal(name, signal.SIGKILL)
            if place.partitions == 1:
                # However many sessions and clients a gateway has, one connection of it waits for news. Of several
                # partitions each has one only for as long as a session in it is followed, which these soon are not.
                await until(lambda: waiting(place, "one") == waiting(place, "other") == 1)
    for watching in viewers.values():
        for viewer in watching:
            assert viewer.end is not None
            assert (viewer.end.status, viewer.end.resumable) == ("lost", True)
            assert viewer.state is not None
            assert viewer.state.status == "lost"
            assert viewer.holes == viewer.dropped == 0
        here, there = (viewer.state for viewer in watching)
        assert here is not None
        assert there is not None
        assert here.epoch == there.epoch, "it was written off once"
        assert here.counters == there.counters
    # Whose answer a busy machine has lost asks again, and knows then; unless somebody goes on with the session first.
    with trio.fail_after(PATIENCE):
        while await lost(gateways) - before < len(names):  # noqa: ASYNC110 - nobody tells
            await trio.sleep(0.05)
    async with open_tracker(store, spool=False) as tracker:
        for name in names:
            async with tracker.session(name, PIPELINE, resume="interrupted") as session:
                assert session.attempt == 2
                session.increment("steps")
    for name in names:
        ended = (await gateways[1].ask("GET", f"/sessions/{name}")).json
        assert (ended["status"], ended["attempt"]) == ("completed", 2)
        assert ended["counters"]["steps"] > viewers[name][0].steps
    assert [(await farm.gone(name)).code for name in names] == [-signal.SIGKILL] * len(names)


def waiting(place: Place, name: str) -> int:
    """The connections of a gateway that wait for news just now."""
    found = 0
    for server in place.servers:
        with client_of(server) as admin:
            found += sum(one["name"] == name and "b" in one["flags"] for one in admin.client_list())
    return found


@pytest.mark.exhaustive
async def test_a_gateway_that_is_killed_or_stopped_and_begun_again_lets_its_clients_go_on(
    store: str, farm: Farm, gateways: list[Gateway]
) -> None:
    with gateways_on(store) as (gateway,):
        # Slowly, so that there are fewer events than are kept while a gateway is begun on a busy machine.
        await farm.work(store, "long", pace=0.1)
        await restarted(farm, gateway, gateways[1])


async def restarted(farm: Farm, gateway: Gateway, other: Gateway) -> None:
    """Kills and stops one gateway under its clients; the other one shows what they miss."""
    async with trio.open_nursery() as nursery:
        viewers = [Viewer("long") for _ in range(5)]
        through_the_other = Viewer("long")
        for viewer in viewers:
            nursery.start_soon(viewer.watch, gateway)
        nursery.start_soon(through_the_other.watch, other)
        for kill in (True, False):
            reached = max(viewer.steps for viewer in viewers)
            for viewer in viewers:
                await viewer.sees(reached + 5)
            assert await trio.to_thread.run_sync(partial(gateway.end, kill=kill)) == (
                -signal.SIGKILL if kill else 128 + signal.SIGTERM
            )
            reached = max(viewer.steps for viewer in viewers)
            await through_the_other.sees(reached + 10)
            await gateway.start()
            for viewer in viewers:
                await viewer.sees(reached + 15)
        farm.signal("long", signal.SIGTERM)
        assert (await farm.gone("long")).code == 0
        await until(lambda: all(viewer.end for viewer in (*viewers, through_the_other)))
    for viewer in (*viewers, through_the_other):
        assert viewer.state is not None
        assert viewer.end is not None
        assert (viewer.end.status, viewer.end.resumable) == ("interrupted", True)
        assert viewer.steps == through_the_other.steps
        assert viewer.holes == viewer.dropped == 0, "what came while the gateway was gone came afterwards"
    for viewer in viewers:
        assert len(viewer.greetings) == 3
        assert [greeting.recovered for greeting in viewer.greetings[1:]] == [True, True]


async def test_a_client_that_moves_between_gateways_goes_on_by_the_same_token(
    store: str, farm: Farm, gateways: list[Gateway]
) -> None:
    await farm.work(store, "moved", lost_after=PATIENCE)
    viewer = Viewer("moved")
    for turn in range(6):
        reached = viewer.steps
        async with trio.open_nursery() as nursery:
            nursery.start_soon(viewer.watch, gateways[turn % 2])
            await viewer.sees(reached + 5)
            nursery.cancel_scope.cancel()
        await trio.sleep(0.15)  # The session goes on meanwhile.
    assert [greeting.recovered for greeting in viewer.greetings] == [False, True, True, True, True, True]
    assert len(viewer.events) > 20
    assert viewer.holes == viewer.dropped == 0, "no event twice, and none left out"


async def test_an_owner_far_away_is_cancelled_and_deleted_through_a_gateway(
    store: str, farm: Farm, gateways: list[Gateway]
) -> None:
    gateway, other = gateways
    async with trio.open_nursery() as nursery:
        await farm.work(store, "remote", lost_after=PATIENCE)
        viewer = Viewer("remote")
        nursery.start_soon(viewer.watch, gateway)
        await viewer.sees(1)
        assert (await other.ask("DELETE", "/sessions/remote")).status == 409
        assert (await other.ask("POST", "/sessions/remote/cancel")).status == 202
        assert (await farm.gone("remote")).code == 0
        await until(lambda: viewer.end)
        assert viewer.end is not None
        assert viewer.end.status == "cancelled"
        assert (await other.ask("DELETE", "/sessions/remote")).status == 204
        for each in (gateway, other):
            assert (await each.ask("GET", "/sessions/remote")).status == 404
            listed = (await each.ask("GET", "/sessions")).json["sessions"]
            assert "remote" not in [one["id"] for one in listed]


async def test_an_owner_that_is_stopped_for_too_long_is_replaced_and_fenced_when_it_wakes(
    store: str, farm: Farm, gateways: list[Gateway]
) -> None:
    async with trio.open_nursery() as nursery:
        await farm.work(store, "stopped")
        sleeper = farm.begun["stopped"][0]
        viewers = [Viewer("stopped") for _ in gateways]
        for viewer, gateway in zip(viewers, gateways, strict=True):
            nursery.start_soon(viewer.watch, gateway)
            await viewer.sees(3)
        farm.signal("stopped", signal.SIGSTOP)
        await until(lambda: all((viewer.state and viewer.state.liveness == "lost") or viewer.end for viewer in viewers))
        await farm.work(store, "stopped")
        heir, attempt = farm.begun["stopped"]
        assert (heir != sleeper, attempt) == (True, 2)
        os.kill(sleeper, signal.SIGCONT)
        left = await farm.gone("stopped")
        assert left.code == 1
        assert "FencedError" in left.said
        answer = await gateways[0].ask("POST", "/sessions/stopped/cancel")
        assert answer.status == 202
        assert (await farm.gone("stopped")).code == 0
        await until(lambda: all(viewer.end for viewer in viewers))
        for gateway in gateways:
            ended = (await gateway.ask("GET", "/sessions/stopped")).json
            assert (ended["status"], ended["attempt"]) == ("cancelled", 2), "who slept has overwritten nothing"


@pytest.mark.exhaustive
async def test_what_anybody_was_shown_is_there_when_redis_was_killed(
    start_redis: StartRedis, farm: Farm, kills: int
) -> None:
    """With `appendfsync always`: a state that a gateway has read was acknowledged, and is on the disk."""
    server = start_redis("--appendonly", "yes", "--appendfsync", "always")
    backend = RedisBackend(server.url, timeout=5.0)
    options = ("--lost-after", "60")
    with gateways_on(server.url, server.url, options=options) as gateways:
        async with trio.open_nursery() as nursery:
            await farm.work(server.url, "kept", lost_after=60.0)
            viewers = [Viewer("kept") for _ in gateways]
            for viewer, gateway in zip(viewers, gateways, strict=True):
                nursery.start_soon(viewer.watch, gateway)
            for _ in range(kills):
                reached = max(viewer.steps for viewer in viewers)
                for viewer in viewers:
                    await viewer.sees(reached + 1)
                server.kill()
                farm.signal("kept", signal.SIGSTOP)  # Nobody writes, and what is on the disk is what there is.
                shown = max((viewer.state.epoch, viewer.state.seq) for viewer in viewers if viewer.state is not None)
                await trio.to_thread.run_sync(server.start)
                stored = await trio.to_thread.run_sync(backend.read, "kept")
                assert stored is not None
                assert stored.key >= shown
                farm.signal("kept", signal.SIGCONT)
            farm.signal("kept", signal.SIGTERM)
            assert (await farm.gone("kept")).code == 0
            await until(lambda: all(viewer.end for viewer in viewers))
    backend.close()
    for viewer in viewers:
        assert viewer.end is not None
        assert viewer.end.status == "interrupted"
        assert len(viewer.greetings) == 1
        assert viewer.holes == viewer.dropped == 0


@pytest.mark.exhaustive
async def test_an_outage_and_storms_of_client_kill_end_no_session_and_leave_nothing_out(
    start_redis: StartRedis, farm: Farm
) -> None:
    """Redis is stopped for three times `lost_after` while all links keep their connections to it."""
    server = start_redis()
    # An owner is back a second after Redis at the latest; by then nobody may have come to a verdict.
    patience = 2 * LOST_AFTER
    options = ("--lost-after", str(patience))
    with gateways_on(server.url, server.url, options=options) as gateways:
        await cut_off(server, farm, gateways, patience)


async def cut_off(server: RedisServer, farm: Farm, gateways: list[Gateway], patience: float) -> None:
    """Does all that to a Redis that two sessions are in, which are watched through both gateways."""
    names = ["one", "other"]
    async with trio.open_nursery() as nursery:
        await farm.work(server.url, *names)
        viewers = [Viewer(name) for name in names for _ in gateways]
        for viewer, gateway in zip(viewers, gateways * len(names), strict=True):
            nursery.start_soon(viewer.watch, gateway)
        for viewer in viewers:
            await viewer.sees(3)
        assert (await gateways[0].ask("GET", "/readyz")).status == 200

        await trio.to_thread.run_sync(storm, server)
        reached = max(viewer.steps for viewer in viewers)
        for viewer in viewers:
            await viewer.sees(reached + 5)

        server.freeze()
        await trio.sleep(3 * LOST_AFTER)
        for gateway in gateways:
            answer = await gateway.ask("GET", "/readyz")
            assert answer.status == 503
            assert (answer.json["store_up"], answer.json["sessions_followed"]) == (False, 2)
            assert answer.json["read_lag"] > 2 * LOST_AFTER, "it is seen since when nothing is known"
            assert await gateway.metric("store_up") == 0
            assert await gateway.metric("read_lag_seconds") > 2 * LOST_AFTER
            assert (await gateway.ask("GET", "/healthz")).status == 200
        reached = max(viewer.steps for viewer in viewers)
        server.thaw()
        thawed = trio.current_time()
        for viewer in viewers:
            await viewer.sees(reached + 20)
            assert viewer.end is None
        # Longer than both gateways need for a verdict.
        await trio.sleep_until(thawed + 1.4 * patience)
        for gateway in gateways:
            answer = await gateway.ask("GET", "/readyz")
            assert answer.status == 200
            assert answer.json["read_lag"] < 2 * LOST_AFTER
            found = {one["id"]: one["status"] for one in (await gateway.ask("GET", "/sessions")).json["sessions"]}
            assert found == dict.fromkeys(names, "running")
            assert await gateway.metric('sessions_ended_total{.*status="lost"') == 0
        for name in names:
            farm.signal(name, signal.SIGTERM)
            assert (await farm.gone(name)).code == 0
        await until(lambda: all(viewer.end for viewer in viewers))
    for viewer in viewers:
        assert viewer.end is not None
        assert viewer.end.status == "interrupted"
        assert len(viewer.greetings) == 1, "its gateway has never let go of it"
        assert viewer.holes == viewer.dropped == 0


def storm(server: RedisServer) -> None:
    """Kills all connections, again and again."""
    killed = 0
    with server.client() as admin:
        for _ in range(12):
            killed += int(admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
            threading.Event().wait(0.05)
    assert killed > 20
