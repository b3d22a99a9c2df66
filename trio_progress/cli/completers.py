"""What an argument can be where only the moment tells: ids of sessions, and folders.

argcomplete finds these functions as the `completer` of an argument, and calls them at each TAB. A shell that completes
is no place for errors: where the store or a folder cannot be read, there is nothing to offer.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ..errors import StoreError
from ..terminal.printable import printable
from . import exit_codes, store_location

SESSIONS: Final = 200
"""Ids of sessions that are offered at most, the newest."""

DESCRIPTION: Final = 120
"""Characters that the description of a session has at most."""


def complete(action: argparse.Action, completer: Callable[..., Iterable[str]]) -> None:
    """Has argcomplete ask the completer for values of an argument; a mapping gives their descriptions as well."""
    # argparse declares no such attribute; it is the one that argcomplete's documentation names.
    vars(action)["completer"] = completer


def sessions(*, action: argparse.Action, parsed_args: argparse.Namespace, **_: object) -> dict[str, str]:
    """The newest sessions of the store that the command line names, or would find, but for those already given."""
    given = getattr(parsed_args, action.dest, None)
    others = given if isinstance(given, list) else []
    try:
        with store_location.client(argparse.Namespace(store=getattr(parsed_args, "store", None))) as client:
            page = [] if client is None else list(client.sessions(limit=SESSIONS))
    except (exit_codes.CommandError, StoreError):
        return {}
    return {
        snapshot.id: f"{snapshot.status.replace('_', ' ')}, {printable(snapshot.title)}"[:DESCRIPTION]
        for snapshot in page
        if snapshot.id not in others
    }


def folders(*, prefix: str, **_: object) -> Iterator[str]:
    """The folders that a path can go on to. `~` stays as it was typed, which argcomplete's own completer changes."""
    parent, slash, _name = prefix.rpartition("/")
    try:
        with os.scandir(os.path.expanduser(parent + slash) or ".") as entries:  # noqa: PTH111
            yield from (f"{parent}{slash}{entry.name}/" for entry in entries if entry.is_dir())
    except OSError:
        return
