"""The connections that a server has now, as far as a stop and the list need them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, final

import trio

if TYPE_CHECKING:
    from ..protocol.messages import Unlisted
    from .http_connection import HttpConnection
    from .streaming import ServerConnection


@final
class OpenConnections:
    """All connections of one server: how many, those that wait for a request, and those that are sent updates."""

    def __init__(self) -> None:
        self.number = 0
        self._streaming: dict[ServerConnection, None] = {}
        self._http: dict[HttpConnection, trio.CancelScope] = {}

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Counts a connection, as long as the block lasts."""
        self.number += 1
        try:
            yield
        finally:
            self.number -= 1

    @contextmanager
    def streaming(self, connection: ServerConnection) -> Iterator[None]:
        """Has a connection among those that are sent updates, as long as the block lasts."""
        self._streaming[connection] = None
        try:
            yield
        finally:
            del self._streaming[connection]

    @contextmanager
    def over_http(self, http: HttpConnection) -> Iterator[trio.CancelScope]:
        """Has a connection among those that `cancel_idle()` looks at, as long as the block lasts."""
        with trio.CancelScope() as scope:
            self._http[http] = scope
            try:
                yield scope
            finally:
                del self._http[http]

    def cancel_idle(self, *, half_sent: bool) -> None:
        """Ends the connections on which a request is waited for, and nothing of it has come.

        Args:
            half_sent: Whether also those on which a part has come.
        """
        for http, scope in self._http.items():
            if http.waiting or (half_sent and http.receiving):
                scope.cancel(reason="the server stops")

    def stop(self, *, watching: bool) -> None:
        """Closes those that are sent updates, politely; of those that watch a session all or none. Does not wait."""
        for connection in list(self._streaming):
            if watching or not connection.watching:
                connection.stop(over=not watching)

    def announce_deleted(self, message: Unlisted, labels: Mapping[str, str]) -> None:
        """Tells those who are sent the list that a session with these labels was deleted."""
        for connection in list(self._streaming):
            connection.unlisted(message, labels)
