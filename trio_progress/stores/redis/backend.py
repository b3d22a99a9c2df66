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

Redis 6.2 or newer, or Valkey. One server, with or without replicas and Sentinel (see `redis.sentinel`), is one
partition; a Cluster has several (see `redis.partitions`), and which node has which only `redis.nodes` knows.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, final

import redis
from redis.exceptions import ResponseError

from ...errors import CorruptEntryError, StoreError
from ...state.history import PIPELINES_KEPT, PipelineHistory
from ...state.quantities import whole
from ...telemetry.logs import Throttle, log_event
from ..base import Append, Changes, Claim, Claimed, Delete, Done, Outcome, Page, Pause, Query, Seen, Stored, Write
from ..decoding import CorruptEntries
from ..taking import Release, Take
from .agreement import agree
from .answers import UnansweredError, some_answered
from .calls import ADVICE, Calls
from .ends import AT_ONCE, Ends
from .keys import DEFAULT_PREFIX, Keys, keys_of
from .listing import Lists
from .nodes import Nodes
from .partitions import MOST_PARTITIONS, slot_of
from .queues import Queues
from .reads import Reads, history_in
from .scripts import PROBE, Steps
from .server import Server
from .watch import Watcher
from .watching import Watching
from .writes import Writer

UNWRITABLE: Final = {b"OOM": ADVICE["OOM"], b"MISCONF": ADVICE["MISCONF"]}
"""What the probe says of a Redis that can be read, and not written, with what to say of that."""

BEAT: Final = 1.0
"""Seconds between two looks at the leases of what is watched."""


class Opened(NamedTuple):
    """What works on the keys of a store, once it is known how many partitions it has."""

    keys: Sequence[Keys]
    reads: Mapping[Keys, Reads]
    watchers: Mapping[Keys, Watcher]
    writers: Mapping[Keys, Writer]
    lists: Lists
    watcher: Watching
    queues: Queues | None
    """Hands out what stands in several partitions."""


@final
class RedisBackend:
    """Sessions in Redis, by calls that block. Safe to be called by several threads, and after a fork.

    Args:
        store, prefix, event_limit, timeout, wait_replicas, partitions: See `RedisStore`. redis-py's own options may
            follow in the URL, as `&name=value`; a client is asked how it connects, and otherwise left alone.
        beat: Seconds between two looks at the leases of what is watched, above 0.

    Raises:
        ValueError, TypeError: A value is out of range.
    """

    hands_out: Final = True

    def __init__(
        self,
        store: str | redis.Redis | redis.RedisCluster,
        *,
        prefix: str | None = None,
        event_limit: int = 1000,
        timeout: float = 1.0,
        beat: float = BEAT,
        wait_replicas: int | None = None,
        partitions: int | None = None,
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
            if partitions is None and "partitions" in ours:
                partitions = whole("partitions of the URL", _number(ours["partitions"]))
        else:
            given = DEFAULT_PREFIX if prefix is None else prefix
            server = Server.of_client(store, given)
        wait_replicas = 0 if wait_replicas is None else whole("wait_replicas", wait_replicas, least=0)
        most = MOST_PARTITIONS if server.seeds else 1
        if partitions is not None and whole("partitions", partitions) > most:
            why = "" if server.seeds else ": only a store in a Cluster has more than one"
            raise ValueError(f"partitions must be 1 to {most}, not {partitions}{why}")
        self._prefix = given
        self._calls = Nodes(server, timeout) if server.seeds else Calls(server, timeout)
        self._waits = (
            Nodes(server, beat + timeout, self._calls.topology)
            if isinstance(self._calls, Nodes)
            else Calls(server, beat + timeout)
        )
        self.corrupt: Final = CorruptEntries(server.address)
        self.address: Final = server.address
        """The URL without user, password and options; the same in every process that names the host alike."""
        self._options = event_limit, beat, timeout
        self._ends = Ends(server.address)
        self._next_look = float("-inf")
        """When they may be looked after."""
        self._seen = (0, 0)
        """How often something was broken, and how many failovers there were, when ends were looked after."""
        self._writing = threading.Lock()
        self._wait_replicas = wait_replicas
        self.unreplicated = 0
        """Writes that too few replicas had in time; each is tried again."""
        self._throttle = Throttle()
        self._asked_partitions = partitions
        self._opened: Opened | None = None if server.seeds else self._open(1)

    def _parts(self) -> Opened:
        """What works on the keys.

        Raises:
            StoreError: It is not known how many partitions there are, for the store does not answer.
        """
        opened = self._opened
        if opened is None:
            assert isinstance(self._calls, Nodes)
            partitions = agree(self._calls, self._prefix, self._asked_partitions)
            with self._writing:
                opened = self._opened = self._opened or self._open(partitions)
                self._calls.topology.slots = [slot_of(keys.base) for keys in opened.keys]
        return opened

    def _open(self, partitions: int) -> Opened:
        event_limit, beat, timeout = self._options
        keys = keys_of(self._prefix, partitions)
        reads = {each: Reads(self._calls, each, event_limit, self.corrupt) for each in keys}
        watchers = {each: Watcher(self._calls, each, reads[each], beat, self.corrupt) for each in keys}
        writers = {each: Writer(each, event_limit, self.corrupt, watchers[each].is_watched) for each in keys}
        owns = {watchers[each]: writers[each].owned for each in keys}
        return Opened(
            keys,
            reads,
            watchers,
            writers,
            Lists(self._calls, reads, self.corrupt),
            Watching(self._calls, self._waits, owns, beat, timeout),
            Queues(self._calls, keys) if len(keys) > 1 else None,
        )

    @property
    def looked_at(self) -> float:
        """When it was last known, by `time.monotonic()`, what news there was."""
        return float("-inf") if self._opened is None else self._opened.watcher.looked_at

    @property
    def partitions_down(self) -> Sequence[int]:
        """The partitions of a Cluster whose node did not answer the last time; of one Redis this says nothing."""
        return self._calls.topology.partitions_down if isinstance(self._calls, Nodes) else ()

    @property
    def watcher(self) -> Watching:
        """Waits for news.

        Raises:
            StoreError: The store has not answered yet.
        """
        return self._parts().watcher

    def open(self) -> None:
        """Connects, and sees that Redis is new enough and can be written.

        A node of a Cluster that does not answer keeps nobody from what the others have, and a Redis that has no
        room nobody from reading: who comes to see what fills it, or is begun again meanwhile.
        """
        opened = self._parts()
        probed, _ = self._calls.run_replicated([_probe(keys.probe) for keys in opened.keys], 0)
        for reply in itertools.chain.from_iterable(some_answered(probed)):
            if isinstance(reply, ResponseError):
                raise StoreError(
                    f"store {self.address}: it refuses what is needed; use Redis 6.2 or newer, or Valkey: {reply}"
                )
            if (why := _unwritable(reply)) is not None:
                text = "store %s can be read, and not be written: %s"
                log_event(
                    logging.WARNING, "store_unwritable", text, self.address, why, reason=why, throttle=self._throttle
                )
        opened.lists.begin()
        opened.watcher.begin()

    def close(self) -> None:
        """Closes all connections; later calls raise `StoreError`."""
        self._calls.close()
        self._waits.close()
        if self._opened is not None:
            self._opened.watcher.close()

    def commit(self, batch: Sequence[Write]) -> Sequence[Outcome]:
        """Makes the writes, with an outcome for each; where it raises, any of them may have been made."""
        opened = self._opened or self._parts()
        for write in batch:
            if isinstance(write, Take):
                opened.watcher.listen(write.id)
            elif isinstance(write, Release) and write.leaves:
                opened.watcher.stop_listening(write.id)
        # The writes of one session are made one after the other, and beside those of all others.
        by_session: dict[str, list[int]] = {}
        of_all: list[int] = []
        for place, write in enumerate(batch):
            if opened.queues is not None and isinstance(write, (Take, Release)):
                of_all.append(place)
            else:
                by_session.setdefault(write.id, []).append(place)
        home, many = opened.keys[0], len(opened.keys) > 1
        with self._writing:
            steps = []
            for session, places in by_session.items():
                keys = home.of(session) if many else home
                written = opened.writers[keys].steps([batch[place] for place in places])
                watcher = opened.watchers[keys]
                steps.append(written if watcher.began is not None else watcher.begun(written))
            waited = self._wait_replicas if any(isinstance(write, (Claim, Append)) for write in batch) else 0
            found, had = self._calls.run_replicated(steps, waited)
            outcomes = {place: _queued(opened.queues, batch[place]) for place in of_all}
        if found and all(isinstance(each, UnansweredError) for each in found) and self._calls.is_down:
            raise StoreError(str(found[0]))
        for places, given in zip(by_session.values(), found, strict=True):
            each = [given] * len(places) if isinstance(given, UnansweredError) else given
            outcomes.update(zip(places, each, strict=True))
        answer = [outcomes[place] for place in range(len(batch))]
        for places, number in zip(by_session.values(), had, strict=True):
            if number < waited:
                for place in places:
                    answer[place] = self._unreplicated(batch[place], answer[place], number)
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
        if broken == self._seen[0] or time.monotonic() < self._next_look:
            return
        with self._writing:
            ends = self._ends.kept()
        if ends:
            self._calls.look_up()
        failovers = self._calls.failovers
        opened = self._parts()
        failed = False
        for begin in range(0, len(ends), AT_ONCE):
            with self._writing:
                steps = []
                for end in ends[begin : begin + AT_ONCE]:
                    keys = opened.keys[0].of(end.id)
                    reads, writer = opened.reads[keys], opened.writers[keys]
                    steps.append(self._ends.steps(end, reads, writer, failovers != self._seen[1]))
                results, _ = self._calls.run_replicated(steps, 0)
            failed = failed or any(isinstance(result, UnansweredError) for result in results)
        if failed:  # The node that has some of them does not answer yet.
            self._next_look = time.monotonic() + BEAT
        else:
            self._seen = (broken, failovers)

    def read(self, session_id: str) -> Stored | None:
        """The newest entry of a session, with its events."""
        opened = self._parts()
        try:
            return opened.reads[opened.keys[0].of(session_id)].one(session_id)
        except CorruptEntryError as error:
            raise self.corrupt.refuse(session_id, error) from None

    def list(self, query: Query) -> Page:
        """The newest entries of the sessions that `query` names; what cannot be read is left out."""
        return self._parts().lists.page(query)

    def history(self, pipeline: str) -> PipelineHistory | None:
        """What earlier runs of a pipeline have taught."""
        keys = self._parts().keys[0].of(pipeline)
        found, took = self._calls([("GET", keys.history(pipeline)), ("HGETALL", keys.durations(pipeline))])
        return history_in(pipeline, found if isinstance(found, bytes) else took, self.corrupt)

    def histories(self) -> Sequence[str]:
        """The pipelines of which there is a history, the one that ran last first."""
        opened = self._parts()
        replies = self._calls(
            [("ZREVRANGE", keys.histories, 0, PIPELINES_KEPT - 1, "WITHSCORES") for keys in opened.keys]
        )
        found = [pair for reply in replies if type(reply) is list for pair in zip(reply[::2], reply[1::2], strict=True)]
        found.sort(key=lambda pair: -float(pair[1]))
        return [name.decode("utf-8", "replace") for name, _ in found[:PIPELINES_KEPT]]

    def changes(self, mark: str | None, seen: Mapping[str, Seen | None], pause: Pause) -> Changes:
        """Waits for news; see `Store.changes`. `pause` is looked at every `beat` seconds, or when it is called anew."""
        watcher = self._parts().watcher
        if mark is None:
            return Changes(watcher.begin(), (), (), ())
        self.write_ends_again()
        return watcher.changes(mark, seen, pause)


def _probe(name: str) -> Steps[list[Any]]:
    """The replies to what needs a Redis that is new enough, by a key that nobody uses."""
    replies: list[Any] = yield [(PROBE, 1, name)]
    if _unwritable(replies[0]) is not None:
        return replies
    newer = yield [
        ("DEL", name),
        ("XADD", name, "NOMKSTREAM", "MINID", "~", "1-1", "1-1", "x", ""),
        ("XRANGE", name, "(1-1", "+", "COUNT", 1),
    ]
    return [*replies, *newer]


def _unwritable(reply: object) -> str | None:
    """Why what was probed cannot be written; None where it can, or can do nothing."""
    return UNWRITABLE.get(reply) if isinstance(reply, bytes) else None


def _queued(queues: Queues | None, write: Write) -> Outcome:
    """The outcome of taking from all partitions, or of giving back."""
    assert queues is not None
    try:
        if isinstance(write, Take):
            return queues.take(write)
        assert isinstance(write, Release)
        queues.release(write)
    except (CorruptEntryError, ResponseError, UnansweredError) as error:
        return StoreError(f"the store cannot hand out sessions to {write.id!r}: {error}")
    return Done()


def _number(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else text
