"""Sessions in Redis, shared by the processes of many machines.

1. A session is a stream of its newest states. The id of an entry is the state's key, `epoch-seq`, so Redis
   itself refuses what an owner writes who has been replaced; see `redis.writes`.
2. Epochs are numbered by the server's clock, or higher. They rise over deletion, expiry and FLUSHALL.
3. A commit is one round trip for all sessions. There is no transaction around it: each write is complete by
   itself, and may be repeated as it was.
4. What is stored survives a crash of Redis as far as its persistence is set to: with `appendfsync always` all
   that was acknowledged, with `everysec` all but about a second, without persistence nothing. A session whose
   keys have vanished is stored anew by its owner.
5. Pub/sub is not used: it loses what is published while nobody listens; see `redis.watch`.
6. What cannot be read is counted, logged once, and passed over; see `stores.decoding`.

Calls to Redis block, and are bounded in time:

7. A call takes a connection, sends its commands in one go and reads a reply for each. When anything goes wrong
   in between, be it a timeout or an exception of any kind, the connection is closed: what it still has to say
   is nobody's. The replies of one call can so never become another's. Those that lie idle are closed with it: what
   has broken one has likely broken them, and each would cost a call to find out.
8. Nothing is retried here. redis-py would, by default ten times and with pauses, in a thread that cannot be
   cancelled; who calls has its own way to try again.
9. An error in a reply belongs to its command. One that is the server's state (full, a replica, loading) is
   everybody's, and is raised.

Redis 6.2 or newer, or Valkey. One server, with or without replicas and Sentinel; no Cluster yet.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

import redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from ...errors import CorruptEntryError, StoreError
from ...state.quantities import whole
from ..base import Changes, Outcome, Page, Query, Seen, Stored, Write
from ..decoding import CorruptEntries
from .keys import DEFAULT_PREFIX, Keys
from .reads import Reads
from .scripts import PROBE, Command, Script, Steps
from .server import Server, everybodys, explained
from .watch import Watcher
from .writes import Writer

if TYPE_CHECKING:
    from ..threaded import Pause  # Who blocks needs no Trio.

T = TypeVar("T")

BEAT: Final = 1.0
"""Seconds between two looks at the leases of what is watched."""


@final
class Calls:
    """Round trips to one Redis. Safe to be made by several threads at once, and after a fork.

    Args:
        server: Where.
        timeout: Seconds without an answer after which a call gives up; one with many replies has three times that
            in all, by the end of each. Within a reply it is seconds without a byte.
    """

    def __init__(self, server: Server, timeout: float) -> None:
        self.address = server.address
        self._timeout = timeout
        self._pool = server.pool(timeout)
        self._closed = False

    def __call__(self, commands: Sequence[Command]) -> list[Any]:
        """A reply for each command; an error that is that command's alone stands for its reply.

        Scripts that the server does not know yet are made after everything else.

        Raises:
            StoreError: Redis did not answer, or can do none of it; any of it may have been done.
        """
        if not commands:
            return []
        if self._closed:
            raise StoreError(f"store {self.address}: it was closed")
        until = time.monotonic() + 3 * self._timeout
        connection = None
        replies: list[Any] = []
        try:
            connection = self._pool.get_connection()
            connection.send_packed_command(
                connection.pack_commands(
                    [("EVALSHA", each[0].sha, *each[1:]) if type(each[0]) is Script else each for each in commands]
                )
            )
            for _ in commands:
                try:
                    replies.append(connection.read_response())
                except ResponseError as error:
                    replies.append(error)
                if time.monotonic() > until:
                    raise TimeoutError(f"no more than {len(replies)} replies within {3 * self._timeout:g} s")
            if not self._closed:
                self._pool.release(connection)
                connection = None
        except (RedisError, OSError) as error:
            self._pool.disconnect(inuse_connections=False)
            raise explained(self.address, error, self._timeout) from error
        finally:
            if connection is not None:
                connection.disconnect()
                self._pool.release(connection)
        unknown: list[int] = []
        for place, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                unknown.append(place)
            elif isinstance(reply, ResponseError) and (code := everybodys(reply)) is not None:
                if code in ("READONLY", "MASTERDOWN"):
                    # Behind a name, or a proxy, another one may be the primary by now.
                    self._pool.disconnect(inuse_connections=False)
                raise explained(self.address, reply, self._timeout) from reply
        texts = [("EVAL", commands[place][0].text, *commands[place][1:]) for place in unknown]
        for place, reply in zip(unknown, self(texts), strict=True):
            replies[place] = reply
        return replies

    def run(self, steps: Sequence[Steps[T]]) -> list[T]:
        """Takes all of them to their end, with as many round trips as the longest needs.

        Raises:
            StoreError: Redis did not answer, or can do none of it; any of it may have been done.
        """
        results: dict[int, T] = {}
        replies: dict[int, Sequence[Any] | None] = dict.fromkeys(range(len(steps)))
        while replies:
            asked: list[tuple[int, Sequence[Command]]] = []
            for which, reply in replies.items():
                try:
                    asked.append((which, steps[which].send(reply)))
                except StopIteration as end:
                    results[which] = end.value
            answers = iter(self([command for _, commands in asked for command in commands]))
            replies = {which: [next(answers) for _ in commands] for which, commands in asked}
        return [results[which] for which in range(len(steps))]

    def close(self) -> None:
        """Closes all connections, also those that are in use; later calls raise `StoreError`."""
        self._closed = True
        self._pool.disconnect()


@final
class RedisBackend:
    """Sessions in Redis, by calls that block. Safe to be called by several threads, and after a fork.

    Args:
        store, prefix, event_limit, timeout: See `RedisStore`. redis-py's own options may follow in the URL, as
            `&name=value`; a client is asked how it connects, and otherwise left alone.
        beat: Seconds between two looks at the leases of what is watched, above 0.

    Raises:
        ValueError, TypeError: A value is out of range.
    """

    def __init__(
        self,
        store: str | redis.Redis,
        *,
        prefix: str | None = None,
        event_limit: int = 1000,
        timeout: float = 1.0,
        beat: float = BEAT,
    ) -> None:
        event_limit = whole("event_limit", event_limit)
        for name, seconds in (("timeout", timeout), ("beat", beat)):
            if not 0 < seconds < 3600:
                raise ValueError(f"{name} must be above 0 and below 3600 seconds, not {seconds!r}")
        if isinstance(store, str):
            server, given = Server.of_url(store, prefix)
        else:
            given = DEFAULT_PREFIX if prefix is None else prefix
            server = Server.of_client(store, given)
        self._keys = keys = Keys(given)
        self._calls = Calls(server, timeout)
        self._waits = Calls(server, beat + timeout)
        self.corrupt: Final = CorruptEntries(server.address)
        self.address: Final = server.address
        """The URL without user, password and options; the same in every process that names the host alike."""
        self._writer = Writer(keys, event_limit, self.corrupt)
        self._reads = Reads(self._calls, keys, event_limit, self.corrupt)
        self.watcher: Final = Watcher(self._calls, self._waits, keys, self._reads, beat, self.corrupt)
        self._writing = threading.Lock()

    def open(self) -> None:
        """Connects, and sees that Redis is new enough and can be written."""
        name = self._keys.probe
        replies = self._calls([(PROBE, 1, name)])
        replies += self._calls(
            [
                ("DEL", name),
                ("XADD", name, "NOMKSTREAM", "MINID", "~", "1-1", "1-1", "x", ""),
                ("XRANGE", name, "(1-1", "+", "COUNT", 1),
            ]
        )
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise StoreError(
                    f"store {self.address}: it refuses what is needed; use Redis 6.2 or newer, or Valkey: {reply}"
                )
        self.watcher.begin()

    def close(self) -> None:
        """Closes all connections; later calls raise `StoreError`."""
        self._calls.close()
        self._waits.close()

    def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        """Makes the writes, with an outcome for each; where it raises, any of them may have been made."""
        if self.watcher.began is None:
            self.watcher.begin()
        # The writes of one session are made one after the other, and beside those of all others.
        by_session: dict[str, list[int]] = {}
        for place, write in enumerate(batch):
            by_session.setdefault(write.id, []).append(place)
        with self._writing:
            found = self._calls.run(
                [self._writer.steps([batch[place] for place in places]) for places in by_session.values()]
            )
        outcomes = {
            place: outcome
            for places, given in zip(by_session.values(), found, strict=True)
            for place, outcome in zip(places, given, strict=True)
        }
        return [outcomes[place] for place in range(len(batch))]

    def read(self, session_id: str) -> Stored | None:
        """The newest entry of a session, with its events."""
        try:
            return self._reads.one(session_id)
        except CorruptEntryError as error:
            raise self.corrupt.refuse(session_id, error) from None

    def list(self, query: Query) -> Page:
        """The newest entries of the sessions that `query` names; what cannot be read is left out."""
        return self._reads.page(query)

    def changes(self, mark: str | None, seen: Mapping[str, Seen | None], pause: Pause) -> Changes:
        """Waits for news; see `Store.changes`. `pause` is looked at every `beat` seconds, or when it is called anew."""
        if mark is None:
            return Changes(self.watcher.begin(), (), (), ())
        return self.watcher.changes(mark, seen, pause)
