"""`watch`: sessions of other processes, live, until they have ended."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from ..telemetry.redaction import redacted_url
from . import exit_codes, output, parser, serve, store_location
from .exit_codes import CommandError

if TYPE_CHECKING:
    from ..protocol.snapshot import Snapshot
    from ..terminal.display_model import DisplayModel
    from ..terminal.screen import Screen
    from ..terminal.writer import Writer
    from ..tracker import ProgressTracker
    from .store_location import StoreLocation

    States: TypeAlias = dict[str, Snapshot]
    OnSnapshot: TypeAlias = Callable[[Snapshot], Awaitable[None]]
    Follow: TypeAlias = Callable[[str, OnSnapshot, DisplayModel | None], Awaitable[None]]

ANSWERED: Final = 2.0
"""Seconds in which a server has sent the state of a session that exists."""

_WATCH: Final = """\
Shows sessions live, from any process, until all of them have ended.

A terminal gets the live display; a pipe gets a line at each change of status and one every few seconds in between;
--json prints a line of JSON for each state. A slow reader gets fewer states, and always the last. A session that does
not exist yet is waited for. Ctrl-C ends the watching, not the session.
"""

_ENDED: Final = "; ".join(f"{code} {status.replace('_', ' ')}" for status, code in exit_codes.ENDED.items())

_EPILOG: Final = f"""\
examples:
  trio-progress watch r-42 && deploy
  trio-progress watch r-42 r-43 --no-wait
  trio-progress watch r-42 --json | jq --unbuffered -r .progress

exit codes:
  {_ENDED};
  of several sessions the highest. A session is lost when its process is gone.
  2 wrong use; 3 no such session (with --no-wait, or removed meanwhile);
  4 the store cannot be used, or there is no server at the URL; 130 Ctrl-C; 143 SIGTERM
"""


def add(commands: parser.Commands) -> None:
    """Adds `watch`."""
    watching = parser.command(
        commands, "watch", watch, summary="show sessions live until they end", description=_WATCH, epilog=_EPILOG
    )
    parser.session_argument(watching, "ids", nargs="+", help="the sessions")
    watching.add_argument("--no-wait", action="store_true", help="fail where a session does not exist yet")
    watching.add_argument("--json", action="store_true", help="a line of JSON for each state")
    watching.add_argument(
        "--url", help="watch at this server instead of a store; the token is read from $TRIO_PROGRESS_TOKEN"
    )
    parser.store_option(watching)


def watch(arguments: argparse.Namespace) -> int:
    """`trio-progress watch`."""
    if arguments.url is not None:
        ids = list(dict.fromkeys(arguments.ids))
        return output.run(_watch_server, arguments.url, ids, not arguments.no_wait, arguments.json)
    where = store_location.locate(arguments)
    if where.url == "memory:":
        raise CommandError(
            exit_codes.USAGE, "nobody else can watch 'memory:', which belongs to one process: name a file"
        )
    if arguments.no_wait and where.missing:
        raise CommandError(
            exit_codes.NOT_FOUND, f"there is no session {arguments.ids[0]!r}: {where.path} is not there yet"
        )
    return output.run(_watch, where, list(dict.fromkeys(arguments.ids)), not arguments.no_wait, arguments.json)


async def _watch(where: StoreLocation, ids: Sequence[str], wait: bool, as_json: bool) -> int:
    last: States = {}
    async with AsyncExitStack() as stack:
        tracker = await store_location.enter_tracker(stack, where.made())
        tracker.interrupt_on(signal.SIGTERM)
        await _announce(tracker, where, ids, wait=wait)
        await (_print_all if as_json else _draw_all)(partial(_follow, tracker, last), ids)
    if tracker.interrupted_by is not None:
        return exit_codes.SIGNAL + tracker.interrupted_by
    return max(_code(session_id, last) for session_id in ids)


async def _watch_server(url: str, ids: Sequence[str], wait: bool, as_json: bool) -> int:
    """The same with the sessions of a server."""
    import trio

    from ..errors import ProtocolError
    from ..session.outcome import leaves

    serve.server()
    last: States = {}
    stopped: list[int] = []
    with trio.open_signal_receiver(signal.SIGTERM) as received:
        async with trio.open_nursery() as nursery:

            async def stop() -> None:
                async for number in received:
                    stopped.append(number)
                    nursery.cancel_scope.cancel(reason="SIGTERM")

            nursery.start_soon(stop)
            try:
                await (_print_all if as_json else _draw_all)(partial(_follow_server, url, wait, last), ids)
            except* (ProtocolError, ValueError) as group:
                why = str(next(leaves(group)))
                hint = f" (a token is taken from ${serve.TOKEN})" if "token" in why or "HTTP 401" in why else ""
                raise CommandError(exit_codes.USAGE, why + hint) from None
            nursery.cancel_scope.cancel(reason="all sessions have ended")
    return exit_codes.SIGNAL + stopped[0] if stopped else max(_code(session_id, last) for session_id in ids)


async def _follow_server(
    url: str, wait: bool, last: States, session_id: str, on_snapshot: OnSnapshot, _model: DisplayModel | None
) -> None:
    import trio

    from ..client.subscription import connect

    token = os.environ.get(serve.TOKEN) or None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_announce_later, url, session_id, last)
        try:
            async with connect(url, session_id, token=token, wait=wait) as messages:
                async for _ in messages:
                    state = None if messages.state is None else _shown(messages.state)
                    if state is not None and _differ(state, last.get(session_id)):
                        last[session_id] = state
                        await on_snapshot(state)
        except OSError as error:
            # Here, where it cannot be mistaken for an error of standard output.
            raise CommandError(exit_codes.STORE, str(error)) from None
        nursery.cancel_scope.cancel(reason="the session has ended")


def _shown(state: Snapshot) -> Snapshot:
    """The state as a tracker's own watchers see it: "lost" once its owner is not heard of, before that is stored."""
    import msgspec

    return msgspec.structs.replace(state, status="lost") if state.liveness == "lost" else state


def _differ(state: Snapshot, before: Snapshot | None) -> bool:
    """Whether there is anything new to show; another heartbeat is not."""
    return before is None or (state.epoch, state.seq, state.liveness) != (before.epoch, before.seq, before.liveness)


async def _announce_later(url: str, session_id: str, last: States) -> None:
    """Announces that a session is waited for, after some time: a server is silent about one that does not exist."""
    import trio

    await trio.sleep(ANSWERED)
    if session_id not in last:
        output.print_notice(f"waiting for session {session_id!r} to come up at {redacted_url(url)}")


async def _announce(tracker: ProgressTracker, where: StoreLocation, ids: Sequence[str], *, wait: bool) -> None:
    """Announces which sessions are waited for; where `wait` is False, the first that is missing is an error."""
    from ..errors import SessionNotFoundError

    for session_id in ids:
        try:
            await tracker.snapshot(session_id)
        except SessionNotFoundError:
            if not wait:
                raise
            output.print_notice(f"waiting for session {session_id!r} to come up in {where.shown}")


async def _follow_all(follow: Follow, ids: Sequence[str], on_snapshot: OnSnapshot, model: DisplayModel | None) -> None:
    """Follows the sessions until all of them have ended."""
    import trio

    async with trio.open_nursery() as nursery:
        for session_id in ids:
            nursery.start_soon(follow, session_id, on_snapshot, model)


async def _follow(
    tracker: ProgressTracker, last: States, session_id: str, on_snapshot: OnSnapshot, model: DisplayModel | None
) -> None:
    """Follows one session until it has ended; a lost one has ended too, for nobody may ever resume it."""
    import trio

    from ..terminal.display import follow_events

    followed: set[int] = set()
    async with tracker.watch(session_id, wait=True) as snapshots, trio.open_nursery() as nursery:
        async for snapshot in snapshots:
            last[session_id] = snapshot
            await on_snapshot(snapshot)
            if snapshot.ended:
                break
            if model is not None and snapshot.events and snapshot.epoch not in followed:
                followed.add(snapshot.epoch)
                nursery.start_soon(follow_events, tracker, session_id, model)
        nursery.cancel_scope.cancel(reason="the session has ended")


async def _print_all(follow: Follow, ids: Sequence[str]) -> None:
    """Prints a line of JSON for each state, each when the one before is written."""
    from ..terminal.streams import usable
    from ..terminal.writer import Writer
    from .ls import as_data

    if not usable(sys.stdout):
        raise CommandError(exit_codes.NOTHING, "the states cannot be written: there is no standard output")
    writer = Writer(sys.stdout)

    async def put(snapshot: Snapshot) -> None:
        writer.put(output.as_json(as_data(snapshot)) + "\n")
        try:
            await writer.drain()
        except OSError as error:
            raise output.refused(error) from None

    try:
        await _follow_all(follow, ids, put, None)
    finally:
        await _close(writer)  # noqa: ASYNC102 - shields itself, with a deadline


async def _close(writer: Writer) -> None:
    """Tries to have all written, and reports how much was not."""
    await writer.aclose()
    if writer.lost:
        output.print_error(f"{writer.lost} lines were not written: nobody took them")


async def _draw_all(follow: Follow, ids: Sequence[str]) -> None:
    """Shows each state by the live display or by plain lines, as standard output allows."""
    import trio

    from ..session.outcome import leaves
    from ..terminal.display_model import DisplayModel
    from ..terminal.plain_lines import PlainLines
    from ..terminal.screen import PLAIN_INTERVAL, open_screen

    screen = await open_screen(None, sys.stdout, PlainLines(PLAIN_INTERVAL, ids=True))
    model = DisplayModel()

    async def put(snapshot: Snapshot) -> None:
        model.put(snapshot)
        await trio.lowlevel.checkpoint()

    try:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_draw, screen, model)
                await _follow_all(follow, ids, put, model)
                nursery.cancel_scope.cancel(reason="all sessions have ended")
        finally:
            try:
                screen.show(model, final=True)
            finally:
                screen.close()
                if screen.writer is not None:
                    await _close(screen.writer)  # noqa: ASYNC102 - shields itself, with a deadline
        if screen.writer is not None and screen.writer.error is not None and not screen.writer.lost:
            raise screen.writer.error
    except* OSError as group:
        error = next(leaf for leaf in leaves(group) if isinstance(leaf, OSError))
        raise output.refused(error) from None


async def _draw(screen: Screen, model: DisplayModel) -> None:
    """Draws frames until cancelled, and raises what makes the drawing fail."""
    from ..terminal.screen import draw_frames

    raise await draw_frames(screen, model)


def _code(session_id: str, last: States) -> int:
    if session_id in last and last[session_id].ended:
        return exit_codes.ENDED[last[session_id].status]
    output.print_error(f"session {session_id!r} was removed")
    return exit_codes.NOT_FOUND
