"""One scenario of faults: an owner and a watcher on a Redis, each through a proxy of its own, and what must hold.

By a seed: what the owner tells, which faults come, when, on whose network and for how long. The clock is the
real one, so a seed replays the plan, not each interleaving.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, field
from typing import Final

import trio

from trio_progress import (
    Bookmark,
    CustomEvent,
    End,
    Gap,
    Pipeline,
    Snapshot,
    StoreError,
    Subscribed,
    Update,
    open_tracker,
)
from trio_progress.stores.base import Stored
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.threaded import ThreadedStore
from trio_progress.tracker import ProgressTracker

from .fault_proxy import FAULTS, FaultProxy, open_fault_proxy

TIMEOUT: Final = 0.25
"""Seconds after which a call to Redis gives up."""

PATIENCE: Final = 180.0
"""Seconds in which everything must have come to rest once the network is sound."""

PHASES: Final = ("fetch", "read", "rank", "write")


@dataclass(slots=True)
class Seen:
    """What the watcher was told, checked as it came."""

    state: Snapshot | None = None
    messages: int = 0
    events: list[int] = field(default_factory=list)
    missed: int = 0
    end: End | None = None

    def take(self, message: Subscribed | Snapshot | Update | CustomEvent | Gap | Bookmark | End) -> None:
        """One more message.

        Raises:
            AssertionError: It breaks a promise.
        """
        self.messages += 1
        assert self.end is None, "nothing comes after the end"
        before = self.state
        match message:
            case Snapshot():
                self.state = message
                if before is not None and before.epoch != message.epoch:
                    # Begun while Redis was down: with the epoch that it gives, all is told anew.
                    self.events.clear()
                    self.missed = 0
            case Update():
                assert before is not None
                self.state = message.apply(before)
            case CustomEvent():
                assert not self.events or message.n > self.events[-1], "events come in order, and once"
                self.events.append(message.n)
            case Gap():
                self.missed += message.dropped
            case End():
                self.end = message
            case _:
                pass
        if self.state is not None and before is not None and self.state is not before:
            _follows(before, self.state)

    @property
    def counted(self) -> float:
        """The counter `n`, as far as it was told."""
        return 0 if self.state is None else self.state.counters.get("n", 0)

    def reached(self, count: float) -> bool:
        """Whether that much was counted."""
        return self.counted >= count


def _follows(before: Snapshot, after: Snapshot) -> None:
    """What must hold between two states that somebody is shown, one after the other."""
    assert (after.epoch, after.seq) >= (before.epoch, before.seq), "a state never goes back"
    if after.epoch != before.epoch:
        return
    assert after.progress >= before.progress, "the fraction does not fall"
    now = {phase.name: phase.status for phase in after.phases}
    for phase in before.phases:
        if phase.status in ("completed", "skipped"):
            assert now[phase.name] == phase.status, "what has completed stays so"
    for name, count in before.counters.items():
        assert after.counters[name] >= count


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a scenario has gone through."""

    faults: dict[str, int]
    states: int
    messages: int
    events: int
    failed_writes: int


async def run_scenario(target: tuple[str, int], seed: int, faults: int, *, password: str = "") -> Outcome:
    """Goes through one scenario with so many faults.

    Raises:
        AssertionError: Something that must hold does not.
    """
    rng = random.Random(seed)
    session_id = f"faults-{seed}"
    async with open_fault_proxy(target, rng) as near, open_fault_proxy(target, rng) as far:
        host, port = target
        # What the store holds is asked past the proxies, whose faults have left connections broken.
        sound = ThreadedStore(RedisBackend(f"redis://{password}{host}:{port}/0", prefix=f"faults:{seed}", timeout=5.0))
        stores = [
            ThreadedStore(
                RedisBackend(
                    f"redis://{password}127.0.0.1:{proxy.port}/0",
                    prefix=f"faults:{seed}",
                    timeout=TIMEOUT,
                    beat=0.1,
                    event_limit=200,
                )
            )
            for proxy in (near, far)
        ]
        try:
            async with (
                open_tracker(
                    stores[0],
                    persist_interval=0.05,
                    broadcast_interval=0.02,
                    heartbeat_interval=0.3,
                    lost_after=60.0,
                    flush_timeout=PATIENCE,
                    event_limit=200,
                    spool=False,
                ) as owner,
                open_tracker(
                    stores[1], broadcast_interval=0.02, lost_after=60.0, event_limit=200, spool=False
                ) as watcher,
            ):
                outcome = await _both(owner, watcher, sound, (near, far), rng, session_id, faults)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                for store in (*stores, sound):
                    await store.aclose()
    return outcome


async def _both(
    owner: ProgressTracker,
    watcher: ProgressTracker,
    store: ThreadedStore,
    proxies: tuple[FaultProxy, FaultProxy],
    rng: random.Random,
    session_id: str,
    faults: int,
) -> Outcome:
    seen, here = Seen(), Seen()
    counts = dict.fromkeys(FAULTS, 0)
    sound, resting = trio.Event(), trio.Event()

    async def watch(tracker: ProgressTracker, into: Seen) -> None:
        while into.end is None:
            try:
                async with tracker.subscribe(session_id, wait=True) as messages:
                    async for message in messages:
                        into.take(message)
            except StoreError:
                assert into.state is None, "once it has begun, a subscription outlives every fault"
                await trio.sleep(0.01)

    async def break_things() -> None:
        for _ in range(faults):
            await trio.sleep(rng.uniform(0.0, 0.15))
            fault = rng.choice(FAULTS)
            hit = [proxy for proxy in proxies if rng.random() < 0.7] or [rng.choice(proxies)]
            for proxy in hit:
                await proxy.begin(fault)
            counts[fault] += 1
            await trio.sleep(rng.choice((0.0, 0.01, 0.1, 0.4)))
            for proxy in hit:
                await proxy.end()
        sound.set()

    with trio.fail_after(faults * 1.0 + 4 * PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, watcher, seen)
            nursery.start_soon(watch, owner, here)
            nursery.start_soon(break_things)
            final = await _work(owner, rng, session_id, sound, resting, seen)
    await _settled(store, session_id, final, seen, here)
    return Outcome(counts, final.seq, seen.messages, len(seen.events), owner.statistics().persists_failed)


async def _work(
    owner: ProgressTracker,
    rng: random.Random,
    session_id: str,
    sound: trio.Event,
    resting: trio.Event,
    seen: Seen,
) -> Snapshot:
    pipeline = Pipeline("faults", list(PHASES))
    worst = 0.0
    async with owner.session(session_id, pipeline) as session:
        emitted = 0
        for name in PHASES:
            with session.phase(name) as phase:
                phase.update(total=rng.randint(5, 60))
                while (not sound.is_set() and name == PHASES[-1]) or rng.random() < 0.9:
                    phase.advance(rng.randint(0, 2))
                    session.increment("steps")
                    if rng.random() < 0.2:
                        emitted += 1
                        session.emit("found", {"n": emitted})
                    if rng.random() < 0.05:  # Redis keeps a large one in parts.
                        session.save("s" * rng.choice((0, 20_000, 40_000)))
                        session.set(log="l" * rng.choice((5, 1000, 10_000)))
                    pause = rng.uniform(0.0, 0.03)
                    began = trio.current_time()
                    await trio.sleep(pause)
                    worst = max(worst, trio.current_time() - began - pause)
        await sound.wait()
        # 1. After quiescence the store, every subscriber and the session have the same state.
        with trio.fail_after(PATIENCE):
            await session.flush()
            while seen.state is None or seen.state.seq < session.snapshot().seq:  # noqa: ASYNC110 - nobody tells it
                await trio.sleep(0.01)
        assert told(seen.state) == told(session.snapshot())
        session.set_result({"emitted": emitted})
        resting.set()
    logging.getLogger("trio_progress.tests").debug("the work was held up by at most %.3f s", worst)
    assert session.status == "completed"
    return session.snapshot()


def told(state: Snapshot) -> object:
    """A state without what each side says of the moment at which it is asked."""
    return (
        state.id,
        state.epoch,
        state.seq,
        state.status,
        state.counters,
        state.fields,
        state.result,
        [(phase.name, phase.status, phase.done, phase.total, phase.attempt) for phase in state.phases],
    )


async def _settled(store: ThreadedStore, session_id: str, final: Snapshot, seen: Seen, here: Seen) -> None:
    """What must hold once the session has been left."""
    for watched in (seen, here):
        assert watched.end is not None
        assert watched.end.status == "completed"
        assert watched.state is not None
        assert (told(watched.state), watched.state.progress) == (told(final), final.progress)
        emitted = final.result["emitted"]
        assert len(watched.events) + watched.missed == emitted, "an event is told, or its loss is"
    stored: Stored | None = await store.read(session_id)
    assert stored is not None
    assert stored.key == (final.epoch, final.seq)
    assert not stored.alive, "the lease is gone"
