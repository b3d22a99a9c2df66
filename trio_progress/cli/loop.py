"""Runs the event loop of a command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from ..errors import ProgressError
from . import output
from .exit_codes import CommandError


def run(command: Callable[..., Awaitable[int]], *arguments: Any) -> int:
    """Runs an async function by Trio. What ends the command leaves as itself, not in the groups of its nurseries."""
    import trio

    from ..session.outcome import leaves

    try:
        with output.in_background():
            return trio.run(command, *arguments)
    except BaseExceptionGroup as group:
        for error in leaves(group):
            if isinstance(error, (CommandError, ProgressError, KeyboardInterrupt)):
                raise error from None
        raise
