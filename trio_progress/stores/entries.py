"""What a store holds of a session, decoded as far as it can be."""

from __future__ import annotations

from collections.abc import Iterable

from ..errors import StoreError
from ..state.events import LoggedEvent
from ..state.record import decode_event
from ..telemetry.statistics import Tally


def readable_events(session_id: str, stored: Iterable[bytes], tally: Tally | None = None) -> list[LoggedEvent]:
    """The stored events behind the last one that cannot be read, which is told: a log of them has no holes."""
    events: list[LoggedEvent] = []
    for data in stored:
        try:
            events.append(decode_event(data))
        except StoreError as error:
            (Tally() if tally is None else tally).pass_over(session_id, error)
            events.clear()
    return events
