"""What an update of a session costs Redis while other processes watch it, beside the size of what has changed.

1. *Updates.* A session has so many phases; one of them moves with each state, and so many processes watch. Counted by
   Redis are the bytes that come in while the owner stores, those that go out while the watchers are told, and its CPU
   time; beside it the same with whole states. The delta is the text of the phase that moved, and of the head.
2. *A large result.* It is set early, and states follow in which it stays: what each of them costs, in Redis and on the
   wire of the server, to a client that says that it has it and to one that says nothing.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final
from unittest import mock

import msgspec
import trio

from trio_progress import open_tracker
from trio_progress.protocol.messages import Update, encode_message
from trio_progress.protocol.snapshot import ENCODER, headed
from trio_progress.state.record import Record, decode_record, encoded
from trio_progress.stores.base import Append, Ask, Claim, Claimed, Done, Index, Key, Seen
from trio_progress.testing import memory_client
from trio_progress.tracker import runtime_of

from .harness import Values
from .redis import PIPELINE, client_of, server
from .report import Report
from .suites import Suite, count, register

if TYPE_CHECKING:
    import redis

    from trio_progress.stores.redis.backend import RedisBackend

OURS: Final = "what has changed"
WHOLE: Final = "whole states"

INDEX: Final = Index("running", "measured", {"user": "u1"}, 1.0)
LEASE: Final = 1000.0
KEEP: Final = 3600.0

RESULT: Final = 1_000_000
"""Bytes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `deltas`."""
    parser.add_argument("--url", metavar="URL", help="an empty Redis to use; unless given, one is started")
    parser.add_argument(
        "--phases", type=count, nargs="+", default=[8, 200, 500], metavar="N", help="of a session (8 200 500)"
    )
    parser.add_argument(
        "--watching", type=count, nargs="+", default=[1, 20], metavar="N", help="processes that watch it (1 20)"
    )
    parser.add_argument("--updates", type=count, default=100, metavar="N", help="in a round (100)")


def run(options: argparse.Namespace) -> Report:
    """Measures updates by the number of phases and of watchers, then a large result."""
    report = Report("deltas", {name: getattr(options, name) for name in ("rounds", "phases", "watching", "updates")})
    random.seed(1)
    record = trio.run(_record)
    with server(options.url) as url:
        for phases in options.phases:
            for watching in options.watching:
                _updates(report, url, Run(record, phases), watching, options)
        _result(report, url, Run(record, min(options.phases)))
    _wire(report, options)
    report.notes += [
        "bytes by Redis' own count: in while the owner stores, out for each watcher while it is told",
        "the delta: the JSON of the head and of the one phase that moved",
        "whole states: the same processes, whose states are all stored whole",
    ]
    return report


async def _record() -> Record:
    """What a real session stores."""
    async with open_tracker() as tracker, tracker.session("measured", PIPELINE, labels={"user": "u1"}) as session:
        with session.phase("phase-0", total=1000) as phase:
            phase.advance(7)
            await session.flush()
            stored = await runtime_of(tracker).store.read("measured")
    assert stored is not None
    return decode_record("measured", *stored.key, stored.record)


class Run:
    """The states of a session with so many phases, one after the other."""

    def __init__(self, record: Record, phases: int) -> None:
        running = record.state.phases[0]
        self.phases = [msgspec.structs.replace(running, name=f"phase-{n}", title=f"Phase {n}") for n in range(phases)]
        self._record = record
        self._seq = 0
        self.result: Any = None
        self.delta = 0
        """Bytes that the last state differs by."""

    def next(self) -> bytes:
        """The next state, stored."""
        self._seq += 1
        moved = random.randrange(len(self.phases))
        phase = msgspec.structs.replace(self.phases[moved], done=self._seq, fraction=self._seq / 1e4)
        self.phases[moved] = phase
        state = msgspec.structs.replace(
            self._record.state, seq=self._seq, result=self.result, progress=self._seq / 1e4, phases=tuple(self.phases)
        )
        self.delta = len(ENCODER.encode(headed(state))) + len(ENCODER.encode(phase))
        return encoded(msgspec.structs.replace(self._record, state=state))


class Watching:
    """One process that watches the session."""

    def __init__(self, backend: RedisBackend) -> None:
        self._backend = backend
        self._mark = backend.changes(None, {}, lambda _: True).mark
        self._seen: Seen | None = None
        self.record = b""
        self.look()

    def look(self) -> None:
        """Takes in what is new."""
        changes = self._backend.changes(self._mark, {"measured": self._seen}, lambda _: True)
        self._mark = changes.mark
        for stored in changes.sessions:
            self._seen, self.record = stored.seen, stored.record


@contextmanager
def _watched(
    url: str, watching: int, *, whole: bool
) -> Iterator[tuple[Callable[[int, bytes], None], Callable[[], None], list[Watching], redis.Redis]]:
    """What stores a state, what tells the owner that it is watched, who watches, and a client that counts."""
    from trio_progress.stores.redis import deltas
    from trio_progress.stores.redis.backend import RedisBackend

    with ExitStack() as stack:
        if whole:
            stack.enter_context(mock.patch.object(deltas, "WATCHED_IN_PARTS_FROM", 1 << 60))
        client = stack.enter_context(client_of(url))
        client.flushall()
        made = [RedisBackend(url, timeout=10.0) for _ in range(watching + 1)]
        for backend in made:
            stack.callback(backend.close)
        owner = made[0]
        owner.open()
        (outcome,) = owner.commit([Claim("measured", 1, "me", b"{}", INDEX, LEASE, KEEP)])
        assert isinstance(outcome, Claimed)
        epoch = outcome.epoch
        mark = owner.changes(None, {}, lambda _: True).mark

        def store(seq: int, record: bytes) -> None:
            (outcome,) = owner.commit([Append("measured", Key(epoch, seq), record, INDEX, LEASE, KEEP, 1.7e9 + seq)])
            assert outcome == Done()

        def tell() -> None:
            nonlocal mark
            made[-1].commit([Ask("measured", "watch")])
            mark = owner.changes(mark, {}, lambda _: False).mark

        yield store, tell, [Watching(backend) for backend in made[1:]], client


def _counted(client: redis.Redis) -> tuple[float, float, float]:
    found: dict[str, Any] = client.info("everything")
    cpu = float(found["used_cpu_user"]) + float(found["used_cpu_sys"])
    return found["total_net_input_bytes"], found["total_net_output_bytes"], cpu


class Meter:
    """Adds up what Redis counts while something is done, without what counting costs."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.sums = [0.0, 0.0, 0.0]
        self._own = (0.0, 0.0, 0.0)
        for _ in range(10):
            self._own = self._costs(lambda: None)

    def _costs(self, call: Callable[[], object]) -> tuple[float, float, float]:
        before = _counted(self._client)
        call()
        after = _counted(self._client)
        return after[0] - before[0], after[1] - before[1], after[2] - before[2]

    def measure(self, call: Callable[[], object]) -> None:
        """Does it once."""
        costs = self._costs(call)
        self.sums = [total + cost - own for total, cost, own in zip(self.sums, costs, self._own, strict=True)]


def _updates(report: Report, url: str, run: Run, watching: int, options: argparse.Namespace) -> None:
    incoming: Values = {OURS: [], WHOLE: [], "the delta": []}
    outgoing: Values = {OURS: [], WHOLE: [], "the delta": []}
    used: Values = {OURS: [], WHOLE: []}
    for _ in range(options.rounds):
        for name in (OURS, WHOLE):
            with _watched(url, watching, whole=name == WHOLE) as (store, tell, watchers, client):
                tell()
                for seq in (1, 2):  # From the second on it is known what is there.
                    store(seq, run.next())
                    for each in watchers:
                        each.look()
                owner, told, delta = Meter(client), Meter(client), 0
                for seq in range(3, options.updates + 3):
                    tell()
                    record = run.next()
                    delta += run.delta
                    owner.measure(lambda seq=seq, record=record: store(seq, record))  # type: ignore[misc]
                    told.measure(lambda: [each.look() for each in watchers])  # type: ignore[func-returns-value]
                    assert all(each.record == record for each in watchers)
                incoming[name].append(owner.sums[0] / options.updates)
                outgoing[name].append(told.sums[1] / options.updates / watching)
                used[name].append((owner.sums[2] + told.sums[2]) / options.updates * 1e6)
                if name == OURS:
                    for values in (incoming, outgoing):
                        values["the delta"].append(delta / options.updates)
    shape = f"{len(run.phases)} phases, {watching} watching"
    for way, values in (("into Redis", incoming), ("out for each watcher", outgoing)):
        group = f"An update of {shape}: {way}"
        report.add(group, "B", values, against=["the delta"], headline={OURS: [WHOLE, "the delta"]})
        report.aim(f"{group}, to the delta", "x", 1.5, values[OURS], values["the delta"])
    report.add(f"An update of {shape}: Redis' CPU, told included", "us", used, against=[WHOLE])


def _result(report: Report, url: str, run: Run) -> None:
    came: Values = {}
    went: Values = {}
    with _watched(url, 1, whole=False) as (store, tell, (watcher,), client):
        for seq in range(1, 7):
            tell()
            run.result = "r" * RESULT if seq >= 3 else None
            owner, told = Meter(client), Meter(client)
            record = run.next()
            owner.measure(lambda seq=seq, record=record: store(seq, record))  # type: ignore[misc]
            told.measure(watcher.look)
            assert watcher.record == record
            what = "with the result" if seq == 3 else f"before it, state {seq}" if seq < 3 else f"after it, state {seq}"
            came[what], went[what] = [owner.sums[0]], [told.sums[1]]
    for way, values in (("into Redis", came), ("out to the watcher", went)):
        report.add(f"A result of 1 MB: {way}", "B", values)
        report.aim(f"a result of 1 MB, {way}", "x", 1.1, values["with the result"], [float(RESULT)])
        report.aim(
            f"the state after it, {way}, to that of before",
            "x",
            1.5,
            values["after it, state 4"],
            values["before it, state 2"],
        )


def _wire(report: Report, options: argparse.Namespace) -> None:
    """Updates of a session that has a large result, as a server sends them."""
    result = "r" * (RESULT - 100)
    ways = {
        "to who has it": (True, result),
        "to who says nothing": (False, result),
        "the same without a result": (True, None),
    }
    sent: Values = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, (sparse, given) in ways.items():
            sent[name].append(statistics.fmean(trio.run(_sizes, options.updates, sparse, given)))
    group = "A result of 1 MB: an update after it, on the wire"
    report.add(group, "B", sent, against=["the same without a result"])
    report.aim(f"{group}, to one without", "x", 1.5, sent["to who has it"], sent["the same without a result"])


async def _sizes(updates: int, sparse: bool, result: str | None) -> list[int]:
    """Bytes of updates after the one that brings the result."""
    sizes: list[int] = []
    async with open_tracker() as tracker, tracker.session("measured", PIPELINE) as session:
        session.set_result(result)
        with session.phase("phase-0", total=updates + 1) as phase:
            async with memory_client(tracker, sparse=sparse) as client:
                await client.subscribe("measured")
                async for message in client:
                    if isinstance(message, Update):
                        sizes.append(len(encode_message(message)))
                    if len(sizes) == updates:
                        break
                    phase.advance()
    return sizes


register(
    Suite(
        "deltas",
        "bytes of an update of a session that other processes watch, beside the size of what has changed",
        3,
        add_arguments,
        run,
        ("--rounds", "1", "--updates", "30", "--watching", "1"),
    )
)
