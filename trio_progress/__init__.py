"""Progress of long, concurrent, multi-phase work, told truthfully and live."""

import logging as _logging
from typing import TYPE_CHECKING as _TYPE_CHECKING

from ._version import __version__ as __version__
from .current import current_session as current_session
from .errors import FencedError as FencedError
from .errors import ForeignThreadError as ForeignThreadError
from .errors import PhaseError as PhaseError
from .errors import ProgressError as ProgressError
from .errors import ProtocolError as ProtocolError
from .errors import SessionActiveError as SessionActiveError
from .errors import SessionCancelledError as SessionCancelledError
from .errors import SessionClosedError as SessionClosedError
from .errors import SessionCompletedError as SessionCompletedError
from .errors import SessionNotFoundError as SessionNotFoundError
from .errors import StoreError as StoreError
from .ki import protect as _protect
from .listing import SessionPage as SessionPage
from .null import NullPhase as NullPhase
from .null import NullSession as NullSession
from .phase import Phase as Phase
from .phase import PhaseScope as PhaseScope
from .scope import SessionScope as SessionScope
from .script import open_progress as open_progress
from .session import Session as Session
from .settings import Settings as Settings
from .state.limits import Limits as Limits
from .state.messages import Bookmark as Bookmark
from .state.messages import CustomEvent as CustomEvent
from .state.messages import End as End
from .state.messages import Gap as Gap
from .state.messages import Subscribed as Subscribed
from .state.messages import Update as Update
from .state.messages import decode_message as decode_message
from .state.messages import encode_message as encode_message
from .state.pipeline import PhaseSpec as PhaseSpec
from .state.pipeline import Pipeline as Pipeline
from .state.snapshot import ErrorInfo as ErrorInfo
from .state.snapshot import PhaseSnapshot as PhaseSnapshot
from .state.snapshot import Snapshot as Snapshot
from .statistics import TrackerStatistics as TrackerStatistics
from .stores.base import Store as Store
from .stores.memory import MemoryStore as MemoryStore
from .subscription import Subscription as Subscription
from .subscription import Watch as Watch
from .subscription import WatchAll as WatchAll
from .threads import ThreadTicker as ThreadTicker
from .tracker import ProgressTracker as ProgressTracker
from .tracker import open_tracker as open_tracker

if _TYPE_CHECKING:
    from .terminal import open_display as open_display


def __getattr__(name: str) -> object:
    # What needs more than the core is loaded when it is asked for.
    if name == "open_display":
        from .terminal import open_display

        return open_display
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


_protect()
_logging.getLogger("trio_progress").addHandler(_logging.NullHandler())
