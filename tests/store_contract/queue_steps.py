"""What may come to pass between a store and those who take: writes to four sessions by three processes, and time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from hypothesis import strategies as st

from trio_progress.stores.taking import Wanted

Step: TypeAlias = tuple[Any, ...]

RESERVED, HEARD, LEASE, KEEP = 100.0, 400.0, 1000.0, 20_000.0
"""Seconds; so many that what a step takes in truth, for a store with a clock of its own, is nothing beside them."""

PASSING = (RESERVED / 3, RESERVED * 1.2, HEARD * 1.05, LEASE * 1.2, KEEP * 1.3)

IDS = ("a", "B", "c", "d")
"""In the order of bytes the second comes first."""

PROCESSES = ("w1", "w2", "w3")
LABELS: Sequence[dict[str, str]] = ({}, {"user": "u1"}, {"user": "u1", "team": "t"})
PIPELINES = ("p", "q", None)
WISHES: Sequence[Sequence[Wanted]] = (
    (Wanted(),),
    (Wanted(max_attempts=1, count=2),),
    (Wanted(("p",), count=2),),
    (Wanted(("q", "r"), {"user": "u1"}, max_attempts=2),),
    (Wanted(labels={"user": "u1"}, max_attempts=2), Wanted(("p",), count=2)),
)
ALL = Wanted(max_attempts=100, count=len(IDS))

_RULES: Sequence[Sequence[Step]] = (
    (  # The oldest that can be used. What is reserved is nobody else's, until it is given back or lapses.
        ("declare", "a", LABELS[0], "p", 2.0),
        ("declare", "B", LABELS[1], "q", 2.0),
        ("declare", "c", LABELS[0], None, 1.0),
        ("take", "w2", 0, ()),
        ("take", "w3", 0, ("B",)),
        ("take", "w1", 3, ()),
        ("take", "w3", 1, ()),
        ("release", "w1", "c", False),
        ("take", "w3", 0, ()),
        ("release", "w2", "c", False),
        ("take", "w3", 0, ()),
        ("pass", PASSING[0]),
        ("take", "w2", 0, ()),
        ("pass", PASSING[1]),
        ("take", "w2", 0, ()),
        ("begin_taken", "w2"),
    ),
    (
        ("declare", "a", LABELS[0], "p", 2.0),
        ("take", "w1", 0, ()),
        ("pass", PASSING[1]),
        ("take", "w2", 0, ()),
    ),
    (  # All that is wanted of one; it waits for what there is too little of.
        ("declare", "a", LABELS[1], None, 1.0),
        ("declare", "B", LABELS[0], "q", 2.0),
        ("declare", "c", LABELS[1], "p", 3.0),
        ("declare", "d", LABELS[0], "p", 4.0),
        ("take", "w1", 3, ()),
        ("take", "w2", 4, ()),
        ("begin_taken", "w2"),
        ("end", "a", "interrupted"),
    ),
    (  # Begun too often for some.
        ("declare", "a", LABELS[1], "q", 1.0),
        ("begin", "a"),
        ("end", "a", "interrupted"),
        ("take", "w1", 1, ()),
        ("take", "w2", 3, ()),
        ("begin_taken", "w2"),
        ("end", "a", "interrupted"),
        ("take", "w2", 3, ()),
        ("take", "w3", 0, ()),
        ("begin", "a"),
        ("end", "a", "completed"),
    ),
    (  # The oldest, whatever it waits as.
        ("declare", "a", LABELS[0], "p", 1.0),
        ("begin", "a"),
        ("end", "a", "interrupted"),
        ("declare", "B", LABELS[0], "p", 2.0),
        ("take", "w1", 0, ()),
    ),
    (  # A lease that lapses, an owner that comes back.
        ("declare", "a", LABELS[0], "p", 1.0),
        ("begin", "a"),
        ("append", "a"),
        ("pass", PASSING[3]),
        ("take", "w1", 0, ()),
        ("renew", "a"),
        ("begin_taken", "w1"),
        ("end", "a", "interrupted"),
        ("take", "w2", 0, ()),
        ("release", "w1", "a", False),
    ),
    (  # One that is written off while it is reserved; a claim by its id.
        ("declare", "a", LABELS[0], "p", 1.0),
        ("begin", "a"),
        ("pass", PASSING[3]),
        ("take", "w1", 0, ()),
        ("take", "w2", 0, ()),
        ("lose", "a"),
        ("take", "w2", 0, ()),
        ("begin", "a"),
        ("end", "a", "interrupted"),
        ("take", "w1", 0, ()),
    ),
    (  # Who has waited longest, and can use it; who looks again keeps its place.
        ("take", "w1", 3, ()),
        ("take", "w2", 0, ()),
        ("take", "w3", 0, ()),
        ("take", "w2", 0, ()),
        ("declare", "a", LABELS[0], "p", 2.0),
        ("declare", "B", LABELS[0], "p", 2.0),
    ),
    (
        ("take", "w1", 2, ()),
        ("take", "w2", 0, ()),
        ("declare", "a", LABELS[0], "p", 2.0),
    ),
    (  # Who has enough, has left, or is not heard of.
        ("take", "w1", 0, ()),
        ("take", "w2", 0, ()),
        ("declare", "a", LABELS[0], "p", 2.0),
        ("take", "w2", 0, ()),
        ("declare", "B", LABELS[0], "p", 2.0),
        ("take", "w1", 0, ()),
        ("take", "w1", 0, ()),
        ("take", "w2", 0, ()),
        ("release", "w1", "d", True),
        ("declare", "c", LABELS[0], "p", 2.0),
        ("take", "w3", 3, ()),
        ("pass", PASSING[2]),
        ("delete", "a"),
        ("declare", "a", LABELS[1], "q", 2.0),
    ),
    (  # Who was rung and leaves rings the next, unless it is taken by then.
        ("take", "w1", 0, ()),
        ("take", "w2", 0, ()),
        ("take", "w3", 0, ()),
        ("declare", "a", LABELS[0], "p", 2.0),
        ("release", "w1", "d", True),
        ("take", "w3", 0, ()),
        ("release", "w2", "d", True),
        ("take", "w1", 0, ()),
        ("release", "w3", "a", True),
    ),
    (
        ("take", "w1", 0, ()),
        ("take", "w2", 0, ()),
        ("declare", "a", LABELS[0], "p", 2.0),
        ("take", "w3", 0, ()),
        ("release", "w1", "d", True),
    ),
    (  # Who was rung for what it wants no more; who was, and cannot open it, has looked.
        ("take", "w1", 0, ()),
        ("take", "w2", 0, ()),
        ("declare", "a", LABELS[0], "p", 2.0),
        ("take", "w1", 3, ()),
        ("take", "w2", 0, ("a",)),
    ),
    (
        ("take", "w1", 0, ()),
        ("take", "w2", 0, ()),
        ("declare", "a", LABELS[0], "p", 2.0),
        ("take", "w1", 0, ("a",)),
    ),
    (  # What is declared anew is no longer reserved.
        ("declare", "a", LABELS[0], "p", 2.0),
        ("take", "w1", 0, ()),
        ("declare", "a", LABELS[0], "p", 3.0),
        ("take", "w2", 0, ()),
    ),
)
COURSE: list[Step] = [step for rule in _RULES for step in (*rule, ("pass", PASSING[4]))]
"""Each rule once; then all that there is has expired."""


def steps() -> st.SearchStrategy[list[Step]]:
    """Writes to four sessions by three processes, and time between them."""
    ids, processes = st.sampled_from(IDS), st.sampled_from(PROCESSES)
    declare = st.tuples(
        st.just("declare"),
        ids,
        st.sampled_from(LABELS),
        st.sampled_from(PIPELINES),
        st.sampled_from([1.0, 2.0, 2.5, 3.0]),
    )
    without = st.sampled_from([(), (), (), ("a",), ("B", "c")])
    take = st.tuples(st.just("take"), processes, st.sampled_from(range(len(WISHES))), without)
    return st.lists(
        st.one_of(
            declare,
            declare,
            take,
            take,
            take,
            st.tuples(st.just("begin_taken"), processes),
            st.tuples(st.just("begin_taken"), processes),
            st.tuples(st.just("begin"), ids),
            st.tuples(st.just("release"), processes, ids, st.booleans()),
            st.tuples(st.just("append"), ids),
            st.tuples(st.just("end"), ids, st.sampled_from(["interrupted", "interrupted", "completed"])),
            st.tuples(st.just("renew"), ids),
            st.tuples(st.just("lose"), ids),
            st.tuples(st.just("delete"), ids),
            st.tuples(st.just("pass"), st.sampled_from(PASSING)),
        ),
        min_size=5,
        max_size=30,
    )
