"""`show`: prints one session of a store, all of it. It writes nothing to the store."""

from __future__ import annotations

import argparse
import time
from typing import Final

from ..errors import SessionNotFoundError
from . import exit_codes, output, parser, store_location
from .ls import as_data

_DESCRIPTION: Final = """\
Shows one session: its status, phases, counters, fields, result and error.

`--json` prints the whole state as one JSON object; docs/reference/protocol.md names its parts. Times are RFC 3339, UTC.
"""

_EPILOG: Final = f"""\
examples:
  trio-progress show r-42
  trio-progress show r-42 --json | jq .result

{exit_codes.COMMON}"""


def add(commands: parser.Commands) -> None:
    """Adds `show`."""
    showing = parser.command(
        commands, "show", show, summary="show one session", description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.session_argument(showing, "id", help="the session")
    showing.add_argument("--json", action="store_true", help="the whole state as one JSON object")
    parser.store_option(showing)


def show(arguments: argparse.Namespace) -> int:
    """`trio-progress show`."""
    with store_location.client(arguments) as client:
        if client is None:
            raise SessionNotFoundError(arguments.id)
        snapshot = client.snapshot(arguments.id)
    if arguments.json:
        output.print_answer(output.as_json(as_data(snapshot), indent=2) + "\n")
        return exit_codes.OK
    from .session_page import session_page

    output.print_answer("\n".join(session_page(snapshot, time.time(), output.stdout())) + "\n")
    return exit_codes.OK
