"""What the sessions of one tracker share, and what each was asked to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import trio

if TYPE_CHECKING:
    from ..live.hub import Hub
    from ..settings import Settings
    from ..state.pipeline import Pipeline
    from ..storage.committer import Committer
    from ..storage.spool_delivery import SpoolDelivery
    from ..stores.base import Store
    from ..telemetry.statistics import Tally
    from .core import SessionCore
    from .taking import SessionTaker
    from .tracing import MakeTracing


@final
class Reservation:
    """The place of a session's id in its tracker: from before it is entered until nothing of it is left."""

    __slots__ = ("_stop", "core", "left")

    def __init__(self) -> None:
        self.core: SessionCore | None = None
        """The inside of the session, once it has begun."""
        self.left = trio.Event()
        """Set when nothing of the session is left."""
        self._stop: tuple[str | None, bool] | None = None

    def begun(self, core: SessionCore) -> None:
        """The session has begun; what had stopped it meanwhile cancels it."""
        self.core = core
        if self._stop is not None:
            core.stop(*self._stop)

    def stop(self, reason: str | None, interrupted: bool) -> None:
        """Cancels the session's body, now or as soon as it has begun, because the tracker or the process ends."""
        if self.core is None:
            self._stop = (reason, interrupted)
        elif not self.core.state.over:
            self.core.stop(reason, interrupted)


@dataclass(slots=True)
class TrackerRuntime:
    """What all sessions of one tracker share."""

    settings: Settings
    store: Store
    committer: Committer
    delivery: SpoolDelivery
    hub: Hub
    tally: Tally
    open: dict[str, Reservation]
    """By id; there from before the first checkpoint until nothing is left."""
    nursery: trio.Nursery
    """For tasks that end with the tracker; they must raise nothing."""
    taker: SessionTaker
    """Takes sessions that wait to be run."""
    tracing: MakeTracing | None = None
    """Makes what traces each attempt that begins from now on; None: nobody does."""
    closed: bool = False
    """Whether the tracker is being left."""
    interrupting: bool = False
    """Whether a polite stop of the process is under way."""

    def held(self) -> dict[str, tuple[object, ...]]:
        """The debug view: what the tracker holds on to, by kind; all of it empty once sessions and readers have gone.

        Of an open session, `open[id].core` has the state and the persister.
        """
        return {
            "sessions": tuple(self.open),
            "topics": tuple(self.hub.topics),
            "observers": tuple(self.hub.observers),
            "writers": self.committer.waiting,
            "takers": self.taker.waiting,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """What `tracker.session()` was asked for."""

    id: str
    pipeline: Pipeline | str | None
    title: str | None
    labels: dict[str, str] | None
    raise_on_cancel: bool
