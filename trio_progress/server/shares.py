"""The list of sessions as far as somebody may see it, asked for so that nothing else is looked at.

Sieving a page of all sessions would do for what is in it. But where a page ends, its cursor names the last one that was
looked at: whoever may see none could go through the ids of all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeAlias, TypeVar

from ..errors import SessionNotFoundError, StoreError
from ..listing import list_heads
from ..page import check_page
from ..state import checks
from ..state.snapshot import Head, Snapshot
from ..tracker import ProgressTracker
from .grants import Grant
from .house import ServerHouse

HeadT = TypeVar("HeadT", bound=Head)
Listed: TypeAlias = tuple[list[HeadT], str | None]
"""Sessions, newest first, and the cursor of those that follow."""

LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


async def sessions_shared(
    tracker: ProgressTracker,
    grant: Grant,
    labels: Mapping[str, str],
    status: str | None,
    limit: int,
    cursor: str | None,
) -> Listed[Snapshot]:
    """A page of the sessions that somebody may see; those that are granted by their ids all come with the first one.

    Raises:
        ValueError, TypeError: A value is out of range.
        StoreError: The store did not answer.
    """
    check_page(status, limit, cursor)
    wanted = checks.labels(labels, tracker.settings.limits)

    async def page(labels: Mapping[str, str]) -> tuple[Sequence[Snapshot], str | None]:
        found = await tracker.sessions(labels=labels, status=status, limit=limit, cursor=cursor)
        return found.sessions, found.cursor

    async def one(session_id: str) -> Snapshot | None:
        found = await tracker.snapshot(session_id)
        return found if status in (None, found.status) else None

    return await _shared(grant, wanted, page, one if cursor is None else None)


async def heads_shared(house: ServerHouse, grant: Grant, labels: Mapping[str, str], limit: int) -> Listed[Head]:
    """The newest sessions that somebody may see, of which the stored phases are not looked at.

    Raises:
        StoreError: The store did not answer.
    """

    async def page(labels: Mapping[str, str]) -> tuple[Sequence[Head], str | None]:
        return await list_heads(house.hub, dict(labels), limit)

    async def one(session_id: str) -> Head | None:
        return await house.tracker.snapshot(session_id)

    return await _shared(grant, labels, page, one)


async def _shared(
    grant: Grant,
    wanted: Mapping[str, str],
    page: Callable[[Mapping[str, str]], Awaitable[tuple[Sequence[HeadT], str | None]]],
    one: Callable[[str], Awaitable[HeadT | None]] | None,
) -> Listed[HeadT]:
    found: dict[str, HeadT] = {}
    cursor = None
    if "read" not in grant.verbs:
        return [], None
    mine = grant.labels
    if grant.everything or (mine and all(wanted.get(name, value) == value for name, value in mine.items())):
        sessions, cursor = await page({**wanted, **mine})
        found = {session.id: session for session in sessions if session.id not in grant.sessions}
    if one is None or not grant.sessions:
        return list(found.values()), cursor
    for session_id in grant.sessions:
        try:
            session = await one(session_id)
        except SessionNotFoundError:
            continue
        except StoreError:
            if not await _passed_over(page):
                raise
            continue
        if session is not None and all(session.labels.get(name) == value for name, value in wanted.items()):
            found[session.id] = session
    return sorted(found.values(), key=lambda session: session.queued_at or LONG_AGO, reverse=True), cursor
