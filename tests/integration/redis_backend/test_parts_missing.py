"""A session in parts of which Redis has lost something, or that a process of an older version has claimed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

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
from tests.store_contract.rig import LEASE, E, append, claim
from trio_progress import StoreError
from trio_progress.stores.base import Claimed, Done, Fenced, Key, Query, Renew
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.taking import Chosen, Take, Taken, Wanted

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("every_record_in_parts")]

Backends = Callable[..., RedisBackend]


def test_what_of_a_session_is_left_without_its_parts_is_nothing_until_its_owner_writes(
    backend: RedisBackend, client: redis.Redis, names: Names
) -> None:
    state = State(random.Random(1))
    epoch = in_parts(backend, state)
    for spoil in (lambda: client.delete(names("p")), lambda: client.set(names("p"), "x")):
        spoil()
        assert backend.read("a") is None
        assert backend.list(Query()).sessions == []
        for _ in range(2):  # A whole one, and one in parts.
            state.state["n"] += 1
            epoch_seq = append(epoch, state.state["n"], record=state.record())
            assert one(backend, epoch_seq) == Done()
            assert stored_in(backend).record == state.record()
        assert client.hget(names("p"), "k") == b"%d-%d" % (epoch, state.state["n"])


def test_parts_that_do_not_fit_together_are_passed_over(
    backend: RedisBackend, client: redis.Redis, names: Names
) -> None:
    in_parts(backend, State(random.Random(1)))
    client.hdel(names("p"), "0")
    with pytest.raises(StoreError, match="cannot be read"):
        backend.read("a")
    assert backend.corrupt.count == 1


@pytest.mark.parametrize("kind", ["s", "m"])
def test_what_is_gone_is_not_stored_again_in_parts(
    backend: RedisBackend, client: redis.Redis, names: Names, kind: str
) -> None:
    state = State(random.Random(1))
    epoch = in_parts(backend, state)
    client.delete(names(kind))
    state.state["n"] = 3
    assert one(backend, append(epoch, 3, record=state.record())) == Fenced(None)
    assert backend.read("a") is None


def test_what_an_earlier_epoch_has_left_is_not_gone_on_from(
    backend: RedisBackend, client: redis.Redis, names: Names, prefix: str
) -> None:
    """As when a stream comes back from a snapshot of before the claim, and the hash of the session does not."""
    state = State(random.Random(1))
    earlier = in_parts(backend, state)
    before: Any = client.dump(names("s"))
    let_pass(client, prefix, LEASE + 1)
    epoch = claimed(backend, owner="you")
    state.state["n"] = 1
    assert one(backend, append(epoch, 1, record=b"whole")) == Done()
    client.restore(names("s"), 60_000, before, replace=True)
    assert one(backend, append(epoch, 2, record=state.record())) == Fenced(earlier)


@pytest.mark.parametrize("kind", ["p", "e", "l", "i", "k", "x", "t"])
def test_an_owner_makes_up_for_each_key_that_was_evicted(
    backends: Backends, client: redis.Redis, names: Names, prefix: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a session's stream and hash, where nothing can be made up for, see above."""
    monkeypatch.setattr("trio_progress.stores.redis.writes.LIST_AGAIN", 0.0)
    owner, state, watching = backends(), State(random.Random(1)), Watching(backends())
    epoch = claimed(owner, record=state.record())
    events = {1: [(1, b"first")], 3: [(2, b"second")]}
    state.state["n"] = 1
    assert one(owner, append(epoch, 1, record=state.record(), events=events[1])) == Done()
    watching.look()
    evicted = {"l": f"{names('l')}:{epoch}", **{one: f"{prefix}:{{0}}:{one}" for one in "ixt"}}
    assert client.delete(evicted.get(kind, names(kind))) == (kind != "k")
    for seq in (2, 3, 4):
        state.state["n"] = seq
        assert one(owner, append(epoch, seq, record=state.record(), events=events.get(seq, ()))) == Done()
        watching.look()
        assert watching.stored is not None
        assert watching.stored == stored_in(owner) or kind == "e"  # Whoever watches has the first event.
        assert (watching.stored.key, watching.stored.record) == (Key(epoch, seq), state.record())
        assert watching.stored.alive
    assert stored_in(owner).events == ((b"second",) if kind == "e" else (b"first", b"second"))
    assert [each.id for each in owner.list(Query()).sessions] == ["a"]
    assert client.hget(names("p"), "k") == b"%d-4" % epoch


def test_an_owner_who_has_nothing_new_learns_by_its_heartbeat_that_its_parts_are_gone(
    backend: RedisBackend, client: redis.Redis, names: Names
) -> None:
    epoch = in_parts(backend, State(random.Random(1)))
    assert one(backend, Renew("a", epoch, LEASE, 6.0)) == Done()
    client.delete(names("p"))
    assert one(backend, Renew("a", epoch, LEASE, 7.0)) == Fenced(None)
    anew = one(backend, claim("a", record=b"anew"))
    assert isinstance(anew, Claimed)
    assert anew.epoch > epoch
    assert stored_in(backend).record == b"anew"


def test_what_is_taken_is_claimed_with_all_its_parts(backends: Backends, client: redis.Redis, prefix: str) -> None:
    owner, worker, state = backends(), backends(), State(random.Random(1))
    epoch = in_parts(owner, state)
    let_pass(client, prefix, LEASE + 1)
    chosen = Chosen("a", Key(epoch, 2), 0)
    assert one(worker, Take("w", [Wanted()])) == Taken([chosen], [])
    outcome = one(worker, claim("a", owner="w", expect=chosen.key))
    assert isinstance(outcome, Claimed)
    assert outcome.previous is not None
    assert outcome.previous.record == state.record()


def test_what_has_lost_its_parts_is_not_handed_out_and_holds_up_no_other(
    backends: Backends, client: redis.Redis, names: Names, prefix: str
) -> None:
    owner, worker, state = backends(), backends(), State(random.Random(1))
    in_parts(owner, state)
    claimed(owner, "b", record=b"whole", owner="you")
    let_pass(client, prefix, LEASE + 1)
    client.delete(names("p"))
    taken = one(worker, Take("w", [Wanted(count=2)]))
    assert isinstance(taken, Taken)
    assert [each.id for each in taken.sessions] == ["b"]


def test_what_an_older_version_has_claimed_is_its_own_and_then_the_next_ones(
    backends: Backends, client: redis.Redis, names: Names, prefix: str
) -> None:
    owner, state, watching = backends(), State(random.Random(1)), Watching(backends())
    epoch = in_parts(owner, state)
    watching.look()
    claim_of_an_older_version(client, names, epoch + 1, b"older")
    assert client.hget(names("p"), "k") == b"%d-2" % epoch  # It knows nothing of it.
    assert one(owner, append(epoch, 3, record=state.record())) == Fenced(epoch + 1)
    given: dict[Any, Any] = {"d": b"older 1", "h": "6.0"}
    for expected in (b"older", b"older 1"):
        watching.look()
        assert watching.stored == stored_in(owner)
        assert watching.stored is not None
        assert watching.stored.record == expected
        if expected == b"older":
            client.xadd(names("s"), given, id=f"{epoch + 1}-1")
    let_pass(client, prefix, LEASE + 1)
    outcome = one(owner, claim("a", owner="next", proposal=E))
    assert isinstance(outcome, Claimed)
    assert outcome.previous is not None
    assert outcome.previous.record == b"older 1"
    assert not client.exists(names("p"))
