"""Keeps a Ctrl-C out of the middle of a mutation.

The state is pure and knows nothing of Trio, but it is mutated in tasks in which Trio raises
`KeyboardInterrupt` between any two instructions. Here its methods are marked, so that one which comes
meanwhile waits for the next checkpoint. The mark is on the code object and costs nothing at the call.
"""

from __future__ import annotations

import inspect

import trio

from ..state.events import EventLog
from ..state.guard import guarded
from ..state.phase import PhaseNode
from ..state.session import SessionState
from .core import SessionCore
from .phase import Phase, PhaseScope
from .session import Session


def protect() -> None:
    """Marks every synchronous method that changes a session, but for those that run the user's code."""
    for owner in (
        PhaseNode,
        *SessionState.__mro__[:-1],
        EventLog,
        Phase,
        PhaseScope,
        SessionCore,
        Session,
    ):
        for name, member in vars(owner).items():
            function = member.fget if isinstance(member, property) else member
            function = inspect.unwrap(function) if inspect.isfunction(function) else None
            if function is not None and not name.startswith("_track") and not inspect.iscoroutinefunction(function):
                trio.lowlevel.enable_ki_protection(function)
    wrapper = guarded(PhaseNode.extend)
    trio.lowlevel.enable_ki_protection(wrapper)
