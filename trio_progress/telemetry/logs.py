"""What this package logs: to the logger "trio_progress", in one shape, safely, and at a bounded rate.

1. Every record has the attributes in `FIELDS`, None where they do not apply, for formatters and filters: what
   happened, to which session, why. The message says the same to people.
2. What others wrote (reasons, messages of exceptions, names of phases) can neither begin a line of its own nor
   steer a terminal: control and format characters are escaped in arguments, fields and tracebacks, and every
   line of a traceback is indented. Passwords of URLs are left out. This holds for all records of the logger,
   whoever makes them.
3. What can come in floods goes through a `Throttle`: the first of a kind at once, then no more for a while; the
   next one tells how many were left out.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Final, TypedDict, Unpack, final

from .redaction import redacted

logger: Final = logging.getLogger("trio_progress")

FIELDS: Final[Mapping[str, str]] = {
    "event": "what happened, as a word that does not change between versions: store_down, session_failed, ...",
    "session": "the session's id",
    "pipeline": "the name of its pipeline",
    "phase": "the phase, as names joined by slashes",
    "epoch": "the ownership of the session that it is about",
    "seq": "the number of the published state",
    "status": "how the session stands or ended",
    "reason": "why, in a word or as the text of an exception",
    "left_out": "how many records of this event were left out since the last one",
}
"""The attributes that every record has, and what they mean."""

LOG_INTERVAL: Final = 60.0
"""Seconds in which one event is logged once, where it can come in floods."""

BURST: Final = 10
"""Records of one event in that time, where each is about something else."""


class Fields(TypedDict, total=False):
    """What `log_event` can be given; see `FIELDS`."""

    session: str
    pipeline: str | None
    phase: str | None
    epoch: int
    seq: int | None
    status: str
    reason: object


@final
class Throttle:
    """Lets the first of a kind through at once, and then no more in `LOG_INTERVAL`.

    Args:
        now: Seconds on a monotonic clock. Not Trio's: what is logged may come from any thread.
    """

    __slots__ = ("_admitted", "_left_out", "_now")

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._admitted: dict[str, tuple[float, int]] = {}
        self._left_out: dict[str, int] = {}

    def admit(self, kind: str, most: int = 1) -> int | None:
        """How many of the kind were left out since the last that was let through; None: leave this one out, too.

        Args:
            kind: One of a few; every kind is remembered.
            most: How many of it are let through in `LOG_INTERVAL`.
        """
        now = self._now()
        since, admitted = self._admitted.get(kind, (now, 0))
        if now >= since + LOG_INTERVAL:
            since, admitted = now, 0
        if admitted >= most:
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return None
        self._admitted[kind] = (since, admitted + 1)
        return self._left_out.pop(kind, 0)


def log_event(
    level: int,
    event: str,
    text: str,
    *args: object,
    throttle: Throttle | None = None,
    most: int = 1,
    kind: str = "",
    error: BaseException | None = None,
    **fields: Unpack[Fields],
) -> bool:
    """Logs one record. Never raises: not for what its arguments look like, nor for what a handler does with it.

    Args:
        level: As the logging module has it.
        event: What happened, one of a few words; it becomes the field of that name.
        text: The message, with `%` places for the arguments.
        args: What goes there.
        throttle: For what can come in floods.
        most: How many the throttle lets through at once: `BURST` where each is about something else.
        kind: Those of one kind hold up those of no other.
        error: Its traceback is logged as well.
        fields: What it is about.

    Returns:
        Whether it was let through.
    """
    left_out = 0
    if throttle is not None:
        admitted = throttle.admit(event + kind, most)
        if admitted is None:
            return False
        left_out = admitted
        if left_out:
            text, args = f"{text} (%d more like it were left out)", (*args, left_out)
    extra = {"event": event, "left_out": left_out, **fields}
    with suppress(Exception):  # A handler may be anybody's; who logs here has a state to keep whole.
        logger.log(level, text, *args, exc_info=error, extra=extra, stacklevel=2)
    return True


def escaped(text: str) -> str:
    r"""The text with everything that is not plainly visible as an escape: `\n`, `\x1b`, `\u202e`."""
    if text.isprintable():
        return text
    return "".join(map(_visible, text))


@lru_cache(maxsize=4096)
def _visible(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode("ascii")


class _Escaped:
    """An argument of a message, escaped when it is formatted."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __str__(self) -> str:
        return _put(str, self._value)

    def __repr__(self) -> str:
        return _put(repr, self._value)


def _put(how: Callable[[object], str], value: object) -> str:
    try:
        return escaped(redacted(how(value)))
    except Exception:  # Exceptions of others have methods of their own.
        return f"<unprintable {type(value).__name__}>"


def _harmless(value: object) -> object:
    return value if value is None or isinstance(value, (int, float)) else _Escaped(value)


def _traceback(error: BaseException) -> str:
    lines = "".join(traceback.format_exception(error)).removesuffix("\n").split("\n")
    return "\n".join(f"  {escaped(redacted(line))}" for line in lines)


class _Shape(logging.Filter):
    """Gives every record of the logger all fields, and takes the teeth out of what others wrote."""

    def filter(self, record: logging.LogRecord) -> bool:
        for name in FIELDS:
            value = getattr(record, name, None)
            plain = value is None or isinstance(value, (int, float))
            setattr(record, name, value if plain else _put(str, value))
        if not record.args and isinstance(record.msg, str):
            record.msg = redacted(record.msg)  # With arguments it is a template, in which nothing may change.
        elif isinstance(record.args, tuple):
            record.args = tuple(map(_harmless, record.args))
        elif record.args:
            record.args = {name: _harmless(value) for name, value in record.args.items()}
        if record.exc_info and record.exc_info[1] is not None and not record.exc_text:
            record.exc_text = _traceback(record.exc_info[1])
        return True


logger.addFilter(_Shape())
