"""What all connections of one server share, those that it has now, and what all that are sent updates are."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, final

import trio

from ..errors import ProgressError
from ..live.hub import Hub
from ..protocol.snapshot import ENDED
from ..telemetry.logs import log_event
from .answers import RefusedError, failed
from .auth.authenticator import Auth
from .auth.origins import Origins, Proxies
from .capacity import AddressLimit
from .encoder import Encoder, as_event
from .list.feed import ListFeed
from .outbox import Outbox, Subscriber

if TYPE_CHECKING:
    from ..protocol.messages import Unlisted, Verb
    from ..protocol.snapshot import Snapshot
    from ..session.runtime import TrackerRuntime
    from ..tracker import ProgressTracker
    from .auth.grants import Grant
    from .files import StaticFile
    from .http_connection import HttpConnection
    from .settings import ServerSettings
    from .wire import Source, Wire


class ServerConnection(ABC):
    """A client that is sent updates as long as it stays, with its outbox and its wire.

    Args:
        runtime: Its server's.
        open_wire: Opens its wire.
        encode: How it is written to.
        grant: What the client may see.
        sparse: Whether it takes updates without what it has.
    """

    def __init__(
        self,
        runtime: ServerRuntime,
        open_wire: Callable[[Source], Wire],
        encode: Encoder,
        grant: Grant,
        *,
        sparse: bool,
    ) -> None:
        self._runtime = runtime
        self._outbox = Outbox(open_wire, runtime.hub, encode, grant, self._subscription_over, sparse=sparse)
        self._wire = self._outbox.wire

    @property
    @abstractmethod
    def listing(self) -> bool:
        """Whether it is sent the list of sessions."""

    @property
    def watching(self) -> bool:
        """Whether it waits for a session to end."""
        if self.listing and self._runtime.any_open():
            return True
        return any(one.keyed and not one.refused for one in self._outbox.subscribers.values())

    @abstractmethod
    async def run(self) -> None:
        """Serves the client until either side closes."""

    @abstractmethod
    def stop(self, *, over: bool) -> None:
        """Ends it, politely; `over`: there was nothing more to send. Does not wait."""

    @abstractmethod
    def _subscription_over(self, subscriber: Subscriber, ended: bool) -> None:
        """A subscription is over; `ended`: because its session has ended."""

    def unlisted(self, message: Unlisted, labels: Mapping[str, str]) -> None:
        """A session that had these labels was deleted."""
        if self.listing and self._outbox.grant.allows("read", message.session, labels):
            self._outbox.say(message)

    async def _subscribe_to(self, subscriber: Subscriber) -> bool:
        """Subscribes, or tells the client why not; returns which."""
        try:
            await self._outbox.subscribe(subscriber)
        except ProgressError as problem:
            self._outbox.say(failed(problem, subscriber.id))
            return False
        return True

    def evict(self) -> None:
        """Leaves all sessions, and drops a client that does not read. Does not wait."""
        self._outbox.close()
        self._wire.drop(4008, "you read too slowly")

    def kill(self) -> None:
        """Leaves all sessions and closes the transport. Does not wait."""
        self._outbox.close()
        self._wire.kill()


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


@final
class ServerRuntime:
    """What all connections of one server share.

    Args:
        tracker: Whose sessions are served.
        settings: The server's.
        files: What the page is made of, by path.
        most: Connections at once; `max_connections` unless given.

    Raises:
        TypeError: The tracker is none.
    """

    def __init__(
        self, tracker: ProgressTracker, settings: ServerSettings, files: dict[str, StaticFile], most: int | None = None
    ) -> None:
        # The one name of the tracker that is not public: a server hears of changes as the tracker's own subscribers do.
        runtime = getattr(tracker, "_runtime", None)
        if runtime is None or not isinstance(getattr(runtime, "hub", None), Hub):
            raise TypeError(f"tracker must be a ProgressTracker, not {tracker!r:.200}")
        self.tracker = tracker
        self.settings = settings
        self.files = files
        self.hub: Hub = runtime.hub
        self._of_tracker: TrackerRuntime = runtime
        self.auth = Auth(settings.auth, self.hub.clock.wall)
        self.origins = Origins(settings.origins, settings.hosts, encrypted=settings.ssl_context is not None)
        self.proxies = Proxies(settings.trusted_proxies)
        self.as_frames = Encoder(self.hub.tally)
        self.as_events = Encoder(self.hub.tally, as_event)
        self.connections = OpenConnections()
        self.most: Final = settings.max_connections if most is None else most
        self.addresses = AddressLimit(self.most, settings.max_connections_per_address)
        self.list_feed = ListFeed(tracker)
        self._list_feed_runs = False
        self.stopping = trio.Event()
        """Set when it is to stop."""
        self.draining = False
        """Whether the server is being stopped."""

    def any_open(self) -> bool:
        """Whether the tracker has any open session. A stop asks often, so this costs the same for any number."""
        return bool(self._of_tracker.open)

    @property
    def tracker_left(self) -> bool:
        """Whether the tracker is being left, or was."""
        return self._of_tracker.closed

    def start_list_feed(self) -> None:
        """Has `list_feed` run until the tracker is left, where no server keeps it. Does not wait."""
        if not (self._list_feed_runs or self.tracker_left):
            self._list_feed_runs = True
            self._of_tracker.nursery.start_soon(self.list_feed.run, name="list feed")

    async def seen(self, grant: Grant, session: str, verb: Verb = "read") -> Snapshot:
        """The session as it is now, if there is one that may be seen, and with which `verb` may be done.

        Raises:
            SessionNotFoundError: There is none, or it may not be seen.
            RefusedError: It may be seen, but `verb` may not be done.
            StoreError: The store did not answer.
        """
        feed = await self.hub.seen(session, lambda labels: grant.allows("read", session, labels))
        snapshot = feed.snapshot()
        if not grant.allows(verb, session, snapshot.labels):
            raise RefusedError(403, "not_allowed", f"you may not {verb} this session")
        return snapshot

    async def cancel(self, session: Snapshot, reason: str | None, address: str) -> None:
        """Cancels a session for the client at this address.

        Raises:
            RefusedError: It has ended already.
            ProgressError: It cannot be cancelled now.
        """
        if session.status in ENDED:
            raise RefusedError(409, "ended", f"the session has ended already: {session.status}")
        log_client_request("cancel", session.id, address)
        await self.tracker.cancel(session.id, reason)

    def forget(self, message: Unlisted, labels: Mapping[str, str]) -> None:
        """A session that had these labels was deleted: those who watch the list hear of it."""
        self.list_feed.forget(message.session)
        self.connections.announce_deleted(message, labels)


def log_client_request(what: Verb, session_id: str, address: str) -> None:
    """Logs that a client asks to do something to a session: who looks for the reason finds it there."""
    text = f"session %r: a client at %s asks to {what} it"
    log_event(logging.INFO, f"{what}_asked", text, session_id, address, session=session_id)
