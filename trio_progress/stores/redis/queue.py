"""Taking and giving back by scripts: see `redis.queue_lua`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from redis.exceptions import ResponseError

from ...errors import CorruptEntryError
from ..base import Done
from ..buckets import labels_of, pipelines_of
from ..decoding import decode_id
from ..taking import LOOKED_FOR, SPENT_SHOWN, Chosen, Release, Spent, Take, Taken, Wanted
from .listing import SETTLED, escaped, milliseconds, take_in_slice
from .reads import key
from .scripts import RELEASE, TAKE, Command, Steps

SLICES: Final = 20
"""How many slices of a store of an older version one take has taken in, as long as it finds nothing."""


def take(base: str, asked: Take) -> Steps[Taken]:
    """Chooses and reserves, or enters the process as waiting.

    Raises:
        ResponseError: Redis has refused it.
        CorruptEntryError: It has answered what is not known.
    """
    command = _command(base, asked, milliseconds(asked.reserve))
    slices = 0
    while True:
        (reply,) = yield [command]
        if isinstance(reply, ResponseError):
            raise reply
        taken, complete = _taken(reply)
        if taken.sessions or complete or slices == SLICES:
            return taken
        slices += 1
        yield [take_in_slice(base)]


def head(base: str, asked: Take) -> Steps[tuple[float | None, Sequence[Spent]]]:
    """When the oldest was queued that would be chosen, None where there is none; and what was begun too often.

    Raises:
        ResponseError: Redis has refused it.
        CorruptEntryError: It has answered what is not known.
    """
    (reply,) = yield [_command(base, asked, 0)]
    match reply:
        case [b"head", bytes(score), list(spent)]:
            return float(score) if score else None, _spent(spent)
        case ResponseError():
            raise reply
    raise CorruptEntryError(f"Redis answered {reply!r:.100}")


def _command(base: str, asked: Take, reserve: int) -> Command:
    given: list[Any] = [base, asked.id, reserve, milliseconds(asked.heard), SETTLED, LOOKED_FOR, SPENT_SHOWN]
    given += [len(asked.without), *sorted(asked.without)]
    for wanted in asked.wanted:
        text = _wish(wanted)
        given += [hashlib.sha1(text, usedforsecurity=False).hexdigest(), text, wanted.count]
    return (TAKE, 0, *given)


def _taken(reply: Any) -> tuple[Taken, bool]:
    """What was chosen, and whether the index of lists is complete."""
    match reply:
        case [b"taken", list(found), list(spent), int(complete)]:
            rows = [(decode_id(one), key(at), int(wish), record) for one, at, wish, record in _rows(found, 4)]
            chosen = [Chosen(*row[:3]) for row in rows]
            records = {session: record for session, _, _, record in rows if record}
            return Taken(chosen, _spent(spent), records), complete > 0
    raise CorruptEntryError(f"Redis answered {reply!r:.100}")


def _spent(values: list[Any]) -> list[Spent]:
    return [Spent(decode_id(one), int(attempts)) for one, attempts in _rows(values, 2)]


def _rows(values: list[Any], width: int) -> Iterator[tuple[Any, ...]]:
    return zip(*(values[n::width] for n in range(width)), strict=True)


def release(base: str, given: Release) -> Steps[Done]:
    """Gives back what a process has reserved, and takes it off those that wait.

    Raises:
        ResponseError: Redis has refused it.
    """
    (reply,) = yield [(RELEASE, 0, base, given.id, int(given.leaves), *given.sessions)]
    if isinstance(reply, ResponseError):
        raise reply
    return Done()


def _wish(wanted: Wanted) -> bytes:
    """What a group of processes wants: dimensions as the index has them."""
    pipelines = [escaped(each) for each in pipelines_of(wanted) if each]
    labels = sorted(map(escaped, labels_of(wanted)))
    return msgspec.json.encode({"n": wanted.max_attempts, "p": pipelines, "l": labels})
