"""The cursor rule: whoever joins, lags, resumes with any token or leaves at random is never left on a wrong state."""

from __future__ import annotations

import gc
import random
from collections import Counter
from dataclasses import dataclass, field

import msgspec
import pytest

from tests.support import QuietHost, Seeds
from trio_progress import Bookmark, CustomEvent, End, Gap, Limits, Pipeline, Snapshot, Subscribed, Update
from trio_progress.live.cursor import Consumer
from trio_progress.live.feed import REMEMBERED, Ended, Feed, Topic
from trio_progress.protocol.clock import Clock
from trio_progress.protocol.messages import Message, Position, resume_token
from trio_progress.protocol.snapshot import PhaseSnapshot
from trio_progress.state.phase import OVER, PhaseNode
from trio_progress.state.session import SessionState
from trio_progress.telemetry.statistics import Tally

PIPELINE = Pipeline("research", {"search": 3, "analysis": 2, "report": 1})
LIMITS = Limits(phases=6, depth=3)
LARGE = ["x" * 300, "y" * 300, {"n": [1] * 200}, {"n": [1.0] * 200}, {"n": [True] * 200}, "small", 3, None]
GARBAGE = ["", "x", "1.2", "1.2.3.4", "-1.0.0", "zz.1.1", "1..1", "9" * 60, "\x00.\x00.\x00", "1.1.１"]


@dataclass
class Known:
    """What a client has in hand when it holds a token."""

    view: Snapshot
    event: int


class World:
    """One session, its topic, and whoever listens; time passes only when told to."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.now = 0.0
        self.tally = Tally()
        self.clock = Clock(lambda: self.now, lambda: 1e9 + self.now)
        self.state = SessionState(
            "a",
            host=QuietHost(),
            clock=self.clock,
            pipeline=PIPELINE,
            limits=LIMITS,
            event_limit=rng.choice([1, 4, 30]),
        )
        self.state.begin(7)
        self.topic = Topic("a")
        self.feed = Feed(self.state, self.state.publish)
        self.published: dict[tuple[int, int], Snapshot] = {}
        self.values: dict[tuple[int, int], str] = {}
        self.known: dict[str, Known] = {}
        self.got: Counter[str] = Counter()
        if rng.random() < 0.5:  # Who comes first waits for the session.
            self.topic.open(self.feed)

    def work(self) -> None:
        rng, state = self.rng, self.state
        phases = list(state.walk())
        running = [phase for phase in phases if phase.status == "running"]
        what = rng.choice(["advance", "enter", "leave"] * 2 + ["emit", "increment", "burst", "hand over", "set", "set"])
        if what == "emit":
            state.emit("e", {"n": state.event_log.newest + 1})
        elif what == "set":
            fields = {rng.choice("abc"): rng.choice(LARGE)}
            if running and rng.random() < 0.5:
                rng.choice(running).set(fields)
            elif rng.random() < 0.3:
                state.set_result(rng.choice(LARGE))
            else:
                state.set(fields)
        elif what == "increment":
            state.increment(rng.choice("xy"), rng.randrange(1, 4))
        elif what == "burst":
            state.update(message=f"at {self.now}")
            if running and running[0].depth < LIMITS.depth and rng.random() < 0.5:
                self.burst(running[0])
        elif what == "hand over" and rng.random() < 0.1:
            state.hand_over(rng.choice(["search", "analysis", "report"]))
        elif what == "enter":
            self.enter(rng.choice([state.root, *running]))
        elif what == "leave" and running:
            state.leave(rng.choice(running), rng.choice(["completed", "failed"]))
        elif running:
            rng.choice(running).advance(rng.randrange(1, 4))

    def burst(self, above: PhaseNode) -> None:
        """So many short children that even their tombstones are not all kept."""
        for number in range(self.rng.randrange(3 * LIMITS.phases)):
            if self.room():
                self.state.leave(self.state.enter(above, f"{self.state.seq}.{number}"), "completed")

    def room(self) -> bool:
        phases = list(self.state.walk())
        return len(phases) < LIMITS.phases or any(not phase.declared and phase.status in OVER for phase in phases)

    def enter(self, above: PhaseNode) -> None:
        name = self.rng.choice(["search", "analysis", "report"] if above is self.state.root else ["a", "b", "c"])
        there = above.children.get(name)
        if above.depth == LIMITS.depth or (there is not None and there.status in ("running", "completed", "skipped")):
            return
        if there is not None or self.room():
            self.state.enter(above, name, total=self.rng.choice([None, 3]))

    def tick(self) -> None:
        self.state.publish()
        self.topic.announce()

    def check(self, view: Snapshot) -> None:
        """All who have come to one `seq` have one and the same state."""
        plain = msgspec.structs.replace(view, resume="", liveness="ok")
        assert self.published.setdefault((view.epoch, view.seq), plain) == plain
        values = repr([view.result, *all_fields(view)])  # `==` takes True for 1.
        assert self.values.setdefault((view.epoch, view.seq), values) == values


def all_fields(of: Snapshot | PhaseSnapshot) -> list[object]:
    """The fields of a session or phase, and of all below it."""
    return [sorted(of.fields.items()), *map(all_fields, of.phases)]


@dataclass
class Subscriber:
    """One that holds every message against what it must be."""

    world: World
    interval: float
    sparse: bool = False
    view: Snapshot | None = None
    event: int = 0
    consumer: Consumer | None = None
    greeted: bool = False
    fresh: bool = False
    last: float = -1e9
    end: End | None = None
    tokens: list[str] = field(default_factory=list)
    woken: int = 0
    greetings: list[int] = field(default_factory=list)

    def join(self, token: str | None) -> None:
        self.greetings.clear()
        self.greeted = self.fresh = False
        self.last = -1e9
        known = None if token is None else self.world.known.get(token)
        self.view, self.event = (None, 0) if known is None else (known.view, known.event)
        self.consumer = Consumer(
            since=token, interval=self.interval, tally=self.world.tally, wake=self.wake, sparse=self.sparse
        )
        self.world.topic.join(self.consumer)

    def wake(self) -> None:
        self.woken += 1

    def leave(self) -> None:
        assert self.consumer is not None
        self.world.topic.leave(self.consumer)
        self.consumer = None

    def take(self) -> bool:
        assert self.consumer is not None
        before, counted = self.consumer.cursor, counts(self.world.tally)
        step = self.consumer.peek()
        assert self.consumer.cursor == before
        assert counts(self.world.tally) == counted
        if step is None:
            return False
        if self.world.rng.random() < 0.2:  # It did not go on the wire.
            assert self.consumer.peek() == step
            self.world.got["put back"] += 1
            return True
        message = step[0]
        self.consumer.commit(*step)
        assert self.end is None, "something came after the end"
        assert self.greeted or isinstance(message, Subscribed)
        self.world.got[type(message).__name__] += 1
        self.read(message)
        if isinstance(message, (Snapshot, Update, CustomEvent)) and self.view is not None:
            position = Position(self.view.epoch, self.view.seq, self.event)
            assert message.resume == resume_token(*position) == resume_token(*self.consumer.cursor.position)
            self.tokens.append(message.resume)
            self.world.known[message.resume] = Known(self.view, self.event)
        return True

    def read(self, message: Message) -> None:
        match message:
            case Subscribed():
                assert self.consumer is not None
                assert self.consumer.cursor.position.epoch not in self.greetings
                self.greetings.append(self.consumer.cursor.position.epoch)
                self.greeted = True
                self.fresh = not message.recovered
                assert message.recovered == (message.reason is None)
                if message.reason not in (None, "too_old"):
                    # Begun anew, events begin with the oldest that was retained then.
                    self.event = self.consumer.cursor.position.event
                    assert self.event < self.world.state.event_log.oldest
            case Snapshot():
                lagged = self.view is not None and self.view.seq < self.world.state.oldest_delta
                assert self.fresh or lagged, "a snapshot that nobody was told of"
                if not self.fresh:
                    self.world.got["lagged"] += 1
                    self.wait()
                self.fresh = False
                self.see(message)
            case Update():
                assert self.view is not None
                assert not self.fresh
                self.wait()
                self.world.got["conflated"] += message.seq - message.from_ - 1
                if message.kept is not msgspec.UNSET:
                    assert self.sparse
                    self.world.got["kept"] += len(message.kept) + sum(len(phase.kept) for phase in message.phases)
                self.see(message.apply(self.view))
            case CustomEvent():
                self.event += 1
                assert message.n == self.event
                assert message.data == {"n": message.n}
            case Gap():
                assert message.dropped > 0
                self.event += message.dropped
                self.world.got["dropped"] += message.dropped
                assert self.event == self.world.state.event_log.oldest - 1
            case Bookmark():
                assert self.view is not None
                assert message.seq == self.view.seq
            case End():
                self.end = message

    def wait(self) -> None:
        """Holds `max_hz`: only the first snapshot, and what belongs to the end, need not wait."""
        assert self.world.feed.ended is not None or self.world.now - self.last >= self.interval - 1e-9

    def see(self, view: Snapshot) -> None:
        if self.view is not None:
            assert (view.epoch, view.seq) >= (self.view.epoch, self.view.seq)
            assert self.view.epoch != view.epoch or view.progress >= self.view.progress
        self.last = self.world.now
        self.view = view
        self.world.check(view)


def counts(tally: Tally) -> tuple[object, ...]:
    lag = tally.delivery_lag
    return tally.broadcasts, tally.conflated, tally.events_dropped, *lag.counts, round(lag.sum, 6)


def token_of(world: World, subscriber: Subscriber) -> str | None:
    """The newest of its own, an old one, somebody else's, one of another epoch, garbage, or none."""
    rng = world.rng
    known = list(world.known)
    match rng.randrange(7):
        case 0:
            return None
        case 1:
            return rng.choice(GARBAGE)
        case 2 if known:
            return rng.choice(known)
        case 3:
            return resume_token(world.state.epoch + rng.choice([-1, 1]), rng.randrange(9), rng.randrange(9))
        case 4:
            return resume_token(world.state.epoch, 10**6, 0)
        case _:
            return subscriber.tokens[-1] if subscriber.tokens else None


def live(world: World) -> list[Subscriber]:
    """Everything at once, at random; then the end, and what everybody has come to."""
    rng = world.rng
    subscribers = [
        Subscriber(world, rng.choice([0.0, 0.0, 0.1, 0.7]), rng.random() < 0.6) for _ in range(rng.randrange(1, 7))
    ]
    for _ in range(rng.randrange(40, 160)):
        subscriber = rng.choice(subscribers)
        match rng.randrange(12):
            case 0 | 1 | 2:
                world.work()
            case 3 | 4:
                world.tick()
            case 5:
                world.now += rng.random()
            case 6 if subscriber.consumer is None:
                subscriber.join(token_of(world, subscriber))
            case 7 if subscriber.consumer is not None and rng.random() < 0.5:
                subscriber.leave()
            case 8:
                world.topic.bookmark()
            case 9 if world.topic.feed is None:
                world.topic.open(world.feed)
            case 9 if rng.random() < 0.05:
                world.state.move(world.state.epoch + 1)
                world.topic.announce()
            case _:
                if subscriber.consumer is not None:
                    for _ in range(rng.randrange(1, 6)):
                        subscriber.take()
    if world.topic.feed is None:
        world.topic.open(world.feed)
    for subscriber in subscribers:
        if subscriber.consumer is None:
            subscriber.join(token_of(world, subscriber))
    world.state.end(rng.choice(["completed", "failed", "cancelled"]))
    world.topic.announce()
    for subscriber in subscribers:
        for _ in range(rng.randrange(4)):
            subscriber.take()
    world.topic.close(Ended(world.state.status, world.state.seq))
    return subscribers


def test_whoever_joins_lags_resumes_or_leaves_ends_on_the_sessions_state(seeds: Seeds) -> None:
    kinds: Counter[str] = Counter()
    for seed in seeds(60, exhaustive=400):
        world = World(random.Random(seed))
        subscribers = live(world)
        final = msgspec.structs.replace(world.state.snapshot(), resume="")
        for subscriber in subscribers:
            woken = subscriber.woken
            while subscriber.take():
                pass
            assert woken, "nobody told it to come"
            assert subscriber.view is not None
            assert msgspec.structs.replace(subscriber.view, resume="") == final
            assert subscriber.event == world.state.event_log.newest
            assert subscriber.end is not None
            assert (subscriber.end.seq, subscriber.end.status) == (final.seq, final.status)
            assert subscriber.consumer is not None
            assert subscriber.consumer.done
        assert not world.topic.subscribers
        assert world.tally.broadcasts == world.got["Update"] + world.got["Snapshot"]
        assert world.tally.conflated == world.got["conflated"]
        assert world.tally.events_dropped == world.got["dropped"]
        kinds += world.got
    # Without all of these the seeds have proved little.
    named = ("Update", "Snapshot", "CustomEvent", "Gap", "Bookmark", "conflated", "lagged", "put back", "kept")
    assert all(kinds[kind] for kind in named)


def test_what_is_not_yet_published_is_in_no_update() -> None:
    world = World(random.Random(1))
    world.topic.open(world.feed)
    one, other = Subscriber(world, 0.0), Subscriber(world, 0.0)
    for subscriber in (one, other):
        subscriber.join(None)
        while subscriber.take():
            pass
    phase = world.state.enter(world.state.root, "search", total=10)
    phase.advance(2)
    world.state.increment("x")
    world.tick()
    while one.take():
        pass
    phase.advance(5)
    world.state.increment("x", 5)
    world.state.set({"late": True})
    while other.take():
        pass
    assert one.view is not None
    assert other.view is not None
    if other.view.seq == one.view.seq:
        assert msgspec.structs.replace(other.view, resume="") == msgspec.structs.replace(one.view, resume="")
    assert other.view.phase("search").fraction == other.view.phase("search").done / 10


def test_a_token_that_names_events_to_come_hides_none_of_them() -> None:
    world = World(random.Random(1))
    world.topic.open(world.feed)
    subscriber = Subscriber(world, 0.0)
    world.state.emit("e", {"n": 1})
    world.tick()
    token = resume_token(world.state.epoch, world.state.seq, 40)
    subscriber.join(token)
    assert subscriber.consumer is not None
    greeting = subscriber.consumer.next()
    assert isinstance(greeting, Subscribed)
    assert (greeting.recovered, greeting.reason) == (False, "too_old")
    assert isinstance(subscriber.consumer.next(), Snapshot)
    world.state.emit("e", {"n": 2})
    world.tick()
    took = [subscriber.consumer.next() for _ in range(3)]
    assert [message.n for message in took if isinstance(message, CustomEvent)] == [2]


def test_those_who_stand_alike_share_one_update() -> None:
    world = World(random.Random(1))
    world.topic.open(world.feed)
    subscribers = [Subscriber(world, 0.0) for _ in range(3)]
    for subscriber in subscribers:
        subscriber.join(None)
        while subscriber.take():
            pass
    world.state.increment("x")
    world.tick()
    updates = [subscriber.consumer.next() for subscriber in subscribers if subscriber.consumer is not None]
    assert isinstance(updates[0], Update)
    assert all(update is updates[0] for update in updates)


@pytest.mark.exhaustive
def test_of_a_thousand_who_all_stand_elsewhere_no_update_is_kept_but_the_last_few() -> None:
    world = World(random.Random(1))
    for n in range(1000):
        world.state.increment("n", n)
        world.state.publish()
    asked = range(world.state.oldest_delta, world.state.seq)
    assert len(asked) > 900
    gc.collect()
    before = sum(type(one) is Update for one in gc.get_objects())
    for since in asked:
        assert world.feed.update(since, "token") is world.feed.update(since, "token")
    assert sum(type(one) is Update for one in gc.get_objects()) - before <= REMEMBERED


def test_a_position_from_before_too_many_foldings_gets_a_snapshot_and_is_told_why() -> None:
    world = World(random.Random(1))
    world.topic.open(world.feed)
    subscriber, lagging = Subscriber(world, 0.0), Subscriber(world, 0.0)
    for one in (subscriber, lagging):
        one.join(None)
        while one.take():
            pass
    above = world.state.enter(world.state.root, "search")
    for number in range(4 * LIMITS.phases):
        child = world.state.enter(above, f"child {number}")
        world.state.leave(child, "completed")
    assert world.state.oldest_delta > 1
    token = subscriber.tokens[-1]
    subscriber.leave()
    subscriber.join(token)
    assert subscriber.consumer is not None
    greeting = subscriber.consumer.next()
    assert isinstance(greeting, Subscribed)
    assert (greeting.recovered, greeting.reason) == (False, "too_old")
    assert isinstance(subscriber.consumer.next(), Snapshot)
    # Who lagged without leaving is in the same place.
    assert lagging.consumer is not None
    assert isinstance(lagging.consumer.next(), Snapshot)
