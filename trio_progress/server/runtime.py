"""What all connections of one server share."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, final

import trio

from ..live.hub import Hub
from ..telemetry.logs import log_event
from .auth.authenticator import Auth
from .auth.origins import Origins, Proxies
from .capacity import AddressLimit
from .encoder import Encoder, as_event
from .list.feed import ListFeed
from .open_connections import OpenConnections

if TYPE_CHECKING:
    from ..protocol.messages import Unlisted, Verb
    from ..tracker import ProgressTracker
    from .files import StaticFile
    from .settings import ServerSettings


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
        self,
        tracker: ProgressTracker,
        settings: ServerSettings,
        files: dict[str, StaticFile],
        most: int | None = None,
    ) -> None:
        # The one name of the tracker that is not public: a server hears of changes as the tracker's own subscribers do.
        runtime = getattr(tracker, "_runtime", None)
        if runtime is None or not isinstance(getattr(runtime, "hub", None), Hub):
            raise TypeError(f"tracker must be a ProgressTracker, not {tracker!r:.200}")
        self.tracker = tracker
        self.settings = settings
        self.files = files
        self.hub: Hub = runtime.hub
        self._open = runtime.open
        self.auth = Auth(settings.auth, self.hub.clock.wall)
        self.origins = Origins(settings.origins, settings.hosts, encrypted=settings.ssl_context is not None)
        self.proxies = Proxies(settings.trusted_proxies)
        self.as_frames = Encoder(self.hub.tally)
        self.as_events = Encoder(self.hub.tally, as_event)
        self.connections = OpenConnections()
        self.most: Final = settings.max_connections if most is None else most
        self.addresses = AddressLimit(self.most, settings.max_connections_per_address)
        self.list_feed = ListFeed(tracker)
        self.stopping = trio.Event()
        """Set when it is to stop."""
        self.draining = False
        """Whether the server is being stopped."""

    def any_open(self) -> bool:
        """Whether the tracker has any open session. A stop asks often, so this costs the same for any number."""
        return bool(self._open)

    def forget(self, message: Unlisted, labels: Mapping[str, str]) -> None:
        """A session that had these labels was deleted: those who watch the list hear of it."""
        self.list_feed.forget(message.session)
        self.connections.announce_deleted(message, labels)


def log_client_request(what: Verb, session_id: str, address: str) -> None:
    """Logs that a client asks to do something to a session: who looks for the reason finds it there."""
    text = f"session %r: a client at %s asks to {what} it"
    log_event(logging.INFO, f"{what}_asked", text, session_id, address, session=session_id)
