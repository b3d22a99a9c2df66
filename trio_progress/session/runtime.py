"""What the sessions of one tracker share, and what each was asked to be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

import msgspec
import trio

from ..state.checks import new_id
from .turns import Turns

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

    __slots__ = ("_left", "_over", "_stop", "core")

    def __init__(self) -> None:
        self.core: SessionCore | None = None
        """The inside of the session, once it has begun."""
        self._left: trio.Event | None = None
        """Set when nothing of the session is left; there where somebody waits for that."""
        self._over = False
        self._stop: tuple[str | None, bool] | None = None

    def begun(self, core: SessionCore) -> None:
        """The session has begun; what had stopped it meanwhile cancels it."""
        self.core = core
        if self._stop is not None:
            core.stop(*self._stop)

    async def wait_left(self) -> None:
        """Waits until nothing of the session is left. A checkpoint."""
        if self._left is None:
            self._left = trio.Event()
            if self._over:
                self._left.set()
        await self._left.wait()

    def end(self) -> None:
        """Nothing of the session is left."""
        self._over = True
        if self._left is not None:
            self._left.set()

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
    turns: Turns = field(default_factory=Turns)
    """Who may be entered or left now."""
    _owner: str = field(default_factory=new_id)
    _claims: int = 0

    def new_owner(self) -> str:
        """A name for the owner of one epoch, which no other has: an id of the tracker's, and a number."""
        self._claims += 1
        return f"{self._owner}.{self._claims}"

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


class SessionOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `tracker.session()` was asked for."""

    id: str
    pipeline: Pipeline | str | None
    title: str | None
    labels: dict[str, str] | None
    raise_on_cancel: bool


class TrackerPart:
    """One part of what a tracker can do; the tracker is made of them."""

    @property
    def _runtime(self) -> TrackerRuntime:
        raise NotImplementedError  # pragma: no cover - the tracker has it
