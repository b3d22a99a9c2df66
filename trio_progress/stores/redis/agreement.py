"""How many partitions a store in a Redis Cluster has: agreed in the store, once, by whoever opens it first.

Where the partition of before there were several (`{0}`) has sessions, it is the only one: somebody has used one node of
the Cluster as if it were a Redis of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import ResponseError

from ...errors import StoreError
from .answers import UnansweredError
from .keys import Keys, agreement_key
from .partitions import MOST_PARTITIONS, PARTITIONS
from .scripts import AGREE

if TYPE_CHECKING:
    from .nodes import Nodes


def agree(calls: Nodes, prefix: str, asked: int | None) -> int:
    """How many partitions the store has.

    Args:
        calls: To the Cluster.
        prefix: That of the store's keys.
        asked: How many it is to have; None: what it has, or the usual number.

    Raises:
        StoreError: The store did not answer, the node that says it among it, or has another number.
    """
    key = agreement_key(prefix)
    wanted = "" if asked is None else asked
    try:
        (reply,) = calls([(AGREE, 2, key, Keys(prefix).index, wanted, PARTITIONS)])
    except UnansweredError as error:
        if error.refused or calls.is_down:
            raise
        raise StoreError(
            f"{error}; only that node can say how many partitions the store has ({key}): start it again, or wait until "
            "a replica has taken over"
        ) from error
    agreed = int(reply) if isinstance(reply, bytes) and reply.isdigit() and len(reply) < 4 else 0
    if not 1 <= agreed <= MOST_PARTITIONS:
        said = str(reply) if isinstance(reply, ResponseError) else repr(reply)
        raise StoreError(
            f"store {calls.address}: {key} must say how many partitions it has, 1 to {MOST_PARTITIONS}, but there is "
            f"{said:.200}; see docs/guides/redis-cluster.md"
        )
    if asked not in (None, agreed):
        raise StoreError(
            f"store {calls.address}: it has {agreed} partitions, and {asked} are asked for; leave `partitions` out, or "
            "use another prefix: how many there are cannot be changed"
        )
    return agreed
