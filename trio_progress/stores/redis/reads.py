"""Reading sessions from Redis: what one call finds of a session is of one moment, for a script reads it.

Who watches need not read what a blocking read has returned. An entry that goes from the state that is known leads to
the next one, as does a whole one that says `l`: it came with its lease and nothing else. That costs no further call,
but for large parts, which are read by their names, and for events, which have a stream of their own. Whatever else is
found (nothing is known, a gap, an end, another epoch) the session is read.

Replies are decoded strictly, see `stores.decoding`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

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
from .keys import Keys, session_keys
from .parts import Texts, joined
from .scripts import READ, Steps

if TYPE_CHECKING:
    from .calls import RoundTrips

_KEY: Final = re.compile(rb"([0-9]{1,16})-([0-9]{1,16})")

Event = tuple[int, bytes]
"""The number of an event, and its data."""


Entries = Sequence[Any]
"""Entries of a stream as they were read: the id of each, and its fields."""


class State(NamedTuple):
    """A state as it was read."""

    key: Key
    record: bytes
    texts: Texts
    """Its parts; none where it is kept whole."""


class Read(NamedTuple):
    """One session, its events with their numbers, and what was wrong with those that are left out."""

    stored: Stored
    state: State
    events: Sequence[Event]
    wrong: str | None


@final
class Reads:
    """Reads by blocking calls. Safe to be used by several threads."""

    def __init__(self, calls: RoundTrips[Any], keys: Keys, event_limit: int, corrupt: CorruptEntries) -> None:
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
        self,
        session: str,
        *,
        events: bool = True,
        known: tuple[int, Sequence[Event]] | None = None,
        state: State | None = None,
    ) -> Steps[Read | CorruptEntryError | None]:
        """Reads one session.

        Args:
            session: Its id.
            events: Whether to read its events as well.
            known: An epoch, and the events of it that were read before, which are not read again.
            state: The state that is known; if it is the newest, it is not read again.
        """
        keys = session_keys(self._base, session)
        limit = self._event_limit if events else 0
        before = known[1] if known is not None else ()
        while True:
            after = before[-1][0] if before else 0
            stands = "" if state is None else f"{state.key.epoch}-{state.key.seq}"
            (reply,) = yield [(READ, 4, *keys[:3], keys.parts, keys.leases, limit, after, stands)]
            if not before or known is None or not isinstance(reply, list) or reply[:1] == [str(known[0]).encode()]:
                break
            before = ()  # It has another epoch now.
        try:
            read = found(session, reply, before, limit, state)
        except CorruptEntryError as error:
            return error
        if read is not None and read.wrong is not None:
            self._corrupt.pass_over(session, read.wrong)
        return read


class _Ahead(NamedTuple):
    """A state that entries have led to."""

    key: Key
    record: bytes | None
    texts: dict[bytes, bytes]
    """Its parts, where it is not whole."""
    large: Collection[bytes]
    """The names of parts that were not among them."""
    beat: bytes | None
    has_events: bool


@final
class Followed:
    """Used by one thread at a time."""

    def __init__(self, base: str, reads: Reads) -> None:
        self._base = base
        self._reads = reads
        self._known: dict[str, Read] = {}

    def keep(self, sessions: Collection[str]) -> None:
        """Forgets all others."""
        for session in [session for session in self._known if session not in sessions]:
            del self._known[session]

    def steps(self, session: str, entries: Entries) -> Steps[Read | CorruptEntryError | None]:
        """What there is of a session now, or as of the last of some entries of its stream."""
        known = self._known.get(session)
        state = None if known is None else known.state
        if known is not None and (ahead := _ahead(known.state, entries)) is not None:
            led_to = yield from self._complete(session, ahead)
            if led_to is not None and not ahead.has_events:
                beat = latest(ahead.beat, known.stored.heartbeat)
                stored = replace(known.stored, key=led_to.key, record=led_to.record, alive=True, heartbeat=beat)
                self._known[session] = read = Read(stored, led_to, known.events, None)
                return read
            state = led_to or state
        events = None if known is None else (known.stored.key.epoch, known.events)
        found = yield from self._reads.steps(session, known=events, state=state)
        if isinstance(found, Read):
            self._known[session] = found
        else:
            self._known.pop(session, None)
        return found

    def _complete(self, session: str, ahead: _Ahead) -> Steps[State | None]:
        """The state that entries have led to; None where something of it is no longer there."""
        texts = ahead.texts
        if ahead.large:
            names = list(ahead.large)
            (values,) = yield [("HMGET", session_keys(self._base, session).parts, "k", *names)]
            if isinstance(values, ResponseError) or values[0] != b"%d-%d" % ahead.key or None in values:
                return None
            texts.update(zip(names, values[1:], strict=True))
        try:
            return State(ahead.key, joined(texts) if ahead.record is None else ahead.record, texts)
        except CorruptEntryError:
            return None


def _ahead(state: State, entries: Entries) -> _Ahead | None:
    """Where entries lead from a state, if they do."""
    at, texts, record = state.key, dict(state.texts), None
    large: set[bytes] = set()
    beat, has_events = None, False
    try:
        for identity, given in entries:
            to, of = key(identity), fields(given)
            if to <= at:
                continue
            whole, beat = of.pop(b"d", None), of.pop(b"h", None)
            has_events |= of.pop(b"n", None) is not None
            if to.epoch != at.epoch or (whole is None and of.pop(b"f", None) != b"%d" % at.seq):
                return None
            if whole is not None and (b"l" not in of or len(whole) > LARGEST_RECORD):
                return None
            at, record = to, whole
            if whole is not None:
                texts.clear()
                large.clear()
                continue
            for name, text in of.items():
                if name.startswith(b"@"):
                    large.add(name[1:])
                elif text:
                    texts[name] = text
                else:
                    texts.pop(name, None)
    except (CorruptEntryError, TypeError, ValueError):
        return None
    return None if at == state.key else _Ahead(at, record, texts, large, beat, has_events)


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


def fields(value: object) -> dict[bytes, bytes]:
    """The fields of an entry or of a hash, which come as one list."""
    if not isinstance(value, list) or len(value) % 2 or not all(type(each) is bytes for each in value):
        raise CorruptEntryError(f"its entry has the fields {value!r:.100}")
    return dict(zip(value[::2], value[1::2], strict=True))


def entry(identity: object, given: object, texts: object, *renewed: object) -> tuple[State, float | None]:
    """A state, and its newest heartbeat: of that moment, or `renewed` since."""
    at = key(identity)
    of = fields(given)
    parts = fields(texts)
    if parts.pop(b"k", identity) != identity:
        raise CorruptEntryError("its parts are those of another state")
    record = joined(parts) if parts else of.get(b"d")
    if record is None or len(record) > LARGEST_RECORD:
        raise CorruptEntryError(
            "it has no record" if record is None else "its record is longer than any that is written"
        )
    return State(at, record, parts), latest(of.get(b"h"), *renewed)


def latest(*beats: object) -> float | None:
    """The newest of heartbeats, some of them as they are stored; None: there was none."""
    read = [each if isinstance(each, float) else stamp("heartbeat", each) for each in beats]
    return max((beat for beat in read if beat is not None), default=None)


def found(
    session: str, reply: object, known: Sequence[Event] = (), limit: int = 0, state: State | None = None
) -> Read | None:
    """What READ has found; None: no session.

    Args:
        session: Its id.
        reply: The script's reply, with the events behind the `known` ones.
        known: Events that were read before.
        limit: Events to return, the newest; 0: all.
        state: What was asked for no more, should it be the newest still.
    """
    if reply is None:
        return None
    if isinstance(reply, ResponseError):
        raise CorruptEntryError(f"its keys cannot be read: {reply}")
    if not isinstance(reply, list) or len(reply) != 7:
        raise CorruptEntryError(f"Redis answered {reply!r:.100}")
    if state is not None and reply[2] is None and key(reply[1]) == state.key:
        beat = latest(*reply[4:6])
    else:
        state, beat = entry(*reply[1:6])
    at = state.key
    if reply[0] != str(at.epoch).encode():
        raise CorruptEntryError(f"its epoch is {reply[0]!r:.100}, its newest entry is of {at.epoch}")
    events, wrong = events_of(at.epoch, reply[6], known)
    events = events[-limit:]
    data = tuple(data for _, data in events)
    return Read(Stored(session, at, state.record, reply[4] is not None, beat, data), state, events, wrong)


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
