"""Lists of sessions in Redis: pages by the index of `redis.index_lua`, or, until that is complete, by looking at all.

A store that an older version has written is taken in by those who ask for lists: each goes on for a short while where
the others have stopped, a slice of some sessions at a time.

Each partition has a list of its own. They are looked at in the same round trip, and merged as far as none can have
anything that comes before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, final

from redis.exceptions import ResponseError

from ...errors import CorruptEntryError, StoreError
from ..base import Page, Query, Stored
from ..decoding import CorruptEntries, decode_cursor, decode_id, encode_cursor, has_labels, label_text
from ..places import LOOKED_AT, PLACES, dimensions, places_of
from .answers import some_answered
from .keys import session_keys
from .reads import Read, Reads, epoch
from .scripts import LIST, PAGE, TAKE_IN, Command, Steps, once

if TYPE_CHECKING:
    from .calls import RoundTrips
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


class Listed(NamedTuple):
    """A session in a list."""

    score: str
    """By which it is sorted, as Redis writes it."""
    id: str
    epoch: int | None
    """Unless that is not known."""


class Found(NamedTuple):
    """A part of a list."""

    end: Listed | None
    """What the next part goes on behind; None where this is the last one."""
    sessions: Sequence[Listed]
    by_index: bool = False


@final
class Lists:
    """Lists by blocking calls. Safe to be used by several threads.

    Args:
        partitions: The keys of each, with what reads its sessions.
    """

    def __init__(self, calls: RoundTrips[Any], partitions: Mapping[Keys, Reads], corrupt: CorruptEntries) -> None:
        self._calls = calls
        self._partitions = partitions
        self._corrupt = corrupt
        self._look_for_older = dict.fromkeys(partitions, float("-inf"))

    def begin(self) -> None:
        """Has the index of a store that is empty complete from its beginning; of another one, a slice is taken in.

        So is a partition whose node does not answer now, by the first list of it.
        """
        begun, _ = self._calls.run_replicated([once(take_in_slice(keys.base)) for keys in self._partitions], 0)
        for reply in some_answered(begun):
            if isinstance(reply, ResponseError):
                raise self._unreadable(reply)

    def page(self, query: Query) -> Page:
        """The newest entries of the sessions that `query` names; what cannot be read is left out."""
        after = None
        if query.after is not None:
            queued_at, last = decode_cursor(query.after)
            after = Listed(repr(queued_at), last, None)
        sessions: list[Stored] = []
        known: list[str] = []
        indexed = query.filtered
        while True:
            wanted = query.limit - len(sessions) - len(known)
            found = merged(self._found(query, after, wanted, indexed=indexed), wanted)
            page = self._read(query, found, sessions, known)
            if found.by_index or page.next is None or len(sessions) + len(known) >= query.limit:
                return page
            after, indexed = found.end, False

    def _found(self, query: Query, after: Listed | None, wanted: int, *, indexed: bool) -> Sequence[Found]:
        """What the list has next in each partition; one that has much to put right first is looked at again."""
        found: dict[Keys, Found | None] = dict.fromkeys(self._partitions)
        while left := [keys for keys, part in found.items() if part is None]:
            looks = [self._look(keys, query, after, wanted, indexed=indexed) for keys in left]
            found.update(zip(left, self._calls.run(looks), strict=True))
        return [part for part in found.values() if part is not None]

    def _read(self, query: Query, found: Found, sessions: list[Stored], known: list[str]) -> Page:
        """Reads the sessions of a part of a list, but for those that are known, behind those of the parts before."""
        unknown = [each.id for each in found.sessions if each.epoch is None or query.known.get(each.id) != each.epoch]
        labels = {} if found.by_index else query.labels
        replies = self._calls.run([self._steps(session, labels) for session in unknown])
        read = dict(zip(unknown, replies, strict=True))
        for _, session, _ in found.sessions:
            reply = read.get(session)
            if session not in read:
                known.append(session)
            elif isinstance(reply, CorruptEntryError):
                self._corrupt.pass_over(session, reply)
            elif reply is not None and query.known.get(session) == reply.stored.key.epoch:
                known.append(session)
            elif reply is not None:
                sessions.append(reply.stored)
        end = found.end
        return Page(sessions, None if end is None else encode_cursor(float(end.score), end.id), known)

    def _steps(self, session: str, labels: Mapping[str, str]) -> Steps[Read | CorruptEntryError | None]:
        """Reads one session, if it has the labels: what was found has them somewhere in the text of its labels."""
        keys = next(iter(self._partitions)).of(session)
        if labels:
            (reply,) = yield [("HGET", session_keys(keys.base, session).meta, "l")]
            try:
                if not has_labels(reply, labels):
                    return None
            except CorruptEntryError as error:
                return error
        return (yield from self._partitions[keys].steps(session, events=False))

    def _look(
        self, keys: Keys, query: Query, after: Listed | None, wanted: int, *, indexed: bool
    ) -> Steps[Found | None]:
        """What the list has next in one partition; None where it is to be looked at again."""
        at = ("", "") if after is None else (after.score, after.id)
        if indexed:
            found = yield from self._by_index(keys, query, at)
            if found != "incomplete":
                return found
        return (yield from self._through_all(keys, query, at, wanted))

    def _listed(self, rows: Sequence[Sequence[Any]]) -> list[Listed]:
        """Scores, ids and epochs, as far as they can be read."""
        listed: list[Listed] = []
        for score, session, at in rows:
            try:
                listed.append(Listed(score.decode(), decode_id(session), None if at is None else epoch(at)))
            except CorruptEntryError as error:
                self._corrupt.pass_over(session, error)
        return listed

    # By the index

    def _by_index(
        self, keys: Keys, query: Query, after: tuple[str, str]
    ) -> Steps[Found | Literal["incomplete"] | None]:
        """A page, or, of several dimensions, as much as one call looks at; or that the index is not complete yet."""
        places = places_of(query)
        asked = [escaped(each) for each in dimensions(query.pipeline, query.labels)]
        command: Command = (PAGE, 0, keys.base, query.limit, LOOKED_AT, SETTLED, milliseconds(OLDER_FOR), *after)
        reply = self._checked((yield [(*command, int(query.lapsed), len(places), *places, *asked)]))
        match reply:
            case [b"page", int(older), bytes(score), bytes(last), list(found)]:
                if older and time.monotonic() >= self._look_for_older[keys]:
                    yield from self._take_in(keys)
                rows = zip(found[::3], found[1::3], found[2::3], strict=True)
                return Found(_end(score, last), self._listed(list(rows)), by_index=True)
            case [b"more"]:
                return None  # So many leases have lapsed, or been renewed, since somebody has listed.
            case [b"incomplete"]:
                return None if (yield from self._take_in(keys)) else "incomplete"
        raise self._unreadable(reply)

    def _take_in(self, keys: Keys) -> Steps[bool]:
        """Goes through all sessions for what an older version has written, for a short while; whether it is done."""
        until = time.monotonic() + TAKES_IN
        while (reply := self._checked((yield [take_in_slice(keys.base)]))) == [b"more"]:
            if time.monotonic() >= until:
                return False
        self._look_for_older[keys] = time.monotonic() + OLDER_EVERY
        return bool(reply == [b"done"])  # Or Redis is full, and takes no more now.

    def _checked(self, replies: Sequence[Any]) -> Any:
        """The reply to a single command."""
        (reply,) = replies
        if isinstance(reply, ResponseError):
            raise self._unreadable(reply)
        return reply

    def _unreadable(self, reply: object) -> StoreError:
        return StoreError(f"store {self._calls.address}: its list of sessions cannot be read: {reply!r:.200}")

    # Without it

    def _through_all(self, keys: Keys, query: Query, after: tuple[str, str], wanted: int) -> Steps[Found]:
        """One part of the list of all sessions, with those that fit."""
        places = places_of(query)
        where = [-1] if len(places) == len(PLACES) else [len(places), *places]
        labels = [label_text(name, value) for name, value in query.labels.items()]
        command: Command = (LIST, 1, keys.index, keys.base, *after, LOOKED_AT, wanted, int(query.lapsed))
        reply = self._checked((yield [(*command, query.pipeline or "", *where, *labels)]))
        match reply:
            case [int(ended), bytes(score), bytes(last), list(found)]:
                rows = [(score_of, session, None) for score_of, session in zip(found[::2], found[1::2], strict=True)]
                return Found(None if ended else _end(score, last), self._listed(rows))
        raise self._unreadable(reply)


def merged(parts: Sequence[Found], wanted: int) -> Found:
    """The newest of what the partitions have, up to where one of them may have something in between.

    Args:
        parts: What the list has next in each.
        wanted: How many sessions are taken at most.
    """
    if len(parts) == 1:
        return parts[0]
    by_index = all(part.by_index for part in parts)
    edge = max((part.end for part in parts if part.end is not None), key=_place, default=None)
    listed = sorted((each for part in parts for each in part.sessions), key=_place, reverse=True)
    if edge is not None:
        listed = [each for each in listed if _place(each) >= _place(edge)]
    if len(listed) > wanted:
        listed = listed[:wanted]
        edge = listed[-1]
    return Found(edge, listed, by_index)


def _place(each: Listed) -> tuple[float, bytes]:
    """Where a session is in a list, whatever partition it is from."""
    return float(each.score), each.id.encode("utf-8", "surrogateescape")


def _end(score: bytes, last: bytes) -> Listed | None:
    return Listed(score.decode(), last.decode("utf-8", "surrogateescape"), None) if score else None


def escaped(dimension: str) -> str:
    """A dimension as Redis keeps it: rows of the index are separated by NUL."""
    return dimension.replace("\1", "\1\2").replace("\0", "\1\1")


def take_in_slice(base: str) -> Command:
    """Has a slice of what an older version has written taken in."""
    return (TAKE_IN, 0, base, SLICE, milliseconds(OLDER_FOR), milliseconds(OLDER_EVERY))


def milliseconds(seconds: float) -> int:
    """Whole ones."""
    return int(seconds * 1000)
