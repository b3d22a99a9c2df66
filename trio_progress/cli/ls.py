"""`ls`: lists the sessions of a store. It writes nothing to the store."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from heapq import merge
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NoReturn

from ..terminal.streams import is_terminal
from . import exit_codes, output, parser, store_location

if TYPE_CHECKING:
    from ..blocking import Client
    from ..protocol.snapshot import Snapshot

LIMIT: Final = 50
"""Sessions that are listed by default."""

PAGE: Final = 500

PAUSE: Final = 1.0
"""Seconds between two looks of `--watch`."""

_DESCRIPTION: Final = """\
Lists sessions, newest first.

A terminal gets a table that fits its width, with the parts of a session (declared with `parent=`) below it. A pipe
gets one line for each session, without a heading and with nothing cut off, and tabs between: id, status, progress
(0 to 1), when it was queued, begun and ended (RFC 3339, UTC), title, and labels as JSON. `--json` prints one JSON
array of whole states, each as `show --json` prints it.

`--watch` looks again each second, until Ctrl-C: a terminal's table is drawn anew, a pipe gets the lines that have
changed, with `--json` a line of JSON for each state that has.
"""

_EPILOG: Final = f"""\
examples:
  trio-progress ls --label user=u1 --status running --status queued
  trio-progress ls --status lost --all | cut -f1
  trio-progress ls --parent job-1 --status lost
  trio-progress ls --status running --watch
  trio-progress ls --json | jq '.[] | select(.progress > 0.9) | .id'

{exit_codes.COMMON}"""


def add(commands: parser.Commands) -> None:
    """Adds `ls`."""
    listing = parser.command(commands, "ls", ls, summary="list sessions", description=_DESCRIPTION, epilog=_EPILOG)
    parser.label_option(listing, "only sessions with this label; may be given several times, for all of them together")
    listing.add_argument(
        "--status",
        choices=parser.STATUSES,
        action="append",
        metavar="STATUS",
        help=f"only sessions with this status, one of {', '.join(parser.STATUSES)}; may be given several times",
    )
    parser.session_argument(listing, "--parent", help="only the parts of this session")
    many = listing.add_mutually_exclusive_group()
    help_text = f"at most so many; {LIMIT} unless given"
    many.add_argument("--limit", type=parser.whole_number, metavar="N", default=LIMIT, help=help_text)
    many.add_argument("--all", action="store_true", help="list all sessions")
    listing.add_argument("--json", action="store_true", help="one JSON array of whole states")
    listing.add_argument("--watch", action="store_true", help="look again each second, until Ctrl-C")
    parser.store_option(listing)


def ls(arguments: argparse.Namespace) -> int:
    """`trio-progress ls`."""
    if arguments.watch:
        _watch(arguments)
    with store_location.client(arguments) as client:
        every = iter(()) if client is None else _asked_for(client, arguments)
        sessions = every if arguments.all else islice(every, arguments.limit)
        if arguments.json:
            _print_array(sessions)
            return exit_codes.OK
        if not is_terminal(sys.stdout):
            for snapshot in sessions:
                output.print_answer(_row(snapshot))
            return exit_codes.OK
        shown = list(sessions)
        more = next(every, None) is not None
    if not shown:
        filtered = arguments.label or arguments.status or arguments.parent
        output.print_notice("no sessions" if filtered else "no sessions yet")
        return exit_codes.OK
    from .session_table import session_table

    output.print_answer("\n".join(session_table(shown, time.time(), output.stdout())) + "\n")
    if more:
        output.print_notice(f"only the newest {len(shown)} are listed: --all or --limit shows more")
    return exit_codes.OK


def _watch(arguments: argparse.Namespace) -> NoReturn:
    """Lists again and again, until Ctrl-C; a store that is not there yet is waited for."""
    waits = False
    told: dict[str, str] = {}
    while True:
        with store_location.client(arguments) as client:
            while client is not None:
                every = _asked_for(client, arguments)
                sessions = list(every if arguments.all else islice(every, arguments.limit))
                if is_terminal(sys.stdout) and not arguments.json:
                    _redraw(sessions)
                else:
                    told = _print_changed(sessions, told, as_json=arguments.json)
                time.sleep(PAUSE)
        if not waits:
            output.print_notice("no sessions yet: waiting for the first")
        waits = True
        time.sleep(PAUSE)


def _redraw(sessions: list[Snapshot]) -> None:
    """Draws the table over the one before, as much of it as fits."""
    from .session_table import session_table

    lines = session_table(sessions, time.time(), output.stdout()) if sessions else ["no sessions yet"]
    height = max(shutil.get_terminal_size((output.UNKNOWN, 24)).lines - 1, 2)
    if len(lines) > height:
        lines = [*lines[: height - 1], f"and {len(lines) - height + 1} more"]
    # Home, each line with what is left of an older one cleared, and all below: the screen does not flicker.
    output.print_answer("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")


def _print_changed(sessions: list[Snapshot], told: dict[str, str], *, as_json: bool) -> dict[str, str]:
    """Prints the lines of those that have changed since they were told; returns what is told now."""
    lines = {
        snapshot.id: output.as_json(as_data(snapshot)) + "\n" if as_json else _row(snapshot) for snapshot in sessions
    }
    for session_id, line in lines.items():
        if told.get(session_id) != line:
            output.print_answer(line)
    return lines


def _asked_for(client: Client, arguments: argparse.Namespace) -> Iterator[Snapshot]:
    size = PAGE if arguments.all else min(arguments.limit + 1, PAGE)  # One more, to see whether there are more.
    return found(client, dict(arguments.label), arguments.status, size, arguments.parent)


def found(
    client: Client,
    labels: dict[str, str],
    statuses: list[str] | None = None,
    size: int = PAGE,
    parent: str | None = None,
) -> Iterator[Snapshot]:
    """All sessions with these labels and one of these statuses, newest first; pages are read as they are needed.

    Args:
        client: The store's.
        labels: All of these.
        statuses: One of these; None: any.
        size: Sessions on a page.
        parent: Only parts of this session; None: of any, or none.
    """
    asked = [None] if statuses is None else sorted(set(statuses))
    lists = [_pages(client, labels, status, size, parent) for status in asked]
    told: set[str] = set()
    for snapshot in merge(*lists, key=lambda one: (one.queued_at is not None, one.queued_at, one.id), reverse=True):
        if snapshot.id not in told:  # It may go on from one list to the other meanwhile.
            told.add(snapshot.id)
            yield snapshot


def _pages(
    client: Client, labels: dict[str, str], status: str | None, size: int, parent: str | None
) -> Iterator[Snapshot]:
    cursor = None
    while True:
        page = client.sessions(labels, status, limit=size, cursor=cursor, parent=parent)
        yield from page
        cursor = page.cursor
        if cursor is None:
            return


def as_data(snapshot: Snapshot) -> dict[str, Any]:
    """The state as plain JSON data, with all of its parts."""
    import msgspec

    data: dict[str, Any] = msgspec.to_builtins(msgspec.structs.asdict(snapshot))
    del data["resume"]  # It belongs to a subscription, and there is none.
    return data


def _print_array(sessions: Iterator[Snapshot]) -> None:
    output.print_answer("[")
    for number, snapshot in enumerate(sessions):
        output.print_answer((",\n " if number else "\n ") + output.as_json(as_data(snapshot)))
    output.print_answer("\n]\n")


def _row(snapshot: Snapshot) -> str:
    from ..terminal.printable import printable

    data = as_data(snapshot)
    times = [data[name] or "" for name in ("queued_at", "started_at", "ended_at")]
    cells = [data["id"], data["status"], f"{snapshot.progress:.4g}", *times, printable(snapshot.title)]
    return "\t".join([*cells, output.as_json(data["labels"])]) + "\n"
