"""Lists by the index in a real Redis: as looking at all finds it, and beside processes of an older version."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import redis
import trio
from hypothesis import HealthCheck, example, given, settings

from tests.integration.redis_backend.asking import claimed, one
from tests.redis_server import client_of, let_pass
from tests.store_contract.model import TRANSITIONS, Model, Step, steps
from tests.store_contract.rig import EVENT_LIMIT, KEEP, LEASE, append, claim, index
from tests.support import examples
from trio_progress.stores.base import Delete, Done, Query
from trio_progress.stores.decoding import encode_labels
from trio_progress.stores.redis import listing
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.threaded import ThreadedStore

pytestmark = pytest.mark.integration


@pytest.fixture
def admin(redis_url: str) -> Iterator[redis.Redis]:
    with client_of(redis_url) as client:
        yield client


@pytest.fixture
def backend(redis_url: str, prefix: str) -> Iterator[RedisBackend]:
    backend = RedisBackend(redis_url, prefix=prefix, event_limit=EVENT_LIMIT, timeout=5.0)
    backend.open()
    yield backend
    backend.close()


def index_of(admin: redis.Redis, prefix: str) -> dict[str, set[str]]:
    """What stands in the sets of the index, by their names."""
    sets: dict[str, set[str]] = {}
    for name in admin.keys(f"{prefix}:{{0}}:x:*"):
        assert isinstance(name, bytes)
        standing = admin.zrange(name, 0, -1)
        sets[name.decode().partition(":x:")[2]] = {one.decode() for one in standing if isinstance(one, bytes)}
    return sets


@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@example(done=TRANSITIONS)
@given(done=steps())
def test_the_index_equals_looking_at_all(redis_url: str, admin: redis.Redis, done: list[Step]) -> None:
    prefix = f"test:{uuid.uuid4().hex[:12]}"

    async def main() -> None:
        store = ThreadedStore(RedisBackend(redis_url, prefix=prefix, event_limit=EVENT_LIMIT, timeout=5.0))
        await store.open()
        try:
            await Model(store, partial(let_pass, admin, prefix)).run(done)
            # What has expired leaves nothing behind, once somebody has looked.
            let_pass(admin, prefix, 10 * KEEP)
            await store.list(Query(lapsed=True))
            assert index_of(admin, prefix) == {}
            assert not admin.exists(f"{prefix}:{{0}}:x", f"{prefix}:{{0}}:t", f"{prefix}:{{0}}:i")
        finally:
            await store.aclose()

    trio.run(main)


# An older version


class Older:
    """What a process of the version before did: it kept the list of all sessions, and no other."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client = client
        self._base = f"{prefix}:{{0}}:"
        self._epochs = itertools.count(4_100_000_000_000)

    def claim(self, session: str, lease: float | None, **by: object) -> int:
        """As its script for that did."""
        given = {"status": "running", "pipeline": "p", "labels": {}, "queued_at": 1.0} | by
        base, epoch = self._base, next(self._epochs)
        keys = [f"{base}{kind}:{session}" for kind in "sme"]
        with self._client.pipeline() as pipe:
            pipe.delete(*keys)
            pipe.execute_command("XADD", keys[0], f"{epoch}-0", "d", "claimed")
            pipe.execute_command("XADD", keys[2], f"{epoch}-0", "0", "")
            fields = {"e": epoch, "o": "older", "f": "1" if lease is None else "0", "s": given["status"]}
            fields |= {"p": given["pipeline"], "l": encode_labels(given["labels"]), "q": given["queued_at"]}
            pipe.hset(keys[1], mapping=fields)  # type: ignore[arg-type]
            pipe.zadd(f"{base}i", {session: given["queued_at"]})  # type: ignore[dict-item]
            if lease is not None:
                pipe.set(f"{base}l:{session}:{epoch}", "", px=int(lease * 1000))
            for key in keys:
                pipe.pexpire(key, int(KEEP * 1000))
            pipe.execute()
        return epoch

    def end(self, session: str, epoch: int, status: str) -> None:
        base = self._base
        with self._client.pipeline() as pipe:
            pipe.execute_command("XADD", f"{base}s:{session}", f"{epoch}-9", "d", "ended")
            pipe.hset(f"{base}m:{session}", mapping={"s": status, "f": "1"})
            pipe.delete(f"{base}l:{session}:{epoch}")
            pipe.execute()

    def delete(self, session: str) -> None:
        self._client.delete(*(f"{self._base}{kind}:{session}" for kind in "sme"))
        self._client.zrem(f"{self._base}i", session)


@pytest.fixture
def older(admin: redis.Redis, prefix: str) -> Older:
    return Older(admin, prefix)


def ids(backend: RedisBackend, **asked: object) -> list[str]:
    """All pages of a list."""
    query, listed = Query(**asked), list[str]()  # type: ignore[arg-type]
    while True:
        page = backend.list(query)
        listed += [stored.id for stored in page.sessions]
        if page.next is None:
            return listed
        query = replace(query, after=page.next)


RUNNING, LOST, COMPLETED = (frozenset({status}) for status in ("running", "lost", "completed"))


def test_a_store_of_the_version_before_is_taken_in_by_slices_and_its_lists_are_right_meanwhile(
    backend: RedisBackend, older: Older, admin: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "SLICE", 2)
    monkeypatch.setattr(listing, "TAKES_IN", 0.0)
    for n in range(40):
        epoch = older.claim(f"s{n:02}", LEASE, labels={"order": f"o{n}", "user": f"u{n % 2}"}, queued_at=float(n))
        if n % 4 == 0:
            admin.delete(f"{prefix}:{{0}}:l:s{n:02}:{epoch}")
        if n % 5 == 0:
            older.end(f"s{n:02}", epoch, "completed")
    admin.delete(f"{prefix}:{{0}}:z", f"{prefix}:{{0}}:y")  # The store was made by that version.
    expected: list[tuple[dict[str, object], list[str]]] = [
        ({"shown": COMPLETED, "limit": 3}, [f"s{n:02}" for n in range(35, -1, -5)]),
        ({"shown": LOST, "limit": 3}, [f"s{n:02}" for n in range(36, -1, -4) if n % 5]),
        ({"labels": {"order": "o17", "user": "u1"}}, ["s17"]),
        ({"labels": {"user": "u0"}, "limit": 7}, [f"s{n:02}" for n in range(38, -1, -2)]),
        ({"pipeline": "p", "shown": RUNNING, "limit": 9}, [f"s{n:02}" for n in range(39, -1, -1) if n % 5 and n % 4]),
    ]
    looks = 0
    while not admin.exists(f"{prefix}:{{0}}:z"):
        asked, found = expected[looks % len(expected)]
        assert ids(backend, **asked) == found
        looks += 1
    assert 2 < looks < 40
    for asked, found in expected:
        assert ids(backend, **asked) == found
    assert len(index_of(admin, prefix)["completed"]) == 8


def test_beside_an_older_version_lists_show_nothing_wrong_and_soon_all(
    backend: RedisBackend, older: Older, admin: redis.Redis, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = time.monotonic
    looks = 0

    def look_again() -> None:
        """Somebody lists after a while."""
        nonlocal looks
        looks += 1
        monkeypatch.setattr("time.monotonic", lambda: plain() + looks * (listing.OLDER_EVERY + 1))
        admin.delete(f"{prefix}:{{0}}:y")
        ids(backend, shown=RUNNING)

    one(backend, claim("declared", lease=None, index=index(status="queued", labels={"user": "u1"})))
    claimed(backend, "other", index=index(queued_at=2.0))
    assert ids(backend, shown=frozenset({"queued"})) == ["declared"]
    # It runs what was declared here, and begins one of its own.
    epoch = older.claim("declared", LEASE, labels={"user": "u1"})
    assert ids(backend, shown=frozenset({"queued"})) == []
    assert ids(backend, shown=RUNNING) == ["other", "declared"], "it was seen, and put right"
    older.claim("own", LEASE, labels={"user": "u2"}, queued_at=3.0)
    look_again()
    assert ids(backend, labels={"user": "u2"}) == ["own"], "there are more sessions than the index has"
    older.end("declared", epoch, "completed")
    assert ids(backend, shown=RUNNING) == ["own", "other"]
    assert ids(backend, shown=COMPLETED, labels={"user": "u1"}) == ["declared"]
    # Run anew there, and asked for where it does not stand: that is found when all are gone through.
    older.claim("declared", LEASE, labels={"user": "u3"}, queued_at=4.0)
    look_again()
    assert ids(backend, labels={"user": "u3"}) == ["declared"]
    older.delete("declared")
    assert ids(backend, shown=RUNNING) == ["own", "other"]
    assert ids(backend, labels={"user": "u3"}) == []


def test_the_index_of_a_new_store_is_complete_from_the_beginning(
    backend: RedisBackend, admin: redis.Redis, prefix: str
) -> None:
    assert admin.exists(f"{prefix}:{{0}}:z")


def test_what_has_vanished_from_redis_is_in_the_lists_again_once_its_owner_has_stored_it(
    backend: RedisBackend, admin: redis.Redis, prefix: str
) -> None:
    epoch = claimed(backend, index=index(labels={"user": "u1"}))
    assert ids(backend, labels={"user": "u1"}) == ["a"]
    admin.delete(*admin.keys(f"{prefix}:{{0}}:*"))
    assert ids(backend, labels={"user": "u1"}) == []
    again = claimed(backend, index=index(labels={"user": "u1"}), proposal=epoch + 1)
    assert one(backend, append(again, 1, index=index(labels={"user": "u1"}))) == Done()
    assert ids(backend, labels={"user": "u1"}) == ["a"]
    assert one(backend, append(again, 2, lease=None, index=index(status="failed", labels={"user": "u1"}))) == Done()
    assert one(backend, Delete("a")) == Done()
    assert index_of(admin, prefix) == {}


def test_labels_with_any_characters_are_found_and_no_others(backend: RedisBackend, admin: redis.Redis) -> None:
    hostile = ["\0", "\1\1", "\1", "\0\1", "a\0running:pp", "ä\\", "=", ""]
    for n, value in enumerate(hostile):
        one(backend, claim(f"s{n}", lease=None, index=index(labels={"user": value, "k\0": value}, queued_at=float(n))))
    for n, value in enumerate(hostile):
        assert ids(backend, labels={"user": value}) == [f"s{n}"]
        assert ids(backend, labels={"user": value, "k\0": value}) == [f"s{n}"]


def test_plain_appends_and_idle_owners_touch_no_list(backend: RedisBackend, admin: redis.Redis) -> None:
    epoch = claimed(backend)
    assert one(backend, append(epoch, 1)) == Done()
    before = admin.info("commandstats")
    for seq in range(2, 12):
        assert one(backend, append(epoch, seq)) == Done()
    after = admin.info("commandstats")
    made = {
        name.removeprefix("cmdstat_"): of["calls"] - before.get(name, {"calls": 0})["calls"]
        for name, of in after.items()
        if of["calls"] > before.get(name, {"calls": 0})["calls"]
    }
    made.pop("info", None)
    assert made == {"xadd": 10, "set": 10, "hget": 10}
