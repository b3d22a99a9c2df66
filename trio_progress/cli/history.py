"""`history`: what earlier runs of a pipeline have taught, of which the estimates of the next are made."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from . import exit_codes, output, parser, store_location
from .exit_codes import CommandError

if TYPE_CHECKING:
    from ..blocking import Client
    from ..state.history import PipelineHistory

LARGEST: Final = 10_000_000
"""Bytes of a file that is imported, at most."""

_DESCRIPTION: Final = """\
Shows what a store knows of a pipeline from its earlier runs: how long its phases usually take, and how far off the bar
was. Without a name it lists the pipelines. There are names of phases and numbers in it, and nothing of what was done.

--json prints the history as JSON, which --import takes; --delete forgets it, so that the next run is the first again.
"""

_EPILOG: Final = """\
examples:
  trio-progress history
  trio-progress history research
  trio-progress history research --json > research.json
  trio-progress history research --import research.json --store redis://localhost:6379/0

exit codes:
  0 done; 2 wrong use, or the file is no history; 3 no history of this pipeline; 4 the store cannot be used; 130 Ctrl-C
"""


def add(commands: parser.Commands) -> None:
    """Adds `history`."""
    command = parser.command(
        commands,
        "history",
        history,
        summary="show what earlier runs of a pipeline have taught",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    name = command.add_argument("pipeline", metavar="PIPELINE", nargs="?", type=parser.pipeline_name, help="its name")
    parser.complete(name, parser.pipelines)
    one = command.add_mutually_exclusive_group()
    one.add_argument("--json", action="store_true", help="the history as JSON; of all pipelines without a name")
    one.add_argument("--delete", action="store_true", help="forget it")
    one.add_argument("--import", dest="file", metavar="FILE", help="take it from this file; - is standard input")
    parser.store_option(command)


def history(arguments: argparse.Namespace) -> int:
    """`trio-progress history`."""
    name = arguments.pipeline
    if name is None and (arguments.delete or arguments.file is not None):
        what = "--delete" if arguments.delete else "--import"
        raise CommandError(exit_codes.USAGE, f"{what} needs the name of a pipeline: `history` lists them")
    if arguments.file is not None:
        return _import(arguments, name, _read(arguments.file))
    with store_location.client(arguments) as client:
        if name is None:
            return _list(client, as_json=arguments.json)
        found = None if client is None else client.history(name)
        if client is None or found is None:
            raise CommandError(exit_codes.NOT_FOUND, f"there is no history of pipeline {name!r}")
        if arguments.delete:
            client.forget_history(name)
            output.print_notice(f"{name}: history forgotten")
            return exit_codes.OK
    if arguments.json:
        import json

        output.print_answer(output.as_json(json.loads(found.to_json()), indent=2) + "\n")
        return exit_codes.OK
    from .history_page import history_page

    output.print_answer("\n".join(history_page(name, found, time.time(), output.stdout())) + "\n")
    return exit_codes.OK


def _list(client: Client | None, *, as_json: bool) -> int:
    known: dict[str, PipelineHistory] = {}
    for name in () if client is None else client.histories():
        one = None if client is None else client.history(name)
        if one is not None:  # Somebody may have removed it in between.
            known[name] = one
    if as_json:
        import json

        data = {name: json.loads(one.to_json()) for name, one in known.items()}
        output.print_answer(output.as_json(data, indent=2) + "\n")
        return exit_codes.OK
    if not known:
        output.print_notice("no history yet: a pipeline has one once a run of it has ended")
        return exit_codes.OK
    from .history_page import pipelines_table

    output.print_answer("\n".join(pipelines_table(known, time.time(), output.stdout())) + "\n")
    return exit_codes.OK


def _read(file: str) -> bytes:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(LARGEST + 1)
    except OSError as error:
        raise CommandError(exit_codes.USAGE, f"{file}: cannot be read: {error.strerror or error}") from None
    if len(data) > LARGEST:
        raise CommandError(exit_codes.USAGE, f"{file}: is larger than {LARGEST:,} bytes, and no history")
    return data


def _import(arguments: argparse.Namespace, name: str, data: bytes) -> int:
    from ..blocking import Client

    try:
        with store_location.client(arguments) as client:
            if client is not None:
                taken = client.import_history(name, data)
            else:
                with Client(store_location.locate(arguments).made()) as made:
                    taken = made.import_history(name, data)
    except ValueError as error:
        raise CommandError(exit_codes.USAGE, f"{arguments.file}: {error}") from None
    output.print_notice(f"{name}: history of {taken.runs} runs and {len(taken.phases)} phases imported")
    return exit_codes.OK
