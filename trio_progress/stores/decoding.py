"""Strict reading of what a shared store holds: it may be truncated, of other types, huge, or from another time.

Whoever can write the store can write anything into it. An entry is taken whole or not at all; a store passes over one
that is corrupt, which is counted each time and logged once, and goes on with the others. Each `decode_` raises
`CorruptEntryError` for what this program has not written.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final, final

import msgspec

from ..errors import CorruptEntryError, StoreError
from ..state import checks
from ..state.history import PipelineHistory, decode_history
from ..telemetry.logs import BURST, Throttle, log_event
from .base import Ask

LARGEST_RECORD: Final = 64 * 1024 * 1024
"""Bytes of one entry: far above what `Limits` lets in, and little enough to be read into memory."""

LONGEST_WHAT: Final = 100
LONGEST_REASON: Final = 10_000
"""Bytes of a request and of its reason; above what is let in."""

LATEST: Final = 253_402_300_799.0
"""The end of the year 9999, beyond which no stamp can be shown."""

LOGGED: Final = 1000
"""Corrupt entries that are remembered, so that each is logged once."""

encode_labels: Final = msgspec.json.Encoder(order="sorted").encode


@final
class CorruptEntries:
    """Counts the corrupt entries of one store, and logs each once. Safe to be used by several threads.

    Args:
        address: The store's, without secrets.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._logged: set[tuple[str, str]] = set()
        self._throttle = Throttle()
        self.count = 0
        """How many were passed over, each time that one was come across."""

    def pass_over(self, session: object, error: object) -> None:
        """An entry of `session`, whose id may be corrupt as well, is left out."""
        name = session if isinstance(session, str) else _shown(session)
        why = str(error)
        with self._lock:
            self.count += 1
            if (name, why) in self._logged:
                return
            if len(self._logged) >= LOGGED:
                self._logged.clear()
            self._logged.add((name, why))
        what = ("store %s: passed over a corrupt entry of session %r: %s", self._address, name, why)
        log_event(
            logging.WARNING, "entry_unreadable", *what, throttle=self._throttle, most=BURST, session=name, reason=why
        )

    def refuse(self, session: str, error: CorruptEntryError) -> CorruptEntryError:
        """The same for an entry that was asked for by its session: what to raise."""
        self.pass_over(session, error)
        return CorruptEntryError(
            f"the stored entry of session {session!r} cannot be read: {error}; delete the session, or run it anew"
        )


def _shown(name: object) -> str:
    return name.decode("utf-8", "replace")[:130] if type(name) is bytes else f"{name!r:.130}"


def decode_id(value: object) -> str:
    """A session's id."""
    try:
        return checks.session_id(value.decode("ascii") if type(value) is bytes else value)
    except ValueError:
        raise CorruptEntryError(f"its id is {value!r:.200}") from None


def decode_ask(name: object, what: object, reason: object) -> Ask:
    """A request to the owner of a session."""
    if type(what) is not bytes or not 0 < len(what) <= LONGEST_WHAT:
        raise CorruptEntryError(f"its request is {what!r:.100}")
    if reason is not None and (type(reason) is not bytes or len(reason) > LONGEST_REASON):
        raise CorruptEntryError(f"the reason of its request is {reason!r:.100}")
    text = None if reason is None else reason.decode("utf-8", "replace")
    return Ask(decode_id(name), what.decode("utf-8", "replace"), text)


def decode_seconds(pairs: Iterable[tuple[object, object]]) -> dict[str, float]:
    """Typical seconds by phase; pairs that are neither a name nor seconds are left out."""
    typical: dict[str, float] = {}
    for phase, value in pairs:
        try:
            seconds = float(value)  # type: ignore[arg-type]
            if type(phase) is bytes and 0 <= seconds < math.inf:
                typical[phase.decode()] = seconds
        except (ValueError, TypeError):
            continue
    return typical


def decoded_history(pipeline: str, data: object, corrupt: CorruptEntries) -> PipelineHistory | None:
    """The history of a pipeline as it was stored; one that cannot be read is passed over, and learnt anew."""
    try:
        if type(data) is not bytes or len(data) > LARGEST_RECORD:
            raise ValueError(f"the history is {data!r:.100}")
        return decode_history(data)
    except ValueError as error:
        corrupt.pass_over(f"pipeline {pipeline}", CorruptEntryError(str(error)))
        return None


def label_text(name: str, value: str) -> str:
    """The text that stored labels with this one contain; few others do, and `has_labels` finds those."""
    return encode_labels({name: value})[1:-1].decode()


def has_labels(stored: Any, wanted: Mapping[str, str]) -> bool:
    """Whether the stored labels have all that are wanted."""
    try:
        labels = msgspec.json.decode(stored, type=dict[str, str])
    except (msgspec.MsgspecError, TypeError, UnicodeError):
        raise CorruptEntryError(f"its labels are {stored!r:.100}") from None
    return all(labels.get(name) == value for name, value in wanted.items())


def encode_cursor(queued_at: float, session_id: str) -> str:
    """The cursor of the page behind a session, which was queued then."""
    return f"{queued_at.hex()} {session_id}"


def decode_cursor(cursor: str) -> tuple[float, str]:
    """When the last session of the page before was queued, and its id.

    Raises:
        ValueError: `cursor` was not given by `encode_cursor`.
    """
    stamp, _, session_id = cursor.partition(" ")
    try:
        queued_at = float.fromhex(stamp)
    except (ValueError, OverflowError):
        queued_at = math.nan
    if not session_id or not math.isfinite(queued_at):
        raise ValueError(f"{cursor!r:.200} is not the cursor of a page: give the one that came with the page before")
    return queued_at, session_id


def too_large(session: str) -> StoreError:
    """What to say of a record or an event that is longer than `LARGEST_RECORD`, and so could not be read again."""
    return StoreError(
        f"session {session!r} has more than {LARGEST_RECORD} bytes to store; set `Limits` that keep it below"
    )
