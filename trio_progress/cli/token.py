"""`token`: makes a signed token for the server."""

from __future__ import annotations

import argparse
from typing import Final

from . import exit_codes, output, parser
from .exit_codes import CommandError
from .serve import SECRET, secrets_of, server

_DESCRIPTION: Final = f"""\
Makes a token that allows its bearer to read (or cancel, or delete) some sessions until it expires.

It covers the sessions that --session names and those that have all of the labels; with --everything, all sessions. It
is signed with the secret in {SECRET}.
"""

_EPILOG: Final = f"""\
examples:
  export {SECRET}=$(trio-progress token --new-secret)
  trio-progress token --label user=u1 --ttl 3600
  trio-progress token --session r-42 --verb read --verb cancel
  trio-progress token --everything --ttl 600

exit codes: 0 done; 2 wrong use, or no secret
"""


def add(commands: parser.Commands) -> None:
    """Adds `token`."""
    signing = parser.command(
        commands, "token", token, summary="make a token for the server", description=_DESCRIPTION, epilog=_EPILOG
    )
    signing.add_argument(
        "--verb",
        action="append",
        choices=["read", "cancel", "delete"],
        help="what the token allows; may be given several times (default read)",
    )
    signing.add_argument(
        "--session",
        action="append",
        default=[],
        type=parser.session_id,
        metavar="ID",
        help="covers this session; may be given several times",
    )
    parser.label_option(
        signing, "covers sessions with this label; may be given several times, for all of them together"
    )
    signing.add_argument(
        "--everything", action="store_true", help="covers all sessions, instead of --session and --label"
    )
    signing.add_argument(
        "--ttl", type=parser.seconds, default=900.0, metavar="SECONDS", help="time until it expires (default 900)"
    )
    signing.add_argument("--name", help="the name of the bearer, for the server's log")
    signing.add_argument("--secret-file", metavar="FILE", help=f"a file with the secret (default ${SECRET})")
    signing.add_argument("--new-secret", action="store_true", help="print a new random secret instead of a token")


def token(arguments: argparse.Namespace) -> int:
    """`trio-progress token`."""
    package = server()
    if arguments.new_secret:
        output.print_answer(package.new_secret() + "\n")
        return exit_codes.OK
    secrets = secrets_of(arguments)
    if not secrets:
        raise CommandError(exit_codes.USAGE, f"there is no secret to sign with: set {SECRET}, or give --secret-file")
    if not (arguments.everything or arguments.session or arguments.label):
        raise CommandError(
            exit_codes.USAGE,
            "the token would grant nothing: name sessions by --session ID or --label NAME=VALUE, "
            "or say --everything for a token that is for all sessions",
        )
    try:
        made = package.issue_token(
            secrets[0],
            tuple(arguments.verb or ["read"]),
            tuple(arguments.session),
            dict(arguments.label),
            arguments.ttl,
            everything=arguments.everything,
            name=arguments.name,
        )
    except (ValueError, TypeError) as error:
        raise CommandError(exit_codes.USAGE, str(error)) from None
    output.print_answer(made + "\n")
    return exit_codes.OK
