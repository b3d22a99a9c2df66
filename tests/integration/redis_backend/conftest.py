"""What the tests of the backend in Redis share: backends on keys of their own, and a client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest
import redis

from tests.integration.redis_backend.asking import opened_backends
from tests.redis_server import client_of
from trio_progress.stores.redis import deltas
from trio_progress.stores.redis.backend import RedisBackend


@pytest.fixture
def backends(redis_url: str, prefix: str) -> Iterator[Callable[..., RedisBackend]]:
    """Makes backends on the same keys, as processes have them."""
    with opened_backends(prefix=prefix, timeout=5.0, beat=0.02) as make:
        yield partial(make, redis_url)


@pytest.fixture
def backend(backends: Callable[..., RedisBackend]) -> RedisBackend:
    return backends()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """What others do to the keys."""
    with client_of(redis_url) as made:
        yield made


@pytest.fixture
def names(prefix: str) -> Callable[[str], str]:
    """The keys of session `a` by their kind."""
    return lambda kind: f"{prefix}:{{0}}:{kind}:a"


@pytest.fixture
def every_record_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones too, and whether they are watched or not."""
    monkeypatch.setattr(deltas, "IN_PARTS_FROM", 0)
    monkeypatch.setattr(deltas, "WATCHED_IN_PARTS_FROM", 0)
