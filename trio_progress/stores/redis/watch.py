"""What is waited for in one partition, and what news there is when something has come.

1. One XREAD waits for new states of all watched sessions, for requests to owners, for word of what is watched, for
   the bells of those here who wait for a session to run, and for a stream of this process alone. It goes on from
   explicit ids: what was written while nobody read is read next. What it returns of a session is used, where it
   leads on from what is known; see `redis.reads`.
2. It wakes at least every `beat` seconds, which is also how soon a connection that has died is noticed. Then
   leases are looked at: a heartbeat, one that has lapsed and a session that is gone make no entry.
3. A stream that cannot be read is passed over, and looked at again at the next beat; the others go on.

Who makes the calls that wait is `redis.watching`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar, final

from redis.exceptions import ResponseError

from ...errors import CorruptEntryError, StoreError
from ...state.checks import new_id
from ..base import Ask, Seen, Stored
from ..decoding import CorruptEntries, decode_id
from ..taking import TAKE
from .answers import UnansweredError
from .keys import Keys, session_keys
from .reads import Entries, Followed, Read, Reads, ask, fields, stamp

if TYPE_CHECKING:
    from .calls import RoundTrips
    from .scripts import Command, Steps

T = TypeVar("T")

ENTRIES: Final = 8
"""States of one session that are read at once; more follow in the next call."""

READ_AT_ONCE: Final = 1000
"""Requests that are read at once; more follow in the next call."""

WORD_HOLDS: Final = 12.0
"""Seconds after which word that a session is watched is out of date."""

CHECK: Final = 5.0
"""Seconds between two looks whether the streams of requests still go on from where they were."""

_START: Final = "0-0"

Since: TypeAlias = dict[str, str]
"""The entries that reading goes on from: in the stream of requests, and in that of words."""


class Streams(NamedTuple):
    """What is read."""

    names: Sequence[str]
    ids: Sequence[str]
    """The entry of each that reading goes on behind."""

    def command(self, block: float) -> Command:
        """Reads them; waits so many seconds for something new, or not at all."""
        wait = ("BLOCK", max(int(block * 1000), 1)) if block else ()
        return ("XREAD", "COUNT", ENTRIES, *wait, "STREAMS", *self.names, *self.ids)


@final
class Watcher:
    """Watches one partition. Used by one thread at a time, but for who listens and what is watched.

    Args:
        calls: For short calls.
        keys: Of the partition.
        reads: Reads its sessions.
        beat: Seconds between two looks at what has no stream.
    """

    def __init__(self, calls: RoundTrips[Any], keys: Keys, reads: Reads, beat: float, corrupt: CorruptEntries) -> None:
        self._calls = calls
        self._keys = keys
        self._beat = beat
        self._corrupt = corrupt
        self._bell = keys.bell(new_id())
        self._rung = _START
        self._awaited: dict[bytes, str] = {}
        """The sessions whose streams were asked for last."""
        self._looked: dict[str, float] = {}
        """When the lease of a session was looked at last."""
        self._past: dict[str, tuple[Seen | None, str]] = {}
        """Entries that were read and are no news to a caller who knows what stands before them."""
        self.taking: dict[str, str] = {}
        """Who may be asked to take here, by the names that the store knows, and the entry that was read last."""
        self._spoiled: dict[str, float] = {}
        """Sessions whose stream cannot be read, and when that was seen."""
        self._followed = Followed(keys.base, reads)
        self._watched: dict[str, float] = {}
        """When it was said last that a session is watched."""
        self._checked = 0.0
        self._lock = threading.Lock()
        self.began: str | None = None

    def begin(self) -> Steps[str]:
        """The mark of when this was first done: what was asked of owners in this partition since then is not missed.

        Raises:
            StoreError: Redis did not answer.
        """
        began = self.began
        if began is None:
            replies = yield [_newest_of(self._keys.asks), _newest_of(self._keys.words)]
            mark = " ".join(reply[0][0].decode() if _newest(reply) else _START for reply in replies)
            with self._lock:
                began = self.began = self.began or mark
        return began

    def begun(self, steps: Steps[T]) -> Steps[T]:
        """What makes somebody an owner here is done once nothing is missed that owners are asked."""
        yield from self.begin()
        return (yield from steps)

    def since(self, mark: str) -> Since:
        """The entries that a mark says.

        Raises:
            ValueError: It is no mark.
        """
        since = dict(zip((self._keys.asks, self._keys.words), mark.split(" "), strict=True))
        for entry in since.values():
            _place(entry)
        return since

    def is_watched(self, session: str) -> bool:
        """Whether somebody has said lately that a session is watched."""
        return time.monotonic() - self._watched.get(session, float("-inf")) < WORD_HOLDS

    def ring(self) -> Steps[None]:
        """Ends the read that waits."""
        replies = yield [("XADD", self._bell, "MAXLEN", 1, "*", "x", ""), ("PEXPIRE", self._bell, 60_000)]
        if isinstance(replies[0], bytes):
            self._rung = replies[0].decode()

    def keep(self, seen: Mapping[str, Seen | None]) -> None:
        """Forgets all that was known of other sessions."""
        self._followed.keep(seen.keys())
        for known in (self._looked, self._past, self._spoiled):
            for session in [session for session in known if session not in seen]:
                del known[session]

    # Streams

    def streams(self, since: Since, seen: Mapping[str, Seen | None]) -> Streams:
        """What is waited for."""
        names = [*since, self._bell]
        ids = [*since.values(), self._rung]
        for process, entry in list(self.taking.items()):
            names.append(self._keys.taking(process))
            ids.append(entry)
        self._awaited = {}
        for session, known in seen.items():
            if session not in self._spoiled:
                names.append(session_keys(self._keys.base, session).stream)
                ids.append(self._after(session, known))
                self._awaited[names[-1].encode()] = session
        return Streams(names, ids)

    def take_in(
        self, reply: Any, since: Since, seen: Mapping[str, Seen | None]
    ) -> tuple[list[Stored], list[str], list[Ask]]:
        """The sessions that have changed, those that are gone, and what was asked of owners.

        Args:
            reply: What reading the streams was answered.
            since: Where reading went on from, and will.
            seen: What is known of the sessions.

        Raises:
            StoreError: Redis did not answer.
        """
        woken: dict[str, Entries] = {}
        asked: list[Ask] = []
        if isinstance(reply, ResponseError):
            self._spoil(self._awaited.values(), reply)
            reply = ()
        keys = self._keys
        taking = {keys.taking(process).encode(): process for process in list(self.taking)}
        for name, entries in reply or ():
            if name in self._awaited:
                woken[self._awaited[name]] = entries
            elif name in taking:
                if taking[name] in self.taking:
                    self.taking[taking[name]] = entries[-1][0].decode()
                asked.append(Ask(taking[name], TAKE))
            elif name == keys.asks.encode():
                asked += self._asked(since)
            elif name == keys.words.encode():
                asked += self._words(since)
            elif name == self._bell.encode() and entries:
                self._rung = entries[-1][0].decode()
        sessions, gone = self._look(woken, since, seen)
        return sessions, gone, asked

    def _after(self, session: str, known: Seen | None) -> str:
        """The entry that reading a stream goes on from."""
        past = self._past.get(session)
        if past is not None and past[0] == known:
            return past[1]
        return _START if known is None else f"{known.key.epoch}-{known.key.seq}"

    def _spoil(self, sessions: Iterable[str], error: ResponseError) -> None:
        """Finds the streams for which reading all of them has failed."""
        tried = list(sessions)
        replies = self._calls(
            [("XREVRANGE", session_keys(self._keys.base, session).stream, "+", "-", "COUNT", 1) for session in tried]
        )
        found = False
        for session, reply in zip(tried, replies, strict=True):
            if isinstance(reply, ResponseError):
                found = True
                self._spoiled[session] = time.monotonic()
                self._corrupt.pass_over(session, f"its states cannot be read: {reply}")
        if not found:
            raise StoreError(f"store {self._calls.address}: waiting for news failed: {error}") from error

    def _entries(self, name: str, since: Since) -> list[tuple[str, Any]]:
        """What is new in a stream; the next reading goes on behind it."""
        (reply,) = self._calls([("XRANGE", name, f"({since[name]}", "+", "COUNT", READ_AT_ONCE)])
        if isinstance(reply, ResponseError):
            raise StoreError(f"store {self._calls.address}: {name} cannot be read: {reply}") from reply
        entries = [(each[0].decode(), each[1]) for each in reply]
        if entries:
            since[name] = entries[-1][0]
        return entries

    def _asked(self, since: Since) -> list[Ask]:
        asked: list[Ask] = []
        for _, given in self._entries(self._keys.asks, since):
            try:
                asked.append(ask(given))
            except CorruptEntryError as error:
                self._corrupt.pass_over("?", f"a request: {error}")
        return asked

    def _words(self, since: Since) -> list[Ask]:
        """Who is said to be watched; what was said long before the last is out of date."""
        watched: dict[str, None] = {}
        for identity, given in self._entries(self._keys.words, since):
            if _place(since[self._keys.words])[0] - _place(identity)[0] > WORD_HOLDS * 1000:
                continue
            try:
                watched[decode_id(fields(given).get(b"i"))] = None
            except CorruptEntryError as error:
                self._corrupt.pass_over("?", f"word of what is watched: {error}")
        now = time.monotonic()
        for session in [session for session, said in self._watched.items() if now - said >= WORD_HOLDS]:
            del self._watched[session]
        self._watched.update(dict.fromkeys(watched, now))
        return [Ask(session, "watch") for session in watched]

    # Leases, heartbeats, and sessions that are gone

    def _look(
        self, woken: Mapping[str, Entries], since: Since, seen: Mapping[str, Seen | None]
    ) -> tuple[list[Stored], list[str]]:
        """Reads the sessions that have news, or may have."""
        suspects = list(woken) + [session for session in self._changed(since, seen) if session not in woken]
        if not suspects:
            return [], []
        sessions: list[Stored] = []
        gone: list[str] = []
        replies, _ = self._calls.run_replicated([self._followed.steps(one, woken.get(one, ())) for one in suspects], 0)
        for session, reply in zip(suspects, replies, strict=True):
            known = seen[session]
            if isinstance(reply, UnansweredError):
                raise reply
            if isinstance(reply, Read):
                stored = reply.stored
                if Seen(stored.key, stored.heartbeat, stored.alive) == known:
                    self._past[session] = (known, f"{stored.key.epoch}-{stored.key.seq}")
                else:
                    sessions.append(stored)
            elif reply is None and known is not None:
                gone.append(session)
            else:
                if isinstance(reply, CorruptEntryError):
                    self._corrupt.pass_over(session, reply)
                self._pass(session, known)
        return sessions, gone

    def _pass(self, session: str, known: Seen | None) -> None:
        """Goes on behind what cannot be read."""
        (reply,) = self._calls([_newest_of(session_keys(self._keys.base, session).stream)])
        if isinstance(reply, list) and reply:
            self._past[session] = (known, reply[0][0].decode())

    def _changed(self, since: Since, seen: Mapping[str, Seen | None]) -> list[str]:
        """Sessions that stand otherwise than they are known to; each is looked at once in a beat."""
        now = time.monotonic()
        for session in [session for session, since in self._spoiled.items() if now - since >= self._beat]:
            del self._spoiled[session]
        due = [
            (session, known)
            for session, known in seen.items()
            if known is not None and now - self._looked.get(session, -self._beat) >= self._beat
        ]
        commands: list[Command] = []
        if now - self._checked >= CHECK:
            self._checked = now
            commands += [_newest_of(name) for name in since]
        of_streams = len(commands)
        for session, known in due:
            self._looked[session] = now
            keys = session_keys(self._keys.base, session)
            commands.append(("HMGET", keys.meta, "e", "f"))
            commands.append(("GET", f"{keys.leases}{known.key.epoch}"))
        replies = self._calls(commands)
        for name, reply in zip(list(since), replies[:of_streams], strict=False):
            newest = _newest(reply)
            if newest is not None and newest < _place(since[name]):
                since[name] = _START  # Lower than where we are: Redis was begun anew, by a clock that is behind.
        pairs = zip(replies[of_streams::2], replies[of_streams + 1 :: 2], strict=True)
        return [
            session for (session, known), (meta, lease) in zip(due, pairs, strict=True) if _differs(known, meta, lease)
        ]


def _newest_of(stream: str) -> Command:
    return "XREVRANGE", stream, "+", "-", "COUNT", 1


def _newest(reply: Any) -> tuple[int, int] | None:
    """The newest entry of a stream, of which one was asked for."""
    return _place(reply[0][0].decode()) if isinstance(reply, list) and reply else None


def _place(entry: str) -> tuple[int, int]:
    """The id of an entry in a stream that Redis numbers: by milliseconds, and within one.

    Raises:
        ValueError: It is no such id.
    """
    at, _, nth = entry.partition("-")
    return int(at), int(nth)


def _differs(known: Seen, meta: Any, lease: Any) -> bool:
    """Whether a session may stand otherwise than it is known to."""
    if not isinstance(meta, list) or isinstance(lease, ResponseError) or meta[0] != str(known.key.epoch).encode():
        return True
    alive = meta[1] == b"0" and lease is not None
    try:
        return alive != known.alive or (alive and lease != b"" and stamp("lease", lease) != known.heartbeat)
    except CorruptEntryError:
        return True
