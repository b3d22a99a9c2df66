"""The contract of all stores, held by the one in a real Redis: as it is, under an ACL user, over TLS, and by Redis 6.2.

Time is virtual here as well: what lives in Redis for so many seconds is made older by as many.
"""

from __future__ import annotations

import random
import shlex
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
import trustme
from trio.testing import MockClock

from tests.documents import text_of
from tests.integration.redis_backend.asking import one
from tests.integration.redis_backend.parted import State, Watching, in_parts, stored_in
from tests.redis_server import RedisServer, client_of, let_pass, oldest
from tests.redis_tls import skipped_without_tls, tls_client, tls_options
from tests.store_contract.reading import *  # noqa: F403 - the tests
from tests.store_contract.rig import EVENT_LIMIT, LEASE, Rig, append, claim
from tests.store_contract.taking import *  # noqa: F403 - the tests
from tests.store_contract.writing import *  # noqa: F403 - the tests
from tests.support import free_port
from trio_progress import StoreError
from trio_progress.stores.base import Claimed, Delete, Done, Fenced, Renew
from trio_progress.stores.redis import deltas
from trio_progress.stores.redis.backend import RedisBackend
from trio_progress.stores.taking import Take, Taken, Wanted
from trio_progress.stores.threaded import ThreadedStore

pytestmark = pytest.mark.integration


StartRedis = Callable[..., RedisServer]


class Place(NamedTuple):
    """Where a store is, by which URL, and who can do anything there."""

    url: str
    prefix: str
    admin: redis.Redis


def acl_rule(prefix: str) -> list[str]:
    """The rule that the docs tell, for other keys."""
    lines = text_of("guides/redis-operating.md").splitlines()
    line = next(line for line in lines if line.startswith("ACL SETUSER"))
    return [word.replace("~tp:", f"~{prefix}:") for word in shlex.split(line)]


@pytest.fixture(scope="session")
def tls_server(
    redis_program: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RedisServer, Path, trustme.CA]]:
    """A Redis with a certificate for `localhost`, and nothing without TLS."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    port = free_port()
    options = ["--tls-port", str(port), *tls_options(folder, authority)]
    given = tls_client(folder) | {"port": port}
    server = RedisServer(redis_program, folder / "data", *options, port=0, client=given)
    try:
        with skipped_without_tls():
            server.start()
        yield server, folder / "ca.pem", authority
    finally:
        server.stop()


def tls_url(server: RedisServer, ca: Path, host: str = "localhost") -> str:
    return f"rediss://{host}:{server.client().connection_pool.connection_kwargs['port']}/0?ssl_ca_certs={ca}"


@pytest.fixture(scope="session")
def oldest_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis of the oldest version that will do."""
    program = oldest()
    assert program is not None
    server = RedisServer(program, tmp_path_factory.mktemp("oldest")).start()
    with server.client() as admin:
        assert admin.info()["redis_version"].startswith("6.2.")
    yield server.url
    server.stop()


PLACES = ["plain", "acl", "tls"]
if oldest() is not None:  # Its wheel is not there for each Python and each machine.
    PLACES.append("acl of 6.2")


EVERY_DAY = {"plain", "acl"}

OVER_TLS = (
    "test_a_state_in_parts_is_kept_watched_made_up_for_and_taken_up",
    "test_each_write_of_a_batch_has_its_own_outcome_in_order",
    "test_of_many_who_claim_one_session_exactly_one_wins",
    "test_events_are_kept_in_order_and_once",
    "test_a_list_is_newest_first_and_comes_in_pages",
    "test_news_is_a_newer_entry_with_all_of_its_events",
    "test_news_that_is_there_already_is_given_at_once",
    "test_what_is_asked_reaches_who_waits_and_who_comes_back_with_a_mark",
    "test_waiting_for_news_can_be_cancelled_and_misses_nothing",
    "test_what_is_declared_rings_who_has_waited_longest",
)
"""Whatever else is asked, the same commands go the same way. What waits is told by a socket, beneath the TLS."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    given = [mark.args[0] for mark in metafunc.definition.iter_markers("parametrize")]
    if "place" not in metafunc.fixturenames or "place" in given:
        return

    def often(place: str) -> Any:
        if place in EVERY_DAY:
            return ()
        rare = place == "tls" and metafunc.function.__name__ not in OVER_TLS
        return pytest.mark.release if rare else pytest.mark.exhaustive

    metafunc.parametrize("place", [pytest.param(one, marks=often(one)) for one in PLACES], indirect=True)


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    prefix = f"test:{uuid.uuid4().hex[:12]}"
    if request.param == "tls":
        server, ca, _ = request.getfixturevalue("tls_server")
        with server.client() as admin:
            yield Place(tls_url(server, ca), prefix, admin)
        return
    url: str = request.getfixturevalue("oldest_url" if "6.2" in request.param else "redis_url")
    if request.param != "plain":
        url = f"{url.rpartition('/')[0]}/3"  # The rule has to do for other databases than the first.
    with client_of(url) as admin:
        if request.param == "plain":
            yield Place(url, prefix, admin)
            return
        user = f"user-{uuid.uuid4().hex[:8]}"
        rule = acl_rule(prefix)
        admin.execute_command(*rule[:2], user, *rule[3:])
        password = next(word[1:] for word in rule if word.startswith(">"))
        yield Place(url.replace("redis://", f"redis://{user}:{password}@"), prefix, admin)
        admin.execute_command("ACL", "DELUSER", user)


@pytest.fixture
async def rig(place: Place, mock_clock: MockClock) -> AsyncIterator[Rig]:
    backend = RedisBackend(place.url, prefix=place.prefix, event_limit=EVENT_LIMIT, timeout=5.0, beat=0.02)
    store = ThreadedStore(backend)
    await store.open()
    yield Rig(store, partial(let_pass, place.admin, place.prefix))
    await store.aclose()


def refusal(url: str, *, timeout: float = 5.0, **given: str) -> str:
    backend = RedisBackend(url, timeout=timeout, **given)  # type: ignore[arg-type]
    with pytest.raises(StoreError) as info:
        backend.open()
    backend.close()
    return str(info.value)


def test_a_state_in_parts_is_kept_watched_made_up_for_and_taken_up(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deltas, "IN_PARTS_FROM", 0)
    monkeypatch.setattr(deltas, "WATCHED_IN_PARTS_FROM", 0)
    owner, worker = (RedisBackend(place.url, prefix=place.prefix, timeout=5.0, beat=0.02) for _ in range(2))
    state, watching = State(random.Random(1)), Watching(worker)
    epoch = in_parts(owner, state)
    watching.look()
    state.state |= {"n": 3, "result": "r" * 9000}
    assert one(owner, append(epoch, 3, record=state.record(), events=[(1, b"event")])) == Done()
    watching.look()
    assert watching.stored == stored_in(owner)
    assert place.admin.delete(f"{place.prefix}:{{0}}:p:a") == 1
    assert owner.read("a") is None
    assert one(owner, Renew("a", epoch, LEASE, 6.0)) == Fenced(None)
    for seq in (4, 5):
        state.state["n"] = seq
        assert one(owner, append(epoch, seq, record=state.record())) == Done()
        watching.look()
        assert watching.stored == stored_in(owner)
    let_pass(place.admin, place.prefix, LEASE + 1)
    taken = one(worker, Take("w", [Wanted()]))
    assert isinstance(taken, Taken)
    assert [chosen.key for chosen in taken.sessions] == [(epoch, 5)]
    outcome = one(worker, claim("a", owner="w", expect=taken.sessions[0].key, lease=None))
    assert isinstance(outcome, Claimed)
    assert outcome.previous is not None
    assert outcome.previous.record == state.record()
    assert one(owner, Delete("a")) == Done()
    for backend in (owner, worker):
        backend.close()


@pytest.mark.parametrize("place", ["acl"], indirect=True)
def test_the_user_of_the_rule_can_touch_no_other_keys(place: Place) -> None:
    RedisBackend(place.url, prefix=place.prefix).open()
    assert "ACL rule" in refusal(place.url, prefix="other")
    with client_of(place.url) as client:
        for command in (["GET", "other"], ["KEYS", "*"], ["FLUSHALL"], ["CONFIG", "GET", "*"], ["PUBLISH", "x", "y"]):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)


def test_a_certificate_for_another_host_is_refused(
    tls_server: tuple[RedisServer, Path, trustme.CA], start_redis: StartRedis, tmp_path: Path
) -> None:
    server, ca, _ = tls_server
    RedisBackend(tls_url(server, ca)).open()
    # 127.0.0.1 is the same server, by a name that is not in its certificate.
    assert "certificate" in refusal(tls_url(server, ca, "127.0.0.1"))
    other = redis.Redis(
        host="127.0.0.1",
        port=server.client().connection_pool.connection_kwargs["port"],
        ssl=True,
        ssl_ca_certs=str(ca),
    )
    with pytest.raises(StoreError, match="certificate"):
        RedisBackend(other).open()


def test_a_certificate_that_nobody_vouches_for_is_refused(
    tls_server: tuple[RedisServer, Path, trustme.CA], tmp_path: Path
) -> None:
    server, _, _ = tls_server
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(stranger)
    assert "certificate" in refusal(tls_url(server, stranger))
    assert "certificate" in refusal(tls_url(server, stranger).partition("?")[0])


def test_tls_is_not_left_out_silently(tls_server: tuple[RedisServer, Path, trustme.CA], redis_url: str) -> None:
    server, ca, _ = tls_server
    # Each waits for the other to speak its own language.
    refusal(tls_url(server, ca).replace("rediss:", "redis:").partition("?")[0], timeout=0.3)
    refusal(redis_url.replace("redis:", "rediss:"), timeout=0.3)
