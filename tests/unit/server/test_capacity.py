"""How many connections a server takes, who makes room for whom, and what is said while there are no descriptors."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import trio

from trio_progress.server import capacity
from trio_progress.server.capacity import PortLimit, connections_possible, per_address
from trio_progress.server.http_connection import HttpConnection
from trio_progress.server.serving import accept_connections

resource = pytest.importorskip("resource")


@pytest.mark.parametrize(
    ("limits", "wanted", "possible", "raised"),
    [
        ((1024, 1024), 10_000, 1024 - 120, None),
        ((1024, 4096), 10_000, 4096 - 120, 4096),
        ((1024, 100_000), 10_000, 10_000, 10_120),
        ((1024, resource.RLIM_INFINITY), 10_000, 10_000, 10_120),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 10_000, 10_000, None),
        ((20_000, 20_000), 10_000, 10_000, None),
        ((64, 64), 10_000, 16, None),
    ],
)
def test_connections_leave_descriptors_for_the_rest(
    limits: tuple[int, int], wanted: int, possible: int, raised: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = list(limits)
    monkeypatch.setattr(resource, "getrlimit", lambda what: tuple(now))
    monkeypatch.setattr(resource, "setrlimit", lambda what, to: now.__setitem__(slice(None), list(to)))
    monkeypatch.setattr(capacity, "open_descriptors", lambda: 20)
    assert connections_possible(wanted, 100) == possible
    assert now == [limits[0] if raised is None else raised, limits[1]]


def test_one_address_has_a_part_of_them() -> None:
    assert per_address(10_000, None) == 500
    assert per_address(800, None) == 200
    assert per_address(8, None) == 8
    assert per_address(800, 900) == 800
    assert per_address(800, 3) == 3


class Arrivals:
    """Connections of a port, each of which has said nothing."""

    def __init__(self, most: int) -> None:
        self.limit = PortLimit(most)
        self.stack = ExitStack()
        self.scopes: list[tuple[str, trio.CancelScope]] = []

    def come(self, address: str, *, spoken: bool = False) -> bool:
        if not self.limit.room_for(address):
            return False
        http: Any = HttpConnection(None, head_patience=1, write_patience=1)  # type: ignore[arg-type]
        scope = trio.CancelScope()
        self.stack.enter_context(self.limit.counting(address))
        self.stack.enter_context(self.limit.evictable(address, http, scope))
        if spoken:
            self.limit.keep(address, http)
        self.scopes.append((address, scope))
        return True

    @property
    def sent_away(self) -> list[int]:
        return [number for number, (_, scope) in enumerate(self.scopes) if scope.cancel_called]


async def test_who_has_said_nothing_makes_room_for_another_address() -> None:
    here = Arrivals(4)
    assert [here.come("a") for _ in range(6)] == [True] * 4 + [False] * 2
    assert here.come("b")
    assert here.sent_away == [0]
    assert here.come("c")
    assert here.sent_away == [0, 1]
    here.stack.close()
    assert here.limit.number == 0


async def test_who_has_been_served_makes_no_room() -> None:
    here = Arrivals(3)
    assert [here.come("a", spoken=True) for _ in range(3)] == [True] * 3
    assert not here.come("b")
    assert here.sent_away == []
    here.stack.close()


async def test_nobody_makes_room_for_an_address_that_has_as_many() -> None:
    here = Arrivals(4)
    assert [here.come(address) for address in "aabb"] == [True] * 4
    assert not here.come("a")
    assert not here.come("b")
    assert not here.limit.make_room(2)
    assert here.limit.make_room()
    here.stack.close()


class Failing:
    """A listener that has no descriptors left, so many times; then it gives a stream, and nothing more."""

    def __init__(self, codes: list[int]) -> None:
        self.codes = codes

    async def accept(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if self.codes:
            raise OSError(self.codes.pop(0), "no")
        await trio.sleep_forever()
        raise AssertionError

    async def __aenter__(self) -> Failing:
        return self

    async def __aexit__(self, *args: object) -> None:
        await trio.lowlevel.cancel_shielded_checkpoint()


async def test_exhaustion_is_logged_once_a_minute_without_a_traceback(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    asked = 0

    def make_room() -> None:
        nonlocal asked
        asked += 1

    async def serve(stream: object) -> None:
        raise AssertionError(stream)

    listener: Any = Failing([errno.EMFILE, errno.ECONNABORTED] * 50)
    async with trio.open_nursery() as nursery:
        start: Callable[..., Any] = accept_connections
        await nursery.start(start, [listener], serve, nursery, make_room)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert (listener.codes, asked) == ([], 50)
    (record,) = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert record.exc_info is None
    assert "cannot be accepted" in record.getMessage()
