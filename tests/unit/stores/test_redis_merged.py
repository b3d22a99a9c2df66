"""Lists of several partitions, merged: a model of what each partition has, and of where it stops looking."""

from __future__ import annotations

import pytest

pytest.importorskip("redis")

from hypothesis import given
from hypothesis import strategies as st

from trio_progress.stores.redis.listing import Found, Listed, merged

SESSIONS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 5), st.sampled_from("abcä~")),
    unique_by=lambda each: each[1:],
    max_size=30,
)
"""The partition, when it was queued, and the id of each."""


def place(each: Listed) -> tuple[float, bytes]:
    return float(each.score), each.id.encode()


def part_of(sessions: list[Listed], after: Listed | None, wanted: int, looks_at: int) -> Found:
    """What one partition says: so many sessions at most, of so many that it looks at."""
    behind = [each for each in sessions if after is None or place(each) < place(after)]
    seen = behind[: min(wanted, looks_at)]
    end = Listed(seen[-1].score, seen[-1].id, None) if len(seen) < len(behind) else None
    return Found(end, [each for each in seen if each.epoch is not None], by_index=True)


@given(SESSIONS, st.integers(1, 5), st.lists(st.integers(1, 4), min_size=5, max_size=5), st.integers(0, 3))
def test_pages_are_those_of_one_list_however_far_each_partition_looks(
    sessions: list[tuple[int, int, str]], wanted: int, looks_at: list[int], unfit: int
) -> None:
    partitions: list[list[Listed]] = [[] for _ in range(5)]
    for number, (partition, queued_at, name) in enumerate(sessions):
        # Some are looked at, and are not what is asked for.
        epoch = None if unfit and number % 4 < unfit else 1
        partitions[partition].append(Listed(str(queued_at), f"{name}{queued_at}", epoch))
    for part in partitions:
        part.sort(key=place, reverse=True)
    expected = sorted((each for part in partitions for each in part if each.epoch is not None), key=place, reverse=True)
    found: list[Listed] = []
    after = None
    for _ in range(200):
        page = merged(
            [part_of(part, after, wanted, most) for part, most in zip(partitions, looks_at, strict=True)], wanted
        )
        assert len(page.sessions) <= wanted
        found += page.sessions
        after = page.end
        if after is None:
            break
    assert after is None
    assert found == expected
