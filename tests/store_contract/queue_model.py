"""Any sequence of writes, of takes and of time: a store hands out, and rings, what a plain list of sessions would."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from tests.store_contract.queue_steps import ALL, HEARD, KEEP, LEASE, PASSING, RESERVED, WISHES, Step
from tests.store_contract.rig import append, claim, index
from trio_progress.stores.base import (
    Ask,
    Claim,
    Claimed,
    Delete,
    Done,
    Index,
    Key,
    Moved,
    Refused,
    Renew,
    Store,
)
from trio_progress.stores.taking import RUNG_FOR, Chosen, Release, Spent, Take, Taken, Wanted

MARGIN = 30.0
"""No step begins with less than that until something lapses."""


@dataclass
class _Job:
    key: Key
    by: Index
    attempts: int
    lease: float | None
    """Until when somebody owns it."""
    expires: tuple[float, float]
    """From when it may be gone, and from when it is."""

    @property
    def begun(self) -> int:
        """How often, as takes reckon it."""
        return 0 if self.by.status == "queued" else max(self.attempts, 1)


class _Reserved(NamedTuple):
    process: str
    until: float
    key: Key


@dataclass
class _Waits:
    """A process that waits."""

    wanted: Sequence[Wanted]
    since: tuple[int, int]
    """In which step it came, and in which it came or wished for something else."""
    until: float
    sure: bool = True
    """Whether it has not been rung since; one with several wishes may be rung for each."""


class _Ring(NamedTuple):
    """For which session a process was rung, how that stood, and until when the store knows of it for sure."""

    which: str
    key: Key
    until: float


@dataclass
class QueueModel:
    """A plain list of sessions, who has reserved some, and who waits.

    Args:
        store: What is compared with it.
        sleep: Lets so many seconds pass for the store.
        clock: The seconds that have passed for it.
    """

    store: Store
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    jobs: dict[str, _Job] = field(default_factory=dict)
    reserved: dict[str, _Reserved] = field(default_factory=dict)
    waiting: dict[str, _Waits] = field(default_factory=dict)
    owners: Iterator[int] = field(default_factory=itertools.count)
    step: int = 0
    mark: str | None = None
    offered: list[str] = field(default_factory=list)
    """What the step has written of, in this order."""
    rung: dict[str, list[_Ring | None]] = field(default_factory=dict)
    """Who was rung since it took last, and for what; None where it may have been one of several sessions."""
    left: set[str] = field(default_factory=set)
    """What somebody has left in this step that it was rung for: the next is rung."""
    perhaps_left: set[str] = field(default_factory=set)
    """What it may have been rung for: the next may be rung."""
    lapsed: set[str] = field(default_factory=set)
    """What can be taken without a news; whether that rings, and when, is the store's business."""

    async def run(self, steps: Sequence[Step]) -> None:
        """Makes the steps; then all that is left is taken by one that allows anything."""
        self.mark = (await self.store.changes(None, {})).mark
        for name, *given in [*steps, ("pass", PASSING[1]), ("take_all",)]:
            self._let_nothing_lapse()
            self.step += 1
            self.offered.clear()
            self.left.clear()
            self.perhaps_left.clear()
            was, free = dict(self.waiting), {each for each in self.jobs if self.is_free(each)}
            await getattr(self, f"do_{name}")(*given)
            self._compare_rings(await self._rung(), {**was, **self.waiting}, free)

    # Time

    def _let_nothing_lapse(self) -> None:
        """Lets what lapses soon lapse before the next step."""
        while True:
            now = self.clock()
            windows = [job.expires for job in self.jobs.values()]
            windows += [(job.lease, job.lease) for job in self.jobs.values() if job.lease is not None]
            windows += [(each.until, each.until) for each in self.reserved.values()]
            windows += [(each.until, each.until) for each in self.waiting.values()]
            windows += [(each.until, each.until) for rings in self.rung.values() for each in rings if each is not None]
            ends = [end for begin, end in windows if begin <= now + MARGIN and end > now]
            if not ends:
                return
            self._pass(max(ends) - now + 1)

    def _pass(self, seconds: float) -> None:
        free = {each for each in self.jobs if self.is_free(each)}
        self.sleep(seconds)
        now = self.clock()
        for each in [each for each, job in self.jobs.items() if job.expires[0] <= now and not self.is_owned(job)]:
            self._forget(each)
        self.lapsed |= {each for each in self.jobs if self.is_free(each)} - free

    async def do_pass(self, seconds: float) -> None:
        self._pass(seconds)

    # What there is

    def is_owned(self, job: _Job) -> bool:
        return job.lease is not None and job.lease > self.clock()

    def is_takeable(self, which: str) -> bool:
        job = self.jobs.get(which)
        return (
            job is not None and not self.is_owned(job) and job.by.status in ("queued", "interrupted", "lost", "running")
        )

    def is_free(self, which: str) -> bool:
        reserved = self.reserved.get(which)
        return self.is_takeable(which) and (reserved is None or reserved.until <= self.clock())

    def is_wanted(self, which: str, wanted: Sequence[Wanted]) -> bool:
        job = self.jobs[which]
        return any(job.begun < one.max_attempts and one.fits(job.by.pipeline, job.by.labels) for one in wanted)

    def _forget(self, which: str) -> None:
        self.jobs.pop(which, None)
        self.reserved.pop(which, None)

    # Claims

    async def _claim(self, which: str, expect: Key | None = None, **given: Any) -> None:
        known = self.jobs.get(which)
        write = claim(which, owner=f"owner {next(self.owners)}", keep=KEEP, expect=expect, **given)
        (outcome,) = await self.store.commit([write])
        if known is not None and self.is_owned(known):
            assert outcome == Refused()
        elif expect is not None and (known is None or known.key != expect):
            assert outcome == Moved()
        else:
            assert isinstance(outcome, Claimed)
            assert known is None or outcome.epoch > known.key.epoch
            alike = known is not None and known.by == write.index  # Where it stood before, and need not ring.
            self._claimed(write, outcome.epoch, 0 if known is None else known.attempts)
            if alike:
                self.lapsed.add(which)
            else:
                self.offered.append(which)

    def _claimed(self, write: Claim, epoch: int, before: int) -> None:
        now = self.clock()
        self.jobs[write.id] = _Job(
            Key(epoch, 0),
            write.index,
            before if write.attempts is None else write.attempts,
            None if write.lease is None else now + write.lease,
            (now + KEEP, now + KEEP),
        )
        self.reserved.pop(write.id, None)

    async def do_declare(self, which: str, labels: dict[str, str], pipeline: str | None, queued: float) -> None:
        by = index(status="queued", labels=labels, pipeline=pipeline, queued_at=queued)
        await self._claim(which, index=by, lease=None, attempts=0)

    async def do_begin(self, which: str) -> None:
        """By its id, whoever has reserved it."""
        known = self.jobs.get(which)
        if known is not None:
            await self._begin(which, known)

    async def do_begin_taken(self, process: str) -> None:
        """What a process has reserved, if only some time ago."""
        for which, reserved in self.reserved.items():
            if reserved.process == process:
                await self._begin(which, self.jobs[which], expect=reserved.key)
                return

    async def _begin(self, which: str, known: _Job, expect: Key | None = None) -> None:
        by = msgspec.structs.replace(known.by, status="running")
        await self._claim(which, expect, index=by, lease=LEASE, attempts=known.attempts + 1)

    async def do_lose(self, which: str) -> None:
        known = self.jobs.get(which)
        if known is not None and known.by.status == "running":
            await self._claim(which, known.key, index=msgspec.structs.replace(known.by, status="lost"), lease=None)

    # What an owner writes

    async def do_append(self, which: str) -> None:
        await self._append(which, "running", LEASE)

    async def do_end(self, which: str, status: str) -> None:
        await self._append(which, status, None)

    async def _append(self, which: str, status: str, lease: float | None) -> None:
        known = self.jobs.get(which)
        if known is None or known.by.status != "running":
            return
        known.key = Key(known.key.epoch, known.key.seq + 1)
        known.by = msgspec.structs.replace(known.by, status=status)
        write = append(*known.key, which, index=known.by, lease=lease, keep=KEEP)
        assert await self.store.commit([write]) == [Done()]
        now = self.clock()
        known.lease = None if lease is None else now + lease
        known.expires = (known.expires[0], now + KEEP * 1.25)  # Redis sets it anew now and then, and then longer.
        self.offered.append(which)

    async def do_renew(self, which: str) -> None:
        known = self.jobs.get(which)
        if known is not None and known.by.status == "running":
            assert await self.store.commit([Renew(which, known.key.epoch, LEASE, 7.0)]) == [Done()]
            known.lease = self.clock() + LEASE

    async def do_delete(self, which: str) -> None:
        known = self.jobs.get(which)
        (outcome,) = await self.store.commit([Delete(which)])
        if known is not None and self.is_owned(known):
            assert outcome == Refused()
        else:
            self._forget(which)

    # Taking

    async def do_take_all(self) -> None:
        await self._take("all", (ALL,), ())

    async def do_take(self, process: str, wishes: int, without: Sequence[str]) -> None:
        await self._take(process, WISHES[wishes], without)

    async def _take(self, process: str, wanted: Sequence[Wanted], without: Sequence[str]) -> None:
        write = Take(process, wanted, frozenset(without), RESERVED, HEARD)
        (outcome,) = await self.store.commit([write])
        assert isinstance(outcome, Taken)
        chosen, short = self._choose(write)
        assert list(outcome.sessions) == chosen
        told, spent = set(outcome.spent), self._spent(wanted)
        # Of one that has lapsed it is told at the latest once it is written off.
        assert {each for each in spent if self.jobs[each.id].by.status != "running"} <= told <= spent
        self._leave_what_it_was_rung_for(process, short)
        before = self.waiting.pop(process, None)
        if short:
            since = (self.step, self.step)
            if before is not None and before.until > self.clock():
                since = before.since if before.wanted == short and before.sure else (before.since[0], self.step)
            self.waiting[process] = _Waits(short, since, self.clock() + HEARD)

    def _choose(self, take: Take) -> tuple[list[Chosen], list[Wanted]]:
        """What is to be chosen, the oldest of each wish, and those of which there is less."""
        chosen: list[Chosen] = []
        short: list[Wanted] = []
        for number, wanted in enumerate(take.wanted):
            oldest = sorted(self.jobs, key=lambda each: (self.jobs[each].by.queued_at, each))
            fitting = [
                each
                for each in oldest
                if self.is_free(each) and each not in take.without and self.is_wanted(each, [wanted])
            ]
            for each in fitting[: wanted.count]:
                key = self.jobs[each].key
                chosen.append(Chosen(each, key, number))
                self.reserved[each] = _Reserved(take.id, self.clock() + take.reserve, key)
            if len(fitting) < wanted.count:
                short.append(wanted)
        return chosen, short

    def _spent(self, wanted: Sequence[Wanted]) -> set[Spent]:
        return {
            Spent(each, one.max_attempts)
            for one in wanted
            for each, job in self.jobs.items()
            if self.is_takeable(each) and job.begun == one.max_attempts and one.fits(job.by.pipeline, job.by.labels)
        }

    async def do_release(self, process: str, which: str, leaves: bool) -> None:
        assert await self.store.commit([Release(process, (which,), leaves)]) == [Done()]
        if leaves:
            self.waiting.pop(process, None)
            self._leave_what_it_was_rung_for(process, ())
        if which in self.reserved and self.reserved[which].process == process:
            del self.reserved[which]
            self.offered.append(which)

    # The bell

    def _leave_what_it_was_rung_for(self, process: str, short: Sequence[Wanted]) -> None:
        """Who was rung has looked, and found too little of some, or looks no more."""
        for ring in self.rung.pop(process, ()):
            if ring is None:
                self.perhaps_left |= {each for each in self.jobs if self.is_free(each)}
            elif self.is_free(ring.which) and not self.is_wanted(ring.which, short):
                stands = self.jobs[ring.which].key == ring.key and ring.until > self.clock()
                (self.left if stands else self.perhaps_left).add(ring.which)

    async def _rung(self) -> list[str]:
        """Who was rung in this step."""
        assert await self.store.commit([Ask("probe", "cancel")]) == [Done()]
        rung: list[str] = []
        while True:
            changes = await self.store.changes(self.mark, {})
            self.mark = changes.mark
            rung += [ask.id for ask in changes.asked if ask.what == "take"]
            if any(ask.id == "probe" for ask in changes.asked):
                return rung

    def _compare_rings(self, rung: Sequence[str], waiting: dict[str, _Waits], free: set[str]) -> None:
        """Compares who was rung with who is to be.

        Args:
            rung: Who was.
            waiting: Who waited before the step, or does after it.
            free: What could be taken before.
        """
        unheard = list(rung)
        for which in self.offered:
            if which not in free and self.is_free(which):
                self._compare_ring(which, unheard)
        for which in self.left.difference(self.offered):
            self._compare_ring(which, unheard)
        # It may also ring for what was written while it could be taken, or has lapsed; once each.
        causes = {each for each in (*self.offered, *self.lapsed, *self.perhaps_left) if self.is_takeable(each)}
        for order in itertools.permutations(causes, len(unheard)):
            pairs = list(zip(unheard, order, strict=True))
            if all(
                process in waiting
                and waiting[process].until > self.clock()
                and self.is_wanted(each, waiting[process].wanted)
                for process, each in pairs
            ):
                self.lapsed -= set(order)
                break
        else:
            raise AssertionError(f"{unheard} were rung, and there is news of {causes} at most")
        causes |= self.left
        for process in rung:
            sure = self._ring_for(*causes) if len(causes) == 1 else None
            self.rung.setdefault(process, []).append(sure)
            waits = self.waiting.get(process)
            if waits is not None and (len(waits.wanted) > 1 or waits.since[1] == self.step):
                waits.sure = False
            elif waits is not None:
                del self.waiting[process]
        self.lapsed = {each for each in self.lapsed if self.is_free(each)}

    def _ring_for(self, which: str) -> _Ring:
        return _Ring(which, self.jobs[which].key, self.clock() + RUNG_FOR)

    def _compare_ring(self, which: str, unheard: list[str]) -> None:
        """Takes off `unheard` who was rung for a session that has become free."""
        now = self.clock()
        can_use = {
            process: waits
            for process, waits in self.waiting.items()
            if waits.until > now and self.is_wanted(which, waits.wanted)
        }
        for process in unheard:
            if process in can_use:
                others = [waits for name, waits in can_use.items() if name not in unheard and waits.sure]
                longer = [waits for waits in others if waits.since[1] < can_use[process].since[0]]
                assert not longer, f"{process} was rung for {which!r}, and another one has waited longer"
                unheard.remove(process)
                return
        assert not [waits for waits in can_use.values() if waits.sure], f"nobody was rung for {which!r}"
