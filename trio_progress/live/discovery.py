"""The task that finds the sessions of other processes for those who watch all of them.

The reader follows sessions that it is told of; nobody tells of those that other processes begin. As long as
somebody watches all, this task looks through the store at intervals: what runs is followed from then on, at
the pace at which its owner stores it anyway; what is queued, and what has come and gone between two looks, is
shown as it is.
"""

from __future__ import annotations

import logging
from typing import Final, final

import trio

from ..protocol.page import STATUSES
from ..stores.base import Page, Query, Store
from ..stores.paging import InTurns, pages
from ..telemetry.logs import log_event
from .hub import MOST, OPEN, Hub

INTERVAL: Final = 1.0
"""Seconds between two looks."""

ENDED: Final = 100
"""Of those that have ended so many are looked at, newest first: more do not come and go between two looks."""


@final
class SessionDiscovery:
    """Looks through the store until closed, while there is anybody to tell."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, int] | None = None
        """The epochs of the last look; None: there was none since anybody watches all."""
        self._wake = trio.Event()
        self._scope = trio.CancelScope()

    def wake(self) -> None:
        """Somebody begins to watch all sessions."""
        self._wake.set()

    def close(self) -> None:
        """Ends `run`."""
        self._scope.cancel(reason="the tracker is left")

    async def run(self, hub: Hub) -> None:
        """Looks at every interval, while anybody watches all; cancelled whenever it is."""
        with self._scope:
            while True:
                if not hub.watched_everywhere:
                    self._known = None
                    self._wake = trio.Event()
                    await self._wake.wait()
                try:
                    await self._look(hub)
                except Exception as error:
                    # The reader and the committer say it aloud.
                    what = "sessions of other processes cannot be looked for: %s"
                    log_event(logging.DEBUG, "store_not_read", what, error, reason=error)
                await trio.sleep(INTERVAL)

    async def _look(self, hub: Hub) -> None:
        """Asks for what is not known yet, and only for the names of all else."""
        before = self._known or {}
        ended: list[Page] = []
        opened: list[Page] = []
        for labels in hub.watched_everywhere:
            ended.append(await self._store.list(Query(labels, STATUSES - OPEN, ENDED, known=before)))
            open_now = Query(labels, OPEN, limit=500, known=before)
            opened += [page async for page in pages(self._store, open_now, MOST)]
        news = {stored.id: stored for page in (*ended, *opened) for stored in page.sessions}
        found = [stored for page in opened for stored in page.sessions]
        if self._known is not None:
            found = [*(stored for page in ended for stored in page.sessions), *found]
        self._known = {name: before[name] for page in (*ended, *opened) for name in page.known}
        self._known |= {name: stored.key.epoch for name, stored in news.items()}
        async for stored in InTurns(reversed(found)):
            hub.meet(stored)
