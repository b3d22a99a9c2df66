"""What the backend in Redis bounds, and what it does with entries that it cannot read."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import redis

from tests.integration.redis_backend.asking import claimed, one, plain
from tests.redis_server import RedisServer, let_pass
from tests.store_contract.rig import LEASE, E, append, claim, index
from tests.support import PATIENCE
from trio_progress import StoreError
from trio_progress.stores.base import Ask, Changes, Claimed, Delete, Done, Key, Query, Seen, Write
from trio_progress.stores.redis.backend import RedisBackend

pytestmark = pytest.mark.integration

StartRedis = Callable[..., RedisServer]


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
        deadline = now + PATIENCE
        while backend.watcher.looked_at <= now:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    server.freeze()
    deadline = time.monotonic() + PATIENCE
    known = 0.0
    while backend.watcher.looked_at != known:  # What was answered before that may still lie there unread.
        assert time.monotonic() < deadline
        known = backend.watcher.looked_at
        time.sleep(0.2)
    server.thaw()
    stop.set()
    watch.join(PATIENCE)
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
    watch.join(PATIENCE)
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
