"""`cancel` and `rm`: what is asked of sessions, and of the store."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING, Final

from ..errors import SessionActiveError, SessionNotFoundError
from ..terminal.streams import is_terminal
from . import codes, output, parser, places
from .codes import CommandError

if TYPE_CHECKING:
    from ..blocking import Client
    from ..protocol.snapshot import Snapshot

_CANCEL: Final = """\
Asks the owners of sessions, whichever processes those are, to cancel them.

It returns when that is said; `trio-progress watch ID` waits until it has happened. A session that is queued ends as
cancelled at once. One that has ended is left as it is, which is no error.
"""

_CANCEL_EPILOG: Final = f"""\
examples:
  trio-progress cancel r-42 --reason "the corpus is out of date"
  trio-progress ls --label user=u1 --status running | cut -f1 | xargs trio-progress cancel

{codes.COMMON}"""

_RM: Final = """\
Removes all that is stored of sessions: those named, or with --label all that have these labels.

Named ones go without a question. With --label it shows what it is about to remove and asks; where nobody can be
asked it needs --yes. A session that is open is not removed: cancel it first.
"""

_RM_EPILOG: Final = f"""\
examples:
  trio-progress rm r-42 r-43
  trio-progress rm --label user=u1 --yes

{codes.COMMON}"""


def add(commands: parser.Commands) -> None:
    """Adds `cancel` and `rm`."""
    cancelling = parser.command(
        commands, "cancel", cancel, says="cancel sessions", description=_CANCEL, epilog=_CANCEL_EPILOG
    )
    parser.session_argument(cancelling, "ids", nargs="+", help="the sessions")
    cancelling.add_argument("--reason", metavar="TEXT", help="what people are told")
    parser.store_option(cancelling)

    removing = parser.command(commands, "rm", rm, says="remove sessions", description=_RM, epilog=_RM_EPILOG)
    parser.session_argument(removing, "ids", nargs="*", help="the sessions")
    parser.label_option(removing, "all sessions with this label; may be given several times, and then all must hold")
    removing.add_argument("--yes", "-y", action="store_true", help="do not ask")
    parser.store_option(removing)


def cancel(arguments: argparse.Namespace) -> int:
    """`trio-progress cancel`."""
    with places.client(arguments) as client:
        return max(_cancel(client, session_id, arguments.reason) for session_id in arguments.ids)


def _cancel(client: Client | None, session_id: str, reason: str | None) -> int:
    if client is None:
        return _not_found(session_id)
    try:
        before = client.snapshot(session_id)
        client.cancel(session_id, reason)
    except SessionNotFoundError:
        return _not_found(session_id)
    if before.ended:
        output.say(f"{session_id}: nothing to cancel, it is {before.status.replace('_', ' ')}")
    else:
        output.say(f"{session_id}: " + ("cancelled" if before.status == "queued" else "asked to cancel"))
    return codes.OK


def _not_found(session_id: str) -> int:
    output.complain(f"there is no session {session_id!r}")
    return codes.NOT_FOUND


def rm(arguments: argparse.Namespace) -> int:
    """`trio-progress rm`."""
    if bool(arguments.ids) == bool(arguments.label):
        raise CommandError(codes.USAGE, "name the sessions to remove, or give --label; not both, and not neither")
    with places.client(arguments) as client:
        if arguments.ids:
            return max(_remove(client, session_id) for session_id in arguments.ids)
        return codes.OK if client is None else _labelled(client, dict(arguments.label), sure=arguments.yes)


def _remove(client: Client | None, session_id: str) -> int:
    if client is None:
        return _not_found(session_id)
    try:
        client.delete(session_id)
    except SessionNotFoundError:
        return _not_found(session_id)
    except SessionActiveError:
        output.complain(f"session {session_id!r} is open: cancel it first")
        return codes.ACTIVE
    output.say(f"{session_id}: removed")
    return codes.OK


def _labelled(client: Client, labels: dict[str, str], *, sure: bool) -> int:
    from .reading import found

    sessions = list(found(client, labels, None))
    if not sessions:
        output.say("no sessions have these labels")
        return codes.OK
    _show(sessions)
    if not sure and not _asked(f"Remove {len(sessions)} session{'s' if len(sessions) > 1 else ''}? [y/N] "):
        raise CommandError(codes.NOTHING, "nothing was removed")
    code = codes.OK
    for snapshot in sessions:
        try:
            client.delete(snapshot.id)
        except SessionNotFoundError:
            continue  # Somebody else was faster.
        except SessionActiveError:
            output.complain(f"session {snapshot.id!r} is open: cancel it first")
            code = codes.ACTIVE
    return code


def _show(sessions: list[Snapshot]) -> None:
    from .looks import listed
    from .screens import screen

    output.put("\n".join(listed(sessions, time.time(), screen())) + "\n")


def _asked(question: str) -> bool:
    if not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        raise CommandError(codes.USAGE, "nothing was removed: there is nobody to ask; --yes removes them")
    output.ask(question)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
