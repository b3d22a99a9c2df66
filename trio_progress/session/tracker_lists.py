"""`tracker.sessions()`: the sessions of the store, for a tracker's user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..live.listing import list_sessions
from ..state import checks
from .runtime import TrackerPart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..protocol.page import SessionPage


class TrackerLists(TrackerPart):
    """The part of a tracker that lists sessions."""

    async def sessions(
        self,
        labels: Mapping[str, str] | None = None,
        status: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
        *,
        parent: str | None = None,
    ) -> SessionPage:
        """The sessions that there are, newest first, a page at a time. A checkpoint.

        Args:
            labels: Only those that have all of these.
            status: Only those that stand so.
            limit: At most so many, 1 to 1000.
            cursor: The `cursor` of the page before.
            parent: Only those that were declared as parts of this session.

        Raises:
            ValueError, TypeError: A value is out of range.
            StoreError: The store did not answer.
        """
        wanted = checks.listed_by(labels, parent, self._runtime.settings.limits)
        return await list_sessions(self._runtime.hub, wanted, status, limit, cursor)
