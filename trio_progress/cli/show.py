"""`show`: prints one session of a store, all of it. It writes nothing to the store."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import SessionNotFoundError
from . import exit_codes, output, parser, store_location
from .exit_codes import CommandError
from .ls import as_data

if TYPE_CHECKING:
    from ..protocol.snapshot import Snapshot

_DESCRIPTION: Final = """\
Shows one session: its status, phases, counters, fields, result and error.

`--json` prints the whole state as one JSON object; docs/reference/protocol.md names its parts. Times are RFC 3339, UTC.
`--timeline` shows when each phase ran, as bars; `--explain` what the estimate of the rest is made of; `--perfetto`
writes the timeline as a trace (Chrome's JSON), which ui.perfetto.dev opens.
"""

_EPILOG: Final = f"""\
examples:
  trio-progress show r-42
  trio-progress show r-42 --json | jq .result
  trio-progress show r-42 --perfetto trace.json

{exit_codes.COMMON}"""


def add(commands: parser.Commands) -> None:
    """Adds `show`."""
    showing = parser.command(
        commands, "show", show, summary="show one session", description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.session_argument(showing, "id", help="the session")
    one = showing.add_mutually_exclusive_group()
    one.add_argument("--json", action="store_true", help="the whole state as one JSON object")
    one.add_argument("--explain", action="store_true", help="what was expected of each phase, and from what")
    one.add_argument("--timeline", action="store_true", help="when each phase ran, as bars")
    one.add_argument("--perfetto", metavar="FILE", help="write a trace to this file; - is standard output")
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
    if arguments.perfetto is not None:
        return _write_trace(snapshot, arguments.perfetto)
    output.print_answer("\n".join(_page(arguments)(snapshot, time.time(), output.stdout())) + "\n")
    return exit_codes.OK


def _page(arguments: argparse.Namespace) -> Callable[[Snapshot, float, output.Stdout], list[str]]:
    if arguments.explain:
        from .explain_page import explain_page

        return explain_page
    if arguments.timeline:
        from .timeline import timeline_page

        return timeline_page
    from .session_page import session_page

    return session_page


def _write_trace(snapshot: Snapshot, file: str) -> int:
    from .perfetto import trace

    text = output.as_json(trace(snapshot, time.time())) + "\n"
    if file == "-":
        output.print_answer(text)
        return exit_codes.OK
    try:
        Path(file).write_text(text, "utf-8")
    except OSError as error:
        raise CommandError(exit_codes.NOTHING, f"{file}: cannot be written: {error.strerror or error}") from None
    output.print_notice(f"{file}: written; open it at https://ui.perfetto.dev")
    return exit_codes.OK
