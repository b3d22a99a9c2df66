"""Bugs planted into what makes a Redis Cluster one store: a short course over real nodes finds each."""

from __future__ import annotations
import __future__

import inspect
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.integration.redis_backend.asking import one
from tests.integration.redis_cluster.sessions import partitions_of, sessions_of
from tests.redis_cluster import RedisCluster
from tests.store_contract.rig import append, claim, index
from trio_progress import StoreError
from trio_progress.stores.base import Claimed, Done, Query
from trio_progress.stores.redis import nodes
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.redis.keys import keys_of
from trio_progress.stores.redis.listing import Lists
from trio_progress.stores.redis.nodes import Nodes
from trio_progress.stores.redis.partitions import slot_of
from trio_progress.stores.redis.queues import Queues
from trio_progress.stores.taking import Take, Taken, Wanted

pytestmark = [pytest.mark.integration, pytest.mark.exhaustive]

MOVED, DEAD = partitions_of(0)[0], partitions_of(1)[0]
"""The partition whose slot moves, and one whose node dies."""


@pytest.fixture(scope="module")
def cluster(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(redis_program, tmp_path_factory.mktemp("planted")).running() as cluster:
        yield cluster


def course(cluster: RedisCluster) -> None:
    """A slot moves, one is rung for two, and a node dies: what is to be seen of that."""
    prefix = f"test:{uuid.uuid4().hex[:12]}"
    backend = RedisBackend(cluster.url, prefix=prefix, timeout=5.0)
    try:
        backend.open()
        a_slot_moves(cluster, backend, prefix)
        one_is_rung_for_two(cluster, backend, prefix)
        a_node_dies(cluster, backend)
    finally:
        backend.close()


def a_slot_moves(cluster: RedisCluster, backend: RedisBackend, prefix: str) -> None:
    running, missing = sessions_of(MOVED, 2)
    slot = slot_of(keys_of(prefix, 16)[MOVED].base)
    begun = one(backend, claim(running))
    assert isinstance(begun, Claimed)
    assert one(backend, append(begun.epoch, 1, running)) == Done()
    owner = cluster.owner_of(slot)
    target = next(each for each in cluster.masters if each is not owner)
    cluster.begin_move(slot, target)
    try:
        # What a running session stores goes on; what needs a script waits, and is not taken for done.
        cluster.move_keys(slot, owner, target, 3)
        with pytest.raises(StoreError, match=f"slot {slot} is being moved"):
            backend.list(Query(limit=50, status=frozenset({"queued"})))
        cluster.move_keys(slot, owner, target)
        assert one(backend, append(begun.epoch, 2, running)) == Done()
        assert isinstance(one(backend, claim(missing)), StoreError)
        cluster.move_keys(slot, owner, target)  # Where something had been left to be made.
    finally:
        cluster.end_move(slot, target)
    assert isinstance(one(backend, claim(missing)), Claimed)
    found = backend.read(running)
    assert found is not None
    assert found.key.seq == 2


def a_node_dies(cluster: RedisCluster, backend: RedisBackend) -> None:
    (lost,), (live,) = sessions_of(DEAD), sessions_of(partitions_of(2)[0])
    for name in (lost, live):
        assert isinstance(one(backend, claim(name)), Claimed)
    listed = {stored.id for stored in backend.list(Query(limit=50)).sessions}
    assert {lost, live} <= listed
    cluster.masters[1].kill()
    try:
        with pytest.raises(StoreError):
            pytest.fail(f"{listed - {stored.id for stored in backend.list(Query(limit=50)).sessions}} are not listed")
        assert isinstance(one(backend, claim(lost, owner="other")), StoreError)
        assert backend.read(live) is not None
    finally:
        cluster.masters[1].start()
        cluster.become_whole()


def one_is_rung_for_two(cluster: RedisCluster, backend: RedisBackend, prefix: str) -> None:
    wanted = Wanted(("rings",))
    for process in ("w1", "w2"):
        assert one(backend, Take(process, (wanted,), heard=3600.0)) == Taken([], [])
    for number in (3, 11):
        by = index(status="queued", pipeline="rings", queued_at=float(number))
        assert isinstance(one(backend, claim(sessions_of(number, 3)[-1], index=by, lease=None)), Claimed)
    taken = one(backend, Take("w1", (wanted,), heard=3600.0))
    assert isinstance(taken, Taken)
    assert len(taken.sessions) == 1
    rung = 0
    for keys in keys_of(prefix, 16):
        with cluster.owner_of(slot_of(keys.base)).client() as client:
            rung += client.exists(keys.taking("w2"))
    assert rung == 1


class Bug(NamedTuple):
    """What is replaced in a function, and by what."""

    owner: object
    name: str
    old: str
    new: str


PLANTED = {
    "what a node says of a slot is not learnt": Bug(
        Nodes, "_leads_on", "self.topology.has_moved(", "(lambda *_: None)("
    ),
    "a slot that moves is asked for without ASKING": Bug(Nodes, "_send", '("ASKING",)', '("TIME",)'),
    "what waits for a slot counts as done": Bug(
        Nodes,
        "receive",
        'UnansweredError(f"store {self.address}: {why}")',
        '[b"claimed", b"1", [], None, None, [], None]',
    ),
    "scripts run while their slot is moved": Bug(
        nodes, "_guarded", "if type(command[0]) is not Script:", "if command:"
    ),
    "a list lacks what a dead node has": Bug(
        Lists,
        "_found",
        "self._calls.run(looks)",
        "[Found(None, [], True) if isinstance(each, StoreError) else each "
        "for each in self._calls.run_replicated(looks, 0)[0]]",
    ),
    "who has enough leaves the others waiting": Bug(
        Queues, "take", "if surplus or (not any(left) and asked.id in self._waiting):", "if surplus:"
    ),
}


def test_nothing_is_found_where_nothing_is_planted(cluster: RedisCluster) -> None:
    course(cluster)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str, cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = PLANTED[name]
    function: Callable[..., object] = getattr(bug.owner, bug.name)
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(bug.old) == 1, "plant it anew"
    given = dict(vars(sys.modules[function.__module__]))
    flags = __future__.annotations.compiler_flag
    exec(compile(source.replace(bug.old, bug.new), bug.name, "exec", flags), given)
    monkeypatch.setattr(bug.owner, bug.name, given[bug.name])
    with pytest.raises((AssertionError, StoreError, pytest.fail.Exception)):
        course(cluster)
