"""What the store in Redis promises beyond the contract of all stores: epochs, the fence, owners in processes."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import pytest
import redis

from tests.integration.redis_backend.asking import claimed, ms, one, plain
from tests.redis_server import RedisServer, let_pass
from tests.store_contract.declared import check_a_lost_answer_to_its_claim
from tests.store_contract.rig import LEASE, append, claim
from trio_progress import RedisStore, StoreError
from trio_progress.stores.base import Ask, Delete, Done, Fenced, Key, Query, Refused, Renew
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.redis.writes import LIST_AGAIN

pytestmark = pytest.mark.integration

StartRedis = Callable[..., RedisServer]


# Epochs


def test_epochs_follow_the_clock_of_the_server_and_rise_over_flushes(
    backend: RedisBackend, client: redis.Redis, prefix: str
) -> None:
    before = ms()
    first = claimed(backend, proposal=1, lease=None)
    assert before - 1000 <= first <= ms() + 1000
    time.sleep(0.005)
    for key in client.scan_iter(match=f"{prefix}:*"):
        client.delete(key)
    assert claimed(backend, proposal=1, lease=None) > first


def test_an_epoch_ahead_of_the_server_s_clock_is_not_given_out_again(
    backend: RedisBackend, client: redis.Redis, prefix: str
) -> None:
    ahead = ms() + 60_000
    assert claimed(backend, proposal=ahead) == ahead
    let_pass(client, prefix, LEASE)
    assert one(backend, Delete("a")) == Done()
    again = claimed(backend, proposal=1)
    assert again == ahead + 1
    assert one(backend, append(ahead, 99)) == Fenced(again)


async def test_a_session_has_what_it_was_declared_with_also_where_the_answer_to_its_claim_was_lost(
    redis_url: str, prefix: str
) -> None:
    await check_a_lost_answer_to_its_claim(RedisStore(redis_url, prefix=prefix))


def test_a_claim_that_nobody_can_be_above_is_refused_and_changes_nothing(backend: RedisBackend) -> None:
    assert isinstance(one(backend, claim(proposal=2**53)), StoreError)
    assert backend.read("a") is None


# The fence of plain appends


def test_a_zombie_s_plain_append_is_fenced_and_leaves_nothing(
    backends: Callable[..., RedisBackend], client: redis.Redis, prefix: str
) -> None:
    zombie, heir = backends(), backends()
    epoch = plain(zombie)
    let_pass(client, prefix, LEASE + 1)
    newer = claimed(heir, owner="you", record=b"yours")
    before = heir.read("a")
    late = append(epoch, 2, events=[(1, b"late")])
    assert one(zombie, late) == Fenced(newer)
    assert heir.read("a") == before
    assert not client.exists(f"{prefix}:{{0}}:l:a:{epoch}")
    assert one(zombie, late) == Fenced(newer)


def test_a_plain_append_that_is_repeated_is_acknowledged_and_adds_the_events_that_are_missing(
    backend: RedisBackend, client: redis.Redis, prefix: str
) -> None:
    epoch = plain(backend)
    # As if it had been made, and its answer lost.
    client.xadd(f"{prefix}:{{0}}:s:a", {"d": "state 2", "h": "5.0"}, id=f"{epoch}-2")
    assert one(backend, append(epoch, 2, events=[(1, b"e1"), (2, b"e2")])) == Done()
    found = backend.read("a")
    assert found is not None
    assert (found.key, found.record, list(found.events)) == (Key(epoch, 2), b"state 2", [b"e1", b"e2"])
    assert one(backend, append(epoch, 3, events=[(2, b"e2"), (3, b"e3")])) == Done()
    found = backend.read("a")
    assert found is not None
    assert list(found.events) == [b"e1", b"e2", b"e3"]


def test_what_is_gone_is_not_resurrected_by_a_plain_append(
    backend: RedisBackend, client: redis.Redis, prefix: str
) -> None:
    epoch = plain(backend)
    client.delete(*client.scan_iter(match=f"{prefix}:*"))
    assert one(backend, append(epoch, 2, events=[(1, b"e")])) == Fenced(None)
    assert list(client.scan_iter(match=f"{prefix}:*")) == []


@pytest.mark.parametrize("part", ["s", "m"])
def test_a_session_of_which_a_part_was_evicted_is_claimed_anew_by_its_owner(
    backend: RedisBackend, client: redis.Redis, prefix: str, part: str
) -> None:
    epoch = plain(backend)
    client.delete(f"{prefix}:{{0}}:{part}:a")
    assert one(backend, Renew("a", epoch, LEASE, 6.0)) == Fenced(None)
    assert backend.read("a") is None
    newer = claimed(backend, proposal=epoch, record=b"anew")
    assert newer > epoch
    found = backend.read("a")
    assert found is not None
    assert (found.key, found.record, found.alive) == (Key(newer, 0), b"anew", True)


def test_an_append_onto_what_an_earlier_epoch_has_left_is_not_acknowledged(
    backend: RedisBackend, client: redis.Redis, prefix: str
) -> None:
    """As when a replica that lags is promoted, or a snapshot of before the claim is loaded."""
    stream, meta = (f"{prefix}:{{0}}:{part}:a" for part in "sm")
    earlier = claimed(backend, proposal=1, lease=None)
    before = [(name, client.dump(name)) for name in (stream, meta)]
    epoch = plain(backend)
    for name, dumped in before:
        assert dumped is not None
        client.restore(name, 60_000, dumped, replace=True)
    assert one(backend, append(epoch, 2)) == Fenced(earlier)
    # The owner claims it again, nobody else can in between.
    assert one(backend, claim(owner="you", proposal=1)) == Refused()
    newer = claimed(backend, proposal=epoch)
    assert newer > epoch
    assert one(backend, append(newer, 3)) == Done()
    found = backend.read("a")
    assert found is not None
    assert (found.key, found.alive) == (Key(newer, 3), True)


def test_a_list_that_was_evicted_is_made_anew_by_a_heartbeat(
    backend: RedisBackend, client: redis.Redis, prefix: str
) -> None:
    epoch = claimed(backend)
    client.delete(f"{prefix}:{{0}}:i")
    assert one(backend, Renew("a", epoch, LEASE, 6.0)) == Done()
    assert [stored.id for stored in backend.list(Query()).sessions] == ["a"]


@pytest.mark.parametrize("append_first", [False, True])
def test_a_session_whose_owner_is_no_longer_known_is_still_its_owner_s(
    backend: RedisBackend, client: redis.Redis, prefix: str, *, append_first: bool
) -> None:
    epoch = plain(backend)
    client.delete(f"{prefix}:{{0}}:m:a")
    if append_first:
        assert one(backend, append(epoch, 2)) == Fenced(None)
    assert one(backend, claim(owner="you", proposal=1)) == Refused()
    newer = claimed(backend, proposal=epoch)
    assert newer > epoch
    client.delete(f"{prefix}:{{0}}:m:a")
    let_pass(client, prefix, LEASE + 1)
    assert claimed(backend, owner="you", proposal=1) > newer


def test_a_list_that_was_evicted_is_made_anew_by_those_that_run(
    backend: RedisBackend, client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = plain(backend)
    client.delete(f"{prefix}:{{0}}:i")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + LIST_AGAIN)
    assert one(backend, append(epoch, 2)) == Done()
    assert [stored.key for stored in backend.list(Query()).sessions] == [Key(epoch, 2)]


def test_events_that_were_evicted_begin_anew(backend: RedisBackend, client: redis.Redis, prefix: str) -> None:
    epoch = plain(backend)
    assert one(backend, append(epoch, 2, events=[(1, b"e1")])) == Done()
    client.delete(f"{prefix}:{{0}}:e:a")
    assert one(backend, append(epoch, 3, events=[(2, b"e2")])) == Done()
    found = backend.read("a")
    assert found is not None
    assert list(found.events) == [b"e2"]


def test_a_lease_that_comes_in_late_does_not_revive_what_has_ended(
    backend: RedisBackend, client: redis.Redis, prefix: str
) -> None:
    epoch = plain(backend)
    assert one(backend, append(epoch, 2, lease=None)) == Done()
    # Half of a plain append that was on its way through a slow connection.
    client.set(f"{prefix}:{{0}}:l:a:{epoch}", "5.0", px=60_000)
    found = backend.read("a")
    assert found is not None
    assert not found.alive
    assert [stored.alive for stored in backend.list(Query()).sessions] == [False]
    assert claimed(backend, owner="you") > epoch


def test_a_lease_without_an_expiry_is_none(backend: RedisBackend, client: redis.Redis, prefix: str) -> None:
    epoch = claimed(backend)
    client.persist(f"{prefix}:{{0}}:l:a:{epoch}")
    found = backend.read("a")
    assert found is not None
    assert not found.alive
    let_pass(client, prefix, LEASE)  # What was done to it by hand shows in lists when it would have lapsed.
    assert [stored.id for stored in backend.list(Query(lapsed=True)).sessions] == ["a"]
    assert one(backend, Delete("a")) == Done()


def test_plain_appends_renew_how_long_a_session_is_kept(
    backend: RedisBackend, client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    epoch = plain(backend)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 30)
    let_pass(client, prefix, 30)
    assert one(backend, append(epoch, 2, events=[(1, b"e")])) == Done()
    for part in ("s", "m", "e"):
        assert client.pttl(f"{prefix}:{{0}}:{part}:a") > 100_000


# Owners in processes of their own


def race(url: str, prefix: str, session: str, owner: str, at: float, expect: Key | None) -> str:
    backend = RedisBackend(url, prefix=prefix, timeout=10.0)
    backend.open()
    time.sleep(max(at - time.time(), 0))
    outcome = one(backend, claim(session, owner=owner, expect=expect, lease=None if expect else LEASE))
    backend.close()
    return type(outcome).__name__


def test_of_processes_that_claim_or_write_off_a_session_exactly_one_wins(
    redis_url: str, prefix: str, backend: RedisBackend, client: redis.Redis
) -> None:
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload([__name__])  # One interpreter loads what four need.
    with ProcessPoolExecutor(4, mp_context=forks) as pool:
        list(pool.map(race, *zip(*[(redis_url, prefix, f"warm{n}", "x", 0.0, None) for n in range(4)], strict=True)))
        for n in range(10):
            at = time.time() + 0.1
            jobs = [pool.submit(race, redis_url, prefix, f"s{n}", f"owner {k}", at, None) for k in range(4)]
            assert sorted(job.result() for job in jobs) == ["Claimed", "Refused", "Refused", "Refused"]
        let_pass(client, prefix, LEASE + 1)
        for n in range(10):
            stored = backend.read(f"s{n}")
            assert stored is not None
            at = time.time() + 0.1
            jobs = [pool.submit(race, redis_url, prefix, f"s{n}", f"reaper {k}", at, stored.key) for k in range(4)]
            assert sorted(job.result() for job in jobs) == ["Claimed", "Moved", "Moved", "Moved"]


def test_a_backend_can_be_used_on_both_sides_of_a_fork(backend: RedisBackend) -> None:
    epoch = claimed(backend)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if all(one(backend, Ask("a", "cancel", str(n))) == Done() for n in range(50)) else 1
        finally:
            os._exit(code)
    for n in range(1, 51):
        assert one(backend, append(epoch, n)) == Done()
    assert os.waitpid(child, 0)[1] == 0
