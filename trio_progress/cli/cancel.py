"""`cancel`: asks the owners of sessions to cancel them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from ..errors import SessionNotFoundError
from . import exit_codes, output, parser, store_location

if TYPE_CHECKING:
    from ..blocking import Client

_DESCRIPTION: Final = """\
Asks the owners of sessions, whichever processes those are, to cancel them.

It returns once the store has the request; `trio-progress watch ID` waits until the session has ended. A queued session
ends as cancelled at once. A session that has ended stays as it is, which is no error.
"""

_EPILOG: Final = f"""\
examples:
  trio-progress cancel r-42 --reason "the corpus is out of date"
  trio-progress ls --label user=u1 --status running | cut -f1 | xargs trio-progress cancel

{exit_codes.COMMON}"""


def add(commands: parser.Commands) -> None:
    """Adds `cancel`."""
    cancelling = parser.command(
        commands, "cancel", cancel, summary="cancel sessions", description=_DESCRIPTION, epilog=_EPILOG
    )
    parser.session_argument(cancelling, "ids", nargs="+", help="the sessions")
    cancelling.add_argument("--reason", metavar="TEXT", help="why, shown to whoever watches the session")
    parser.store_option(cancelling)


def cancel(arguments: argparse.Namespace) -> int:
    """`trio-progress cancel`."""
    with store_location.client(arguments) as client:
        return max(_cancel(client, session_id, arguments.reason) for session_id in arguments.ids)


def _cancel(client: Client | None, session_id: str, reason: str | None) -> int:
    if client is None:
        return output.no_session(session_id)
    try:
        before = client.snapshot(session_id)
        client.cancel(session_id, reason)
    except SessionNotFoundError:
        return output.no_session(session_id)
    if before.ended:
        output.print_notice(f"{session_id}: nothing to cancel, it is {before.status.replace('_', ' ')}")
    else:
        output.print_notice(f"{session_id}: " + ("cancelled" if before.status == "queued" else "asked to cancel"))
    return exit_codes.OK
