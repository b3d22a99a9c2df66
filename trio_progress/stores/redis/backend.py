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

Redis 6.2 or newer, or Valkey. One server, with or without replicas and Sentinel (see `redis.sentinel`); no Cluster yet.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Final, final

import redis
from redis.exceptions import ResponseError

from ...errors import CorruptEntryError, StoreError
from ...state.history import PIPELINES_KEPT, PipelineHistory
from ...state.quantities import whole
from ...telemetry.logs import Throttle, log_event
from ..base import Append, Changes, Claim, Claimed, Delete, Done, Outcome, Page, Pause, Query, Seen, Stored, Write
from ..decoding import CorruptEntries
from ..taking import Release, Take
from .calls import Calls
from .ends import AT_ONCE, Ends
from .keys import DEFAULT_PREFIX, Keys
from .listing import Lists
from .reads import Reads, history_in
from .scripts import PROBE
from .server import Server
from .watch import Watcher
from .writes import Writer

BEAT: Final = 1.0
"""Seconds between two looks at the leases of what is watched."""


@final
class RedisBackend:
    """Sessions in Redis, by calls that block. Safe to be called by several threads, and after a fork.

    Args:
        store, prefix, event_limit, timeout, wait_replicas: See `RedisStore`. redis-py's own options may follow in the
            URL, as `&name=value`; a client is asked how it connects, and otherwise left alone.
        beat: Seconds between two looks at the leases of what is watched, above 0.

    Raises:
        ValueError, TypeError: A value is out of range.
    """

    hands_out: Final = True

    def __init__(
        self,
        store: str | redis.Redis,
        *,
        prefix: str | None = None,
        event_limit: int = 1000,
        timeout: float = 1.0,
        beat: float = BEAT,
        wait_replicas: int | None = None,
    ) -> None:
        event_limit = whole("event_limit", event_limit)
        for name, seconds in (("timeout", timeout), ("beat", beat)):
            if not 0 < seconds < 3600:
                raise ValueError(f"{name} must be above 0 and below 3600 seconds, not {seconds!r}")
        if isinstance(store, str):
            server, ours = Server.of_url(store, prefix)
            given = ours["prefix"]
            if wait_replicas is None and "wait_replicas" in ours:
                wait_replicas = whole("wait_replicas of the URL", _number(ours["wait_replicas"]), least=0)
        else:
            given = DEFAULT_PREFIX if prefix is None else prefix
            server = Server.of_client(store, given)
        wait_replicas = 0 if wait_replicas is None else whole("wait_replicas", wait_replicas, least=0)
        self._keys = keys = Keys(given)
        self._calls = Calls(server, timeout)
        self._waits = Calls(server, beat + timeout)
        self.corrupt: Final = CorruptEntries(server.address)
        self.address: Final = server.address
        """The URL without user, password and options; the same in every process that names the host alike."""
        self._reads = Reads(self._calls, keys, event_limit, self.corrupt)
        self._lists = Lists(self._calls, keys, self._reads, self.corrupt)
        self._ends = Ends(server.address)
        self.watcher: Final = Watcher(self._calls, self._waits, keys, self._reads, beat, self.corrupt)
        self._writer = Writer(keys, event_limit, self.corrupt, self.watcher.is_watched)
        self._server = server
        self._seen = (0, 0)
        """How often something was broken, and how many failovers there were, when ends were looked after."""
        self._writing = threading.Lock()
        self._wait_replicas = wait_replicas
        self.unreplicated = 0
        """Writes that too few replicas had in time; each is tried again."""
        self._throttle = Throttle()

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
        self._lists.begin()
        self.watcher.begin()

    def close(self) -> None:
        """Closes all connections; later calls raise `StoreError`."""
        self._calls.close()
        self._waits.close()

    def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        """Makes the writes, with an outcome for each; where it raises, any of them may have been made."""
        if self.watcher.began is None:
            self.watcher.begin()
        for write in batch:
            if isinstance(write, Take):
                self.watcher.listen(write.id)
            elif isinstance(write, Release) and write.leaves:
                self.watcher.stop_listening(write.id)
        # The writes of one session are made one after the other, and beside those of all others.
        by_session: dict[str, list[int]] = {}
        for place, write in enumerate(batch):
            by_session.setdefault(write.id, []).append(place)
        with self._writing:
            steps = [self._writer.steps([batch[place] for place in places]) for places in by_session.values()]
            waited = self._wait_replicas if any(isinstance(write, (Claim, Append)) for write in batch) else 0
            found, had = self._calls.run_replicated(steps, waited)
        outcomes = {
            place: outcome
            for places, given in zip(by_session.values(), found, strict=True)
            for place, outcome in zip(places, given, strict=True)
        }
        answer = [outcomes[place] for place in range(len(batch))]
        if had < waited:
            answer = [self._unreplicated(*pair, had) for pair in zip(batch, answer, strict=True)]
        turns = [
            (write, outcome)
            for write, outcome in zip(batch, answer, strict=True)
            if isinstance(write, (Claim, Delete)) or (isinstance(write, Append) and write.lease is None)
        ]
        if turns:  # Most of what is written says only how a session goes on.
            with self._writing:
                self._ends.note(turns)
        return answer

    def _unreplicated(self, write: Write, outcome: Outcome, had: int) -> Outcome:
        """The outcome of a write that is stored, but on too few replicas: it is as good as not stored."""
        if not isinstance(write, (Claim, Append)) or not isinstance(outcome, (Claimed, Done)):
            return outcome
        self.unreplicated += 1
        wanted = self._wait_replicas
        text = f"store {self.address}: what was written is on {had} replicas, and is to be on {wanted}"
        log_event(logging.WARNING, "replicas_lag", "%s; it is tried again", text, throttle=self._throttle, reason=text)
        return StoreError(text)

    def write_ends_again(self) -> None:
        """Writes what the store has forgotten of the ends that were written here, after a break; see `redis.ends`."""
        broken = self._calls.broken + self._waits.broken
        if broken == self._seen[0]:
            return
        with self._writing:
            ends = self._ends.kept()
        if ends:
            self._calls([("TIME",)])  # From here on it is known whether there was a failover.
        failovers = self._server.failovers
        for begin in range(0, len(ends), AT_ONCE):
            part = ends[begin : begin + AT_ONCE]
            with self._writing:
                self._calls.run(
                    [self._ends.steps(end, self._reads, self._writer, failovers != self._seen[1]) for end in part]
                )
        self._seen = (broken, failovers)

    def read(self, session_id: str) -> Stored | None:
        """The newest entry of a session, with its events."""
        try:
            return self._reads.one(session_id)
        except CorruptEntryError as error:
            raise self.corrupt.refuse(session_id, error) from None

    def list(self, query: Query) -> Page:
        """The newest entries of the sessions that `query` names; what cannot be read is left out."""
        return self._lists.page(query)

    def history(self, pipeline: str) -> PipelineHistory | None:
        """What earlier runs of a pipeline have taught."""
        found, took = self._calls([("GET", self._keys.history(pipeline)), ("HGETALL", self._keys.durations(pipeline))])
        return history_in(pipeline, found if isinstance(found, bytes) else took, self.corrupt)

    def histories(self) -> Sequence[str]:
        """The pipelines of which there is a history, the one that ran last first."""
        (found,) = self._calls([("ZREVRANGE", self._keys.histories, 0, PIPELINES_KEPT - 1)])
        return [name.decode("utf-8", "replace") for name in found if type(name) is bytes] if type(found) is list else []

    def changes(self, mark: str | None, seen: Mapping[str, Seen | None], pause: Pause) -> Changes:
        """Waits for news; see `Store.changes`. `pause` is looked at every `beat` seconds, or when it is called anew."""
        if mark is None:
            return Changes(self.watcher.begin(), (), (), ())
        self.write_ends_again()
        return self.watcher.changes(mark, seen, pause)


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else text
