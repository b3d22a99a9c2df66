"""Which keys the partitions of a store have, and which of them a name leads to: it is part of what is stored."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("redis")

from redis.crc import key_slot

from trio_progress.stores.redis.keys import Keys, keys_of
from trio_progress.stores.redis.partitions import MOST_PARTITIONS, SLOTS, partition_of, slot_of, tags


def test_these_are_the_tags_and_never_others() -> None:
    assert tags(1) == ("0",)
    assert tags(2) == ("11", "13")
    assert tags(16) == (
        *("18", "3", "65", "223", "19", "2", "64", "222"),
        *("265", "23", "218", "49", "264", "22", "219", "48"),
    )


def test_names_lead_to_these_partitions_and_never_to_others() -> None:
    assert [partition_of(f"job-{number}", 16) for number in range(10)] == [9, 15, 5, 3, 0, 6, 12, 10, 11, 13]
    assert partition_of("bär", 16) == 0
    assert {partition_of(f"{number}", 1) for number in range(100)} == {0}


@pytest.mark.parametrize("partitions", [2, 3, 16, 31, 64, MOST_PARTITIONS])
@pytest.mark.parametrize("masters", [1, 2, 3, 4, 5, 6, 9, 12])
def test_masters_with_equal_shares_of_the_slots_have_as_many_partitions_but_for_one(
    partitions: int, masters: int
) -> None:
    slots = [slot_of(Keys("tp", tag).base) for tag in tags(partitions)]
    owned = Counter(slot * masters // SLOTS for slot in slots)
    counts = [owned[master] for master in range(masters)]
    assert sum(counts) == partitions
    assert max(counts) - min(counts) <= 1


def test_a_slot_is_what_redis_makes_of_a_key() -> None:
    for key in ("tp:{0}:s:job", "tp:{264}:i", "plain", "{}empty", "{open", "a{b}c{d}", "tp:{2}:s:{x}"):
        assert slot_of(key) == key_slot(key.encode())


def test_sessions_are_spread_over_all_partitions() -> None:
    spread = Counter(partition_of(f"report-{number:06}", 16) for number in range(16_000))
    assert min(spread.values()) > 900
    assert max(spread.values()) < 1100


def test_a_store_in_one_redis_is_the_one_partition_of_before() -> None:
    assert Keys("tp").base == keys_of("tp", 1)[0].base == "tp:{0}:"


def test_a_name_leads_from_any_partition_to_the_same_keys() -> None:
    partitions = keys_of("tp", 16)
    assert {keys.of("job-1") for keys in partitions} == {partitions[15]}
    assert partitions[15].base == f"tp:{{{tags(16)[15]}}}:"
