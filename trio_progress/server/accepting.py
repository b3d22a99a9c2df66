"""Accepting connections, also while there are no descriptors left for them."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import trio

from ..telemetry.logs import Throttle, log_event

EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""What accept(2) says when the process or the machine has no more to give."""

GONE: Final = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM})
"""What it says of a connection that has gone again, or that a firewall forbids."""

PAUSE: Final = 0.1
"""Seconds until it is tried again."""


async def accept_connections(
    listeners: Sequence[trio.abc.Listener[Any]],
    handler: Callable[[Any], Awaitable[object]],
    nursery: trio.Nursery,
    make_room: Callable[[], object],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Starts a task for each connection, until cancelled; then the listeners are closed.

    `trio.serve_listeners()` would do, but logs a traceback ten times a second while descriptors are exhausted.

    Args:
        listeners: Where connections come from.
        handler: What serves one; it must raise nothing.
        nursery: Where it runs.
        make_room: Called when there are no descriptors left. Does not wait.
        task_status: Told when connections are accepted.
    """
    throttle = Throttle()

    async def accept(listener: trio.abc.Listener[Any]) -> None:
        async with listener:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno in GONE:
                        continue
                    if error.errno not in EXHAUSTED:
                        raise
                    make_room()
                    why = os.strerror(error.errno)
                    text = "connections cannot be accepted (%s): they wait, and it is tried again every %g s"
                    log_event(logging.ERROR, "accept_failed", text, why, PAUSE, throttle=throttle, reason=why)
                    await trio.sleep(PAUSE)
                else:
                    nursery.start_soon(_serve, stream, handler)

    async with trio.open_nursery() as accepting:
        for listener in listeners:
            accepting.start_soon(accept, listener)
        task_status.started()


async def _serve(stream: Any, handler: Callable[[Any], Awaitable[object]]) -> None:
    try:
        await handler(stream)
    finally:
        await trio.aclose_forcefully(stream)
