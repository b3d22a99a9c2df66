"""The arguments of all commands, and their completion. A command module adds its own, and loads its rest when run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, NoReturn, TypeAlias

from .._version import __version__
from ..errors import StoreError
from ..telemetry.redaction import redacted, redacted_url
from ..terminal.printable import printable
from . import exit_codes, output, store_location

Commands: TypeAlias = Callable[..., argparse.ArgumentParser]
"""What adds a command to the parser: argparse's `add_parser`."""

COMMANDS: Final = ("demo", "ls", "show", "watch", "cancel", "release", "rm", "history", "serve", "token", "completion")
"""All commands, in the order of the help: modules beside this one with `add(commands)`, which uses `command()`."""

SESSIONS: Final = 200
"""Sessions whose ids complete an argument, the newest."""

SESSION_SUMMARY: Final = 120
"""Characters of the text that a shell shows beside such an id."""

STATUSES: Final = ("queued", "running", "completed", "failed", "cancelled", "timed_out", "interrupted", "lost")
"""Those of `protocol.snapshot`, which would load what `--help` has no use for."""

_DESCRIPTION: Final = """\
Progress of long, concurrent, multi-phase work, true and live.

Sessions are kept in a store: the one that `--store` or TRIO_PROGRESS_STORE names, else a file of your own.
"""

_EPILOG: Final = """\
examples:
  trio-progress demo
      answer a question from the sources of your Python, and watch how it goes
  trio-progress ls --status running
      what runs now
  trio-progress watch r-42 && deploy
      wait for a session, live; go on when it has completed
  trio-progress show r-42 --json | jq .result
  trio-progress rm --label user=u1

environment:
  TRIO_PROGRESS_STORE   the store, as --store takes it: sqlite:PATH, redis://HOST:PORT/DB, with Sentinel
                        redis-sentinel://HOST:PORT,HOST:PORT/DB?service=NAME, or a Cluster
                        redis-cluster://HOST:PORT,HOST:PORT/; a URL with a password belongs here, for all users of a
                        machine can read the arguments of a command
  XDG_STATE_HOME        the folder that your own store is in: trio-progress/sessions.db
  TRIO_PROGRESS_SECRET  the secret that `serve` accepts and `token` signs with
  TRIO_PROGRESS_TOKEN   the token that `watch --url` sends
  NO_COLOR              no colours

`trio-progress COMMAND --help` has the details and exit codes of each command.
"""

STORE_HELP: Final = (
    "the store: sqlite:PATH, redis://HOST:PORT/DB, redis-sentinel://HOST:PORT,HOST:PORT/DB?service=NAME or "
    "redis-cluster://HOST:PORT,HOST:PORT/; unless given: $TRIO_PROGRESS_STORE, which keeps a password off the list of "
    "processes, else a file of your own"
)


class _Parser(argparse.ArgumentParser):
    """Prints help and errors as the commands print everything else, whatever the stream's encoding is."""

    def print_help(self, file: Any = None) -> None:
        _write(sys.stdout if file is None else file, self.format_help())

    def print_usage(self, file: Any = None) -> None:
        _write(sys.stdout if file is None else file, self.format_usage())

    def error(self, message: str) -> NoReturn:
        # It quotes what was typed, and a password may have a space: all of it is taken for one URL.
        super().error(redacted_url(message) if "://" in message else redacted(message))

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        _write(sys.stderr, message or "")
        sys.exit(status)


def _write(stream: Any, text: str) -> None:
    with suppress(OSError):
        output.write(stream, text)


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line; the arguments that it returns have the function to `run`."""
    whole = _Parser(
        prog="trio-progress",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        # As wide as the longest command, so that each has its summary on its own line.
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=16),
    )
    whole.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        import_module(f"{__package__}.{name}").add(commands.add_parser)
    return whole


def command(
    commands: Commands, name: str, run: object, *, summary: str, description: str, epilog: str = exit_codes.COMMON
) -> argparse.ArgumentParser:
    """Adds a command; `run` takes the parsed arguments and returns the exit code."""
    added = commands(
        name, help=summary, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    added.set_defaults(run=run)
    return added


def store_option(to: argparse.ArgumentParser) -> None:
    """Adds `--store`."""
    to.add_argument("--store", metavar="URL", help=STORE_HELP)


def session_argument(to: argparse.ArgumentParser, name: str, **options: Any) -> None:
    """Adds an argument that is the id of a session, or ids."""
    complete(to.add_argument(name, metavar="ID", type=session_id, **options), sessions)


def complete(action: argparse.Action, completer: Callable[..., Iterable[str]]) -> None:
    """Has argcomplete ask the completer for values of an argument, at each TAB; a mapping describes them as well.

    A shell that completes has no place for errors: a store or folder that cannot be read offers nothing.
    """
    # argparse declares no such attribute; it is the one that argcomplete's documentation names.
    vars(action)["completer"] = completer


def sessions(*, action: argparse.Action, parsed_args: argparse.Namespace, **_: object) -> dict[str, str]:
    """The newest sessions of the store that the command line names, or would find, except those already given."""
    given = getattr(parsed_args, action.dest, None)
    others = given if isinstance(given, list) else []
    try:
        with store_location.client(argparse.Namespace(store=getattr(parsed_args, "store", None))) as client:
            page = [] if client is None else list(client.sessions(limit=SESSIONS))
    except (exit_codes.CommandError, StoreError):
        return {}
    return {
        snapshot.id: f"{snapshot.status.replace('_', ' ')}, {printable(snapshot.title)}"[:SESSION_SUMMARY]
        for snapshot in page
        if snapshot.id not in others
    }


def pipelines(*, parsed_args: argparse.Namespace, **_: object) -> dict[str, str]:
    """The pipelines of which the store that the command line names, or would find, knows earlier runs."""
    try:
        with store_location.client(argparse.Namespace(store=getattr(parsed_args, "store", None))) as client:
            names = [] if client is None else list(client.histories())
    except (exit_codes.CommandError, StoreError):
        return {}
    return {name: "a pipeline" for name in names if name.isprintable()}


def folders(*, prefix: str, **_: object) -> Iterator[str]:
    """The folders that complete a path. `~` stays as it was typed, which argcomplete's own completer changes."""
    parent, slash, _name = prefix.rpartition("/")
    try:
        with os.scandir(os.path.expanduser(parent + slash) or ".") as entries:  # noqa: PTH111
            yield from (f"{parent}{slash}{entry.name}/" for entry in entries if entry.is_dir())
    except OSError:
        return


def label_option(to: argparse.ArgumentParser, summary: str) -> None:
    """Adds `--label`, which may be given several times."""
    to.add_argument("--label", metavar="NAME=VALUE", action="append", default=[], type=label, help=summary)


def session_id(text: str) -> str:
    """Checks an id, for argparse."""
    from ..state.checks import session_id as checked

    try:
        return checked(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def pipeline_name(text: str) -> str:
    """Checks the name of a pipeline, for argparse."""
    from ..state.checks import name

    try:
        return name("a pipeline's name", text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def label(text: str) -> tuple[str, str]:
    """Checks a label, for argparse."""
    from ..state.checks import labels
    from ..state.limits import Limits

    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"a label is NAME=VALUE, such as user=u1, not {text!r:.200}")
    try:
        labels({name: value}, Limits())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return name, value


def whole_number(text: str) -> int:
    """Checks a count of at least 1, for argparse."""
    if not text.isdecimal() or not text.isascii() or len(text) > 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text!r:.200}")
    return int(text)


def seconds(text: str) -> float:
    """Checks a number of seconds, at least 1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"must be a number of seconds, at least 1, not {text!r:.200}")
    return value
