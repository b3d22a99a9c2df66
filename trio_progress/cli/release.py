"""`release`: writes off a session whose owner is known to be dead, so that it may be gone on with at once."""

from __future__ import annotations

import argparse
from typing import Final

from ..errors import SessionNotFoundError
from . import exit_codes, output, parser, store_location

_DESCRIPTION: Final = """\
Writes off a running session whose owner is known to be dead, before its lease has lapsed. It is lost then, and may be
gone on with at once.

Use it only where you know that the owner is dead: one that lives is fenced off, and works on until its next write to
the store. With --epoch that owner alone is meant, and one that has begun since is left as it is; `show ID --json` tells
the epoch. A session that does not run stays as it is, which is no error.
"""

_EPILOG: Final = f"""\
examples:
  trio-progress release r-42 --reason "its node is gone"
  trio-progress release r-42 --epoch 1764390000123

{exit_codes.COMMON}"""


def add(commands: parser.Commands) -> None:
    """Adds `release`."""
    releasing = parser.command(
        commands,
        "release",
        release,
        summary="take a session from an owner that is dead",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    parser.session_argument(releasing, "id", help="the session")
    releasing.add_argument("--epoch", metavar="N", type=_epoch, help="that of the owner that is dead")
    releasing.add_argument("--reason", metavar="TEXT", help="why, kept with the session and shown to whoever reads it")
    parser.store_option(releasing)


def _epoch(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or len(text) > 16:
        raise argparse.ArgumentTypeError(f"must be a whole number, as `show ID --json` tells it, not {text!r:.200}")
    return int(text)


def release(arguments: argparse.Namespace) -> int:
    """`trio-progress release`."""
    with store_location.client(arguments) as client:
        if client is None:
            raise SessionNotFoundError(arguments.id)
        after = client.fence(arguments.id, epoch=arguments.epoch, reason=arguments.reason)
    if after.status == "lost":
        output.print_notice(f"{after.id}: released, it may be gone on with")
    elif after.ended or after.status == "queued":
        output.print_notice(f"{after.id}: nothing to release, it is {after.status.replace('_', ' ')}")
    else:
        output.print_notice(f"{after.id}: nothing to release, its owner is that of epoch {after.epoch}")
    return exit_codes.OK
