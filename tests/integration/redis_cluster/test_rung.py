"""Who is rung for a job in a real Redis Cluster: each partition rings who has waited longest in it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator

import pytest
import trio

from tests.integration.redis_backend.asking import one, opened_backends
from tests.integration.redis_cluster.sessions import PATIENCE, reached, sessions_of
from tests.redis_cluster import RedisCluster
from tests.store_contract.rig import claim, index
from trio_progress import Pipeline, ProgressTracker, open_tracker
from trio_progress.session import taking
from trio_progress.stores.base import Claimed, Done
from trio_progress.stores.redis import queue, queues
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.redis.scripts import Steps
from trio_progress.stores.taking import Release, Take, Taken, Wanted

pytestmark = pytest.mark.integration

HEARD = 3600.0
"""Seconds: nobody is forgotten because the machine is slow."""


@pytest.fixture
def backend(redis_cluster: RedisCluster, prefix: str) -> Iterator[RedisBackend]:
    with opened_backends(prefix=prefix, timeout=5.0, beat=0.05) as make:
        made = make(redis_cluster.url)
        made.open()
        yield made


def declare(backend: RedisBackend, partition: int, queued_at: float, pipeline: str = "p") -> str:
    """Declares a session of a partition."""
    name = sessions_of(partition, int(queued_at))[-1]
    by = index(status="queued", queued_at=queued_at, pipeline=pipeline)
    assert isinstance(one(backend, claim(name, owner=name, index=by, lease=None)), Claimed)
    return name


def take(backend: RedisBackend, process: str, *wanted: Wanted) -> list[str]:
    """What a process is given."""
    taken = one(backend, Take(process, wanted or (Wanted(),), heard=HEARD))
    assert isinstance(taken, Taken)
    return [chosen.id for chosen in taken.sessions]


class Bells:
    """Who is rung."""

    def __init__(self, backend: RedisBackend) -> None:
        self._backend = backend
        self._mark = backend.changes(None, {}, lambda _: True).mark
        self._rung: list[str] = []

    def next(self) -> str:
        """The next that is rung."""
        end = time.monotonic() + PATIENCE
        while not self._rung:
            assert time.monotonic() < end, "nobody is rung"
            changes = self._backend.changes(self._mark, {}, lambda _: time.monotonic() < end)
            self._mark = changes.mark
            self._rung += [ask.id for ask in changes.asked]
        return self._rung.pop(0)


def test_who_was_rung_for_two_and_takes_one_rings_the_next(backend: RedisBackend) -> None:
    bells = Bells(backend)
    for process in ("w1", "w2"):
        assert take(backend, process) == []
    first, second = declare(backend, 3, 1.0), declare(backend, 11, 2.0)
    assert [bells.next(), bells.next()] == ["w1", "w1"]
    assert take(backend, "w1") == [first]
    assert bells.next() == "w2"
    assert take(backend, "w2") == [second]


def test_who_was_rung_and_leaves_rings_the_next(backend: RedisBackend) -> None:
    bells = Bells(backend)
    for process in ("w1", "w2", "w3"):
        assert take(backend, process) == []
    name = declare(backend, 3, 1.0)
    assert bells.next() == "w1"
    assert one(backend, Release("w1", leaves=True)) == Done()
    assert bells.next() == "w2"
    assert take(backend, "w3") == [name]
    for process in ("w3", "w4"):
        assert take(backend, process) == []
    assert one(backend, Release("w2", leaves=True)) == Done()  # What it was rung for is taken: it rings nobody.
    for queued_at, process in ((2.0, "w3"), (3.0, "w4")):
        declare(backend, 3, queued_at)
        assert bells.next() == process


def test_who_was_rung_for_what_it_wants_no_more_and_waits_for_something_else_rings_the_next(
    backend: RedisBackend,
) -> None:
    bells = Bells(backend)
    one_of, other = Wanted(("p",)), Wanted(("q",))
    assert take(backend, "w1", one_of, other) == []
    assert take(backend, "w2", one_of) == []
    first, second = declare(backend, 3, 1.0), declare(backend, 11, 2.0)
    assert [bells.next(), bells.next()] == ["w1", "w1"]
    assert take(backend, "w1", one_of, other) == [first]
    assert bells.next() == "w2"
    assert take(backend, "w2", one_of) == [second]
    third = declare(backend, 3, 3.0, pipeline="q")
    assert bells.next() == "w1"
    assert take(backend, "w1", other) == [third]


def test_who_was_overtaken_in_one_partition_and_served_in_another_waits_in_none(
    backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    bells = Bells(backend)
    first, second = declare(backend, 3, 1.0), declare(backend, 11, 2.0)
    taken, asks = queue.take, []

    def overtaken(base: str, asked: Take) -> Steps[Taken]:
        asks.append(asked.id)
        if len(asks) == 1:  # Between its look and its taking.
            yield from taken(base, Take("w9", [Wanted()]))
        return (yield from taken(base, asked))

    monkeypatch.setattr(queues, "take", overtaken)
    assert take(backend, "w1") == [second]
    assert take(backend, "w2") == []
    declare(backend, 3, 3.0)
    assert bells.next() == "w2"
    assert first != second


async def test_each_job_is_begun_though_nobody_looks_again(
    redis_cluster: RedisCluster, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "LOOK", 3600.0)
    monkeypatch.setattr(taking, "Take", functools.partial(Take, heard=HEARD))
    url = f"{redis_cluster.url}?prefix={prefix}"
    pipeline = Pipeline("work", {"count": 1})
    begun: set[str] = set()

    async def work(tracker: ProgressTracker) -> None:
        while True:
            async with tracker.next_session(pipeline) as session:
                begun.add(session.id)
                await reached(_at_least(begun, len(begun) + -len(begun) % 3))  # Each worker is at one of three.

    with trio.fail_after(PATIENCE):
        async with (
            open_tracker(url) as client,
            open_tracker(url) as one,
            open_tracker(url) as two,
            open_tracker(url) as three,
            trio.open_nursery() as nursery,
        ):
            for tracker in (one, two, three):
                nursery.start_soon(work, tracker)
            for number in range(1, 5):
                async with trio.open_nursery() as declaring:  # In one batch, so that one is rung for several.
                    for partition in (2, 7, 13):
                        declaring.start_soon(client.declare, sessions_of(partition, number)[-1], pipeline)
                await reached(_at_least(begun, 3 * number))
            nursery.cancel_scope.cancel()


def _at_least(names: set[str], number: int) -> Callable[[], bool]:
    return lambda: len(names) >= number
