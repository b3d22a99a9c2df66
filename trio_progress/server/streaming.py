"""What a WebSocket and a stream of server-sent events have in common: both are sent updates as long as they stay."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from ..errors import ProgressError, SessionNotFoundError
from .error_messages import failed, not_found
from .outbox import Outbox, Subscriber

if TYPE_CHECKING:
    from ..live.hub import Hub
    from ..protocol.messages import Unlisted
    from .auth.grants import Grant
    from .encoder import Encoder
    from .wire import Source, Wire


class ServerConnection(ABC):
    """A client that is sent updates, with its outbox and its wire.

    Args:
        hub: Where the sessions are.
        any_open: Tells whether the tracker has any open session.
        open_wire: Opens its wire.
        encode: How it is written to.
        grant: What the client may see.
    """

    def __init__(
        self,
        hub: Hub,
        any_open: Callable[[], bool],
        open_wire: Callable[[Source], Wire],
        encode: Encoder,
        grant: Grant,
    ) -> None:
        self._any_open = any_open
        self._outbox = Outbox(open_wire, hub, encode, grant, self._subscription_over)
        self._wire = self._outbox.wire

    @property
    @abstractmethod
    def listing(self) -> bool:
        """Whether it is sent the list of sessions."""

    @property
    def watching(self) -> bool:
        """Whether it waits for a session to end."""
        if self.listing and self._any_open():
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
        except SessionNotFoundError:
            self._outbox.say(not_found(subscriber.id))
        except ProgressError as problem:
            self._outbox.say(failed(problem, subscriber.id))
        else:
            return True
        return False

    def kill(self) -> None:
        """Leaves all sessions and closes the transport. Does not wait."""
        self._outbox.close()
        self._wire.kill()
