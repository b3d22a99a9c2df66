"""What the store in Redis promises beyond the contract of all stores: fences, poison, errors, bounds, clients."""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.sentinel

from tests.redis_server import RedisServer, client_of, host_of, let_pass
from tests.store_contract import LEASE, E, append, claim, index
from tests.support import free_port
from trio_progress import RedisStore, StoreError
from trio_progress.stores.base import (
    Ask,
    Changes,
    Claimed,
    Delete,
    Done,
    Fenced,
    Key,
    Outcome,
    Query,
    Refused,
    Renew,
    Seen,
    Write,
)
from trio_progress.stores.opening import open_backend
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.redis.writes import LIST_AGAIN

pytestmark = pytest.mark.integration

StartRedis = Callable[..., RedisServer]


@pytest.fixture
def prefix() -> str:
    return f"test:{uuid.uuid4().hex[:12]}"


@pytest.fixture
def backends(redis_url: str, prefix: str) -> Iterator[Callable[..., RedisBackend]]:
    """Makes backends on the same keys, as processes have them."""
    made: list[RedisBackend] = []

    def make(**given: Any) -> RedisBackend:
        options: dict[str, Any] = {"prefix": prefix, "timeout": 5.0, "beat": 0.02}
        made.append(RedisBackend(redis_url, **options | given))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


@pytest.fixture
def backend(backends: Callable[..., RedisBackend]) -> RedisBackend:
    return backends()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """What others do to the keys."""
    with client_of(redis_url) as made:
        yield made


def one(backend: RedisBackend, write: Write) -> Outcome:
    (outcome,) = backend.commit([write])
    return outcome


def claimed(backend: RedisBackend, session: str = "a", **given: Any) -> int:
    outcome = one(backend, claim(session, **given))
    assert isinstance(outcome, Claimed)
    return outcome.epoch


def ms() -> int:
    return int(time.time() * 1000)


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


def test_a_claim_that_nobody_can_be_above_is_refused_and_changes_nothing(backend: RedisBackend) -> None:
    assert isinstance(one(backend, claim(proposal=2**53)), StoreError)
    assert backend.read("a") is None


# The fence of plain appends


def plain(backend: RedisBackend) -> int:
    """A session whose next appends are plain commands."""
    epoch = claimed(backend)
    assert one(backend, append(epoch, 1)) == Done()
    return epoch


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


# Bounds


def test_states_events_and_requests_are_bounded(
    backends: Callable[..., RedisBackend], client: redis.Redis, prefix: str
) -> None:
    backend = backends(event_limit=50)
    epoch = claimed(backend)
    for n in range(1, 600):
        writes: list[Write] = [append(epoch, n, record=b"x" * 1000, events=[(n, b"event")]), Ask("a", "cancel", str(n))]
        assert backend.commit(writes) == [Done(), Done()]
    assert 16 <= client.xlen(f"{prefix}:{{0}}:s:a") <= 40
    assert 50 <= client.xlen(f"{prefix}:{{0}}:e:a") <= 250
    found = backend.read("a")
    assert found is not None
    assert len(found.events) == 50
    for _ in range(6):
        backend.commit([Ask("a", "cancel", "again")] * 200)
    assert client.xlen(f"{prefix}:{{0}}:c") <= 1200


@pytest.mark.parametrize("script", [False, True])
def test_a_burst_of_thousands_of_events_is_kept(backends: Callable[..., RedisBackend], *, script: bool) -> None:
    backend = backends(event_limit=5000)
    epoch = plain(backend) if script else claimed(backend)
    events = [(n, b"event %d" % n) for n in range(1, 6001)]
    assert one(backend, append(epoch, 2, events=events, lease=None if script else LEASE)) == Done()
    found = backend.read("a")
    assert found is not None
    assert list(found.events) == [data for _, data in events[1000:]]


@pytest.mark.parametrize("at_once", [55, 120, 700])
def test_who_watches_a_burst_above_the_limit_passes_over_nothing_that_cannot_be_read(
    backends: Callable[..., RedisBackend], at_once: int
) -> None:
    backend = backends(event_limit=50)
    epoch = plain(backend)
    mark = backend.changes(None, {}, lambda seconds: True).mark
    known: Seen | None = None
    for turn in range(1, 4):
        burst = [(n, b"event %d" % n) for n in range(1 + (turn - 1) * at_once, 1 + turn * at_once)]
        assert one(backend, append(epoch, 1 + turn, events=burst)) == Done()
        (found,) = backend.changes(mark, {"a": known}, lambda seconds: True).sessions
        known = Seen(found.key, found.heartbeat, found.alive)
        assert list(found.events) == [data for _, data in burst[-50:]]
    assert backend.corrupt.count == 0


def test_what_is_too_large_is_that_session_s_alone(backend: RedisBackend) -> None:
    epoch = claimed(backend)
    large = append(epoch, 1, record=b"x" * (64 * 1024 * 1024 + 1))
    refused, fine = backend.commit([large, claim("b")])
    assert isinstance(refused, StoreError)
    assert isinstance(fine, Claimed)
    assert isinstance(one(backend, append(epoch, 1, events=[(1, large.record)])), StoreError)


def test_watching_is_said_once_in_a_while_however_many_say_so(
    backend: RedisBackend, client: redis.Redis, prefix: str
) -> None:
    backend.commit([Ask(session, "watch") for session in ("a", "b") for _ in range(50)])
    assert client.xlen(f"{prefix}:{{0}}:w") == 2
    let_pass(client, prefix, 4.5)
    backend.commit([Ask("a", "watch")])
    assert client.xlen(f"{prefix}:{{0}}:w") == 3


def test_deleting_leaves_no_key_of_a_session(backend: RedisBackend, client: redis.Redis, prefix: str) -> None:
    epoch = claimed(backend, proposal=1)
    one(backend, append(epoch, 1, events=[(1, b"e")], lease=None))
    assert one(backend, Delete("a")) == Done()
    let_pass(client, prefix, 2)
    assert list(client.scan_iter(match=f"{prefix}:*")) == []


def test_a_long_list_of_sessions_queued_at_the_same_moment_comes_whole_and_in_order(backend: RedisBackend) -> None:
    names = sorted((f"s{n:04}" for n in range(1300)), reverse=True)
    for at in range(0, 1300, 100):
        backend.commit([claim(name, index=index(labels={"n": name[-1]})) for name in names[at : at + 100]])
    found: list[str] = []
    query = Query(limit=300)
    while True:
        page = backend.list(query)
        found += [stored.id for stored in page.sessions]
        if page.next is None:
            break
        if len(found) == 600:
            # The session that the cursor names is gone in the meantime.
            one(backend, append(E, 1, names[599], lease=None))
            assert one(backend, Delete(names[599])) == Done()
        query = Query(limit=300, after=page.next)
    assert found == names
    assert [stored.id for stored in backend.list(Query(labels={"n": "7"}, limit=1000)).sessions] == names[2::10]


def test_as_long_as_there_is_no_news_it_is_told_when_that_was_last_known(start_redis: StartRedis) -> None:
    server = start_redis()
    backend = RedisBackend(server.url, timeout=5.0, beat=0.02)
    mark = backend.changes(None, {}, lambda seconds: True).mark
    stop = threading.Event()
    watch = threading.Thread(target=lambda: backend.changes(mark, {}, lambda seconds: not stop.is_set()))
    watch.start()
    for _ in range(3):
        now = time.monotonic()
        deadline = now + 10
        while backend.watcher.looked_at <= now:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    server.freeze()
    time.sleep(0.1)
    known = backend.watcher.looked_at
    time.sleep(0.2)
    assert backend.watcher.looked_at == known
    server.thaw()
    stop.set()
    watch.join(10)
    backend.close()


# Poison


def test_what_cannot_be_read_is_counted_logged_once_and_passed_over(
    backend: RedisBackend, client: redis.Redis, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    base = f"{prefix}:{{0}}:"
    epoch = claimed(backend, "good")
    poisons: dict[str, Callable[[str], object]] = {
        "string": lambda name: (client.delete(f"{base}s:{name}"), client.set(f"{base}s:{name}", "x")),
        "meta": lambda name: (client.delete(f"{base}m:{name}"), client.set(f"{base}m:{name}", "x")),
        "no-record": lambda name: client.xadd(f"{base}s:{name}", {"x": "y"}, id=f"{epoch_of[name]}-5"),
        "huge-id": lambda name: client.xadd(f"{base}s:{name}", {"d": "{}"}, id="18446744073709551615-1"),
        "epoch": lambda name: client.hset(f"{base}m:{name}", "e", "12x"),
        "other-epoch": lambda name: client.hset(f"{base}m:{name}", "e", "7"),
        "heartbeat": lambda name: client.hset(f"{base}m:{name}", "h", "nan"),
        "late-heartbeat": lambda name: client.hset(f"{base}m:{name}", "h", "1e300"),
        "lease": lambda name: client.set(f"{base}l:{name}:{epoch_of[name]}", "soon", px=5000),
        "events": lambda name: (client.delete(f"{base}e:{name}"), client.set(f"{base}e:{name}", "x")),
    }
    epoch_of = {name: claimed(backend, name) for name in poisons}
    seen = {name: Seen(Key(epoch_of[name], 0), None, True) for name in poisons}
    for name, poison in poisons.items():
        poison(name)
    for score, name_of_none in enumerate((b"../../etc", b"\xff\xfe", b"")):
        client.zadd(f"{base}i", {name_of_none: float(score)})
    client.hset(f"{base}m:../../etc", "e", "1")
    caplog.set_level(logging.WARNING, "trio_progress")
    for _ in range(3):
        # A list does not read events.
        assert sorted(stored.id for stored in backend.list(Query()).sessions) == ["events", "good"]
        for name in poisons:
            with pytest.raises(StoreError, match="cannot be read"):
                backend.read(name)
    assert backend.corrupt.count > 3 * len(poisons)
    assert 1 <= len(caplog.records) <= 10, "told once, and no flood"

    # Who watches them goes on, and hears of the others.
    mark = backend.changes(None, {}, lambda seconds: True).mark
    heard: list[Changes] = []
    watch = threading.Thread(
        target=lambda: heard.append(
            backend.changes(mark, seen | {"good": Seen(Key(epoch, 0), None, True)}, lambda _: not stop.is_set())
        )
    )
    stop = threading.Event()
    watch.start()
    time.sleep(0.2)
    assert heard == []
    assert one(backend, append(epoch, 1, "good")) == Done()
    watch.join(5)
    stop.set()
    assert [stored.id for stored in heard[0].sessions] == ["good"]

    # And whoever owns the id can have it again: by claiming it once the lease has lapsed, or by deleting it.
    let_pass(client, prefix, LEASE + 1)
    for name in poisons:
        outcome = one(backend, claim(name, owner="heir"))
        if not isinstance(outcome, Claimed):
            assert one(backend, Delete(name)) == Done()
            outcome = one(backend, claim(name, owner="heir"))
        assert isinstance(outcome, Claimed), name
        assert backend.read(name) is not None


def test_requests_that_cannot_be_read_are_passed_over(backend: RedisBackend, client: redis.Redis, prefix: str) -> None:
    mark = backend.changes(None, {}, lambda seconds: True).mark
    poisons: list[dict[Any, Any]] = [
        {"x": "y"},
        {"i": "../x", "a": "cancel"},
        {"i": "a", "a": "x" * 200},
        {"i": "a", "a": ""},
    ]
    for poison in poisons:
        client.xadd(f"{prefix}:{{0}}:c", poison)
        client.xadd(f"{prefix}:{{0}}:w", poison)
    one(backend, Ask("a", "cancel", "mine"))
    found = backend.changes(mark, {}, lambda seconds: True)
    # Word of a watched session has an id only, which the last two have.
    assert list(found.asked) == [Ask("a", "cancel", "mine"), Ask("a", "watch")]
    assert backend.corrupt.count == 6


def test_a_server_begun_anew_by_a_clock_that_is_behind_is_still_heard(
    backends: Callable[..., RedisBackend], client: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_progress.stores.redis.watch.CHECK", 0.0)
    backend = backends()
    client.xadd(f"{prefix}:{{0}}:c", {"i": "old", "a": "cancel"}, id="99999999999999-0")
    mark = backend.changes(None, {}, lambda seconds: True).mark
    client.delete(f"{prefix}:{{0}}:c")
    one(backend, Ask("a", "cancel", "now"))
    assert list(backend.changes(mark, {}, lambda seconds: True).asked) == [Ask("a", "cancel", "now")]


@pytest.mark.parametrize("mark", ["", "x", "1-1", "1-1 x", "0-0 0-0 0", "99"])
def test_a_mark_that_is_none_says_so(backend: RedisBackend, mark: str) -> None:
    with pytest.raises(StoreError, match="no mark"):
        backend.changes(mark, {}, lambda seconds: True)


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


# Errors that say what to do


def refusal(url: str | redis.Redis, **given: Any) -> str:
    backend = RedisBackend(url, **{"timeout": 1.0} | given)
    with pytest.raises(StoreError) as info:
        backend.open()
    backend.close()
    assert "hunter2" not in str(info.value)
    assert "hunter2" not in repr(backend.address)
    return str(info.value)


def test_nobody_is_there() -> None:
    assert "refused" in refusal(f"redis://user:hunter2@127.0.0.1:{free_port()}/0")


def test_a_host_of_that_name_does_not_exist() -> None:
    assert "store redis://nowhere.invalid:6379/0" in refusal("redis://nowhere.invalid")


def test_what_answers_is_no_redis() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                peer.recv(1000)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        assert "Protocol" in refusal(f"redis://127.0.0.1:{listener.getsockname()[1]}")
        thread.join(60)


def test_it_does_not_answer_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()
        text = refusal(f"redis://127.0.0.1:{listener.getsockname()[1]}", timeout=0.3)
        assert "not answered for 0.3 s" in text
        assert time.monotonic() - began < 10


def test_the_password_is_wrong_or_missing(start_redis: StartRedis) -> None:
    server = start_redis("--requirepass", "secret", client={"password": "secret"})
    assert "password" in refusal(f"redis://:hunter2@127.0.0.1:{server.port}")
    assert "redis://USER:PASSWORD@HOST" in refusal(server.url)
    RedisBackend(f"redis://:secret@127.0.0.1:{server.port}").open()


def test_a_replica_that_cannot_be_written(start_redis: StartRedis) -> None:
    primary = start_redis()
    replica = start_redis("--replicaof", "127.0.0.1", str(primary.port))
    text = refusal(replica.url)
    assert "replica" in text
    assert "primary" in text


def test_it_is_full_and_goes_on_once_it_is_not(start_redis: StartRedis) -> None:
    server = start_redis()
    backend = RedisBackend(server.url, timeout=5.0)
    epoch = plain(backend)
    admin = server.client()
    admin.config_set("maxmemory", "1000")
    for write in (append(epoch, 2), claim("b"), append(epoch, 2, lease=None)):
        with pytest.raises(StoreError, match="full"):
            one(backend, write)
    admin.config_set("maxmemory", "0")
    assert one(backend, append(epoch, 2)) == Done()
    backend.close()


def test_a_node_of_a_cluster_without_our_slot_says_so(start_redis: StartRedis) -> None:
    port = next(port for port in iter(free_port, None) if port < 55_000)  # It takes another one, 10,000 above.
    server = start_redis("--cluster-enabled", "yes", port=port)
    assert "cluster" in refusal(server.url).lower()


def test_a_user_that_may_not(start_redis: StartRedis) -> None:
    server = start_redis()
    server.client().execute_command("ACL", "SETUSER", "u", "on", ">hunter2", "~*", "+@read", "+@connection")
    assert "ACL rule" in refusal(f"redis://u:hunter2@127.0.0.1:{server.port}")


# URLs, clients


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis:///0",
        "redis://host/x",
        "redis://host:port/0",
        "redis://host/0?nonsense=1",
        "redis://host/0?prefix=a{b}",
        "redis://host/0?prefix=",
        "http://host",
    ],
)
def test_a_url_that_is_none_is_a_value_error(url: str) -> None:
    with pytest.raises(ValueError, match=r"redis://|option|prefix"):
        RedisBackend(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hunter2/x@host/0",
        "redis://:hunter2#x@host/0",
        "redis://:hunter2?x@host/0",
        "redis://:6379#hunter2@host/0",
        "redis://u:6379#hunter2@host/0",
        "redis://u:6379?hunter2@host/0",
        "redis://u:hunter2\u2100@host/0",
        "redis://u:hunter2[@host/0",
        "redis://u:x@host:hunter2/0",
        "redis://u:x@host/0?socket_timeout=hunter2",
    ],
)
def test_a_mistyped_url_is_told_of_without_what_may_be_its_password(url: str) -> None:
    with pytest.raises(ValueError, match="redis://") as info:
        RedisBackend(url)
    assert "hunter2" not in "".join(traceback.format_exception(info.value))
    assert "%2F" in str(info.value)


def test_addresses_tell_stores_apart_and_no_secrets() -> None:
    def address(url: str, **given: Any) -> str:
        return RedisBackend(url, **given).address

    assert address("redis://u:hunter2@host") == "redis://host:6379/0"
    assert address("rediss://u:hunter2@host:1/3?ssl_cert_reqs=none") == "rediss://host:1/3"
    assert address("redis://[::1]/2?prefix=a") == "redis://[::1]:6379/2?prefix=a"
    assert address("redis://host", prefix="b") == "redis://host:6379/0?prefix=b"


@pytest.mark.parametrize(
    "client", [redis.asyncio.Redis(), None, 7, "", object()], ids=lambda client: type(client).__name__
)
def test_what_is_no_client_is_refused_at_once(client: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        RedisStore(client)


@pytest.mark.parametrize("given", [{"timeout": 0}, {"event_limit": 0}, {"event_limit": True}, {"prefix": "a b"}])
def test_bad_settings_are_refused_at_once(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"timeout|event_limit|prefix"):
        RedisStore("redis://host", **given)


@pytest.mark.parametrize("options", [{}, {"decode_responses": True}, {"protocol": 3}, {"socket_timeout": None}])
def test_a_client_is_asked_how_it_connects_and_left_as_it_is(
    redis_url: str, prefix: str, options: dict[str, Any]
) -> None:
    host, port = host_of(redis_url)
    asked: list[None] = []

    class Rotating(redis.CredentialProvider):
        def get_credentials(self) -> tuple[str, str]:
            asked.append(None)
            return "default", "anything"

    with redis.Redis(host, port, credential_provider=Rotating(), **options) as client:
        before = dict(client.connection_pool.connection_kwargs)
        backend = RedisBackend(client, prefix=prefix)
        backend.open()
        assert isinstance(one(backend, claim("a", record=b"\xff\x00")), Claimed)
        found = backend.read("a")
        assert found is not None
        assert found.record == b"\xff\x00"
        backend.close()
        assert client.ping()
        assert dict(client.connection_pool.connection_kwargs) == before
    assert len(asked) >= 2, "credentials are asked for with each connection"


def test_through_sentinel_a_failover_is_followed(start_redis: StartRedis, redis_program: str) -> None:
    primary = start_redis("--repl-diskless-sync-delay", "0")  # Or it waits for more replicas, for 5 s.
    replica = start_redis("--replicaof", "127.0.0.1", str(primary.port))

    class Watching:
        """A Sentinel, as far as a client asks one."""

        def __init__(self) -> None:
            self.master = primary.port

        def discover_master(self, name: str) -> tuple[str, int]:
            assert name == "mymaster"
            return "127.0.0.1", self.master

    sentinel = Watching()
    pool = redis.sentinel.SentinelConnectionPool("mymaster", sentinel)
    backend = RedisBackend(redis.Redis(connection_pool=pool))
    assert backend.address == "sentinel://mymaster/0"
    epoch = plain(backend)
    while replica.client().info("replication")["master_link_status"] != "up":
        time.sleep(0.05)
    primary.client().execute_command("WAIT", 1, 5000)
    replica.client().execute_command("REPLICAOF", "NO", "ONE")
    primary.client().execute_command("REPLICAOF", "127.0.0.1", replica.port)
    sentinel.master = replica.port
    deadline = time.monotonic() + 60
    while True:
        try:
            assert one(backend, append(epoch, 2)) == Done()
            break
        except StoreError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert replica.client().exists("tp:{0}:s:a")
    assert backend.read("a") is not None
    backend.close()


def test_without_redis_py_it_is_said_how_to_install_it() -> None:
    code = """
import sys
sys.modules["redis"] = None
from trio_progress.stores.opening import open_backend
try:
    open_backend("redis://localhost")
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'trio-progress[redis]'" in done.stdout


def test_a_backend_for_code_that_blocks_is_opened_by_its_url(redis_url: str) -> None:
    backend = open_backend(f"{redis_url}?prefix=test:opened")
    assert backend.read("nobody") is None
    backend.close()
    with pytest.raises(StoreError, match="closed"):
        backend.read("nobody")
