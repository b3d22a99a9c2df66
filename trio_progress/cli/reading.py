"""`ls` and `show`: what the store has of sessions. They write nothing."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from . import codes, output, parser, places
from .codes import CommandError

if TYPE_CHECKING:
    from ..blocking import Client
    from ..protocol.snapshot import Snapshot

LIMIT: Final = 50
"""Sessions that are listed unless more are asked for."""

PAGE: Final = 500

_LS: Final = """\
Lists sessions, those that were begun (or declared) last first.

In a terminal it is a table that fits it. Piped, it is one line for each session and no heading, with nothing cut
off and tabs between: id, status, progress (0 to 1), when it was queued, begun and ended (RFC 3339, UTC), title,
and labels as JSON. `--json` is one JSON array of whole states, as `show --json` gives them.
"""

_LS_EPILOG: Final = f"""\
examples:
  trio-progress ls --label user=u1 --status running --status queued
  trio-progress ls --status lost --all | cut -f1
  trio-progress ls --json | jq '.[] | select(.progress > 0.9) | .id'

{codes.COMMON}"""

_SHOW: Final = """\
Shows all that is known of one session: how it stands, its phases, counters, fields, result and error.

`--json` is the whole state as one JSON object; the README names its parts. Times are RFC 3339, UTC.
"""

_SHOW_EPILOG: Final = f"""\
examples:
  trio-progress show r-42
  trio-progress show r-42 --json | jq .result

{codes.COMMON}"""


def add(commands: parser.Commands) -> None:
    """Adds `ls` and `show`."""
    listing = parser.command(commands, "ls", ls, says="list sessions", description=_LS, epilog=_LS_EPILOG)
    parser.label_option(listing, "only sessions with this label; may be given several times, and then all must hold")
    listing.add_argument(
        "--status",
        choices=parser.STATUSES,
        action="append",
        metavar="STATUS",
        help=f"only sessions that stand so: {', '.join(parser.STATUSES)}; may be given several times, for any of them",
    )
    many = listing.add_mutually_exclusive_group()
    many.add_argument(
        "--limit", type=parser.whole_number, metavar="N", default=LIMIT, help=f"at most so many; {LIMIT} unless given"
    )
    many.add_argument("--all", action="store_true", help="all that there are")
    listing.add_argument("--json", action="store_true", help="one JSON array of whole states")
    parser.store_option(listing)

    showing = parser.command(commands, "show", show, says="show one session", description=_SHOW, epilog=_SHOW_EPILOG)
    parser.session_argument(showing, "id", help="the session")
    showing.add_argument("--json", action="store_true", help="the whole state as one JSON object")
    parser.store_option(showing)


def ls(arguments: argparse.Namespace) -> int:
    """`trio-progress ls`."""
    with places.client(arguments) as client:
        sessions = iter(()) if client is None else found(client, dict(arguments.label), arguments.status)
        if arguments.json:
            _array(sessions if arguments.all else islice(sessions, arguments.limit))
            return codes.OK
        if not output.to_terminal():
            for snapshot in sessions if arguments.all else islice(sessions, arguments.limit):
                output.put(_row(snapshot))
            return codes.OK
        shown = list(sessions if arguments.all else islice(sessions, arguments.limit))
        more = next(sessions, None) is not None
    if not shown:
        output.say("no sessions" if arguments.label or arguments.status else "no sessions yet")
        return codes.OK
    from .looks import listed
    from .screens import screen

    output.put("\n".join(listed(shown, time.time(), screen())) + "\n")
    if more:
        output.say(f"only the newest {len(shown)}: --all or --limit shows more")
    return codes.OK


def found(client: Client, labels: dict[str, str], statuses: list[str] | None) -> Iterator[Snapshot]:
    """All sessions with these labels that stand in one of these ways, newest first, read as they are taken."""
    one = statuses[0] if statuses is not None and len(set(statuses)) == 1 else None
    cursor = None
    while True:
        page = client.sessions(labels, one, limit=PAGE, cursor=cursor)
        for snapshot in page:
            if statuses is None or snapshot.status in statuses:
                yield snapshot
        cursor = page.cursor
        if cursor is None:
            return


def as_data(snapshot: Snapshot) -> dict[str, Any]:
    """The state as plain JSON data, with all of its parts."""
    import msgspec

    data: dict[str, Any] = msgspec.to_builtins(msgspec.structs.asdict(snapshot))
    del data["resume"]  # Of a subscription, which there is none.
    return data


def _array(sessions: Iterator[Snapshot]) -> None:
    output.put("[")
    for number, snapshot in enumerate(sessions):
        output.put((",\n " if number else "\n ") + output.as_json(as_data(snapshot)))
    output.put("\n]\n")


def _row(snapshot: Snapshot) -> str:
    from ..terminal.printable import printable

    data = as_data(snapshot)
    times = [data[name] or "" for name in ("queued_at", "started_at", "ended_at")]
    title = printable(snapshot.title)
    return "\t".join([data["id"], data["status"], f"{snapshot.progress:.4g}", *times, title, _labels(data)]) + "\n"


def _labels(data: dict[str, Any]) -> str:
    return output.as_json(data["labels"])


def show(arguments: argparse.Namespace) -> int:
    """`trio-progress show`."""
    with places.client(arguments) as client:
        if client is None:
            raise CommandError(codes.NOT_FOUND, f"there is no session {arguments.id!r}: there are none yet")
        snapshot = client.snapshot(arguments.id)
    if arguments.json:
        output.put(output.as_json(as_data(snapshot), indent=2) + "\n")
        return codes.OK
    from .looks import described
    from .screens import screen

    output.put("\n".join(described(snapshot, time.time(), screen())) + "\n")
    return codes.OK
