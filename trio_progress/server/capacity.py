"""How many connections a server takes: as many as its settings and its file descriptors allow, less a reserve.

1. Each connection is a descriptor. The soft limit is raised as far as is needed and the hard one allows; what is left
   for connections leaves out what the process has open, and a reserve for the store, the page, the admin port, and
   those who are refused for want of room.
2. One address has at most a quarter of them unless it is said otherwise, so two cannot lock others out.
3. At the limit, who has said nothing yet makes room: of the address that has the most, the oldest first, as long as
   that address has more than the one that comes. Otherwise the one that comes is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import trio

from .answers import RefusedError

if TYPE_CHECKING:
    from .http_connection import HttpConnection

RESERVE: Final = 64
"""Descriptors that are left for the store, the page's files, and whatever else the process opens."""

PER_ADDRESS: Final = 500
"""Connections of one address, unless it is said otherwise."""

FEW: Final = 64
"""Of fewer connections than that in all, one address may have all."""


def open_descriptors() -> int:
    """How many descriptors the process has open; a guess where the platform does not say."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return sum(1 for _ in Path(folder).iterdir())
    return RESERVE


def connections_possible(wanted: int, reserve: int) -> int:
    """As many of `wanted` connections as the limit on descriptors allows; raises the soft limit where that helps.

    Args:
        wanted: Connections.
        reserve: Descriptors that are to be left.
    """
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limit.
        return wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = open_descriptors() + reserve
    needed = wanted + taken
    if soft != resource.RLIM_INFINITY and soft < needed:
        higher = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        if higher > soft:
            with suppress(OSError, ValueError):  # macOS has a further limit, and a sandbox may forbid it.
                resource.setrlimit(resource.RLIMIT_NOFILE, (higher, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    return max(soft - taken, soft // 4, 1)


def per_address(most: int, given: int | None) -> int:
    """How many connections one address may have, of so many in all."""
    if given is not None:
        return min(given, most)
    return most if most < FEW else min(PER_ADDRESS, most // 4)


class AddressFullError(RefusedError):
    """There are as many connections of this address as there may be."""

    def __init__(self) -> None:
        super().__init__(429, "too_many", "there are too many connections from your address")


@contextmanager
def _counted(counts: Counter[str], address: str) -> Iterator[None]:
    counts[address] += 1
    try:
        yield
    finally:
        counts[address] -= 1
        if not counts[address]:
            del counts[address]


@final
class AddressLimit:
    """How many connections one client's address may have.

    Args:
        most: Connections of all addresses together.
        given: What was set for one; None: see `per_address()`.
    """

    def __init__(self, most: int, given: int | None) -> None:
        self._most = per_address(most, given)
        self._counts: Counter[str] = Counter()

    @contextmanager
    def counting(self, address: str) -> Iterator[None]:
        """Counts a connection of this address, as long as the block lasts.

        Raises:
            AddressFullError: There are too many of it, and nothing was counted.
        """
        if self._counts[address] >= self._most:
            raise AddressFullError
        with _counted(self._counts, address):
            yield


@final
class PortLimit:
    """How many connections one port may have, and who of them may have to make room.

    Args:
        most: Connections at once.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.number = 0
        self._by_address: Counter[str] = Counter()
        self._silent: dict[str, dict[HttpConnection, trio.CancelScope]] = {}

    def room_for(self, address: str) -> bool:
        """Whether there is room for one more of this address, if need be instead of one that has said nothing."""
        return self.number < self.most or self.make_room(self._by_address[address] + 1)

    def make_room(self, fewer: int = 0) -> bool:
        """Sends away who has said nothing yet, of an address that has more than so many connections.

        Returns:
            Whether there was one.
        """
        for address, count in self._by_address.most_common(3):
            if count <= fewer:
                return False
            for http, scope in self._silent.get(address, {}).items():
                if http.receiving and not scope.cancel_called:
                    scope.cancel(reason="there are too many connections, and nothing has come over this one")
                    return True
        return False

    @contextmanager
    def counting(self, address: str) -> Iterator[None]:
        """Counts a connection, as long as the block lasts."""
        self.number += 1
        try:
            with _counted(self._by_address, address):
                yield
        finally:
            self.number -= 1

    @contextmanager
    def evictable(self, address: str, http: HttpConnection, scope: trio.CancelScope) -> Iterator[None]:
        """Has a connection among those that may have to make room, as long as no request has come over it."""
        self._silent.setdefault(address, {})[http] = scope
        try:
            yield
        finally:
            self.keep(address, http)

    def keep(self, address: str, http: HttpConnection) -> None:
        """A request has come: the connection need not make room any more."""
        of_address = self._silent.get(address, {})
        of_address.pop(http, None)
        if not of_address:
            self._silent.pop(address, None)
