"""Lists of sessions in Redis: pages by the index of `redis.index_lua`, or, until that is complete, by looking at all.

A store that an older version has written is taken in by those who ask for lists: each goes on for a short while where
the others have stopped, a slice of some sessions at a time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, final

from redis.exceptions import ResponseError

from ...errors import CorruptEntryError, StoreError
from ..base import Page, Query, Stored
from ..decoding import CorruptEntries, decode_cursor, decode_id, encode_cursor, has_labels, label_text
from ..places import LOOKED_AT, PLACES, dimensions, places_of
from .keys import session_keys
from .reads import Read, Reads, epoch
from .scripts import LIST, PAGE, TAKE_IN, Command, Steps

if TYPE_CHECKING:
    from .calls import Calls
    from .keys import Keys

SETTLED: Final = 500
"""Sessions of which one look settles where they stand, if that is due; Redis does nothing else meanwhile."""

SLICE: Final = 200
"""Sessions of an older version that one call takes in."""

TAKES_IN: Final = 0.25
"""Seconds that one list takes in what there is of an older version, at most."""

OLDER_FOR: Final = 3600.0
"""Seconds that processes of an older version are reckoned with, since something of them was seen."""

OLDER_EVERY: Final = 20.0
"""Seconds between two times that all sessions are gone through, while they are."""

Found = tuple[bool, str, str, list[tuple[str, int | None]]]
"""Whether this part of the list is the last one, where it ends (score and id), and its sessions with their epochs."""


@final
class Lists:
    """Lists by blocking calls. Safe to be used by several threads."""

    def __init__(self, calls: Calls, keys: Keys, reads: Reads, corrupt: CorruptEntries) -> None:
        self._calls = calls
        self._base = keys.base
        self._index = keys.index
        self._reads = reads
        self._corrupt = corrupt
        self._look_for_older = float("-inf")

    def begin(self) -> None:
        """Has the index of a store that is empty complete from its beginning; of another one, a slice is taken in."""
        self._take_in_slice()

    def page(self, query: Query) -> Page:
        """The newest entries of the sessions that `query` names; what cannot be read is left out."""
        score = last = ""
        if query.after is not None:
            queued_at, last = decode_cursor(query.after)
            score = repr(queued_at)
        if query.filtered and (found := self._by_index(query, score, last)) is not None:
            return self._read(query, found, [], [])
        sessions: list[Stored] = []
        known: list[str] = []
        while True:
            found = self._look(query, score, last, query.limit - len(sessions) - len(known))
            page = self._read(query, found, sessions, known)
            if page.next is None or len(sessions) + len(known) >= query.limit:
                return page
            _, score, last, _ = found

    def _read(self, query: Query, found: Found, sessions: list[Stored], known: list[str]) -> Page:
        """Reads the sessions of a part of a list, but for those that are known, behind those of the parts before."""
        ended, score, last, listed = found
        unknown = [session for session, at in listed if at is None or query.known.get(session) != at]
        labels = {} if all(at is not None for _, at in listed) else query.labels
        replies = self._calls.run([self._steps(session, labels) for session in unknown])
        read = dict(zip(unknown, replies, strict=True))
        for session, _ in listed:
            reply = read.get(session)
            if session not in read:
                known.append(session)
            elif isinstance(reply, CorruptEntryError):
                self._corrupt.pass_over(session, reply)
            elif reply is not None and query.known.get(session) == reply.stored.key.epoch:
                known.append(session)
            elif reply is not None:
                sessions.append(reply.stored)
        return Page(sessions, None if ended else encode_cursor(float(score), last), known)

    def _steps(self, session: str, labels: Mapping[str, str]) -> Steps[Read | CorruptEntryError | None]:
        """Reads one session, if it has the labels: what was found has them somewhere in the text of its labels."""
        if labels:
            (reply,) = yield [("HGET", session_keys(self._base, session).meta, "l")]
            try:
                if not has_labels(reply, labels):
                    return None
            except CorruptEntryError as error:
                return error
        return (yield from self._reads.steps(session, events=False))

    def _ids(self, given: list[Any]) -> list[str]:
        ids: list[str] = []
        for each in given:
            try:
                ids.append(decode_id(each))
            except CorruptEntryError as error:
                self._corrupt.pass_over(each, error)
        return ids

    # By the index

    def _by_index(self, query: Query, score: str, last: str) -> Found | None:
        """A page, or, of several dimensions, as much as one call looks at; None where the index is not complete yet."""
        places = places_of(query)
        asked = [escaped(each) for each in dimensions(query.pipeline, query.labels)]
        command: Command = (PAGE, 0, self._base, query.limit, LOOKED_AT, SETTLED, milliseconds(OLDER_FOR), score, last)
        while True:
            reply = self._reply((*command, int(query.lapsed), len(places), *places, *asked))
            match reply:
                case [b"page", int(older), bytes(score_behind), bytes(behind), list(found)]:
                    if older and time.monotonic() >= self._look_for_older:
                        self._take_in()
                    pairs = list(zip(found[::2], found[1::2], strict=True))
                    listed: list[tuple[str, int | None]] = [
                        (session, epoch(at)) for one, at in pairs for session in self._ids([one])
                    ]
                    ended = score_behind == b""
                    return ended, score_behind.decode(), behind.decode("utf-8", "surrogateescape"), listed
                case [b"more"]:
                    continue  # So many leases have lapsed, or been renewed, since somebody has listed.
                case [b"incomplete"]:
                    if not self._take_in():
                        return None
                case _:
                    raise self._unreadable(reply)

    def _take_in(self) -> bool:
        """Goes through all sessions for what an older version has written, for a short while; whether it is done."""
        until = time.monotonic() + TAKES_IN
        while (reply := self._take_in_slice()) == [b"more"]:
            if time.monotonic() >= until:
                return False
        self._look_for_older = time.monotonic() + OLDER_EVERY
        return bool(reply == [b"done"])  # Or Redis is full, and takes no more now.

    def _take_in_slice(self) -> Any:
        return self._reply(take_in_slice(self._base))

    def _reply(self, command: Command) -> Any:
        (reply,) = self._calls([command])
        if isinstance(reply, ResponseError):
            raise self._unreadable(reply)
        return reply

    def _unreadable(self, reply: object) -> StoreError:
        return StoreError(f"store {self._calls.address}: its list of sessions cannot be read: {reply!r:.200}")

    # Without it

    def _look(self, query: Query, score: str, last: str, wanted: int) -> Found:
        """One part of the list of all sessions, with those that fit."""
        places = places_of(query)
        where = [-1] if len(places) == len(PLACES) else [len(places), *places]
        labels = [label_text(name, value) for name, value in query.labels.items()]
        command: Command = (LIST, 1, self._index, self._base, score, last, LOOKED_AT, wanted, int(query.lapsed))
        reply = self._reply((*command, query.pipeline or "", *where, *labels))
        if not isinstance(reply, list) or len(reply) != 4:
            raise self._unreadable(reply)
        ids = [(session, None) for session in self._ids(reply[3])]
        return reply[0] == 1, reply[1].decode(), reply[2].decode("utf-8", "surrogateescape"), list(ids)


def escaped(dimension: str) -> str:
    """A dimension as Redis keeps it: rows of the index are separated by NUL."""
    return dimension.replace("\1", "\1\2").replace("\0", "\1\1")


def take_in_slice(base: str) -> Command:
    """Has a slice of what an older version has written taken in."""
    return (TAKE_IN, 0, base, SLICE, milliseconds(OLDER_FOR), milliseconds(OLDER_EVERY))


def milliseconds(seconds: float) -> int:
    """Whole ones."""
    return int(seconds * 1000)
