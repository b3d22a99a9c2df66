"""Any sequence of writes, of time that passes, and of lists: what an index gives is what looking at all would find."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeAlias

import msgspec
from hypothesis import strategies as st

from tests.store_contract.rig import KEEP, LEASE, append, claim, index
from trio_progress.protocol.labels import PARENT
from trio_progress.stores.base import Claim, Claimed, Delete, Done, Index, Query, Renew, Store, Stored, claimed_index
from trio_progress.stores.decoding import decode_cursor

Step: TypeAlias = tuple[Any, ...]

IDS = ("a", "b", "c")
LABELS: Sequence[dict[str, str]] = (
    {},
    {"user": "u1"},
    {"user": "u2", "team": "t"},
    {"user": "u1", "team": "t", "order": 'o"1\\'},
    {"u": "ser=u1", "user": ""},
    {"user": "u1", PARENT: "job-1"},
)
PIPELINES = ("p", "q", None)
PASSING = (LEASE / 3, LEASE * 1.1, KEEP * 1.3)
"""Seconds in which nothing changes, in which leases lapse, and in which sessions expire."""

TRANSITIONS: list[Step] = [
    ("declare", "a", LABELS[2], "p", 2.0),
    ("claim", "b", LABELS[1], "q", 2.0, False, False),
    ("look",),
    ("claim", "a", LABELS[0], "p", 1e9, True, True),
    ("again", "a"),
    ("look",),
    ("append", "a"),
    ("pass", PASSING[1]),
    ("look",),
    ("append", "a"),
    ("look",),
    ("renew", "b"),
    ("look",),
    ("relabel", "a", LABELS[3], 1.0),
    ("look",),
    ("end", "a", "completed"),
    ("look",),
    ("claim", "a", LABELS[1], None, 2.5, True, True),
    ("pass", PASSING[1]),
    ("lose", "a"),
    ("look",),
    ("claim", "a", LABELS[1], "p", 2.5, False, False),
    ("pass", PASSING[1]),
    ("again", "a"),
    ("end", "b", "failed"),
    ("delete", "b"),
    ("look",),
    ("pass", PASSING[2]),
]
"""Each way from one place to another, once."""


def steps() -> st.SearchStrategy[list[Step]]:
    """Writes to four sessions, and time between them."""
    ids, labels, pipelines = st.sampled_from(IDS), st.sampled_from(LABELS), st.sampled_from(PIPELINES)
    queued = st.sampled_from([1.0, 2.0, 2.5, 1e9 + 0.1])
    ends = st.sampled_from(["completed", "failed", "interrupted", "cancelled", "timed_out"])
    kept = st.booleans()
    return st.lists(
        st.one_of(
            st.tuples(st.just("declare"), ids, labels, pipelines, queued),
            st.tuples(st.just("claim"), ids, labels, pipelines, queued, kept, kept),
            st.tuples(st.just("claim"), ids, labels, pipelines, queued, kept, kept),
            st.tuples(st.just("again"), ids),
            st.tuples(st.just("append"), ids),
            st.tuples(st.just("relabel"), ids, labels, queued),
            st.tuples(st.just("end"), ids, ends),
            st.tuples(st.just("renew"), ids),
            st.tuples(st.just("lose"), ids),
            st.tuples(st.just("delete"), ids),
            st.tuples(st.just("pass"), st.sampled_from(PASSING)),
            st.tuples(st.just("look")),
        ),
        min_size=5,
        max_size=25,
    )


@dataclass
class _Written:
    epoch: int
    seq: int
    by: Index


class _Answered(NamedTuple):
    """A claim, and what it is to be answered when it is made again."""

    claim: Claim
    answer: Claimed


@dataclass
class Model:
    """What was written last of each session, and taken."""

    store: Store
    sleep: Callable[[float], None]
    written: dict[str, _Written] = field(default_factory=dict)
    claimed: dict[str, _Answered] = field(default_factory=dict)
    owners: Iterator[int] = field(default_factory=itertools.count)

    async def run(self, steps: Sequence[Step]) -> None:
        """Makes the steps, then looks."""
        for name, *given in steps:
            await getattr(self, f"do_{name}")(*given)
        await self.do_look()

    async def do_declare(self, which: str, labels: dict[str, str], pipeline: str | None, queued: float) -> None:
        by = index(status="queued", labels=labels, pipeline=pipeline, queued_at=queued)
        await self._claim(which, by, lease=None)

    async def do_claim(
        self, which: str, labels: dict[str, str], pipeline: str | None, queued: float, kept: bool, kept_labels: bool
    ) -> None:
        by = index(labels=labels, pipeline=pipeline, queued_at=queued)
        await self._claim(which, by, keep_queued_at=kept, keep_labels=kept_labels)

    async def do_lose(self, which: str) -> None:
        if which in self.written:
            await self._claim(which, msgspec.structs.replace(self.written[which].by, status="lost"), lease=None)

    async def _claim(self, which: str, by: Index, **given: Any) -> None:
        before = await self.store.read(which)
        # One of its own for each: a claim by the same owner is a claim sent again, and changes nothing.
        write = claim(which, index=by, owner=f"owner {next(self.owners)}", **given)
        (outcome,) = await self.store.commit([write])
        if isinstance(outcome, Claimed):
            told = None
            if before is not None:
                known = self.written[which].by
                by = claimed_index(write, known.status, known.queued_at, known.labels)
                told = outcome.previous if known.status == "queued" else None
            self.written[which] = _Written(outcome.epoch, 0, by)
            self.claimed[which] = _Answered(write, msgspec.structs.replace(outcome, previous=told))

    async def do_again(self, which: str) -> None:
        """The answer to a claim was lost, and nothing was written since."""
        made, there = self.claimed.get(which), await self.store.read(which)
        if made is None or there is None or made.claim.lease is None or there.key != (made.answer.epoch, 0):
            return
        assert await self.store.commit([made.claim]) == [made.answer]

    async def do_append(self, which: str) -> None:
        if which in self.written:
            await self._append(which, self.written[which].by)

    async def do_relabel(self, which: str, labels: dict[str, str], queued: float) -> None:
        if which in self.written:
            await self._append(which, msgspec.structs.replace(self.written[which].by, labels=labels, queued_at=queued))

    async def do_end(self, which: str, status: str) -> None:
        if which in self.written:
            await self._append(which, msgspec.structs.replace(self.written[which].by, status=status), lease=None)

    async def _append(self, which: str, by: Index, **given: Any) -> None:
        known = self.written[which]
        if by.status == "queued":
            return  # Nobody owns it.
        known.seq += 1
        (outcome,) = await self.store.commit([append(known.epoch, known.seq, which, index=by, **given)])
        if isinstance(outcome, Done):
            known.by = by

    async def do_renew(self, which: str) -> None:
        if which in self.written and self.written[which].by.status == "running":
            await self.store.commit([Renew(which, self.written[which].epoch, LEASE, 7.0)])

    async def do_delete(self, which: str) -> None:
        await self.store.commit([Delete(which)])

    async def do_pass(self, seconds: float) -> None:
        self.sleep(seconds)

    # Looking

    async def do_look(self) -> None:
        """Compares all kinds of lists, page by page, with what reading each session tells."""
        found = [stored for which in IDS if (stored := await self.store.read(which)) is not None]
        assert [one.id for one in await self.pages(Query(limit=3))] == self.expected(found, Query())
        for query in QUERIES:
            listed = await self.pages(query)
            assert [one.id for one in listed] == self.expected(found, query), query
            assert all(one.key.epoch == self.written[one.id].epoch for one in listed)

    def expected(self, found: Sequence[Stored], query: Query) -> list[str]:
        """The sessions that a list is to have, in its order."""
        fitting = [(self.written[one.id].by.queued_at, one.id) for one in found if self.fits(one, query)]
        return [session_id for _, session_id in sorted(fitting, reverse=True)]

    def fits(self, stored: Stored, query: Query) -> bool:
        by = self.written[stored.id].by
        shown = "lost" if by.status == "running" and not stored.alive else by.status
        return (
            (query.status is None or by.status in query.status)
            and (query.shown is None or shown in query.shown)
            and not (query.lapsed and stored.alive)
            and query.pipeline in (None, by.pipeline)
            and query.labels.items() <= by.labels.items()
        )

    async def pages(self, query: Query) -> list[Stored]:
        """All pages of a list; each but the last has a session, and leads on behind it."""
        listed: list[Stored] = []
        while True:
            page = await self.store.list(query)
            assert len(page.sessions) <= query.limit
            listed += page.sessions
            if page.next is None:
                return listed
            assert decode_cursor(page.next)[1] in IDS
            query = replace(query, after=page.next)


def _asked(**given: Any) -> Query:
    return Query(limit=2, **given)


QUERIES = (
    *(_asked(shown=frozenset({status})) for status in ("queued", "running", "lost", "completed", "failed")),
    _asked(shown=frozenset({"running", "lost"})),
    _asked(status=frozenset({"running"})),
    _asked(status=frozenset({"running", "queued"})),
    _asked(status=frozenset({"running"}), lapsed=True),
    _asked(lapsed=True),
    _asked(shown=frozenset({"queued", "interrupted", "lost"}), pipeline="p"),
    *(_asked(pipeline=name) for name in ("p", "q", "none")),
    *(_asked(labels=labels) for labels in LABELS[1:]),
    _asked(labels={"user": "u1"}, shown=frozenset({"lost"})),
    _asked(labels={"user": "u1"}, shown=frozenset({"running"}), pipeline="p"),
    _asked(labels={"team": "t"}, status=frozenset({"completed", "failed", "cancelled"})),
)
