"""What the tests of a store in a Redis Cluster share: six nodes, and calls to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.redis_cluster import SHORT_TIMEOUT, RedisCluster
from trio_progress.stores.redis.nodes import Nodes
from trio_progress.stores.redis.server import Node, Server


@pytest.fixture
def own_cluster(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """A cluster that this test has for itself, to do with it what it likes."""
    with RedisCluster(redis_program, tmp_path_factory.mktemp("own_cluster")).running() as cluster:
        yield cluster


@pytest.fixture
def mortal_cluster(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """The same, in which a replica soon takes over where its master is killed."""
    with RedisCluster(redis_program, tmp_path_factory.mktemp("mortal_cluster"), SHORT_TIMEOUT).running() as cluster:
        yield cluster


@pytest.fixture
def nodes_of() -> Iterator[Callable[..., Nodes]]:
    """Makes calls to the nodes of a cluster."""
    made: list[Nodes] = []

    def make(cluster: RedisCluster, timeout: float = 5.0) -> Nodes:
        settings: dict[str, Any] = {}
        seeds = [Node("127.0.0.1", node.port) for node in cluster.masters]
        made.append(Nodes(Server(settings, cluster.url, seeds=seeds), timeout))
        return made[-1]

    yield make
    for nodes in made:
        nodes.close()
