"""Progress of long, concurrent, multi-phase work, told truthfully and live.

A name is loaded with what it needs when it is asked for: the command line and `trio_progress.blocking` stand on
a part of this package, and their users wait for each start.
"""

import logging as _logging
from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from ._version import __version__ as __version__

if _TYPE_CHECKING:
    from .client import RemoteSubscription as RemoteSubscription
    from .client import connect as connect
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
    from .errors import SessionEndedError as SessionEndedError
    from .errors import SessionNotFoundError as SessionNotFoundError
    from .errors import StoreError as StoreError
    from .null import NullPhase as NullPhase
    from .null import NullSession as NullSession
    from .page import SessionPage as SessionPage
    from .phase import Phase as Phase
    from .phase import PhaseScope as PhaseScope
    from .scope import SessionScope as SessionScope
    from .script import open_progress as open_progress
    from .server.serving import Server as Server
    from .server.serving import open_server as open_server
    from .server.serving import serve as serve
    from .server.tokens import issue_token as issue_token
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
    from .stores.redis_store import RedisStore as RedisStore
    from .subscription import Subscription as Subscription
    from .subscription import Watch as Watch
    from .subscription import WatchAll as WatchAll
    from .terminal import open_display as open_display
    from .threads import ThreadTicker as ThreadTicker
    from .tracker import ProgressTracker as ProgressTracker
    from .tracker import open_tracker as open_tracker

_HOMES = {
    "client": ("RemoteSubscription", "connect"),
    "current": ("current_session",),
    "errors": (
        "FencedError",
        "ForeignThreadError",
        "PhaseError",
        "ProgressError",
        "ProtocolError",
        "SessionActiveError",
        "SessionCancelledError",
        "SessionClosedError",
        "SessionCompletedError",
        "SessionEndedError",
        "SessionNotFoundError",
        "StoreError",
    ),
    "page": ("SessionPage",),
    "null": ("NullPhase", "NullSession"),
    "phase": ("Phase", "PhaseScope"),
    "scope": ("SessionScope",),
    "script": ("open_progress",),
    "session": ("Session",),
    "settings": ("Settings",),
    "state.limits": ("Limits",),
    "state.messages": (
        "Bookmark",
        "CustomEvent",
        "End",
        "Gap",
        "Subscribed",
        "Update",
        "decode_message",
        "encode_message",
    ),
    "state.pipeline": ("PhaseSpec", "Pipeline"),
    "state.snapshot": ("ErrorInfo", "PhaseSnapshot", "Snapshot"),
    "statistics": ("TrackerStatistics",),
    "stores.base": ("Store",),
    "stores.memory": ("MemoryStore",),
    "stores.redis_store": ("RedisStore",),
    "subscription": ("Subscription", "Watch", "WatchAll"),
    "server.serving": ("Server", "open_server", "serve"),
    "server.tokens": ("issue_token",),
    "terminal": ("open_display",),
    "threads": ("ThreadTicker",),
    "tracker": ("ProgressTracker", "open_tracker"),
}
"""The module of each public name: the imports above once more, for when the program runs."""

_MODULES = {_name: _module for _module, _names in _HOMES.items() for _name in _names}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(_import_module(f".{_MODULES[name]}", __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})


_logging.getLogger("trio_progress").addHandler(_logging.NullHandler())
