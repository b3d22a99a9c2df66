"""What the sessions of one tracker share, and what each was asked to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import trio

from ..live.hub import Hub
from ..settings import Settings
from ..state.pipeline import Pipeline
from ..storage.committer import Committer
from ..storage.spool_delivery import SpoolDelivery
from ..stores.base import Store
from ..telemetry.statistics import Tally
from .core import SessionCore


class Occupant(Protocol):
    """A session that is being entered, is open, or is being left."""

    left: trio.Event

    @property
    def core(self) -> SessionCore | None:
        """The inside of the session, once it has begun."""
        ...

    def stop(self, reason: str | None, interrupted: bool) -> None:
        """Cancels its body, now or as soon as it has begun."""
        ...


@dataclass(slots=True)
class TrackerRuntime:
    """What all sessions of one tracker share."""

    settings: Settings
    store: Store
    committer: Committer
    delivery: SpoolDelivery
    hub: Hub
    tally: Tally
    open: dict[str, Occupant]
    """By id; there from before the first checkpoint until nothing is left."""
    closed: bool = False
    """Whether the tracker is being left."""
    interrupting: bool = False
    """Whether a polite stop of the process is under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """What `tracker.session()` was asked for."""

    id: str
    pipeline: Pipeline | None
    title: str | None
    labels: dict[str, str] | None
    raise_on_cancel: bool
