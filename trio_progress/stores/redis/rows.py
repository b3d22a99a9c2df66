"""Reading replies strictly: what Redis holds may be of other types, truncated, huge, or from another time.

Whoever can write the keys can write anything. A session is taken whole or not at all; the caller passes over
one that is not, and goes on with the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from redis.exceptions import ResponseError

from ...state import checks
from ...state.limits import MAX_UNITS
from ..base import Ask, Key, Stored

LARGEST_RECORD: Final = 64 * 1024 * 1024
"""Bytes of one entry: far above what `Limits` lets in."""

LONGEST_WHAT: Final = 100
LONGEST_REASON: Final = 10_000
"""Bytes of a request and of its reason; above what is let in."""

LATEST: Final = 253_402_300_799.0
"""The end of the year 9999, beyond which no stamp can be shown."""

_KEY: Final = re.compile(rb"([0-9]{1,16})-([0-9]{1,16})")

Event = tuple[int, bytes]
"""Its number, and what it says."""

encode_labels: Final = msgspec.json.Encoder(order="sorted").encode


class PoisonedError(Exception):
    """A reply that cannot come from what this program has written; the text says what is wrong with it."""


class Found(NamedTuple):
    """What READ tells of one session."""

    key: Key
    record: bytes
    alive: bool
    heartbeat: float | None
    events: Sequence[Event]

    def stored(self, session: str) -> Stored:
        """The same for a tracker."""
        return Stored(
            session, self.key, self.record, self.alive, self.heartbeat, tuple(data for _, data in self.events)
        )


def key(value: object) -> Key:
    """The key that the id of an entry is.

    Raises:
        PoisonedError: It is none.
    """
    match = _KEY.fullmatch(value) if type(value) is bytes else None
    if match is None:
        raise PoisonedError(f"its entry's id is {value!r:.100}")
    found = Key(int(match[1]), int(match[2]))
    if max(found) >= MAX_UNITS:
        raise PoisonedError(f"its entry's id is {value!r:.100}")
    return found


def epoch(value: object) -> int:
    """An epoch as it stands in a hash or a reply.

    Raises:
        PoisonedError: It is none.
    """
    if type(value) is bytes and value.isdigit() and len(value) <= 16 and int(value) < MAX_UNITS:
        return int(value)
    raise PoisonedError(f"its epoch is {value!r:.100}")


def stamp(what: str, value: object) -> float | None:
    """Seconds since 1970; None where there is none.

    Raises:
        PoisonedError: It is something else.
    """
    if value is None or value == b"":
        return None
    try:
        seconds = float(value) if type(value) is bytes and len(value) <= 30 else -1.0
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LATEST:
        raise PoisonedError(f"its {what} is {value!r:.100}")
    return seconds


def fields(value: object) -> Mapping[bytes, bytes]:
    """The fields of an entry, which come as one list.

    Raises:
        PoisonedError: They do not.
    """
    if not isinstance(value, list) or len(value) % 2 or not all(type(each) is bytes for each in value):
        raise PoisonedError(f"its entry has the fields {value!r:.100}")
    return dict(zip(value[::2], value[1::2], strict=True))


def entry(identity: object, given: object) -> tuple[Key, bytes, float | None]:
    """The key of a state, its record, and the heartbeat of that moment.

    Raises:
        PoisonedError: It is no entry of ours.
    """
    at = key(identity)
    of = fields(given)
    record = of.get(b"d")
    if record is None or len(record) > LARGEST_RECORD:
        raise PoisonedError("it has no record" if record is None else "its record is longer than any that is written")
    return at, record, stamp("heartbeat", of.get(b"h"))


def found(reply: object, known: Sequence[Event] = ()) -> tuple[Found, str | None] | None:
    """What READ says of a session, and what was wrong with events that are left out; None: there is none.

    Args:
        reply: The script's reply, with the events behind the `known` ones.
        known: Events that were read before.

    Raises:
        PoisonedError: It is not what it should be.
    """
    if reply is None:
        return None
    if isinstance(reply, ResponseError):
        raise PoisonedError(f"its keys cannot be read: {reply}")
    if not isinstance(reply, list) or len(reply) != 6:
        raise PoisonedError(f"it is {reply!r:.100}")
    at, record, beat = entry(reply[1], reply[2])
    if at.epoch != epoch(reply[0]):
        raise PoisonedError(f"its epoch is {reply[0]!r:.100}, its newest entry is of {at.epoch}")
    beats = [
        seconds for seconds in (beat, stamp("lease", reply[3]), stamp("heartbeat", reply[4])) if seconds is not None
    ]
    events, wrong = events_of(at.epoch, reply[5], known)
    return Found(at, record, reply[3] is not None, max(beats, default=None), events), wrong


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
                raise PoisonedError(f"an entry of its events is {each!r:.100}")
            if key(each[0]).epoch != of:
                continue
            given = each[1]
            if not isinstance(given, list) or len(given) % 2:
                raise PoisonedError(f"an entry of its events has the fields {given!r:.100}")
            for number, data in zip(given[::2], given[1::2], strict=True):
                n = epoch(number)
                if type(data) is not bytes or len(data) > LARGEST_RECORD:
                    raise PoisonedError(f"its event {n} is {data!r:.100}")
                if n == 0 or (events and n <= events[-1][0]):
                    continue  # The mark that a claim makes, or one that was sent again.
                if events and n != events[-1][0] + 1:
                    if events[-1][0] != upto:  # Right behind those that are known it is the limit that took them.
                        wrong = f"its events before {n} are missing"
                    events.clear()
                events.append((n, data))
        except PoisonedError as error:
            wrong = str(error)
    return events, wrong


def durations(reply: object) -> dict[str, float]:
    """Seconds by phase; what is none is left out."""
    usual: dict[str, float] = {}
    values = reply if isinstance(reply, list) else []
    for phase, seconds in zip(values[::2], values[1::2], strict=False):
        try:
            took = float(seconds)
            if 0 <= took < float("inf"):
                usual[phase.decode()] = took
        except (ValueError, TypeError, AttributeError):
            continue
    return usual


def decode_id(value: object) -> str:
    """A session's id.

    Raises:
        PoisonedError: It is none.
    """
    try:
        return checks.session_id(value.decode("ascii") if type(value) is bytes else value)
    except ValueError:
        raise PoisonedError(f"its id is {value!r:.200}") from None


def ask(given: object) -> Ask:
    """A request to an owner.

    Raises:
        PoisonedError: It is none.
    """
    of = fields(given)
    what, reason = of.get(b"a", b""), of.get(b"r")
    if not what or len(what) > LONGEST_WHAT or (reason is not None and len(reason) > LONGEST_REASON):
        raise PoisonedError(f"it is asked {what!r:.100}, for the reason {reason!r:.100}")
    text = None if reason is None else reason.decode("utf-8", "replace")
    return Ask(decode_id(of.get(b"i")), what.decode("utf-8", "replace"), text)


def shown(name: object) -> str:
    """An id that may be anything, for the log."""
    return name.decode("utf-8", "replace")[:130] if type(name) is bytes else f"{name!r:.130}"
