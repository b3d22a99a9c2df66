"""Calls to the nodes of a real Redis Cluster: each command finds its node, also while slots move and nodes die."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from redis.exceptions import ResponseError

from tests.integration.redis_cluster.sessions import PATIENCE, succeeds
from tests.redis_cluster import RedisCluster, until
from trio_progress import StoreError
from trio_progress.stores.redis.nodes import Nodes
from trio_progress.stores.redis.partitions import slot_of, tags
from trio_progress.stores.redis.scripts import PROBE, Steps

pytestmark = pytest.mark.integration

NodesOf = Callable[..., Nodes]


def keys(prefix: str) -> list[str]:
    """A key of each of 16 partitions."""
    return [f"{prefix}:{{{tag}}}:k" for tag in tags(16)]


def test_commands_and_scripts_go_to_the_nodes_that_have_their_slots(
    redis_cluster: RedisCluster, nodes_of: NodesOf, prefix: str
) -> None:
    nodes = nodes_of(redis_cluster)
    names = keys(prefix)
    assert nodes([("SET", name, number) for number, name in enumerate(names)]) == [b"OK"] * 16
    assert nodes([("GET", name) for name in names]) == [str(number).encode() for number in range(16)]
    for _ in range(2):  # The nodes do not know the script yet; then they do.
        assert all(isinstance(reply, list) for reply in nodes([(PROBE, 1, name) for name in names]))
    assert nodes([("GET", name) for name in names]) == [b"1"] * 16
    for node in redis_cluster.masters:
        with node.client() as client:
            assert client.dbsize() >= 5


def test_an_error_of_one_command_is_its_own(redis_cluster: RedisCluster, nodes_of: NodesOf, prefix: str) -> None:
    nodes = nodes_of(redis_cluster)
    first, second, *_ = keys(prefix)
    replies = nodes([("SET", first, 1), ("XADD", first, "*", "a", "b"), ("SET", second, 2)])
    assert replies[0] == replies[2] == b"OK"
    assert isinstance(replies[1], ResponseError)
    assert "WRONGTYPE" in str(replies[1])


def test_many_round_trips_are_as_many_as_the_longest_needs(
    redis_cluster: RedisCluster, nodes_of: NodesOf, prefix: str
) -> None:
    def counted(name: str, times: int) -> Steps[int]:
        reply = 0
        for _ in range(times):
            (reply,) = yield [("INCR", name)]
        return reply

    results, had = nodes_of(redis_cluster).run_replicated(
        [counted(name, number) for number, name in enumerate(keys(prefix))], 1
    )
    assert results == list(range(16))
    assert had == [1] * 16  # Each master has a replica.


def test_a_command_follows_its_slot_and_scripts_wait_until_it_has_moved(
    own_cluster: RedisCluster, nodes_of: NodesOf, prefix: str
) -> None:
    nodes = nodes_of(own_cluster)
    name = keys(prefix)[0]
    there, missing = name, f"{name}2"
    slot = slot_of(name)
    nodes([("SET", there, "old")])
    target = own_cluster.masters[2]
    owner = own_cluster.begin_move(slot, target)
    assert owner is own_cluster.masters[0]
    # What is not there yet is made where it is to be; what has not been moved yet is where it was.
    assert nodes([("GET", there), ("SET", missing, "new"), ("GET", missing), ("GET", there)]) == [
        b"old",
        b"OK",
        b"new",
        b"old",
    ]
    with owner.client() as source, target.client() as other:
        assert source.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) == 1
        assert other.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) == 1
    with pytest.raises(StoreError, match=f"slot {slot} is being moved"):
        nodes([(PROBE, 1, there)])
    assert own_cluster.move_keys(slot, owner, target) == 1
    assert nodes([("GET", there), ("GET", missing)]) == [b"old", b"new"]
    with pytest.raises(StoreError, match=f"slot {slot} is being moved"):
        nodes([(PROBE, 1, there)])
    own_cluster.end_move(slot, target)
    assert nodes([("GET", there), ("GET", missing)]) == [b"old", b"new"]
    assert isinstance(succeeds(lambda: nodes([(PROBE, 1, there)]))[0], list)


def tell_by(cluster: RedisCluster, kind: str) -> None:
    """Has the nodes tell of each other by a name, say, which none of them has."""
    for node in cluster.nodes:
        with node.client() as client:
            try:
                client.config_set("cluster-preferred-endpoint-type", kind)
            except ResponseError as error:
                pytest.skip(f"this Redis tells of nodes by their addresses alone: {error}")


@pytest.mark.exhaustive
@pytest.mark.parametrize("told_by", ["hostname", "unknown-endpoint"])
def test_nodes_that_are_told_by_a_name_that_they_have_not_are_reached_by_their_addresses(
    own_cluster: RedisCluster, nodes_of: NodesOf, prefix: str, told_by: str
) -> None:
    before = nodes_of(own_cluster)
    names = keys(prefix)
    assert before([("SET", name, 1) for name in names]) == [b"OK"] * 16
    slot = slot_of(names[7])
    own_cluster.move(slot, next(node for node in own_cluster.masters if node is not own_cluster.owner_of(slot)))
    tell_by(own_cluster, told_by)
    for nodes in (nodes_of(own_cluster), before):
        assert succeeds(partial(nodes, [("GET", name) for name in names])) == [b"1"] * 16


@pytest.mark.exhaustive
@pytest.mark.parametrize("told_by", ["hostname", "unknown-endpoint"])
def test_a_command_follows_its_slot_to_a_node_that_is_told_by_a_name_that_it_has_not(
    own_cluster: RedisCluster, nodes_of: NodesOf, prefix: str, told_by: str
) -> None:
    tell_by(own_cluster, told_by)
    nodes = nodes_of(own_cluster)
    there, missing = keys(prefix)[0], f"{keys(prefix)[0]}2"
    slot, target = slot_of(there), own_cluster.masters[2]
    nodes([("SET", there, "old")])
    owner = own_cluster.begin_move(slot, target)
    assert nodes([("SET", missing, "new"), ("GET", there), ("GET", missing)]) == [b"OK", b"old", b"new"]
    with target.client() as other:
        assert other.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) == 1
    own_cluster.move_keys(slot, owner, target)
    assert nodes([("GET", there), ("GET", missing)]) == [b"old", b"new"]


@pytest.mark.exhaustive
def test_a_script_under_way_is_made_once_its_slot_has_moved(
    own_cluster: RedisCluster, nodes_of: NodesOf, prefix: str
) -> None:
    nodes = nodes_of(own_cluster)
    name = keys(prefix)[-1]
    slot, target = slot_of(name), own_cluster.masters[0]
    nodes([("SET", f"{name}2", 1)])
    owner = own_cluster.begin_move(slot, target)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(succeeds(lambda: nodes([(PROBE, 1, name)]))))
    thread.start()
    own_cluster.move_keys(slot, owner, target)
    own_cluster.end_move(slot, target)
    thread.join(PATIENCE)
    assert isinstance(found[0][0], list)
    with target.client() as client:
        assert client.execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) >= 1


@pytest.mark.exhaustive
def test_a_dead_node_fails_its_own_commands_until_its_replica_has_taken_over(
    mortal_cluster: RedisCluster, nodes_of: NodesOf, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    def once(name: str) -> Steps[bytes]:
        (reply,) = yield [("GET", name)]
        return bytes(reply)

    nodes = nodes_of(mortal_cluster, 1.0)
    names = keys(prefix)
    nodes.topology.slots = [slot_of(name) for name in names]
    caplog.set_level("INFO")
    nodes([("SET", name, number) for number, name in enumerate(names)])
    with mortal_cluster.masters[1].client() as client:
        client.execute_command("WAIT", 1, 5000)
    mortal_cluster.masters[1].kill()
    lost = [number for number, name in enumerate(names) if slot_of(name) * 3 // 16384 == 1]
    results, _ = nodes.run_replicated([once(name) for name in names], 0)
    for number, result in enumerate(results):
        if number in lost:
            assert isinstance(result, StoreError)
            assert f"node 127.0.0.1:{mortal_cluster.masters[1].port}" in str(result)
        else:
            assert result == str(number).encode()
    assert nodes.topology.partitions_down == lost
    until(lambda: mortal_cluster.owner_of(slot_of(names[lost[0]])) is not mortal_cluster.masters[1])
    replies = succeeds(lambda: nodes([("GET", name) for name in names]))
    assert replies == [str(number).encode() for number in range(16)]
    assert nodes.failovers == 1
    assert nodes.topology.partitions_down == []
    said = [(record.event, record.getMessage()) for record in caplog.records]  # type: ignore[attr-defined]
    dead = f"127.0.0.1:{mortal_cluster.masters[1].port}"
    assert [event for event, text in said if dead in text] == ["store_down", "store_up"]
    assert f"the sessions in its partitions ({', '.join(map(str, lost))}) wait" in said[0][1]
    assert f"another node of the store has what {dead} had" in said[1][1]


def test_what_is_no_cluster_says_so(redis_url: str, nodes_of: NodesOf, redis_cluster: RedisCluster) -> None:
    from tests.redis_server import host_of
    from trio_progress.stores.redis.server import Node, Server

    nodes = Nodes(Server({}, "redis-cluster://host/", seeds=[Node(*host_of(redis_url))]), 5.0)
    with pytest.raises(StoreError, match="is no node of a Redis Cluster"):
        nodes([("GET", "tp:{0}:k")])
    nodes.close()
    with pytest.raises(StoreError, match="closed"):
        nodes([("GET", "tp:{0}:k")])
