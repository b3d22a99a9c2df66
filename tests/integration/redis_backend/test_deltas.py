"""A state that Redis keeps in parts: what is read of it is the whole record, whatever has come between."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import redis

from tests.integration.redis_backend.asking import claimed, one
from tests.integration.redis_backend.parted import (
    Names,
    State,
    Watching,
    claim_of_an_older_version,
    in_parts,
    stored_in,
)
from tests.redis_server import let_pass
from tests.store_contract.rig import KEEP, LEASE, append, claim, index
from tests.support import Seeds
from trio_progress import StoreError
from trio_progress.stores.base import Append, Ask, Claimed, Delete, Done, Fenced, Key, Renew
from trio_progress.stores.redis import deltas
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.redis.calls import Calls, Sent

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("every_record_in_parts")]

Backends = Callable[..., RedisBackend]


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """The threads to which answers are lost; what they asked for is done."""
    those: set[int] = set()
    receive = Calls.receive

    def losing(self: Calls, *args: Any) -> list[Any]:
        replies = receive(self, *args)
        if threading.get_ident() in those:
            raise StoreError("the answer was lost")
        return replies

    monkeypatch.setattr(Calls, "receive", losing)
    yield those
    those.clear()


class Run:
    """Owners of session `a`, one after the other, and what must be stored of it."""

    def __init__(self, rng: random.Random, owners: list[RedisBackend], client: redis.Redis, names: Names) -> None:
        self.rng, self.client, self.names = rng, client, names
        self.owner, self.other = owners
        self.state = State(rng)
        self.written = self.state.record()
        self.epoch = claimed(self.owner, owner="0", proposal=1, record=self.written)
        self.zombie: int | None = None
        self.seq = self.events = 0

    def write(self) -> Append:
        """The next append."""
        self.seq += self.rng.randint(1, 2)
        self.written = self.state.change()
        new = []
        if self.rng.random() < 0.2:
            self.events += 1
            new = [(self.events, b"event %d" % self.events)]
        labels = {"n": str(self.rng.randint(0, 9) // 9)}
        return append(self.epoch, self.seq, record=self.written, events=new, index=index(labels=labels))

    def append(self) -> None:
        assert one(self.owner, self.write()) == Done()

    def evict(self) -> None:
        kind = self.rng.choice("pkl")
        self.client.delete(self.names(kind) if kind != "l" else f"{self.names('l')}:{self.epoch}")
        self.append()

    def lose(self, lost: set[int]) -> None:
        """The answer is lost; the same is written again, or what has come since."""
        write = self.write()
        lost.add(threading.get_ident())
        with pytest.raises(StoreError, match="lost"):
            one(self.owner, write)
        lost.clear()
        if self.rng.random() < 0.5:
            newer = self.write()
            write = msgspec.structs.replace(newer, events=[*write.events, *newer.events])
        assert one(self.owner, write) == Done()

    def claim(self, *, older: bool) -> None:
        """Another process takes it over, perhaps one of an older version."""
        before = self.written
        self.client.delete(f"{self.names('l')}:{self.epoch}")
        self.owner, self.other, self.zombie = self.other, self.owner, self.epoch
        self.seq = self.events = 0
        self.written = self.state.change()
        if older:
            self.epoch += 1
            claim_of_an_older_version(self.client, self.names, self.epoch, self.written)
            return
        outcome = one(self.owner, claim("a", owner=str(self.epoch), proposal=1, record=self.written))
        assert isinstance(outcome, Claimed)
        assert outcome.previous is not None
        assert outcome.previous.record == before
        self.epoch = outcome.epoch

    def haunt(self) -> None:
        if self.zombie is not None:
            assert one(self.other, append(self.zombie, 99, record=State(self.rng).record())) == Fenced(self.epoch)


def test_whatever_comes_between_the_newest_record_is_what_is_read_and_told(
    backends: Backends,
    client: redis.Redis,
    names: Names,
    lost: set[int],
    seeds: Seeds,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owners = [backends(), backends()]
    reader = backends()
    for seed in seeds(3, exhaustive=60):
        rng = random.Random(seed)
        monkeypatch.setattr(deltas, "IN_PARTS_FROM", rng.choice([0, 0, 3000, 10**9]))
        monkeypatch.setattr(deltas, "WATCHED_IN_PARTS_FROM", rng.choice([0, 3000]))
        client.delete(*(names(kind) for kind in "smepak"))
        run, watching = Run(rng, owners, client, names), Watching(reader)
        for _ in range(60):
            match rng.choice(["append"] * 12 + ["lose"] * 2 + ["claim", "older", "evict", "haunt"]):
                case "append":
                    run.append()
                case "lose":
                    run.lose(lost)
                case "claim" | "older" as how:
                    run.claim(older=how == "older")
                case "evict":
                    run.evict()
                case _:
                    run.haunt()
            found = stored_in(reader)
            assert (found.key, found.record, len(found.events)) == (Key(run.epoch, run.seq), run.written, run.events)
            if rng.random() < 0.6:
                watching.look(forget=rng.random() < 0.2)
                watching.look()
                assert watching.stored == found


def test_an_entry_has_what_has_changed_and_the_hash_all(
    backend: RedisBackend, client: redis.Redis, names: Names
) -> None:
    state = State(random.Random(1), phases=50)
    epoch = in_parts(backend, state)
    state.phases[7]["done"] = 1
    state.state["result"] = "r" * 9000
    assert one(backend, append(epoch, 3, record=state.record())) == Done()
    found: Any = client.xrevrange(names("s"), count=1)
    ((identity, entry),) = found
    assert identity == b"%d-3" % epoch
    assert entry.keys() == {b"f", b"h", b".", b"7", b"@=result"}
    assert (entry[b"f"], entry[b"@=result"]) == (b"2", b"")
    whole = client.hgetall(names("p"))
    assert whole[b"k"] == identity
    assert len(whole) == 103
    assert stored_in(backend).record == state.record()


def test_who_watches_reads_a_large_part_once_and_otherwise_what_it_has_waited_for(
    backends: Backends, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, state, watching = backends(), State(random.Random(1)), Watching(backends(beat=60.0))
    epoch = in_parts(owner, state)
    watching.look()
    watching.look()  # Leases are looked at once in a beat.
    asked: list[str] = []
    send = Calls.send

    def noting(self: Calls, commands: Any, *args: Any) -> Sent:
        names = [each[0] if isinstance(each[0], str) else "script" for each in commands]
        asked.extend(name for name in names if name != "XREVRANGE")  # Whether requests go on, looked at by the clock.
        return send(self, commands, *args)

    for seq, result, then in ((3, None, []), (4, "r" * 9000, ["HMGET"]), (5, "r" * 9000, []), (6, None, [])):
        state.state |= {"n": seq, "result": result}
        assert one(owner, append(epoch, seq, record=state.record())) == Done()
        with monkeypatch.context() as patched:
            patched.setattr(Calls, "send", noting)
            watching.look()
        assert watching.stored == stored_in(owner)
        assert asked == ["XREAD", *then]
        asked.clear()


def test_of_small_states_that_are_stored_whole_too_a_watcher_reads_what_it_has_waited_for(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deltas, "WATCHED_IN_PARTS_FROM", 10**9)
    owner, state, watching = backends(), State(random.Random(1)), Watching(backends(beat=60.0))
    epoch = in_parts(owner, state)
    watching.look()
    watching.look()
    scripts: list[object] = []
    send = Calls.send

    def noting(self: Calls, commands: Any, *args: Any) -> Sent:
        scripts.extend(each for each in commands if not isinstance(each[0], str))
        return send(self, commands, *args)

    def store(**given: Any) -> bool:
        """Whether a script was needed to be told of the next state."""
        state.state["n"] += 1
        assert one(owner, append(epoch, state.state["n"], record=state.record(), **given)) == Done()
        with monkeypatch.context() as patched:
            patched.setattr(Calls, "send", noting)
            watching.look()
        assert watching.stored == stored_in(owner)
        needed = bool(scripts)
        scripts.clear()
        return needed

    assert not store()
    assert store(events=[(1, b"event")])
    assert not store(heartbeat=6.0)
    assert store(lease=None, index=index(status="completed"))


def test_a_watcher_that_lags_reads_the_whole(backends: Backends) -> None:
    owner, state, watching = backends(), State(random.Random(1)), Watching(backends())
    epoch = in_parts(owner, state)
    watching.look()
    for seq in range(3, 400):
        state.state["n"] = seq
        assert one(owner, append(epoch, seq, record=state.record())) == Done()
    watching.look()
    assert watching.stored == stored_in(owner)


def test_parts_live_as_long_as_their_session(
    backend: RedisBackend, client: redis.Redis, names: Names, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = State(random.Random(1))
    epoch = in_parts(backend, state)
    assert KEEP * 1000 - 5000 < client.pttl(names("p")) <= KEEP * 1250
    now = deltas_clock(monkeypatch)
    let_pass(client, prefix, 30)
    now(30)
    state.state["n"] = 3
    assert one(backend, append(epoch, 3, record=state.record())) == Done()
    for kind in "smp":
        assert client.pttl(names(kind)) > 100_000
    assert one(backend, Renew("a", epoch, 500.0, 6.0)) == Done()
    for kind in "smp":
        assert client.pttl(names(kind)) > 400_000
    state.state["n"] = 4
    assert one(backend, append(epoch, 4, record=state.record(), lease=None, index=index(status="completed"))) == Done()
    assert not client.exists(names("p"))
    assert stored_in(backend).record == state.record()
    assert one(backend, Delete("a")) == Done()
    epoch = in_parts(backend, state)
    let_pass(client, prefix, LEASE + 1)
    assert one(backend, Delete("a")) == Done()
    assert not client.exists(names("p"))


def test_a_small_record_goes_in_parts_while_it_is_watched(
    backends: Backends, client: redis.Redis, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deltas, "IN_PARTS_FROM", 10**9)
    owner, state = backends(), State(random.Random(1))
    epoch = in_parts(owner, state)
    assert not client.exists(names("p"))
    mark = owner.changes(None, {}, lambda _: True).mark
    assert one(backends(), Ask("a", "watch")) == Done()
    assert owner.changes(mark, {}, lambda _: True).asked == [Ask("a", "watch")]
    now = deltas_clock(monkeypatch)
    for seq, kept in ((3, True), (4, True), (5, False)):
        state.state["n"] = seq
        assert one(owner, append(epoch, seq, record=state.record())) == Done()
        assert (client.hget(names("p"), "k") == b"%d-%d" % (epoch, seq)) is kept
        assert stored_in(owner).record == state.record()
        now(7)


def deltas_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Lets seconds pass for this process."""
    began, passed = time.monotonic(), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: began + passed[0])

    def let(seconds: float) -> None:
        passed[0] += seconds

    return let


def test_a_large_part_that_is_newer_than_what_was_waited_for_is_read_with_all_the_rest(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, state, watching = backends(), State(random.Random(1)), Watching(backends())
    epoch = in_parts(owner, state)
    watching.look()
    seen: list[Key] = []
    send = Calls.send

    def meanwhile(self: Calls, commands: Any, *args: Any) -> Sent:
        if commands and commands[0][0] == "HMGET" and "k" in commands[0] and not seen:
            seen.append(Key(epoch, 4))
            state.state |= {"n": 4, "result": "s" * 9000}
            assert one(owner, append(epoch, 4, record=state.record())) == Done()
        return send(self, commands, *args)

    state.state |= {"n": 3, "result": "r" * 9000}
    assert one(owner, append(epoch, 3, record=state.record())) == Done()
    with monkeypatch.context() as patched:
        patched.setattr(Calls, "send", meanwhile)
        watching.look()
    assert watching.stored == stored_in(owner)
    assert [watching.stored.key] == seen
