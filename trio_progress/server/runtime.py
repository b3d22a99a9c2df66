"""What all connections of one server share, and the list of those that there are."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, final

import trio

from ..live.hub import Hub
from ..protocol.messages import Unlisted, Verb
from ..telemetry.logs import log_event
from ..tracker import ProgressTracker
from .auth.authenticator import Auth
from .auth.origins import Origins, Proxies
from .capacity import per_address
from .encoder import Encoder
from .envelopes import as_event, as_frame
from .files import StaticFile
from .http import HttpConnection
from .list.feed import ListFeed
from .settings import ServerSettings


class ServerConnection(Protocol):
    """One connection, as far as a stop needs it."""

    @property
    def watching(self) -> bool:
        """Whether it is yet to be told of an end."""
        ...

    def stop(self, *, over: bool) -> None:
        """Ends it, politely; `over`: there was nothing more to tell. Does not wait."""
        ...

    def unlisted(self, message: Unlisted, labels: Mapping[str, str]) -> None:
        """A session that had these labels was deleted."""
        ...


class FullError(Exception):
    """There are as many connections of this address as there may be."""


@final
class ServerRuntime:
    """What all connections of one server share."""

    def __init__(self, tracker: ProgressTracker, settings: ServerSettings, files: dict[str, StaticFile]) -> None:
        self.tracker = tracker
        self.settings = settings
        self.files = files
        # The one name of the tracker that is not public: a server is told of news as the tracker's own readers are.
        self.hub: Hub = tracker._runtime.hub
        self._open = tracker._runtime.open
        self.auth = Auth(settings.auth, self.hub.clock.wall)
        self.origins = Origins(settings.origins, settings.hosts, encrypted=settings.ssl_context is not None)
        self.proxies = Proxies(settings.trusted_proxies)
        self.as_frames = Encoder(as_frame, self.hub.clock, self.hub.tally)
        self.as_events = Encoder(as_event, self.hub.clock, self.hub.tally)
        self.draining = False
        """Whether the server is being stopped."""
        self.stopping = trio.Event()
        """Set when it is to stop."""
        self.connections_open: dict[ServerConnection, None] = {}
        self.board = ListFeed(tracker)
        self.most = settings.max_connections
        self._addresses: Counter[str] = Counter()
        self._doors: dict[HttpConnection, trio.CancelScope] = {}
        self.connections = 0

    @property
    def sessions_open(self) -> bool:
        """Whether the tracker has any open session. A stop asks often, so this costs the same for any number."""
        return bool(self._open)

    @contextmanager
    def counted(self, address: str) -> Iterator[None]:
        """Counts a connection of this address, as long as the block lasts.

        Raises:
            FullError: There are too many of it, and nothing was counted.
        """
        if self._addresses[address] >= per_address(self.most, self.settings.max_connections_per_address):
            raise FullError
        self._addresses[address] += 1
        try:
            yield
        finally:
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]

    @contextmanager
    def serving_to(self, connection: ServerConnection) -> Iterator[None]:
        """Has the connection in the list, as long as the block lasts."""
        self.connections_open[connection] = None
        try:
            yield
        finally:
            del self.connections_open[connection]

    @contextmanager
    def at_door(self, http: HttpConnection) -> Iterator[trio.CancelScope]:
        """Has the connection in the list of those that are sent away by `clear_door()`, as long as the block lasts."""
        with trio.CancelScope() as scope:
            self._doors[http] = scope
            try:
                yield scope
            finally:
                del self._doors[http]

    def clear_door(self, *, half_sent: bool) -> None:
        """Ends the connections on which a request is waited for, and nothing of it has come.

        Args:
            half_sent: Whether also those on which a part has come.
        """
        for http, scope in self._doors.items():
            if http.waiting or (half_sent and http.receiving):
                scope.cancel(reason="the server stops")

    def forget(self, message: Unlisted, labels: Mapping[str, str]) -> None:
        """Tells those who watch the list that a session was deleted."""
        self.board.forget(message.session)
        for connection in list(self.connections_open):
            connection.unlisted(message, labels)


def note_asked(what: Verb, session_id: str, address: str) -> None:
    """Logs that a client does something to a session, or has done it: who looks for the reason finds it there."""
    text = f"session %r: a client at %s asks to {what} it"
    log_event(logging.INFO, f"{what}_asked", text, session_id, address, session=session_id)
