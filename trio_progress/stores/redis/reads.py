"""Reading sessions from Redis: what one call finds of a session is of one moment, for a script reads it.

Replies are decoded strictly, see `stores.decoding`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, final

from redis.exceptions import ResponseError

from ...errors import CorruptEntryError
from ...state.history import PipelineHistory, history_of_seconds
from ...state.limits import MAX_UNITS
from ..base import Ask, Key, Stored
from ..decoding import (
    LARGEST_RECORD,
    LATEST,
    CorruptEntries,
    decode_ask,
    decode_seconds,
    decoded_history,
)
from .calls import Calls
from .keys import Keys, session_keys
from .scripts import READ, Steps

_KEY: Final = re.compile(rb"([0-9]{1,16})-([0-9]{1,16})")

Event = tuple[int, bytes]
"""The number of an event, and its data."""


class Read(NamedTuple):
    """One session, its events with their numbers, and what was wrong with those that are left out."""

    stored: Stored
    events: Sequence[Event]
    wrong: str | None


@final
class Reads:
    """Reads by blocking calls. Safe to be used by several threads."""

    def __init__(self, calls: Calls, keys: Keys, event_limit: int, corrupt: CorruptEntries) -> None:
        self._calls = calls
        self._base = keys.base
        self._event_limit = event_limit
        self._corrupt = corrupt

    def one(self, session: str) -> Stored | None:
        """The newest entry of a session, with its events; raises `CorruptEntryError` where it cannot be read."""
        (reply,) = self._calls.run([self.steps(session)])
        if isinstance(reply, CorruptEntryError):
            raise reply
        return None if reply is None else reply.stored

    def steps(
        self, session: str, *, events: bool = True, known: tuple[int, Sequence[Event]] | None = None
    ) -> Steps[Read | CorruptEntryError | None]:
        """Reads one session.

        Args:
            session: Its id.
            events: Whether to read its events as well.
            known: An epoch, and the events of it that were read before, which are not read again.
        """
        keys = session_keys(self._base, session)
        limit = self._event_limit if events else 0
        before = known[1] if known is not None else ()
        while True:
            after = before[-1][0] if before else 0
            (reply,) = yield [(READ, 3, *keys[:3], keys.leases, limit, after)]
            if not before or known is None or not isinstance(reply, list) or reply[:1] == [str(known[0]).encode()]:
                break
            before = ()  # It has another epoch now.
        try:
            read = found(session, reply, before, limit)
        except CorruptEntryError as error:
            return error
        if read is not None and read.wrong is not None:
            self._corrupt.pass_over(session, read.wrong)
        return read


# Decoding: each raises `CorruptEntryError` where something is not what it should be.


def key(value: object) -> Key:
    """The key that the id of an entry is."""
    match = _KEY.fullmatch(value) if type(value) is bytes else None
    if match is None:
        raise CorruptEntryError(f"its entry's id is {value!r:.100}")
    found = Key(int(match[1]), int(match[2]))
    if max(found) >= MAX_UNITS:
        raise CorruptEntryError(f"its entry's id is {value!r:.100}")
    return found


def epoch(value: object) -> int:
    """An epoch as it stands in a hash or a reply."""
    if type(value) is bytes and value.isdigit() and len(value) <= 16 and int(value) < MAX_UNITS:
        return int(value)
    raise CorruptEntryError(f"its epoch is {value!r:.100}")


def stamp(what: str, value: object) -> float | None:
    """Seconds since 1970; None for an empty value."""
    if value is None or value == b"":
        return None
    try:
        seconds = float(value) if type(value) is bytes and len(value) <= 30 else -1.0
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LATEST:
        raise CorruptEntryError(f"its {what} is {value!r:.100}")
    return seconds


def fields(value: object) -> Mapping[bytes, bytes]:
    """The fields of an entry, which come as one list."""
    if not isinstance(value, list) or len(value) % 2 or not all(type(each) is bytes for each in value):
        raise CorruptEntryError(f"its entry has the fields {value!r:.100}")
    return dict(zip(value[::2], value[1::2], strict=True))


def entry(identity: object, given: object, *renewed: object) -> tuple[Key, bytes, float | None]:
    """The key of a state, its record, and its newest heartbeat: of that moment, or `renewed` since."""
    at = key(identity)
    of = fields(given)
    record = of.get(b"d")
    if record is None or len(record) > LARGEST_RECORD:
        raise CorruptEntryError(
            "it has no record" if record is None else "its record is longer than any that is written"
        )
    beats = [stamp("heartbeat", beat) for beat in (of.get(b"h"), *renewed)]
    return at, record, max((beat for beat in beats if beat is not None), default=None)


def found(session: str, reply: object, known: Sequence[Event] = (), limit: int = 0) -> Read | None:
    """What READ has found; None: no session.

    Args:
        session: Its id.
        reply: The script's reply, with the events behind the `known` ones.
        known: Events that were read before.
        limit: Events to return, the newest; 0: all.
    """
    if reply is None:
        return None
    if isinstance(reply, ResponseError):
        raise CorruptEntryError(f"its keys cannot be read: {reply}")
    if not isinstance(reply, list) or len(reply) != 6:
        raise CorruptEntryError(f"Redis answered {reply!r:.100}")
    at, record, beat = entry(*reply[1:5])
    if reply[0] != str(at.epoch).encode():
        raise CorruptEntryError(f"its epoch is {reply[0]!r:.100}, its newest entry is of {at.epoch}")
    events, wrong = events_of(at.epoch, reply[5], known)
    events = events[-limit:]
    data = tuple(data for _, data in events)
    return Read(Stored(session, at, record, reply[3] is not None, beat, data), events, wrong)


def events_of(of: int, entries: object, known: Sequence[Event]) -> tuple[Sequence[Event], str | None]:
    """The events in entries that come newest first, behind those that are known; and what is wrong with others.

    A log of events has no holes, for its readers count from its end: what stands before a hole is left out.
    """
    events = list(known)
    upto = known[-1][0] if known else 0
    wrong = None
    for each in reversed(entries if isinstance(entries, list) else []):
        try:
            if not isinstance(each, list) or len(each) != 2:
                raise CorruptEntryError(f"an entry of its events is {each!r:.100}")
            if key(each[0]).epoch != of:
                continue
            given = each[1]
            if not isinstance(given, list) or len(given) % 2:
                raise CorruptEntryError(f"an entry of its events has the fields {given!r:.100}")
            for number, data in zip(given[::2], given[1::2], strict=True):
                n = epoch(number)
                if type(data) is not bytes or len(data) > LARGEST_RECORD:
                    raise CorruptEntryError(f"its event {n} is {data!r:.100}")
                if n == 0 or (events and n <= events[-1][0]):
                    continue  # The mark that a claim makes, or one that was sent again.
                if events and n != events[-1][0] + 1:
                    if events[-1][0] != upto:  # Right behind those that are known it is the limit that took them.
                        wrong = f"its events before {n} are missing"
                    events.clear()
                events.append((n, data))
        except CorruptEntryError as error:
            wrong = str(error)
    return events, wrong


def history_in(pipeline: str | None, reply: object, corrupt: CorruptEntries) -> PipelineHistory | None:
    """What earlier runs have taught: the JSON of it, or the hash that older versions kept."""
    if pipeline is None:
        return None
    if isinstance(reply, bytes):
        return decoded_history(pipeline, reply, corrupt)
    values = reply if isinstance(reply, list) else []
    return history_of_seconds(decode_seconds(zip(values[::2], values[1::2], strict=False)))


def ask(given: object) -> Ask:
    """A request to an owner, from the fields of its entry."""
    of = fields(given)
    return decode_ask(of.get(b"i"), of.get(b"a"), of.get(b"r"))
