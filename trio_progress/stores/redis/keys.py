"""What the keys in Redis are called, and what each of them holds.

All begin with `PREFIX:{TAG}:`. The braces are a hash tag: the keys of a partition are in one slot of a Redis Cluster
(see `redis.partitions`). A store in one Redis is one partition, `{0}`.

| key | type | holds | lives |
|---|---|---|---|
| `s:ID` | stream | the newest states, by `epoch-seq`, and what was declared | as long as the session is kept |
| `p:ID` | hash | its newest state in parts (see `redis.parts`); `k`: the id of the entry that it is | as long |
| `m:ID` | hash | its epoch, owner, status, pipeline, labels, when it was queued; `v`: it is in the index | as long |
| `e:ID` | stream | its custom events, `epoch-n`, in entries of one or more | as long |
| `l:ID:EPOCH` | string | the lease of that epoch; its value is the last heartbeat | as long as the lease |
| `a:ID` | string | the last epoch, where that is ahead of the server's clock | until it is not any more |
| `k:ID` | string | somebody has said lately that the session is watched | 4 s |
| `i` | sorted set | all sessions, by when they were queued | for ever; what has expired is taken out |
| `x` | hash | when each session was queued, and in which of the sets below it stands | as long as it is kept |
| `x:PLACE...` | sorted set | the sessions of a place, and there of a pipeline or label (see `index_lua`) | as long |
| `t` | sorted set | when each is to be looked at again: not later than its lease or its record ends | as long |
| `z` | string | the index is complete | for ever |
| `y`, `o` | string | how far an older version's sessions are taken in; that there may be such | an hour |
| `r:ID` | string | the process that has chosen the session, and is to claim it | 5 s |
| `q` | hash | what processes wait for, by the digest of that (see `queue_lua`) | a minute |
| `q:GROUP` | sorted set | the processes that wait for that, by since when | a minute |
| `n:NAME` | string | a process that waits was heard of; the groups that it waits in | 30 s |
| `g:NAME` | stream | asks one process to take, and says which session that is for | a minute |
| `c`, `w` | stream | what owners are asked; word of what is watched | an hour, a minute after the last |
| `b:NAME` | stream | wakes one process that waits for news | a minute |
| `probe` | string | nothing: whether Redis can be written | a second |
| `u:PIPELINE` | string | what earlier runs of a pipeline have taught, as JSON | a month after the last run |
| `u` | sorted set | the pipelines of which there is one, by when they ran last | for ever; the oldest are taken out |
| `partitions` | string | how many partitions a store in a Cluster has; in `{0}` | for ever |
| `-` | | nothing, ever: scripts name it, see `redis.nodes` | |
| `d:PIPELINE` | hash | how long the phases of a pipeline took: what older versions kept | a month after the last run |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple, final

from .partitions import ALONE, partition_of, tags

DEFAULT_PREFIX: Final = "tp"

_PREFIX: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)


class SessionKeys(NamedTuple):
    """The keys of one session; a lease's key is `leases` and its epoch."""

    stream: str
    meta: str
    events: str
    leases: str
    ahead: str
    word: str
    parts: str


@lru_cache(maxsize=4096)
def session_keys(base: str, session: str) -> SessionKeys:
    """The keys of a session in the store whose keys begin with `base`."""
    stream, meta, events, leases, ahead, word, parts = (f"{base}{kind}:{session}" for kind in "smelakp")
    return SessionKeys(stream, meta, events, f"{leases}:", ahead, word, parts)


@final
class Keys:
    """The keys of one partition of a store. A session's id cannot lead out of them: see `checks.session_id`.

    Args:
        prefix: 1 to 64 of `A-Z a-z 0-9 . _ : -`; stores with different ones do not know of each other.
        tag: That of the partition.
        partitions: The keys of all partitions, these among them, once they are all made; none: this is the only one.

    Raises:
        ValueError: The prefix is invalid.
    """

    __slots__ = ("_partitions", "asks", "base", "histories", "index", "probe", "words")

    def __init__(self, prefix: str, tag: str = ALONE, partitions: Sequence[Keys] = ()) -> None:
        if type(prefix) is not str or not _PREFIX.fullmatch(prefix):
            raise ValueError(f"a key prefix must be 1 to 64 of A-Z a-z 0-9 . _ : -, not {prefix!r:.200}")
        self._partitions = partitions
        self.base = f"{prefix}:{{{tag}}}:"
        self.index = f"{self.base}i"
        self.histories = f"{self.base}u"
        self.asks = f"{self.base}c"
        self.words = f"{self.base}w"
        self.probe = f"{self.base}probe"

    def of(self, name: str) -> Keys:
        """The keys of the partition that a session's id or a pipeline's name leads to."""
        count = len(self._partitions)
        return self._partitions[partition_of(name, count)] if count > 1 else self

    def bell(self, name: str) -> str:
        """The stream that wakes one process."""
        return f"{self.base}b:{name}"

    def taking(self, process: str) -> str:
        """The stream that asks one process to take."""
        return f"{self.base}g:{process}"

    def durations(self, pipeline: str | None) -> str:
        """How long phases took."""
        return f"{self.base}d:{pipeline or ''}"

    def history(self, pipeline: str | None) -> str:
        """What earlier runs have taught."""
        return f"{self.base}u:{pipeline or ''}"


def keys_of(prefix: str, partitions: int) -> Sequence[Keys]:
    """The keys of each partition of a store.

    Raises:
        ValueError: The prefix is invalid.
    """
    made: list[Keys] = []
    for tag in tags(partitions):
        made.append(Keys(prefix, tag, made))
    return made


def agreement_key(prefix: str) -> str:
    """Holds how many partitions a store in a Cluster has."""
    return f"{Keys(prefix).base}partitions"
