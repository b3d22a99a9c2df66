"""Where a session stands in lists: its *place*, and the *dimensions* by which lists ask for it.

1. A place is the status as it is stored; what is stored as running and has no lease stands in `LAPSED`. So each list
   by status is a few places, and nothing in them is looked at in vain.
2. A dimension is one thing that lists are filtered by: the pipeline, or one label with its value; the empty one has all
   sessions. A store keeps, for each dimension and place, the sessions that stand there by when they were queued.
3. A list by several dimensions goes through the one with the fewest sessions, and looks at the others' values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from ..protocol.page import STATUSES

if TYPE_CHECKING:
    from .base import Query

RUNNING: Final = "running"
LAPSED: Final = "lapsed"
"""The place of what is stored as running, and has no lease."""

PLACES: Final = (*sorted(STATUSES), LAPSED)

LOOKED_AT: Final = 500
"""Entries that one call looks at without finding a session that the list asks for; a cursor leads on from there."""


def place_of(status: str, *, alive: bool) -> str:
    """The place of a session that is stored with this status.

    Args:
        status: As it is stored.
        alive: Whether a lease stands.
    """
    return LAPSED if status == RUNNING and not alive else status


def places_of(query: Query) -> list[str]:
    """The places that a list is made of."""
    found = set(PLACES)
    if query.status is not None:
        found &= query.status | ({LAPSED} if RUNNING in query.status else frozenset())
    if query.shown is not None:
        found &= query.shown | ({LAPSED} if "lost" in query.shown else frozenset())
    if query.lapsed:
        found.discard(RUNNING)
    return sorted(found)


def of_pipeline(name: str) -> str:
    """The dimension of a pipeline's sessions."""
    return f"p{name}"


def of_label(name: str, value: str) -> str:
    """The dimension of the sessions that have a label with this value. No two have the same one."""
    return f"l{len(name.encode())}={name}{value}"


def dimensions(pipeline: str | None, labels: Mapping[str, str]) -> list[str]:
    """The dimensions that a session stands in, but for the empty one; or those that a list asks for."""
    found = [] if pipeline is None else [of_pipeline(pipeline)]
    return found + [of_label(name, value) for name, value in labels.items()]
