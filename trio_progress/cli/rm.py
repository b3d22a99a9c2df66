"""`rm`: removes sessions from a store."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Final

from ..errors import SessionActiveError, SessionNotFoundError
from ..terminal.streams import is_terminal
from . import exit_codes, output, parser, store_location
from .exit_codes import CommandError

if TYPE_CHECKING:
    from ..blocking import Client

_DESCRIPTION: Final = """\
Removes sessions and all that is stored of them: those named, or with --label all that have these labels.

Named sessions are removed without a question. With --label it lists what it is about to remove and asks; without a
terminal to ask at, it needs --yes. An open session is not removed: cancel it first.
"""

_EPILOG: Final = f"""\
examples:
  trio-progress rm r-42 r-43
  trio-progress rm --label user=u1 --yes

{exit_codes.REMOVING}"""


def add(commands: parser.Commands) -> None:
    """Adds `rm`."""
    removing = parser.command(commands, "rm", rm, summary="remove sessions", description=_DESCRIPTION, epilog=_EPILOG)
    parser.session_argument(removing, "ids", nargs="*", help="the sessions")
    parser.label_option(removing, "all sessions with this label; may be given several times, for all of them together")
    removing.add_argument("--yes", "-y", action="store_true", help="do not ask")
    parser.store_option(removing)


def rm(arguments: argparse.Namespace) -> int:
    """`trio-progress rm`."""
    if bool(arguments.ids) == bool(arguments.label):
        raise CommandError(exit_codes.USAGE, "name the sessions to remove, or give --label: one of the two")
    with store_location.client(arguments) as client:
        if arguments.ids:
            return max(_remove(client, session_id) for session_id in arguments.ids)
        return exit_codes.OK if client is None else _labelled(client, dict(arguments.label), sure=arguments.yes)


def _remove(client: Client | None, session_id: str) -> int:
    if client is None:
        return output.no_session(session_id)
    try:
        client.delete(session_id)
    except SessionNotFoundError:
        return output.no_session(session_id)
    except SessionActiveError:
        output.print_error(f"session {session_id!r} is open: cancel it first")
        return exit_codes.ACTIVE
    output.print_notice(f"{session_id}: removed")
    return exit_codes.OK


def _labelled(client: Client, labels: dict[str, str], *, sure: bool) -> int:
    from .ls import found

    sessions = list(found(client, labels))
    if not sessions:
        output.print_notice("no sessions have these labels")
        return exit_codes.OK
    from .session_table import session_table

    output.print_answer("\n".join(session_table(sessions, time.time(), output.stdout())) + "\n")
    if not sure and not _confirmed(f"Remove {len(sessions)} session{'s' if len(sessions) > 1 else ''}? [y/N] "):
        raise CommandError(exit_codes.NOTHING, "nothing was removed")
    code = exit_codes.OK
    for snapshot in sessions:
        try:
            client.delete(snapshot.id)
        except SessionNotFoundError:
            continue  # Somebody else was faster.
        except SessionActiveError:
            output.print_error(f"session {snapshot.id!r} is open: cancel it first")
            code = exit_codes.ACTIVE
    return code


def _confirmed(question: str) -> bool:
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise CommandError(exit_codes.USAGE, "nothing was removed: there is nobody to ask; --yes removes them")
    output.print_question(question)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
