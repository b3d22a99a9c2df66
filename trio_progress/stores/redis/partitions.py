"""The partitions of a store in a Redis Cluster: which keys each has, and which of them a session is in.

1. A partition is a hash tag: all keys of a session have that of its partition, so scripts find them in one place. Its
   index, its streams of requests and the sessions in it are as those of a store that is one Redis.
2. The tags are numbers, taken such that the slots of the partitions lie as far apart as they can. Masters have ranges
   of slots, so each has as many partitions as its share of the slots is. The tags `0` to `15` fall as they fall: on six
   masters 4, 2, 2, 4, 1 and 3.
3. What a name leads to is part of what is stored: neither `tags()` nor `partition_of()` may ever give anything else.
"""

from __future__ import annotations

from binascii import crc32, crc_hqx
from functools import lru_cache
from itertools import count
from typing import Final

SLOTS: Final = 16384
"""Of a Cluster: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/"""

PARTITIONS: Final = 16
"""How many a store has that nobody has asked for another number of."""

MOST_PARTITIONS: Final = 128
"""A process that follows something in each of them has as many connections."""

ALONE: Final = "0"
"""The tag of the only partition, in a Cluster or not."""


def slot_of(key: str) -> int:
    """The slot of a key, by its hash tag if it has one."""
    _, begun, rest = key.partition("{")
    tag, ended, _ = rest.partition("}")
    return crc_hqx((tag if begun and ended and tag else key).encode(), 0) % SLOTS


@lru_cache(maxsize=8)
def tags(partitions: int) -> tuple[str, ...]:
    """The hash tag of each of so many partitions, 1 to `MOST_PARTITIONS`.

    That of the nth of P is the lowest number with a slot in the middle eighth of the nth of P equal parts of all slots.
    """
    if partitions == 1:
        return (ALONE,)
    wanted = dict.fromkeys(range(partitions), "")
    left = partitions
    width = SLOTS / partitions
    for number in count():
        part, place = divmod(slot_of(tag := str(number)), width)
        if abs(place / width - 0.5) <= 1 / 16 and not wanted[int(part)]:
            wanted[int(part)] = tag
            left -= 1
            if not left:
                break
    return tuple(wanted.values())


def partition_of(name: str, partitions: int) -> int:
    """The partition that a session is in, by its id, or what is known of a pipeline, by its name."""
    return crc32(name.encode("utf-8", "surrogatepass")) % partitions
