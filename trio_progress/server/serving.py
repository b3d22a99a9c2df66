"""`serve()` and `open_server()`: the lifetime of a server, from binding its port to the last word to each client."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Unpack, final

import trio

from ..contexts import BodyError, Opening
from ..telemetry.logs import Throttle, log_event
from . import files
from .capacity import RESERVE, connections_possible
from .connection import MOST_FOR_ADMIN, MOST_TURNED_AWAY, ConnectionHandler
from .routes import Routes
from .runtime import ServerRuntime
from .settings import DEFAULT_PORT, ServerOptions, ServerSettings, check_options, checked_port

if TYPE_CHECKING:
    from ..tracker import ProgressTracker
    from .transport import Transport

logger = logging.getLogger("trio_progress")

BACKLOG: Final = 1024
"""Connections that the kernel keeps until they are taken: a thousand pages come back at once after a restart."""

LOOK_EVERY: Final = 0.05
"""Seconds between two looks at who still waits for an end, while the server stops."""

HALF_SENT: Final = 1.0
"""Seconds that a request which is on its way when the server stops may take to come."""

GRACE: Final = 0.5
"""Seconds that are left, at the end of a stop, for closing politely those who are still there."""

EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})
"""What accept(2) says when the process or the machine has no more to give."""

GONE: Final = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM})
"""What it says of a connection that has gone again, or that a firewall forbids."""

PAUSE: Final = 0.1
"""Seconds until it is tried again."""


@final
@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs: where it is to be found."""

    host: str
    port: int
    url: str
    """The address of the page, with the base path and a slash at its end."""
    admin_port: int | None = None
    admin_url: str | None = None
    """What the paths of the probes and metrics come behind, where they have a port of their own."""


async def serve(
    tracker: ProgressTracker,
    port: int = DEFAULT_PORT,
    *,
    task_status: trio.TaskStatus[Server] = trio.TASK_STATUS_IGNORED,
    **settings: Unpack[ServerOptions],
) -> None:
    """Serves the tracker's sessions over one port, until it is cancelled; needs the extra `server`.

    `server = await nursery.start(partial(serve, tracker, port=8765))`. Being cancelled it stops accepting, lets
    the sessions that are watched come to their end, for at most `drain_timeout`, tells all clients, and ends;
    that takes half a second longer at most, whatever the clients do.

    Args:
        tracker: Whose sessions. It must outlive the server.
        port: What is bound; 0 for one that is free.
        task_status: Told when the port is bound, with the `Server`.
        settings: The fields of `ServerSettings`: `host="127.0.0.1"`, `auth=None`, `ssl_context=None`,
            `base_path="/"`, `origins=()`, `hosts=()`, `trusted_proxies=()`, `admin_port=None`, and limits.

    Raises:
        ValueError, TypeError: A setting is out of range, or lets in everybody from everywhere.
        OSError: The port cannot be bound.
    """
    port = checked_port("port", port)
    check_options("serve()", settings)
    checked = ServerSettings(**settings)
    content = await trio.to_thread.run_sync(files.load)
    runtime = ServerRuntime(tracker, checked, content, _connections_allowed(checked))
    routes = Routes(runtime)
    listeners = await _bound(checked.host, port)
    try:
        admin = [] if checked.admin_port is None else await _bound(checked.admin_host, checked.admin_port)
    except BaseException:
        await _close(listeners)  # noqa: ASYNC102 - it shields itself
        raise
    found = str(listeners[0].socket.getsockname()[0]), int(listeners[0].socket.getsockname()[1])
    admin_port = int(admin[0].socket.getsockname()[1]) if admin else None
    server = Server(
        host=found[0],
        port=found[1],
        url=("http://" if checked.ssl_context is None else "https://") + _address(*found) + checked.base_path,
        admin_port=admin_port,
        admin_url=None if admin_port is None else f"http://{_address(checked.admin_host, admin_port)}/",
    )
    async with trio.open_nursery() as keeper:
        connections: trio.Nursery = await keeper.start(_keep, runtime)
        try:
            async with trio.open_nursery() as nursery:
                main: Sequence[trio.abc.Listener[Transport]] = (
                    listeners
                    if checked.ssl_context is None
                    else [trio.SSLListener(one, checked.ssl_context, https_compatible=True) for one in listeners]
                )
                handler = ConnectionHandler(runtime, routes)
                make_room = handler.limit.make_room
                await nursery.start(accept_connections, main, handler, connections, make_room)
                if admin:
                    for_admin = ConnectionHandler(runtime, routes, admin=True)
                    await nursery.start(accept_connections, admin, for_admin, connections, make_room)
                logger.info("serving at %s", server.url)
                task_status.started(server)
        finally:
            runtime.stopping.set()


def _connections_allowed(settings: ServerSettings) -> int:
    """How many connections the server takes, by its settings and by the descriptors that there are."""
    wanted = settings.max_connections
    reserve = RESERVE + MOST_TURNED_AWAY + (0 if settings.admin_port is None else MOST_FOR_ADMIN)
    possible = connections_possible(wanted, reserve)
    if possible < wanted:
        log_event(
            logging.WARNING,
            "connections_limited",
            "the limit on open files allows %d connections at once, not %d: raise it (ulimit -Hn, LimitNOFILE=), or "
            "give `max_connections`",
            possible,
            wanted,
        )
    return possible


async def _keep(runtime: ServerRuntime, *, task_status: trio.TaskStatus[trio.Nursery]) -> None:
    """Keeps the connections while the server runs, and for a bounded time longer: shielded until it stops."""
    drain, open_now = runtime.settings.drain_timeout, runtime.connections
    patience = runtime.tracker.settings.flush_timeout + 1.0 if drain is None else drain
    with trio.CancelScope(shield=True) as scope:
        async with trio.open_nursery() as connections:
            connections.start_soon(runtime.list_feed.run)
            task_status.started(connections)
            await runtime.stopping.wait()
            runtime.draining = True
            began = trio.current_time()
            end = began + patience
            scope.deadline = end + GRACE
            while open_now.number and trio.current_time() < end:
                open_now.cancel_idle(half_sent=trio.current_time() >= began + HALF_SENT)
                open_now.stop(watching=False)
                await trio.sleep(min(LOOK_EVERY, max(end - trio.current_time(), 0.001)))
            open_now.stop(watching=True)
            with trio.move_on_after(GRACE / 2):
                while open_now.number:  # noqa: ASYNC110 - the connections count themselves
                    await trio.sleep(LOOK_EVERY / 5)
            connections.cancel_scope.cancel(reason="the server stops")


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


async def _bound(host: str, port: int) -> list[trio.SocketListener]:
    """Listeners on the host's addresses, all on one port.

    Raises:
        OSError: It cannot be bound; the message names it.
    """
    try:
        listeners = await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            raise OSError(problem.errno, f"port {port} of {host} is in use: choose another one, or 0 for any") from None
        raise
    if port == 0 and len(listeners) > 1:
        # `localhost` may be two addresses, each of which was given a port of its own.
        await _close(listeners[1:])
        del listeners[1:]
    return listeners


async def _close(listeners: Sequence[trio.SocketListener]) -> None:
    for listener in listeners:
        listener.socket.close()
    await trio.lowlevel.cancel_shielded_checkpoint()


def _address(host: str, port: int) -> str:
    """Host and port as somebody on this machine would type them."""
    named = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"{named}:{port}"


def open_server(
    tracker: ProgressTracker, port: int = DEFAULT_PORT, **settings: Unpack[ServerOptions]
) -> AbstractAsyncContextManager[Server, bool | None]:
    """A server of the tracker's sessions, as long as the block lasts; needs the extra `server`.

    `async with open_server(tracker, port=8765) as server`, then `server.url`. Leaving stops it as cancelling
    `serve()` does. The body's own exception leaves as itself.

    Args:
        tracker: Whose sessions.
        port: What is bound; 0 for one that is free.
        settings: See `serve()`.

    Raises:
        ValueError, TypeError: A setting is unknown or out of range.
        OSError: When entering: the port cannot be bound.
        RuntimeError: When entering: Trio does not run here.
    """
    check_options("open_server()", settings)
    return Opening("open_server(tracker)", "server", _opened(tracker, port, settings))


@asynccontextmanager
async def _opened(tracker: ProgressTracker, port: int, settings: ServerOptions) -> AsyncIterator[Server]:
    body = BodyError()
    start_error: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            server: Server = await nursery.start(partial(serve, tracker, port, **settings))
        except (OSError, ValueError, TypeError) as error:
            start_error = error
        else:
            with body:
                yield server
        nursery.cancel_scope.cancel(reason="the server is left")
    if start_error is not None:
        raise start_error
    body.reraise()
