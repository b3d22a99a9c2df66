"""Backends on a Redis, and single writes to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.store_contract.rig import append, claim
from trio_progress.stores.base import Claimed, Done, Outcome, Write
from trio_progress.stores.redis.backend import RedisBackend


@contextmanager
def opened_backends(**options: Any) -> Iterator[Callable[..., RedisBackend]]:
    """Makes backends with these options, or others that are given, and closes them in the end."""
    made: list[RedisBackend] = []

    def make(url: str, **given: Any) -> RedisBackend:
        made.append(RedisBackend(url, **options | given))
        return made[-1]

    yield make
    for backend in made:
        backend.close()


def one(backend: RedisBackend, write: Write) -> Outcome:
    """What comes of one write."""
    (outcome,) = backend.commit([write])
    return outcome


def claimed(backend: RedisBackend, session: str = "a", **given: Any) -> int:
    """The epoch under which a session is claimed."""
    outcome = one(backend, claim(session, **given))
    assert isinstance(outcome, Claimed)
    return outcome.epoch


def ms() -> int:
    """The time of now, in milliseconds."""
    return int(time.time() * 1000)


def plain(backend: RedisBackend) -> int:
    """A session whose next appends are plain commands."""
    epoch = claimed(backend)
    assert one(backend, append(epoch, 1)) == Done()
    return epoch
